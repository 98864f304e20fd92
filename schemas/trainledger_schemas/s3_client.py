"""The one place that loads boto3: a client for an address, and its errors as ours.

What a store other than AWS may not know is left out unless it is asked for: since 1.36 boto3 adds a CRC32 to every
upload and demands one of every answer, which Backblaze, R2 and older MinIO and Ceph refuse (boto/s3transfer 327).
Loading boto3 takes 0.3 s, so callers import this module when they need it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .blob_address import BlobAddress
from .errors import NotFoundError, RetryableSourceError, SettingsError

__all__ = ["error_code", "open_client", "s3_errors"]

CONNECT_S = 5
READ_S = 60
# The SDK's own retries bridge a lost connection; longer outages are the caller's.
ATTEMPTS_MAX = 3
# Each thread that sends keeps its connection.
CONNECTIONS_MAX = 80
# Up to this a body is sent at once: waiting for "100 Continue" is a round trip a request.
AT_ONCE_BYTES_MAX = 1 << 20
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_SECRET = re.compile(r"(?i)(signature|credential|security-token)=[^&\s]+")


def open_client(address: BlobAddress) -> Any:
    """A client; may be used by several threads. Raises SettingsError without the package or for a wrong setting."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise SettingsError(
            f'TRAINLEDGER_BLOBS is set, and {error.name} is not installed: pip install "trainledger[agent]"'
        ) from error
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        max_pool_connections=CONNECTIONS_MAX,
        retries={"max_attempts": ATTEMPTS_MAX, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Names of buckets in host names need DNS that a store of one's own seldom has.
        s3={"addressing_style": "path"} if address.endpoint else {},
        user_agent_extra="trainledger",
    )
    try:
        client = boto3.session.Session().client(
            "s3", endpoint_url=address.endpoint, region_name=address.region, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"{address} cannot be opened: {error}; correct TRAINLEDGER_BLOBS") from error
    client.meta.events.register("before-send.s3.PutObject", _send_at_once)
    return client


@contextmanager
def s3_errors(address: BlobAddress, doing: str) -> Iterator[None]:
    """Turn the client's errors into NotFoundError for a missing object and RetryableSourceError for all else."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code in _MISSING:
            raise NotFoundError(f"{address}: {doing}: it is not there") from error
        raise RetryableSourceError(f"{address}: {doing}: {_told(error)}; {_mend(code, address)}") from error
    except NoCredentialsError as error:
        raise RetryableSourceError(
            f"{address}: {doing}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or "
            "give the machine a role"
        ) from error
    except BotoCoreError as error:
        raise RetryableSourceError(
            f"{address}: {doing}: {_told(error)}; see that the store can be reached from here"
        ) from error


def error_code(error: BaseException) -> str:
    """What the store calls its error; empty for one that is not the store's."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _send_at_once(request: Any, **_: Any) -> None:
    if int(request.headers.get("Content-Length", AT_ONCE_BYTES_MAX + 1)) <= AT_ONCE_BYTES_MAX:
        del request.headers["Expect"]  # not signed, and no error where it is not there


def _told(error: Exception) -> str:
    return _SECRET.sub(r"\1=...", str(error))[:400]


def _mend(code: str, address: BlobAddress) -> str:
    if code == "NoSuchBucket":
        return f"make the bucket {address.bucket}, or correct TRAINLEDGER_BLOBS"
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"):
        return "check the credentials and what they may do there (get, put, list; delete for gc)"
    return "it is tried again"
