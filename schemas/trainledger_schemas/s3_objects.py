"""Objects in S3 and stores that speak its language: see `objects`. The client stays behind `s3_client`.

Bytes are hashed before they are sent or as they are, and nothing is completed whose digest is not the one that was
asked for; every request carries an MD5 that the store checks, and what the store says it has is compared. Up to
SINGLE_PARTS parts go in one request, more in parts, of one file at a time: see `s3_parts`.

`can_put_if_free`: whether the store heeds `If-None-Match: *`, found out by `probe`. Without it two writers of one
name may both write, which for the same bytes under the name of their digest is harmless.
"""

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, cast

from .blob_address import BlobAddress
from .blobs import BLOCK_BYTES
from .errors import CorruptDataError, NotFoundError, RetryableSourceError
from .ids import IdSource, id_text, random_id
from .objects import OpenUpload, StoredObject
from .s3_client import error_code, open_client, s3_errors
from .s3_parts import PART_BYTES, PartsUpload, part_size

__all__ = ["SINGLE_PARTS", "S3Objects"]

SINGLE_PARTS = 4
# A server-side copy of more must go in parts.
COPY_BYTES_MAX = 5 << 30
COPY_PART_BYTES = 1 << 30
CONFLICTS_MAX = 5
PROBE = "probe/"
_TAKEN = "PreconditionFailed"
_RACE = "ConditionalRequestConflict"


class S3Objects:
    """See Objects. One address; may be used by several threads."""

    def __init__(
        self,
        address: BlobAddress,
        *,
        client: Any = None,
        ids: IdSource = random_id,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """`part_bytes`: at least 5 MiB, as S3 has it; a file of up to SINGLE_PARTS of them goes in one request."""
        self.address = address
        self.place = str(address)
        self.can_put_if_free = True
        self._client = client if client is not None else open_client(address)
        self._ids = ids
        self._part_bytes = part_bytes
        self._large = threading.Lock()

    def probe(self) -> bool:
        """Ask the store whether it heeds conditions: two puts of one name, the second must be refused. Needs the
        right to put and delete; raises RetryableSourceError."""
        name = f"{PROBE}{id_text(self._ids())}"
        self.can_put_if_free = True
        with s3_errors(self.address, "probing"):
            self._put(name, b"1", _digests(b"1")[1])
            try:
                self._put(name, b"2", _digests(b"2")[1])
                self.can_put_if_free = False
            except Exception as error:
                if error_code(error) in ("NotImplemented", "501"):
                    self.can_put_if_free = False
                elif error_code(error) not in (_TAKEN, "412"):
                    raise
            finally:
                self._client.delete_object(Bucket=self.address.bucket, Key=self._key(name))
        return self.can_put_if_free

    def look(self, name: str) -> StoredObject | None:
        """See Objects."""
        try:
            with s3_errors(self.address, f"looking for {name}"):
                found = self._client.head_object(Bucket=self.address.bucket, Key=self._key(name))
        except NotFoundError:
            return None
        return StoredObject(
            name, int(found["ContentLength"]), _us(found["LastModified"]), found.get("VersionId")
        )

    def names(self, prefix: str) -> Iterator[StoredObject]:
        """See Objects."""
        with s3_errors(self.address, f"listing {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.address.bucket, Prefix=self._key(prefix)
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    name = item["Key"].removeprefix(self.address.prefix)
                    yield StoredObject(name, int(item["Size"]), _us(item["LastModified"]))

    def open(self, name: str) -> BinaryIO:
        """See Objects."""
        with s3_errors(self.address, f"reading {name}"):
            body = self._client.get_object(Bucket=self.address.bucket, Key=self._key(name))["Body"]
        return cast(BinaryIO, _Stream(body))

    def put_new(self, name: str, source: bytes | Path, *, sha256: str) -> bool:
        """See Objects. A file of more than SINGLE_PARTS parts goes on where an earlier upload of it was cut off."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if isinstance(source, Path) and size > SINGLE_PARTS * self._part_bytes:
            upload = PartsUpload(self._client, self.address, name, is_conditional=self.can_put_if_free)
            with self._large:  # its parts go side by side: more would take memory and no less time
                return upload.send(source, sha256=sha256, part_bytes=part_size(size, self._part_bytes))
        if not self.can_put_if_free and self.look(name) is not None:
            return False
        # What is small is read once; a file of some MiB must not lie in memory for each that is sent beside it.
        body = source.read_bytes() if isinstance(source, Path) and size <= BLOCK_BYTES else source
        found, md5 = _digests(body)
        if found != sha256:
            raise CorruptDataError(
                f"what was to be stored as {name} does not have the SHA-256 {sha256}: the copy at hand is damaged"
            )
        for _ in range(CONFLICTS_MAX):
            try:
                with s3_errors(self.address, f"writing {name}"):
                    self._put_checked(name, body, md5)
                return True
            except RetryableSourceError as error:
                code = error_code(error.__cause__) if error.__cause__ else ""
                if code in (_TAKEN, "412"):
                    return False
                if code not in (_RACE, "409"):
                    raise
        raise RetryableSourceError(
            f"{self.place}: {name} is being written by somebody else; it is tried again"
        )

    def copy_new(self, source: str, name: str) -> bool:
        """See Objects."""
        found = self.look(source)
        if found is None:
            raise NotFoundError(f"{self.place}: {source} is not there")
        if self.look(name) is not None:
            return False
        place = {"Bucket": self.address.bucket, "Key": self._key(source)}
        target = {"Bucket": self.address.bucket, "Key": self._key(name)}
        with s3_errors(self.address, f"copying {source}"):
            if found.size_bytes <= COPY_BYTES_MAX:
                self._client.copy_object(CopySource=place, **target)
                return True
            begun = self._client.create_multipart_upload(**target)["UploadId"]
            parts = []
            for number, start in enumerate(range(0, found.size_bytes, COPY_PART_BYTES), 1):
                end = min(start + COPY_PART_BYTES, found.size_bytes) - 1
                done = self._client.upload_part_copy(
                    CopySource=place, CopySourceRange=f"bytes={start}-{end}", UploadId=begun, PartNumber=number,
                    **target,
                )  # fmt: skip
                parts.append({"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]})
            self._client.complete_multipart_upload(UploadId=begun, MultipartUpload={"Parts": parts}, **target)
        return True

    def remove(self, found: StoredObject) -> None:
        """See Objects. Where versions are kept, exactly the one that was seen."""
        version = {"VersionId": found.version} if found.version else {}
        with s3_errors(self.address, f"removing {found.name}"):
            self._client.delete_object(Bucket=self.address.bucket, Key=self._key(found.name), **version)

    def open_uploads(self) -> Iterator[OpenUpload]:
        """See Objects."""
        with s3_errors(self.address, "listing open uploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.address.bucket, Prefix=self.address.prefix
            )
            for page in pages:
                for item in page.get("Uploads", ()):
                    name = item["Key"].removeprefix(self.address.prefix)
                    yield OpenUpload(name, item["UploadId"], _us(item["Initiated"]))

    def abort(self, upload: OpenUpload) -> None:
        """See Objects."""
        try:
            with s3_errors(self.address, f"giving up the upload of {upload.name}"):
                self._client.abort_multipart_upload(
                    Bucket=self.address.bucket, Key=self._key(upload.name), UploadId=upload.upload_id
                )
        except RetryableSourceError as error:
            if error_code(error.__cause__ or error) != "NoSuchUpload":
                raise

    def _put_checked(self, name: str, body: bytes | Path, md5: bytes) -> None:
        answer = self._put(name, body, md5)
        found = str(answer.get("ETag", "")).strip('"')
        # With keys of a key service the ETag is no MD5.
        is_md5 = len(found) == 32 and answer.get("ServerSideEncryption") in (None, "AES256")
        if is_md5 and found != md5.hex():
            self._client.delete_object(Bucket=self.address.bucket, Key=self._key(name))
            raise RetryableSourceError(f"{self.place}: {name} arrived with other bytes; it is sent again")

    def _put(self, name: str, body: bytes | Path, md5: bytes) -> dict[str, Any]:
        condition = {"IfNoneMatch": "*"} if self.can_put_if_free else {}
        with nullcontext(body) if isinstance(body, bytes) else body.open("rb") as data:
            answer: dict[str, Any] = self._client.put_object(
                Bucket=self.address.bucket,
                Key=self._key(name),
                Body=data,
                ContentMD5=base64.b64encode(md5).decode(),
                **condition,
            )
        return answer

    def _key(self, name: str) -> str:
        return self.address.prefix + name


class _Stream:
    """The body of an answer; its errors are OSError, as those of a file."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int = -1) -> bytes:
        from botocore.exceptions import BotoCoreError, HTTPClientError

        try:
            data: bytes = self._body.read(None if size < 0 else size)
        except (BotoCoreError, HTTPClientError) as error:
            raise OSError(f"the connection broke: {error}") from error
        return data

    def close(self) -> None:
        self._body.close()

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _digests(source: bytes | Path) -> tuple[str, bytes]:
    """SHA-256 in hexadecimal digits, and MD5."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    if isinstance(source, bytes):
        sha256.update(source)
        md5.update(source)
        return sha256.hexdigest(), md5.digest()
    with source.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.digest()


def _us(moment: Any) -> int:
    return int(moment.timestamp() * 1_000_000)
