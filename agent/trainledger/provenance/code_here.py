"""Whether a folder that is in no repository is one of code, for a command that has no script of Python.

It is, where the command line names a program in it (`./go.sh`, `bash go.sh`, `torchrun -m pkg.train`, a launcher's
`train.py`, `bash -c "python train.py"`), or where the process has loaded a module from it. Elsewhere it is just where
somebody stood: a home, a disk of data.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["has_code_of"]

_SUFFIXES = frozenset({".py", ".sh", ".ipynb"})
_WORDS_MAX = 1000
# In the text of `sh -c` and `python -c`; and the option itself, also as `-lc`.
_WORD = re.compile(r"[^\s;&|()<>'\"`]+")
_IMPORT = re.compile(r"\b(?:import|from)\s+([\w.]+)")
_TEXT_OPTION = re.compile(r"-[A-Za-z]*c")


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
            yield from _module(folder, after)
        elif _TEXT_OPTION.fullmatch(word):
            yield from (folder / name for name in _WORD.findall(after)[:_WORDS_MAX])
            for name in _IMPORT.findall(after)[:_WORDS_MAX]:
                yield from _module(folder, name)


def _module(folder: Path, name: str) -> Iterator[Path]:
    place = folder.joinpath(*name.split("."))
    yield from (Path(f"{place}.py"), place / "__main__.py", place / "__init__.py")


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
