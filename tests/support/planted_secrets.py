"""Secrets of every form, each planted once, and a search for them in everything that was written.

A value is made from the place where it is planted, so that one that is found says where it came from. A search looks
for the beginning and the end of its random part: a secret that was cut in two is found as well.
"""

import gzip
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FORMS", "PlantedSecrets", "readable_bytes"]

# Put together, so that no scanner takes this file for a leak.
FORMS = {
    "aws": "AK" + "IA{U16}",
    "github": "gh" + "p_{r36}",
    "github-fine": "github_" + "pat_{r40}",
    "gitlab": "gl" + "pat-{r20}",
    "hugging-face": "h" + "f_{r34}",
    "openai": "s" + "k-proj-{r40}",
    "anthropic": "s" + "k-ant-api03-{r40}",
    "slack": "xo" + "xb-{r24}",
    "pypi": "py" + "pi-{r40}",
    "npm": "np" + "m_{r36}",
    "google": "AI" + "za{r35}",
    "stripe": "s" + "k_live_{r24}",
    "jwt": "ey" + "J{r20}.eyJ{r20}.{r30}",
    "address": "postgresql://reader:{r16}@db.example/x",
    "bearer": "Authorization: Bearer {r32}",
    "azure": "AccountName=x;Account" + "Key={r40}==",
    "key": "-----BEGIN RSA PRIVATE " + "KEY-----\n{r60}\n{s60}\n-----END RSA PRIVATE " + "KEY-----",
}
_MARK_CHARS = 12
# What is random in them is hexadecimal digits, so that a search has little to look at.
_RUNS = re.compile(rb"[0-9a-f]{12,}|[0-9A-F]{12,}")


class PlantedSecrets:
    """Makes secrets and remembers where they were planted."""

    def __init__(self) -> None:
        self._marks: dict[bytes, str] = {}

    def make(self, place: str, kind: str) -> str:
        """A value of a form of FORMS, or of kind `plain`: known as a secret by its name alone."""
        random = "".join(hashlib.sha256(f"{place}/{kind}/{n}".encode()).hexdigest() for n in range(4))
        text = FORMS.get(kind, "pw{r16}")
        for sign in "Urs":
            while f"{{{sign}" in text:
                before, _, rest = text.partition(f"{{{sign}")
                length, _, after = rest.partition("}")
                part, random = random[: int(length)], random[int(length) :]
                part = part.upper() if sign == "U" else part
                for mark in (part[:_MARK_CHARS], part[-_MARK_CHARS:]):
                    self._marks[mark.encode()] = f"{place}/{kind}"
                    self._marks[mark.encode().hex().encode()] = f"{place}/{kind} as digits"
                text = before + part + after
        return text

    def every_form(self, place: str) -> dict[str, str]:
        """A value of each form that is known without a name."""
        return {kind: self.make(place, kind) for kind in FORMS}

    def found_in(self, name: str, data: bytes) -> set[str]:
        """`place/kind in name` for each secret of which a part is in the data."""
        return {
            f"{self._marks[window]} in {name}"
            for run in set(_RUNS.findall(data))
            for length in (_MARK_CHARS, 2 * _MARK_CHARS)
            for begin in range(len(run) - length + 1)
            if (window := run[begin : begin + length]) in self._marks
        }

    def search(self, folder: Path, objects: Path) -> set[str]:
        """Look in every file below a folder, and in what is packed in it. `objects`: see `readable_bytes`."""
        paths = sorted(folder.rglob("*"))
        found = self.found_in(
            "the names", "\n".join(str(path.relative_to(folder)) for path in paths).encode()
        )
        for path in filter(Path.is_file, paths):
            for form, data in readable_bytes(path, objects):
                found |= self.found_in(f"{path.relative_to(folder)}{form}", data)
        return found


def readable_bytes(path: Path, objects: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of a file, and again unpacked where it is compressed or a bundle of git.

    `objects`: the git directory that has what the bundles build on."""
    data = path.read_bytes()
    yield "", data
    if data[:2] == b"\x1f\x8b":
        yield " unpacked", gzip.decompress(data)
    elif data.startswith((b"# v2 git bundle", b"# v3 git bundle")):
        yield " unbundled", _bundled_objects(path, objects)


def _bundled_objects(bundle: Path, objects: Path) -> bytes:
    """Every object that a bundle brings: contents of files, names, messages."""

    def git(*arguments: str, stdin: bytes = b"") -> bytes:
        command = ["git", "-C", str(objects), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    git("bundle", "unbundle", str(bundle))
    heads = [line.split()[0] for line in git("bundle", "list-heads", str(bundle)).decode().splitlines()]
    header = bundle.read_bytes().split(b"\n\n", 1)[0].decode("utf-8", "replace").splitlines()
    behind = [f"^{line[1:].split()[0]}" for line in header if line.startswith("-")]
    listed = git("rev-list", "--objects", *heads, *behind).splitlines()
    return git("cat-file", "--batch", stdin=b"\n".join(line.split(b" ")[0] for line in listed) + b"\n")


def table_bytes(folder: Path) -> bytes:
    """Every row of every table of a chDB folder that nobody has open, also of the engine's own logs."""
    done = subprocess.run(
        [sys.executable, "-c", _DUMP, str(folder)], capture_output=True, check=True, timeout=60
    )
    return done.stdout


_DUMP = """
import sys
from chdb.session import Session

session = Session(sys.argv[1])
names = session.query(
    "SELECT database || '.`' || name || '`' FROM system.tables WHERE engine LIKE '%MergeTree' OR engine LIKE '%Log' "
    "OR create_table_query != '' AND database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema')",
    "TSVRaw",
).bytes().decode().split("\\n")
for name in filter(None, names):
    sys.stdout.buffer.write(name.encode() + b"\\n")
    sys.stdout.buffer.write(session.query(f"SELECT * FROM {name}", "JSONEachRow").bytes() or b"")
session.close()
"""
