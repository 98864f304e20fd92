"""The messages of two services on a Kubernetes node, as far as they are read here: field names, numbers and types.

- `v1.PodResourcesLister` of the kubelet (kubernetes/kubelet, pkg/apis/podresources/v1/api.proto)
- `runtime.v1.RuntimeService` and `ImageService` of containerd and CRI-O (kubernetes/cri-api, pkg/apis/runtime/v1)

Classes are made from the tables below, so that there is no generated file whose version of protobuf must fit the one
that is installed. A field that is not named here is skipped when it is read; a number never changes its meaning there.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

__all__ = ["DecodeError", "message_class"]

# message: [*]field number type, ...; a star: repeated; a type that begins with a capital: a message.
_MESSAGES = {
    "v1": """
ListPodResourcesRequest:
ListPodResourcesResponse: *pod_resources 1 PodResources
AllocatableResourcesRequest:
AllocatableResourcesResponse: *devices 1 ContainerDevices, *cpu_ids 2 int64
PodResources: name 1 string, namespace 2 string, *containers 3 ContainerResources, *cpu_ids 4 int64, *memory 5 Memory
ContainerResources: *devices 2 ContainerDevices, *cpu_ids 3 int64, *memory 4 Memory, *dynamic_resources 5 Dynamic
ContainerDevices: resource_name 1 string, *device_ids 2 string
Memory: memory_type 1 string, size 2 uint64
Dynamic: claim_name 2 string, claim_namespace 3 string, *claim_resources 4 ClaimResource
ClaimResource: driver_name 2 string, pool_name 3 string, device_name 4 string
""",
    "runtime.v1": """
ContainerStatusRequest: container_id 1 string
ContainerStatusResponse: status 1 ContainerStatus
ContainerStatus: id 1 string, image 8 ImageSpec, image_ref 9 string, image_id 17 string
ImageSpec: image 1 string, user_specified_image 18 string
ImageStatusRequest: image 1 ImageSpec
ImageStatusResponse: image 1 Image
Image: id 1 string, *repo_tags 2 string, *repo_digests 3 string
""",
}  # fmt: skip
_FIELD = re.compile(r"(\*?)(\w+) (\d+) (\w+)")
_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


@cache
def message_class(package: str, name: str) -> Any:
    """The class of a message, for example of "v1", "ListPodResourcesResponse". Raises KeyError."""
    return GetMessageClass(_pool(package).FindMessageTypeByName(f"{package}.{name}"))


@cache
def _pool(package: str) -> DescriptorPool:
    # A pool of its own: the default one may hold the same names, from a library that this process uses too.
    pool = DescriptorPool()
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for line in _MESSAGES[package].strip().splitlines():
        name, _, fields = line.partition(":")
        file.message_type.add(name=name).field.extend(_fields(package, fields))
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _fields(package: str, text: str) -> Iterator[FieldDescriptorProto]:
    for star, name, number, kind in _FIELD.findall(text):
        field = FieldDescriptorProto(name=name, number=int(number))
        field.label = FieldDescriptorProto.LABEL_REPEATED if star else FieldDescriptorProto.LABEL_OPTIONAL
        field.type = _SCALARS.get(kind, FieldDescriptorProto.TYPE_MESSAGE)
        if kind not in _SCALARS:
            field.type_name = f".{package}.{kind}"
        yield field
