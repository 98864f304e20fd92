"""Whether a folder that is in no repository is one of code, for a command that has no script of Python.

It is, where the command line names a program in it (`./go.sh`, `bash go.sh`, `torchrun -m pkg.train`, a launcher's
`train.py`), or where the process has loaded a module from it (`python -c "import train"`). Elsewhere it is just where
somebody stood: a home, a disk of data.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["has_code_of"]

_SUFFIXES = frozenset({".py", ".sh", ".ipynb"})
_WORDS_MAX = 1000


def has_code_of(folder: Path, argv: Sequence[str], loaded: Iterable[Path] = ()) -> bool:
    """Whether `argv` names a program or a module in `folder`, or one of the `loaded` files was imported from it."""
    if any(_is_imported_from(folder, file) for file in loaded):
        return True
    return any(_is_program(path, folder) for path in _named(folder, argv[:_WORDS_MAX]))


def _is_imported_from(folder: Path, file: Path) -> bool:
    if not file.is_relative_to(folder):
        return False
    first, *rest = file.relative_to(folder).parts
    return not rest or (folder / first / "__init__.py").is_file()


def _named(folder: Path, argv: Sequence[str]) -> Iterator[Path]:
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        yield folder / word
        if word == "-m" and after:
            module = folder.joinpath(*after.split("."))
            yield from (module.with_suffix(".py"), module / "__main__.py")


def _is_program(path: Path, folder: Path) -> bool:
    try:
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            return False
        if path.suffix in _SUFFIXES:
            return True
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except (OSError, ValueError):
        return False  # no path, but text with a zero byte or one that is too long; or nothing for us to read
