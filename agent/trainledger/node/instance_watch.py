"""Knows the rented machine that the node is, from a thread of its own: the agent never waits for a provider.

The machine is asked until it has answered once, each RETRY_S. Of a spot instance its notices are looked for each
NOTICE_S, as AWS advises: two minutes are left from the first one on. Everything ends with `close`.
"""

import http.client
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from trainledger.node.ec2_metadata import MetadataService, is_ec2, read_instance, read_notice
from trainledger.node.node_settings import Ec2Settings
from trainledger_schemas.clock import Clock
from trainledger_schemas.events import Instance
from trainledger_schemas.structured_log import say

__all__ = ["InstanceWatch"]

RETRY_S = 60.0
NOTICE_S = 5.0
CLOSE_WAIT_S = 3.0
_NO_ANSWER = (
    "the metadata service of this EC2 instance does not answer, so `trainledger price aws --auto` cannot price this "
    "node: in a container the hop limit of the instance must be 2 "
    "(aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2); it is tried again"
)


class InstanceWatch:
    """`current` from any thread."""

    def __init__(
        self,
        clock: Clock,
        settings: Ec2Settings,
        *,
        sys: Path = Path("/sys"),
        retry_s: float = RETRY_S,
        notice_s: float = NOTICE_S,
    ) -> None:
        """Starts nothing where the machine is not EC2. Raises SettingsError for an endpoint that is none."""
        self._instance: Instance | None = None
        self._stop = threading.Event()
        self._retry_s = retry_s
        self._notice_s = notice_s
        self._thread: threading.Thread | None = None
        if settings.mode == "on" or (settings.mode == "auto" and is_ec2(sys)):
            service = MetadataService(clock, settings.endpoint)
            self._thread = threading.Thread(target=self._watch, args=(service,), name="instance", daemon=True)
            self._thread.start()

    def current(self) -> Instance | None:
        """The machine with the newest notice; None: none, or not known yet. Never blocks."""
        return self._instance

    def close(self) -> None:
        """End the thread; waits for a question under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _watch(self, service: MetadataService) -> None:
        instance = self._until_answered(lambda: read_instance(service))
        if instance is None:
            return
        self._instance = instance
        while instance["life_cycle"] == "spot" and not self._stop.wait(self._notice_s):
            try:
                notice = read_notice(service)
            except (OSError, http.client.HTTPException):
                continue
            if notice != instance["notice"]:
                instance = {**instance, "notice": notice}
                self._instance = instance
                say(logging.WARNING, f"notice of AWS for this spot instance: {notice}", {"notice": notice})

    def _until_answered(self, read: Callable[[], Instance]) -> Instance | None:
        has_told = False
        while True:
            try:
                return read()
            except (OSError, http.client.HTTPException) as error:
                if not has_told:
                    has_told = True
                    say(logging.WARNING, _NO_ANSWER, {"why": str(error) or type(error).__name__})
            if self._stop.wait(self._retry_s):
                return None
