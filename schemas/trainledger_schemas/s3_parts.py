"""One large file to S3 in parts, going on where an upload was cut off, by whatever process.

The size of a part follows from the size of the file alone, so any process that sends the same bytes cuts them the
same way. An upload of the name that is open is taken up: its parts are listed, and one whose MD5 is that of the
bytes here is not sent again. The bytes are hashed on the way; the upload is completed only when all of them have the
digest that was asked for. Some parts are sent at once, up to PARTS_BYTES of memory.
"""

import base64
import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .blob_address import BlobAddress
from .daemon_pool import DaemonPool
from .errors import CorruptDataError, RetryableSourceError
from .s3_client import error_code, s3_errors

__all__ = ["PART_BYTES", "PartsUpload", "part_size"]

PART_BYTES = 16 << 20
PARTS_MAX = 10_000
PARTS_AT_ONCE = 4
PARTS_BYTES = 128 << 20
_MIB = 1 << 20
# What ends an upload under our feet: somebody completed it, or gave it up.
_GONE = frozenset({"NoSuchUpload", "404"})


def part_size(size_bytes: int, least: int = PART_BYTES) -> int:
    """Bytes of each part but the last of a file of this size."""
    needed = -(-size_bytes // PARTS_MAX)
    return max(least, -(-needed // _MIB) * _MIB)


class PartsUpload:
    """Sends one file under one name; made for one call of `send`."""

    def __init__(self, client: Any, address: BlobAddress, name: str, *, is_conditional: bool) -> None:
        self._client = client
        self._address = address
        self._name = name
        self._condition = {"IfNoneMatch": "*"} if is_conditional else {}
        self._place = {"Bucket": address.bucket, "Key": address.prefix + name}

    def send(self, path: Path, *, sha256: str, part_bytes: int) -> bool:
        """Whether it is there by this upload; False where the name was taken meanwhile. Blocks while it sends.

        Raises CorruptDataError when the file has another digest, RetryableSourceError for all that a repeat may mend:
        what was sent until then is kept."""
        try:
            with s3_errors(self._address, f"sending {self._name} in parts"):
                return self._send(path, sha256, part_bytes)
        except RetryableSourceError as error:
            code = error_code(error.__cause__) if error.__cause__ else ""
            if code in ("PreconditionFailed", "412"):
                return False
            if code in _GONE and self._exists():
                return False
            raise

    def _send(self, path: Path, sha256: str, part_bytes: int) -> bool:
        upload_id = self._open_upload()
        known = self._parts(upload_id) if upload_id else {}
        if upload_id is None:
            upload_id = str(self._client.create_multipart_upload(**self._place)["UploadId"])
        whole, etags = hashlib.sha256(), dict[int, str]()
        with DaemonPool[tuple[int, str]](
            max(1, min(PARTS_AT_ONCE, PARTS_BYTES // part_bytes)), "trainledger-parts"
        ) as pool:
            for number, data in enumerate(_cut(path, part_bytes), 1):
                whole.update(data)
                md5 = hashlib.md5(data, usedforsecurity=False)
                etag = known.get(number)
                if etag is not None and etag.strip('"') == md5.hexdigest():
                    etags[number] = etag
                    continue
                if pool.is_busy:
                    etags.update([pool.take()])
                pool.submit(partial(self._send_part, upload_id, number, data, md5.digest()))
            while pool.under_way:
                etags.update([pool.take()])
        if whole.hexdigest() != sha256:
            self._client.abort_multipart_upload(UploadId=upload_id, **self._place)
            raise CorruptDataError(
                f"what was to be stored as {self._name} does not have the SHA-256 {sha256}: the copy at hand is "
                "damaged; it was not stored"
            )
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())]
        self._client.complete_multipart_upload(
            UploadId=upload_id, MultipartUpload={"Parts": parts}, **self._condition, **self._place
        )
        return True

    def _send_part(self, upload_id: str, number: int, data: bytes, md5: bytes) -> tuple[int, str]:
        answer = self._client.upload_part(
            UploadId=upload_id,
            PartNumber=number,
            Body=data,
            ContentMD5=base64.b64encode(md5).decode(),
            **self._place,
        )
        etag = str(answer["ETag"])
        # With keys of a key service the ETag is no MD5: then the store's own check must do.
        if answer.get("ServerSideEncryption") in (None, "AES256") and etag.strip('"') != md5.hex():
            raise RetryableSourceError(
                f"{self._address}: part {number} of {self._name} arrived with other bytes; it is sent again"
            )
        return number, etag

    def _open_upload(self) -> str | None:
        """The newest upload of this name that is open."""
        found = self._client.list_multipart_uploads(
            Bucket=self._address.bucket, Prefix=self._place["Key"]
        ).get("Uploads", ())
        own = [item for item in found if item["Key"] == self._place["Key"]]
        return str(max(own, key=lambda item: item["Initiated"])["UploadId"]) if own else None

    def _parts(self, upload_id: str) -> dict[int, str]:
        """What the store has of an upload: ETags by number."""
        pages = self._client.get_paginator("list_parts").paginate(UploadId=upload_id, **self._place)
        return {
            int(item["PartNumber"]): str(item["ETag"]) for page in pages for item in page.get("Parts", ())
        }

    def _exists(self) -> bool:
        try:
            self._client.head_object(**self._place)
        except Exception as error:
            if error_code(error) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise
        return True


def _cut(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as source:
        while data := source.read(size):
            yield data
