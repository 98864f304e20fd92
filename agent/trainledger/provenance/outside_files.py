"""Modules from outside of a run's code: those in folders of PYTHONPATH, and what it loaded from other places.

Of a folder of PYTHONPATH all modules and packages are taken, since they may be imported later; of another place, or of
one that holds very many, the packages that were loaded. Each such folder is a snapshot of its own, which a repetition
restores beside the code and names in PYTHONPATH; the id of the code does not depend on where it lay.

Limits: at most FOLDERS_MAX folders, in each those of `selection`; installed packages and Python's own modules are no
part of it. What is not stored is named with its digest, so that a repetition can tell whether it is still there.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainledger_schemas.blobs import sha256_of
from trainledger_schemas.code_snapshot import LeftOut

from .gitless_snapshot import list_files
from .selection import FILES_MAX
from .used_files import real_place

__all__ = ["FOLDERS_MAX", "group_outside", "name_files"]

FOLDERS_MAX = 20
NAMED_MAX = 200
_LOOKED_AT_MAX = 2000
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_MODULES = (b".py", b".so")


def group_outside(
    loaded: Iterable[Path], root: Path, *, search: Sequence[Path], declared: Sequence[Path] = ()
) -> dict[Path, list[bytes]]:
    """Folders to the files of modules and packages in them, relative to the folder. `declared`: those of PYTHONPATH.

    The folders are named as the module path has them. A module that none of them leads to lies in the folder above its
    outermost package."""
    whole = {place: files for place in declared if (files := _modules_in(place, root))}
    return _group_loaded(loaded, root, search) | whole


def _group_loaded(loaded: Iterable[Path], root: Path, search: Sequence[Path]) -> dict[Path, list[bytes]]:
    places = sorted(
        ((Path(os.path.realpath(place)), place) for place in search), key=lambda pair: -len(pair[0].parts)
    )
    found: dict[Path, set[bytes]] = {}
    for path in sorted({real_place(path) for path in loaded})[:_LOOKED_AT_MAX]:
        # What is called from a folder of programs is the short starter of an installed package.
        if path.is_relative_to(root) or path.parent.name in ("bin", "sbin") or not path.is_file():
            continue
        above = _above_packages(path)
        real, place = next((pair for pair in places if path.is_relative_to(pair[0])), (above, above))
        found.setdefault(place, set()).update(_with_package(path, real))
    return {place: sorted(files) for place, files in found.items()}


def name_files(place: Path, paths: Iterable[bytes]) -> list[LeftOut]:
    """Files that are not stored, with what tells whether they are the same; of very many the first."""
    named = []
    for path in list(paths)[:NAMED_MAX]:
        file = place / os.fsdecode(path)
        try:
            size, digest = file.stat().st_size, sha256_of(file)
        except OSError:
            continue
        named.append(
            LeftOut(str(file), size, digest, f"it was loaded from one of more than {FOLDERS_MAX} folders")
        )
    return named


def _modules_in(place: Path, root: Path) -> list[bytes]:
    """All modules and packages of a folder; nothing of one that holds, or is a part of, the code, and nothing where
    there are very many."""
    real = Path(os.path.realpath(place))
    if real.is_relative_to(root) or root.is_relative_to(real) or not _INSTALLED.isdisjoint(real.parts):
        return []
    files, _ = list_files(real)
    packages: dict[str, bool] = {}
    found = []
    for file in files:
        top, slash, _ = os.fsdecode(file).partition("/")
        if slash and top not in packages:
            packages[top] = (real / top / "__init__.py").exists()
        if packages.get(top) or file.endswith(_MODULES):
            found.append(file)
    return found if len(found) <= FILES_MAX else []


def _above_packages(path: Path) -> Path:
    folder = path.parent
    while (folder / "__init__.py").exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _with_package(path: Path, place: Path) -> list[bytes]:
    """The file, and all files of the outermost package that it belongs to; of a package without `__init__.py` nobody
    can tell what else belongs to it."""
    parts = path.relative_to(place).parts
    package = place / parts[0]
    if len(parts) == 1 or not (package / "__init__.py").exists():
        return [os.fsencode(path.relative_to(place))]
    files, _ = list_files(package)
    return [os.fsencode(parts[0]) + b"/" + file for file in files]
