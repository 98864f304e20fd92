"""Where blobs are kept for all machines: the address in TRAINLEDGER_BLOBS.

    s3://bucket[/prefix][?endpoint=http://host:port][&region=name]

Without `endpoint` the one of AWS, or of AWS_ENDPOINT_URL. Credentials never stand in it: they come from where the
AWS SDK finds them (environment, ~/.aws, the role of the machine), because the address is recorded in events.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from .errors import SettingsError

__all__ = ["BlobAddress", "parse_blob_address"]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FORM = "write s3://bucket/prefix, with ?endpoint=http://host:port for a store other than AWS"


@dataclass(frozen=True, slots=True)
class BlobAddress:
    """A bucket, and what all names in it begin with (empty, or ending in a slash)."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        """As people and events name it; the same for every machine."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def parse_blob_address(text: str) -> BlobAddress:
    """Read an address; raises SettingsError, which never repeats what may be a secret."""
    url = urlsplit(text.strip())
    if url.username or url.password or "@" in url.netloc:
        raise SettingsError(
            "TRAINLEDGER_BLOBS holds a user or password; take them out and give them as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or in ~/.aws"
        )
    if url.scheme != "s3" or not _BUCKET.fullmatch(url.netloc) or url.fragment:
        raise SettingsError(f"TRAINLEDGER_BLOBS is {text[:200]!r}; {_FORM}")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"endpoint", "region"})
    if unknown:
        raise SettingsError(f"TRAINLEDGER_BLOBS: no option {unknown[0][:40]!r}; {_FORM}")
    endpoint = options.get("endpoint")
    if endpoint is not None:
        place = urlsplit(endpoint)
        if place.scheme not in ("http", "https") or not place.hostname or "@" in place.netloc:
            raise SettingsError(
                f"TRAINLEDGER_BLOBS: the endpoint is no address of the form http(s)://host:port; {_FORM}"
            )
    prefix = "/".join(part for part in url.path.split("/") if part)
    return BlobAddress(
        url.netloc, f"{prefix}/" if prefix else "", endpoint or None, options.get("region") or None
    )
