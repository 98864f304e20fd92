"""Which image a container was made from, as containerd or CRI-O says by the Container Runtime Interface.

    container id -> ContainerStatus: the image's id and name, and one digest under which a registry knows it
                 -> ImageStatus: all of its digests, of which that of the registry it was started from counts

Whoever may connect to this socket may do anything on the node: a cluster that does not give it to the agent has no
digests from here, and loses nothing else.
"""

import re
from pathlib import Path
from typing import Any

from trainledger.node.container_images import Image, digest_of
from trainledger.node.kubernetes.messages import message_class
from trainledger.node.kubernetes.unix_calls import CallError, call

__all__ = ["ask_runtime"]

ASK_S_MAX = 1.0
_PACKAGE = "runtime.v1"
# What the services say about a container that is not theirs; containerd before 1.5 has its own words.
_UNKNOWN = ("not_found", "unknown")
_PLAIN_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


def ask_runtime(socket: Path, container: str) -> Image | None:
    """The image of a container; None when the runtime does not know it. Raises OSError when it cannot be asked."""
    try:
        told = _call(
            socket, "RuntimeService/ContainerStatus", {"container_id": container}, "ContainerStatusResponse"
        )
        status = told.status
        name = next((text for text in (status.image.user_specified_image, status.image.image) if text), "")
        image_id = status.image_id or status.image_ref
        digests = _digests(socket, image_id) if image_id else []
    except CallError as error:
        if error.code in _UNKNOWN:
            return None
        raise OSError(str(error)) from error
    name = "" if _PLAIN_ID.fullmatch(name) else name
    return Image(digest_of(digests or [status.image_ref], name), name or None)


def _digests(socket: Path, image: str) -> list[str]:
    request = {"image": message_class(_PACKAGE, "ImageSpec")(image=image)}
    try:
        told = _call(socket, "ImageService/ImageStatus", request, "ImageStatusResponse")
    except CallError as error:
        if error.code in _UNKNOWN:  # removed while a container of it runs
            return []
        raise
    return list(told.image.repo_digests)


def _call(socket: Path, method: str, fields: dict[str, Any], answer: str) -> Any:
    request = message_class(_PACKAGE, method.partition("/")[2] + "Request")(**fields)
    return call(socket, f"{_PACKAGE}.{method}", request, (_PACKAGE, answer), timeout_s=ASK_S_MAX)
