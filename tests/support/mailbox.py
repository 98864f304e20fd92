"""A mail server that keeps what it is sent: aiosmtpd on a free port of this machine."""

import socket
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Self

from aiosmtpd.controller import Controller

__all__ = ["Mailbox"]


class Mailbox:
    """A context manager; `mails` are pairs of recipients and message."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []

    @property
    def url(self) -> str:
        """For TRAINLEDGER_ALERT_SMTP, with two recipients."""
        return f"smtp://127.0.0.1:{self._controller.port}?from=led@x.org&to=fin@x.org&to=ops@x.org"

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # The controller connects to itself, so it must be told a number.
        self._controller = Controller(self, hostname="127.0.0.1", port=port)
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """What aiosmtpd calls with each mail."""
        mail = message_from_bytes(envelope.content, policy=default)
        self.mails.append((envelope.rcpt_tos, mail))
        return "250 kept"
