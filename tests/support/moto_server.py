"""A real S3 server, as a process of its own: moto's, which keeps everything in memory until it is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, ClassVar

from trainledger_schemas.blob_address import BlobAddress, parse_blob_address
from trainledger_schemas.s3_client import open_client

__all__ = ["BUCKET", "MotoServer"]

BUCKET = "blobs"
READY_S_MAX = 60.0


class MotoServer:
    """One server on a port of its own; a context manager. Credentials are whatever `environment` says."""

    environment: ClassVar = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "MotoServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def setting(self, prefix: str = "", bucket: str = BUCKET) -> str:
        """What TRAINLEDGER_BLOBS is set to."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"

    def address(self, prefix: str = "") -> BlobAddress:
        return parse_blob_address(self.setting(prefix))

    def client(self) -> Any:
        """A client of boto3; needs `environment` in this process."""
        return open_client(self.address())

    def start(self) -> None:
        """Start, wait until it answers, and make the bucket: nothing else is in it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | self.environment,
        )
        end = time.monotonic() + READY_S_MAX
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert self._process.poll() is None, "the server ended"
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.05)
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()

    def kill(self) -> None:
        """As a power cut would: what was in it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
