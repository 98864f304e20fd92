"""Collection in a store that many machines share, beside writers and other collections: see docs/adr/0008.

    1  read_marks            which names are condemned already
    2  (the caller)          the tables are up with the log, and say what is needed
    3  collect_shared        condemn what is not needed; remove what was condemned in 1, is past its grace and is not
                             needed in 2; what is needed again and condemned is copied under a new name first

The order of 1 and 2 is what makes it safe, not the grace: who relies on a name saw it without a mark after its event
was in the log, so a mark that was there before the log was read is younger than that look only if the event was read.
The grace is for people, and for what a person has to bring back.
"""

import json
from collections.abc import Mapping
from hashlib import sha256 as sha256_hash

from trainledger_schemas.errors import NotFoundError
from trainledger_schemas.objects import Objects, StoredObject
from trainledger_schemas.shared_blobs import (
    BLOBS,
    MARKS,
    UPLOADERS,
    Generation,
    blob_name,
    mark_name,
    parse_blob_name,
)

from .needed import Needed
from .report import Policy, Report

__all__ = ["Marks", "collect_shared", "read_marks", "unknown_uploaders"]

GENERATIONS_MAX = 1000
Marks = Mapping[Generation, StoredObject]
"""Condemned names, with the mark of each."""


def read_marks(objects: Objects) -> Marks:
    """All marks that there are. Before the log is read."""
    marks = {}
    for mark in objects.names(MARKS):
        digits = mark.name.removeprefix(MARKS)
        found = parse_blob_name(f"{BLOBS}{digits[:2]}/{digits}")
        if found is not None:
            marks[found] = mark
    return marks


def unknown_uploaders(objects: Objects, producers: frozenset[str]) -> list[str]:
    """Spools that keep blobs there and whose events the tables do not have: another ledger's, or silent so far."""
    found = (item.name.removeprefix(UPLOADERS) for item in objects.names(UPLOADERS))
    return sorted(producer for producer in found if producer not in producers)


def collect_shared(objects: Objects, marks: Marks, needed: Needed, *, policy: Policy) -> Report:
    """One collection; a repeat goes on. Raises RetryableError without the store: what was done stands."""
    collection = _Collection(objects, marks, needed, policy)
    return collection.run()


class _Collection:
    def __init__(self, objects: Objects, marks: Marks, needed: Needed, policy: Policy) -> None:
        self._objects = objects
        self._marks = dict(marks)
        self._needed = needed
        self._policy = policy
        self._report = Report(objects.place)

    def run(self) -> Report:
        if self._needed.unread:
            self._report.notes.append(f"{self._needed.unread} documents that runs name are not there")
        sending = self._open_uploads()
        found: dict[str, dict[int, StoredObject]] = {}
        for item in self._objects.names(BLOBS):
            parsed = parse_blob_name(item.name)
            if parsed is not None:
                found.setdefault(parsed[0], {})[parsed[1]] = item
        for sha256, generations in found.items():
            if sha256 in self._needed:
                self._keep(sha256, generations)
            else:
                self._let_go(sha256, generations, is_sending=sha256 in sending)
        return self._report

    def _open_uploads(self) -> set[str]:
        """Digests that are being sent now; what was begun long ago and is not needed is given up."""
        sending = set()
        for upload in self._objects.open_uploads():
            parsed = parse_blob_name(upload.name)
            if parsed is None:
                continue
            if parsed[0] in self._needed or upload.begun_us > self._policy.now_us - self._policy.grace_us:
                sending.add(parsed[0])
                continue
            self._report.uploads += 1
            if self._policy.deletes:
                self._objects.abort(upload)
        return sending

    def _keep(self, sha256: str, generations: Mapping[int, StoredObject]) -> None:
        free = [n for n in generations if (sha256, n) not in self._marks]
        if free:
            self._report.kept.add(generations[free[0]].size_bytes)
        else:
            self._revive(sha256, next(iter(generations.values())))
            return
        for number, item in generations.items():
            if (sha256, number) in self._marks:
                self._remove_if_due(item, self._marks[sha256, number])

    def _revive(self, sha256: str, source: StoredObject) -> None:
        """Needed and condemned: the next collection removes it, when its copy is there."""
        self._report.copied.add(source.size_bytes)
        if not self._policy.deletes:
            return
        for number in range(GENERATIONS_MAX):
            is_marked = (sha256, number) in self._marks
            if is_marked or self._objects.look(mark_name(sha256, number)) is not None:
                continue
            try:
                self._objects.copy_new(source.name, blob_name(sha256, number))
            except NotFoundError:
                # Another collection was faster: it removes only what has a copy, or what nobody relies on.
                self._report.notes.append(f"{source.name} went while it was copied")
            return

    def _let_go(self, sha256: str, generations: Mapping[int, StoredObject], *, is_sending: bool) -> None:
        for number, item in generations.items():
            mark = self._marks.get((sha256, number))
            if mark is not None:
                self._remove_if_due(item, mark)
            elif is_sending or item.changed_us > self._policy.young_us:
                self._report.young.add(item.size_bytes)
            else:
                self._report.condemned.add(item.size_bytes)
                if self._policy.deletes:
                    self._mark(sha256, number, item)

    def _mark(self, sha256: str, number: int, item: StoredObject) -> None:
        told = {"at_us": self._policy.now_us, "size_bytes": item.size_bytes, "changed_us": item.changed_us}
        data = json.dumps(told).encode()
        self._objects.put_new(mark_name(sha256, number), data, sha256=sha256_hash(data).hexdigest())

    def _remove_if_due(self, item: StoredObject, mark: StoredObject) -> None:
        # An upload that was under way when the name was condemned may have ended later: its grace begins then.
        since_us = max(mark.changed_us, item.changed_us)
        if since_us > self._policy.now_us - self._policy.grace_us:
            self._report.condemned.add(item.size_bytes)
            return
        self._report.expired.add(item.size_bytes)
        if self._policy.deletes:
            # As it is now: of a store that keeps versions, this one.
            seen = self._objects.look(item.name)
            if seen is not None and (seen.size_bytes, seen.changed_us) == (item.size_bytes, item.changed_us):
                self._objects.remove(seen)
                self._report.deleted.add(item.size_bytes)
