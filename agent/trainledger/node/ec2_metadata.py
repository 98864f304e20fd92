"""What an EC2 instance says about itself: its metadata service, version 2 (IMDSv2), by the standard library alone.

    PUT <endpoint>/latest/api/token                     a token for TOKEN_S seconds
    GET <endpoint>/latest/meta-data/<path>              with the token; 404: there is none, 401: the token is too old

Guarantees: every call ends after TIMEOUT_S a step and reads at most ANSWER_BYTES_MAX; no proxy is used; the service is
asked only where the machine says that it is EC2, or a setting does; nothing that could be a credential is asked for.
Limits: where the token's answer may make one hop alone (the default), a container gets no answer, not an error.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import SettingsError
from trainledger_schemas.events import Instance

__all__ = ["DEFAULT_ENDPOINT", "MetadataService", "is_ec2", "read_instance", "read_notice"]

DEFAULT_ENDPOINT = "http://169.254.169.254"
TIMEOUT_S = 1.0
TOKEN_S = 21_600
ANSWER_BYTES_MAX = 64 * 1024
TEXT_CHARACTERS_MAX = 200
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_FACTS = {
    "instance_id": "instance-id",
    "instance_type": "instance-type",
    "life_cycle": "instance-life-cycle",
    "region": "placement/region",
    "zone": "placement/availability-zone",
    "zone_id": "placement/availability-zone-id",
}


def is_ec2(sys: Path = Path("/sys")) -> bool:
    """Whether the firmware (Nitro) or the hypervisor (Xen) of this machine is that of EC2."""
    vendor = _text(sys / "class" / "dmi" / "id" / "sys_vendor")
    return vendor.startswith("Amazon EC2") or _text(sys / "hypervisor" / "uuid").lower().startswith("ec2")


class MetadataService:
    """Asks one endpoint, and keeps its token. Not for two threads at once."""

    def __init__(
        self, clock: Clock, endpoint: str = DEFAULT_ENDPOINT, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Raises SettingsError for an endpoint that is no http address."""
        url = urlsplit(endpoint)
        if url.scheme != "http" or not url.hostname:
            raise SettingsError(
                f"AWS_EC2_METADATA_SERVICE_ENDPOINT is {endpoint!r}; it must be an address such as {DEFAULT_ENDPOINT}"
            )
        self._clock = clock
        self._host, self._port = url.hostname, url.port or 80
        self._timeout_s = timeout_s
        self._token = ""
        self._token_until_ns = 0

    def get(self, path: str) -> str | None:
        """The text of a path below meta-data, None where there is none. Blocks for TIMEOUT_S a step.

        Raises OSError or HTTPException while nobody answers as the service does."""
        for _ in range(2):
            status, text = self._ask("GET", f"/latest/meta-data/{path}", {_TOKEN_HEADER: self._valid_token()})
            if status == 200:
                return text
            if status == 404:
                return None
            # 401: it was given out before the machine was stopped, or another host answers now.
            self._token = ""
        raise OSError(f"the metadata service answers {status} for {path}")

    def _valid_token(self) -> str:
        now_ns = self._clock.monotonic_ns()
        if not self._token or now_ns >= self._token_until_ns:
            status, token = self._ask(
                "PUT", "/latest/api/token", {f"{_TOKEN_HEADER}-ttl-seconds": str(TOKEN_S)}
            )
            if status != 200 or not token.isascii() or not token.isprintable():
                raise OSError(f"the metadata service gives no token (it answers {status})")
            self._token, self._token_until_ns = token, now_ns + (TOKEN_S - 60) * 10**9
        return self._token

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        with closing(
            http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        ) as connection:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace").strip()


def read_instance(service: MetadataService) -> Instance:
    """What this machine is. Raises as `MetadataService.get`, and OSError where it has no id or type."""
    found = {name: (service.get(path) or "")[:TEXT_CHARACTERS_MAX] for name, path in _FACTS.items()}
    if not found["instance_id"] or not found["instance_type"]:
        raise OSError("the metadata service names no instance")
    return {
        "provider": "aws",
        "instance_id": found["instance_id"],
        "instance_type": found["instance_type"],
        "life_cycle": found["life_cycle"],
        "region": found["region"],
        "zone": found["zone"],
        "zone_id": found["zone_id"],
        "notice": None,
    }


def read_notice(service: MetadataService) -> str | None:
    """What will be done with a spot instance and when, as `terminate 2026-11-27T10:00:00Z`; None: nothing was said.

    Raises as `MetadataService.get`."""
    for path, time_field in (
        ("spot/instance-action", "time"),
        ("events/recommendations/rebalance", "noticeTime"),
    ):
        text = service.get(path)
        if text is None:
            continue
        try:
            told = json.loads(text)
            return f"{told.get('action', 'rebalance')} {told[time_field]}"[:TEXT_CHARACTERS_MAX]
        except (ValueError, KeyError, AttributeError):
            return text[:TEXT_CHARACTERS_MAX]
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
