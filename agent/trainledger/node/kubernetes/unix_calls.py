"""gRPC calls to a service on a unix socket of this machine, each bounded in time and size.

The one module that knows grpcio. Each call has a connection of its own: the service may have been restarted, or its
socket replaced, since the one before, and a client that keeps a connection waits for it with growing pauses.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from trainledger.node.kubernetes.messages import DecodeError, message_class

__all__ = ["CallError", "call"]

# The kubelet's own limit.
ANSWER_BYTES_MAX = 16 << 20
_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    # Else a server sees the socket's path as the name of its host, and some refuse that.
    ("grpc.default_authority", "localhost"),
    # Else a connection that failed is remembered for the whole process, with its pause.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class CallError(Exception):
    """A call had no answer that can be used. `code`: gRPC's word for it, or `malformed`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


def call(socket: Path, method: str, request: Any, answer: tuple[str, str], *, timeout_s: float) -> Any:
    """The answer of `method` ("package.Service/Method"); `answer`: package and name of its message.

    Blocks up to `timeout_s`; a repeat is as harmless as the method. Raises CallError.
    """
    with grpc.insecure_channel(f"unix://{socket.absolute()}", options=_OPTIONS) as channel:
        # Bytes: a message that cannot be read is then our error to handle, and not one of gRPC's threads.
        ask = channel.unary_unary(f"/{method}", request_serializer=None, response_deserializer=None)
        try:
            body = ask(request.SerializeToString(), timeout=timeout_s)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            detail = error.details() if isinstance(error, grpc.Call) else repr(error)
            raise CallError(code.name.lower(), str(detail)) from error
    try:
        return message_class(*answer).FromString(body)
    except DecodeError as error:
        raise CallError("malformed", f"the answer to {method} is no {'.'.join(answer)}") from error
