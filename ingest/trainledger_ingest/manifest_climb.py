"""From digests up to every folder that they are in, by the index of manifests, and the paths on the way down again.

Each level is one question to the tables, answered by their primary key. Limit: PLACES_MAX places in all; where more
are found, `is_cut` says that the paths are not all, the folders are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .session import Session

__all__ = ["Places", "climb", "marked_tops", "shown_generation"]

PLACES_MAX = 200_000
NAMES_A_FOLDER_MAX = 1_000
ASKED_AT_ONCE = 2_000
DEPTH_MAX = 1_000


@dataclass(slots=True)
class Places:
    """`below`: of each folder that leads to a digest that was asked for, (name, digest) of what leads there."""

    below: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)
    places: int = 0
    is_cut: bool = False

    def paths(self, top: str, *, paths_max: int) -> list[bytes]:
        """The paths of what was asked for in a folder, sorted, at most so many."""
        found: list[bytes] = []
        for path in self._walk(top, b"", 0):
            found.append(path)
            if len(found) == paths_max:
                break
        return sorted(found)

    def first_below(self, folder: str) -> str:
        """One of the digests that were asked for, below a folder that leads to one."""
        digest = folder
        while digest in self.below:
            digest = self.below[digest][0][1]
        return digest

    def _walk(self, folder: str, prefix: bytes, depth: int) -> Iterator[bytes]:
        for name, digest in self.below.get(folder, ()) if depth < DEPTH_MAX else ():
            if digest in self.below:
                yield from self._walk(digest, prefix + name + b"/", depth + 1)
            else:
                yield prefix + name


def climb(session: Session, generation: str, digests: Iterable[str]) -> Places:
    """All folders that hold a file or folder of one of these digests (hexadecimal digits of SHA-256), at any depth."""
    places = Places()
    frontier, is_first = set(digests), True
    while frontier:
        above: set[str] = set()
        asked = sorted(frontier)
        for begin in range(0, len(asked), ASKED_AT_ONCE):
            rows = session.query(
                "SELECT lower(hex(folder)) AS above, lower(hex(child)) AS below, uniqExact(name) AS n, "
                f"groupUniqArray({NAMES_A_FOLDER_MAX})(hex(name)) AS names "
                f"FROM {generation}.manifest_entries WHERE (is_folder OR {{is_first:Bool}}) AND child IN "
                "(SELECT toFixedString(unhex(arrayJoin({digests:Array(String)})), 32)) GROUP BY folder, child",
                {"digests": asked[begin : begin + ASKED_AT_ONCE], "is_first": is_first},
            )
            for row in rows.to_pylist():
                above |= _add(places, row)
        frontier, is_first = above, False
    return places


def marked_tops(session: Session, generation: str, tops: Iterable[str]) -> set[str]:
    """Those of these manifests that the index holds whole."""
    asked, found = sorted(set(tops)), set[str]()
    for begin in range(0, len(asked), ASKED_AT_ONCE):
        found |= set(
            session.query(
                f"SELECT DISTINCT lower(hex(folder)) AS top FROM {generation}.manifest_folders WHERE folder IN "
                "(SELECT toFixedString(unhex(arrayJoin({tops:Array(String)})), 32))",
                {"tops": asked[begin : begin + ASKED_AT_ONCE]},
            )["top"].to_pylist()
        )
    return found


def shown_generation(session: Session) -> str:
    """The database of the tables that the public views show."""
    (number,) = session.query(
        f"SELECT argMax(generation, applied_at) AS number FROM {session.views}.schema_migrations "
        "WHERE name = 'views'"
    )["number"].to_pylist()
    return f"{session.views}_g{number}"


def _add(places: Places, row: dict[str, object]) -> set[str]:
    """The folder, where it was not met before."""
    folder, child, names = str(row["above"]), str(row["below"]), row["names"]
    is_new = folder not in places.below
    known = places.below.setdefault(folder, [])
    room = max(1, PLACES_MAX - places.places)
    taken = [bytes.fromhex(name) for name in names[:room]] if isinstance(names, list) else []
    places.is_cut = places.is_cut or len(taken) < int(str(row["n"]))
    places.places += len(taken)
    known += [(name, child) for name in sorted(taken)]
    return {folder} if is_new else set()
