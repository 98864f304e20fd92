"""Wheels made by hand, and a pip and a uv that know of nothing else."""

import base64
import hashlib
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Wheels"]


class Wheels:
    """A folder of wheels, and an environment whose pip and uv take from it alone, by the user's own configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._configuration = folder / "pip.conf"
        self._configuration.write_text(f"[global]\nno-index = true\nfind-links = {folder}\n")

    def add(self, name: str, version: str, body: str = "", build: str = "") -> Path:
        """A distribution of one module; `build`: a build tag, for another build of one version."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}/__init__.py": body,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        wheel = self.folder / f"{name}-{version}{build and '-' + build}-py3-none-any.whl"
        lines = []
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
                digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
                lines.append(f"{path},sha256={digest},{len(text)}\n")
            archive.writestr(f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")
        return wheel

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What a user's shell has, with this pip configuration."""
        kept = {name: value for name, value in environ.items() if not name.startswith(("PIP_", "UV_"))}
        return kept | {
            "PIP_CONFIG_FILE": str(self._configuration),
            "UV_NO_CONFIG": "1",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(self.folder),
            "UV_CACHE_DIR": str(self.folder.with_name("uv-cache")),
            "UV_PYTHON_DOWNLOADS": "never",
            # uv is among the packages of the tests, beside their interpreter.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', os.defpath)}",
        }
