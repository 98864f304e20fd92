"""An installation without some packages: the real command, in a Python that cannot import them."""

from collections.abc import Iterable
from pathlib import Path

__all__ = ["without"]

_HOOK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Refuse())
"""


def without(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Environment variables with which Python has none of the top-level packages `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_HOOK.format(names=sorted(names)), encoding="utf-8")
    return {"PYTHONPATH": str(folder)}
