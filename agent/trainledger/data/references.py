"""Versions that other systems keep of a dataset, recognised from its files or its address without any network.

A version is stored beside our own digest, never instead of it. `is_fixed` says whether it can ever mean other bytes.
Read are small files only, with bounds; nothing is run but `git`, in the repository of the data, as the user.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

__all__ = ["Reference", "find_reference"]

SMALL_FILE_BYTES_MAX = 1 << 20
_LFS_POINTER_BYTES_MAX = 1024
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """`system` None: nobody is known to keep versions of it. `digest`: of the bytes, where the system tells it."""

    system: str | None = None
    version: str | None = None
    is_fixed: bool = False
    digest: str | None = None
    size_bytes: int | None = None
    reasons: tuple[str, ...] = ()


def find_reference(path: Path | None, where: str | None) -> Reference:
    """The first system that knows the data; never raises."""
    try:
        if where is not None:
            return _of_address(where)
        if path is None:
            return Reference()
        for finder in _FINDERS:
            found = finder(path)
            if found is not None:
                return found
    except (OSError, ValueError) as error:
        return Reference(reasons=(f"its version in another system could not be read: {error}",))
    return Reference()


def _of_address(where: str) -> Reference:
    parts = urlsplit(where)
    if parts.scheme in ("s3", "s3a"):
        (version,) = parse_qs(parts.query).get("versionId", [""])
        if version and version != "null":
            return Reference("s3", version, is_fixed=True)
        return Reference("s3", None, reasons=("without a versionId the object may be replaced",))
    if parts.scheme in ("gs", "gcs") and parts.fragment.isdigit():
        return Reference("gcs", parts.fragment, is_fixed=True)
    if parts.scheme == "lakefs":
        ref = parts.path.strip("/").partition("/")[0]
        if _FULL_COMMIT.fullmatch(ref):
            return Reference("lakefs", ref, is_fixed=True)
        return Reference("lakefs", ref or None, reasons=("a branch of lakeFS may move: name a commit id",))
    if parts.scheme == "hf":
        _, at, revision = parts.path.strip("/").partition("@")
        if at and _FULL_COMMIT.fullmatch(revision):
            return Reference("huggingface", revision, is_fixed=True)
        if at:
            return Reference("huggingface", revision, reasons=("a branch may move: name a commit",))
        return Reference("huggingface", None, reasons=("without @revision it is whatever the branch is",))
    return Reference(reasons=("nobody is known to keep versions of this address",))


def _lfs(path: Path) -> Reference | None:
    if not path.is_file() or path.stat().st_size > _LFS_POINTER_BYTES_MAX:
        return None
    lines = path.read_bytes().splitlines()
    if not lines or not lines[0].startswith(b"version https://git-lfs.github.com/spec/"):
        return None
    fields = dict(line.decode("ascii", "replace").partition(" ")[::2] for line in lines)
    return Reference(
        "lfs",
        fields.get("oid"),
        is_fixed=True,
        reasons=("this file is the pointer of Git LFS, its data is not here: git lfs pull",),
    )


def _dvc(path: Path) -> Reference | None:
    """What `dvc add` noted beside the path, else what a pipeline noted in dvc.lock of a folder above."""
    path = path.absolute()
    note = path.with_name(path.name + ".dvc")
    if note.is_file():
        return _dvc_entry(note, path.name)
    for folder in path.parents:
        lock = folder / "dvc.lock"
        found = _dvc_entry(lock, path.relative_to(folder).as_posix()) if lock.is_file() else None
        if found is not None or (folder / ".dvc").is_dir():
            return found
    return None


def _dvc_entry(note: Path, wanted: str) -> Reference | None:
    # Its YAML is written by DVC alone, plain lists of outputs; a parser is not part of the standard library.
    for entry in re.split(r"(?m)^\s*-\s", _small(note))[1:]:
        fields: dict[str, str] = {}
        for key, value in re.findall(r"(?m)^\s*(\w+):[ \t]*['\"]?([^'\"\n]*)", entry):
            fields.setdefault(key, value)
        if fields.get("path") == wanted and fields.get("md5"):
            return Reference("dvc", f"md5:{fields['md5']}", is_fixed=True)
    return None


def _delta(path: Path) -> Reference | None:
    log = path / "_delta_log"
    if not log.is_dir():
        return None
    versions = [int(item.stem) for item in log.glob("*.json") if re.fullmatch(r"\d{20}", item.stem)]
    return Reference("delta", str(max(versions)), is_fixed=True) if versions else None


def _iceberg(path: Path) -> Reference | None:
    metadata = path / "metadata"
    files = sorted(metadata.glob("*.metadata.json")) if metadata.is_dir() else []
    if not files:
        return None
    number = {item: int((re.match(r"v?(\d+)", item.name) or [0, 0])[1]) for item in files}
    newest = max(files, key=lambda item: (number[item], item.name))
    found = re.search(r'"current-snapshot-id"\s*:\s*(\d+)', _small(newest))
    return Reference("iceberg", found[1], is_fixed=True) if found else None


def _huggingface(path: Path) -> Reference | None:
    parts = path.absolute().parts
    for index, part in enumerate(parts[:-2]):
        if part.startswith(("datasets--", "models--")) and parts[index + 1] == "snapshots":
            repository = part.replace("--", "/").partition("/")[2]
            revision = parts[index + 2]
            return Reference(
                "huggingface", f"{repository}@{revision}", is_fixed=bool(_FULL_COMMIT.fullmatch(revision))
            )
    return None


def _small(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(SMALL_FILE_BYTES_MAX).decode("utf-8", "replace")


_FINDERS: tuple[Callable[[Path], Reference | None], ...] = (_lfs, _dvc, _delta, _iceberg, _huggingface)
