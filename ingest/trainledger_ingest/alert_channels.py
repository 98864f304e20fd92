"""Where alerts go: a webhook (JSON by HTTP POST) and mail (SMTP).

Guarantees: `send` returns only when the other side took the message (a 2xx answer; the server's reply to the mail's
end), and raises RetryableError otherwise. Each message has an id, the same for every try, so that a receiver can
drop a second one. Limits: 10 s to connect and to answer. Addresses may hold a password: they are never shown.
"""

import json
import smtplib
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from trainledger_schemas.errors import RetryableError, SettingsError

__all__ = ["Alert", "AlertChannel", "MailChannel", "WebhookChannel", "alert_channels"]

TIMEOUT_S = 10.0
WEBHOOK = "TRAINLEDGER_ALERT_WEBHOOK"
SMTP = "TRAINLEDGER_ALERT_SMTP"


@dataclass(frozen=True, slots=True)
class Alert:
    """One message: `key` names what it is about, `text` is one line for a person, `facts` are for programs."""

    key: str
    text: str
    facts: Mapping[str, Any]


class AlertChannel(Protocol):
    """Delivers alerts."""

    @property
    def name(self) -> str:
        """webhook or smtp."""

    def send(self, alert: Alert) -> None:
        """Deliver; raises RetryableError when it was not surely taken."""


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """POSTs {"id", "text", ...facts} to a URL."""

    url: str = field(repr=False)
    name: str = "webhook"

    def send(self, alert: Alert) -> None:
        body = json.dumps({"id": alert.key, "text": alert.text, **alert.facts}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            raise RetryableError(f"the webhook of {WEBHOOK} answered {error.code}") from None
        except OSError as error:
            # Without the address: it may hold a token.
            reason = getattr(error, "reason", error)
            raise RetryableError(f"the webhook of {WEBHOOK} cannot be reached: {reason}") from None


@dataclass(frozen=True, slots=True)
class MailChannel:
    """Sends a mail through an SMTP server; with TLS from the start for smtps, by STARTTLS where there is a password."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    has_tls: bool = False
    name: str = "smtp"

    def send(self, alert: Alert) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"] = self.sender, ", ".join(self.recipients)
        # Names of runs and teams are free text, and a header is one line.
        mail["Subject"] = f"trainledger: {_one_line(alert.text)}"
        mail["X-Trainledger-Alert"] = _one_line(alert.key)
        facts = "\n".join(f"{name}: {value}" for name, value in alert.facts.items())
        mail.set_content(f"{alert.text}\n\n{facts}\n")
        kind = smtplib.SMTP_SSL if self.has_tls else smtplib.SMTP
        try:
            with kind(self.host, self.port, timeout=TIMEOUT_S) as server:
                if self.password is not None:
                    if not self.has_tls:
                        server.starttls()
                    server.login(self.user or "", self.password)
                refused = server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            raise RetryableError(
                f"the mail server {self.host}:{self.port} of {SMTP} did not take it: {type(error).__name__}"
            ) from None
        if refused:
            raise RetryableError(f"the mail server refused {', '.join(sorted(refused))}")


def alert_channels(environ: Mapping[str, str]) -> list[AlertChannel]:
    """The channels that are set; raises SettingsError for one that cannot be.

    TRAINLEDGER_ALERT_WEBHOOK: http(s) URL. TRAINLEDGER_ALERT_SMTP:
    smtp://[user:password@]host[:port]?from=a@b&to=c@d[&to=...], or smtps:// for TLS from the start."""
    channels: list[AlertChannel] = []
    if url := environ.get(WEBHOOK):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise SettingsError(f"{WEBHOOK} is no http or https URL")
        channels.append(WebhookChannel(url))
    if url := environ.get(SMTP):
        channels.append(_mail(url))
    return channels


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _mail(url: str) -> MailChannel:
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or not options.get("to"):
        raise SettingsError(f"{SMTP} is not of the form smtp://[user:password@]host[:port]?from=a@b&to=c@d")
    has_tls = parts.scheme == "smtps"
    try:
        port = parts.port or (465 if has_tls else 25)
    except ValueError:
        raise SettingsError(f"{SMTP} has a port that is no number from 1 to 65535") from None
    return MailChannel(
        host=parts.hostname,
        port=port,
        sender=options.get("from", ["trainledger@localhost"])[0],
        recipients=tuple(options["to"]),
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        has_tls=has_tls,
    )
