"""What is installed for an interpreter of this machine, read from files, and how it differs from what a run had.

Nothing is started: the interpreter that a record names may be anybody's program.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from trainledger_schemas.package_content import content_id

__all__ = ["NOT_COMPARED", "Installed", "compare_installed", "interpreter_of", "read_installed"]

_CONFIGURED_VERSION = re.compile(r"(?m)^version(?:_info)?\s*=\s*(\d+(?:\.\d+)*)")
_SEES_SYSTEM = re.compile(r"(?mi)^include-system-site-packages\s*=\s*true\s*$")
# What looks on decides no result, and an installer is another in every environment.
NOT_COMPARED = frozenset({"trainledger", "pip"})


@dataclass(frozen=True, slots=True)
class Installed:
    """`python` as provenance has it, or its version alone; packages by canonical name: versions and content ids."""

    python: str | None
    versions: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)


def interpreter_of(argv: Sequence[str], path: str) -> str | None:
    """The interpreter that a command line will start, itself or by a launcher that lies beside it."""
    for index, word in enumerate(argv):
        name = word.rpartition("/")[2]
        if name.startswith(("python", "pypy")):
            return _find(word, path)
        if index == 0 and name in ("torchrun", "accelerate", "deepspeed"):
            found = _find(word, path)
            return None if found is None else _find(os.path.join(os.path.dirname(found), "python"), path)
    return None


def read_installed(interpreter: str | None) -> Installed | None:
    """What an interpreter has, if it is this process's own or that of a virtual environment; None for others."""
    if interpreter is None:
        return None
    folder = Path(interpreter).absolute().parent.parent
    if _is_own(interpreter, folder):
        name = {"cpython": "CPython", "pypy": "PyPy"}.get(sys.implementation.name, sys.implementation.name)
        return _read(f"{sys.version.split()[0]} {name}", sys.path)
    try:
        configuration = (folder / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    if _SEES_SYSTEM.search(configuration):
        # Where the packages of the interpreter below lie, only that one knows: they are compared after the run.
        return None
    configured = _CONFIGURED_VERSION.search(configuration)
    return _read(configured[1] if configured else None, list(_places(folder)))


def compare_installed(provenance: Mapping[str, Any], installed: Installed) -> Iterator[str]:
    """What differs, one line each: the interpreter, versions, and contents where both are known."""
    recorded = str(provenance.get("python") or "")
    if installed.python and recorded and not _is_version(installed.python, recorded):
        yield f"python: {recorded} then, {installed.python} now"
    then, ids = provenance.get("packages") or {}, provenance.get("package_ids") or {}
    for name in sorted({*then, *installed.versions} - NOT_COMPARED):
        before, now = then.get(name), installed.versions.get(name)
        if before != now:
            yield f"package {name}: {before or 'none'} then, {now or 'none'} now"
        elif name in ids and name in installed.ids and ids[name] != installed.ids[name]:
            yield f"package {name}: {before} then and now, with other contents"


def _is_version(now: str, then: str) -> bool:
    return now == then or now.split()[0] == then.split()[0]


def _is_own(interpreter: str, folder: Path) -> bool:
    """Whether it sees what this process sees: the same program, of the same environment by whatever name."""
    if os.path.realpath(interpreter) != os.path.realpath(sys.executable):
        return False
    if sys.prefix != sys.base_prefix:
        return os.path.realpath(folder) == os.path.realpath(sys.prefix)
    return not (folder / "pyvenv.cfg").exists()


def _places(folder: Path) -> Iterator[str]:
    """Where a virtual environment has packages: its own folder, and the folders that its .pth files add."""
    for site in sorted(folder.glob("lib/*/site-packages")):
        yield str(site)
        for file in sorted(site.glob("*.pth")):
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError):
                continue
            for line in lines:
                # A line of code would have to be run to know what it adds.
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    place = os.path.join(site, line.rstrip())
                    if os.path.exists(place):
                        yield place


def _read(python: str | None, places: Sequence[str]) -> Installed:
    versions: dict[str, str] = {}
    ids: dict[str, str] = {}
    for distribution in metadata.distributions(path=list(places)):
        try:
            # Typed as a text, but None when the field is missing.
            found: str | None = distribution.metadata["Name"]
            name = re.sub(r"[-_.]+", "-", found or "").lower()
            if not name or name in versions:
                continue
            versions[name] = distribution.version
            record, origin = distribution.read_text("RECORD"), distribution.read_text("direct_url.json") or ""
        except Exception:  # a damaged installation raises whatever its bytes provoke; the others still count
            continue
        identity = content_id(record) if record and '"editable": true' not in origin else None
        if identity is not None:
            ids[name] = identity
    return Installed(python, versions, ids)


def _find(word: str, path: str) -> str | None:
    if "/" in word:
        return word if os.access(word, os.X_OK) else None
    places = (os.path.join(folder, word) for folder in path.split(os.pathsep) if folder)
    return next((place for place in places if os.access(place, os.X_OK) and not os.path.isdir(place)), None)
