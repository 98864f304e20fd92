"""Collections beside writers: whatever the order of their steps, nothing that a run names is ever missing."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.memory_objects import Actor, MemoryObjects
from trainledger_ingest.garbage.needed import Needed, spread
from trainledger_ingest.garbage.report import Policy
from trainledger_ingest.garbage.shared import collect_shared, read_marks, unknown_uploaders
from trainledger_schemas.blob_references import FILE, TREE_WITH_FILES, Named, walk_named
from trainledger_schemas.errors import CorruptDataError, FatalError, NotFoundError
from trainledger_schemas.objects import OpenUpload
from trainledger_schemas.shared_blobs import (
    MARKS_LISTED_FROM,
    MarksLooked,
    SharedBlobs,
    blob_name,
    register_uploader,
)
from trainledger_schemas.tree_manifest import Child, encode_node

DAY_US = 86_400 * 1_000_000
FILES = (b"one", b"two")
DIGESTS = tuple(hashlib.sha256(data).hexdigest() for data in FILES)
TOP = encode_node([Child("f", 3, digest, b"%d" % number) for number, digest in enumerate(DIGESTS)])
TREE = Named(hashlib.sha256(TOP).hexdigest(), TREE_WITH_FILES)
BYTES = dict(zip(DIGESTS, FILES, strict=True)) | {TREE.sha256: TOP}
NAMED = (TREE, Named(DIGESTS[0], FILE))
CHOICES = ("some steps", "some steps", "to its end", "kill")


class World:
    """One store, one log of who names what, and what was promised: a reference whose writer came to its end."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        self.log: dict[int, Named] = {}
        self.promised: set[int] = set()
        self._events = 0
        self.reads = 0

    def write(
        self, named: Named, *, has_bytes: bool = True, lists_marks: bool = False
    ) -> Callable[[Any], None]:
        """What the agent does: the event first, then each blob, documents before what they name. Of many blobs it
        lists the marks once, and sends what it expects to be new without a look."""

        def work(gate: Any) -> None:
            gate()
            self._events += 1
            event = self._events
            self.log[event] = named
            seen = self.objects.through(gate)
            shared, marks = SharedBlobs(seen), MarksLooked(seen)
            marks._asked = MARKS_LISTED_FROM - 1 if lists_marks else 0
            kept = True
            for item in walk_named(named, BYTES.__getitem__):
                if has_bytes:
                    data = BYTES[item.sha256]
                    shared.keep(data, item.sha256, len(data), marks=marks, looks_first=not lists_marks)
                else:
                    kept &= shared.revive(item.sha256)
            if kept and event in self.log:
                self.promised.add(event)

        return work

    def retract(self, named: Named) -> Callable[[Any], None]:
        """All runs that name it so far are retracted."""

        def work(gate: Any) -> None:
            gate()
            for event in [event for event, item in self.log.items() if item == named]:
                del self.log[event]
                self.promised.discard(event)

        return work

    def collect(self) -> Callable[[Any], None]:
        """One collection without any grace, as the command makes it."""

        def work(gate: Any) -> None:
            seen = self.objects.through(gate)
            marks = read_marks(seen)
            gate()
            named = list(self.log.values())
            self.reads += 1
            needed = spread(named, SharedBlobs(seen).read)
            self.objects.now_us += 1
            collect_shared(seen, marks, needed, policy=Policy(self.objects.now_us, 0, deletes=True))

        return work

    def check(self) -> None:
        shared = SharedBlobs(self.objects)
        for event in self.promised:
            named = self.log[event]
            for item in walk_named(named, shared.read):
                assert shared.read(item.sha256) == BYTES[item.sha256]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_no_interleaving_of_writers_and_collections_loses_what_is_named(data: st.DataObject) -> None:
    world = World()
    actors: list[Actor] = []
    made = {
        "write": lambda: world.write(data.draw(st.sampled_from(NAMED))),
        "write with a list": lambda: world.write(data.draw(st.sampled_from(NAMED)), lists_marks=True),
        "write without bytes": lambda: world.write(data.draw(st.sampled_from(NAMED)), has_bytes=False),
        "retract": lambda: world.retract(data.draw(st.sampled_from(NAMED))),
        "collect": world.collect,
    }
    before = (world.write(TREE), world.retract(TREE), world.collect())
    for work in before[: data.draw(st.integers(0, 3), label="written, retracted, condemned before")]:
        run(work)
    try:
        for _ in range(data.draw(st.integers(3, 30))):
            alive = [actor for actor in actors if not actor.is_done]
            choice = data.draw(
                st.sampled_from([*(made if len(alive) < 3 else ()), *(CHOICES if alive else ())])
            )
            if choice in made:
                actors.append(Actor(made[choice]()))
            else:
                actor = data.draw(st.sampled_from(alive))
                if choice == "kill":
                    actor.kill()
                steps = 1000 if choice == "to its end" else data.draw(st.integers(1, 8))
                while steps and not actor.is_done:
                    actor.turn()
                    steps -= 1
            world.check()
        for actor in actors:
            while not actor.is_done:
                actor.turn()
                world.check()
    finally:
        for actor in actors:
            actor.kill()


def test_a_mark_that_came_after_the_log_was_read_removes_nothing() -> None:
    world = World()
    run(world.write(NAMED[1]))
    run(world.retract(NAMED[1]))
    first, second = Actor(world.collect()), Actor(world.collect())
    for number, actor in enumerate((first, second), 1):
        while world.reads < number:
            actor.turn()
    run(world.write(NAMED[1]))  # relies on what is there, and the second one condemns it now
    for actor in (second, first):
        while not actor.is_done:
            actor.turn()
    world.check()
    run(world.collect())
    run(world.collect())
    world.check()


def run(work: Callable[[Any], None]) -> None:
    work(lambda: None)


def collection(
    world: World, needed: set[str], *, at_us: int, grace_us: int = 7 * DAY_US, deletes: bool = True
) -> dict[str, Any]:
    world.objects.now_us = at_us
    policy = Policy(at_us, grace_us, deletes=deletes)
    return collect_shared(world.objects, read_marks(world.objects), Needed(needed), policy=policy).as_row()


def test_what_nobody_names_goes_after_the_grace_and_not_before() -> None:
    world = World()
    run(world.write(NAMED[1]))
    assert collection(world, set(), at_us=DAY_US // 2)["young"] == 1
    looked = collection(world, set(), at_us=2 * DAY_US, deletes=False)
    assert (looked["condemned"], looked["condemned_bytes"], looked["deleted"]) == (1, 3, 0)
    assert read_marks(world.objects) == {}, "without --delete nothing is changed"
    assert collection(world, set(), at_us=2 * DAY_US)["condemned"] == 1
    assert collection(world, set(), at_us=8 * DAY_US)["condemned"] == 1
    expired = collection(world, set(), at_us=9 * DAY_US, deletes=False)
    assert (expired["expired"], expired["deleted"]) == (1, 0) and SharedBlobs(world.objects).has(DIGESTS[0])
    assert collection(world, set(), at_us=9 * DAY_US)["deleted"] == 1
    assert not SharedBlobs(world.objects).has(DIGESTS[0])


def test_what_is_named_again_is_kept_and_the_condemned_name_goes() -> None:
    world = World()
    run(world.write(NAMED[1]))
    collection(world, set(), at_us=2 * DAY_US)
    assert collection(world, {DIGESTS[0]}, at_us=3 * DAY_US)["copied"] == 1
    assert SharedBlobs(world.objects).is_kept(DIGESTS[0], 3)
    last = collection(world, {DIGESTS[0]}, at_us=12 * DAY_US)
    assert (last["kept"], last["deleted"], last["copied"]) == (1, 1, 0)
    assert set(world.objects.data) == {blob_name(DIGESTS[0], 1), f"condemned/{DIGESTS[0]}"}


def test_what_is_being_sent_is_not_condemned_and_what_was_given_up_is_aborted() -> None:
    world = World()
    run(world.write(NAMED[1]))
    world.objects.uploads = [
        OpenUpload(blob_name(DIGESTS[0]), "new", 9 * DAY_US),
        OpenUpload(blob_name(DIGESTS[1]), "old", DAY_US),
        OpenUpload("elsewhere", "not ours", DAY_US),
    ]
    row = collection(world, set(), at_us=10 * DAY_US)
    assert (row["young"], row["condemned"], row["uploads"]) == (1, 0, 1)
    assert [upload.upload_id for upload in world.objects.uploads] == ["new", "not ours"]


def test_a_damaged_document_stops_everything_and_a_missing_one_is_told() -> None:
    def damaged(sha256: str) -> bytes:
        raise CorruptDataError("it is damaged")

    def missing(sha256: str) -> bytes:
        raise NotFoundError("it is not there")

    with pytest.raises(FatalError, match="nothing was removed"):
        spread([TREE], damaged)
    needed = spread([TREE, NAMED[1]], missing)
    assert (set(needed), needed.unread) == ({TREE.sha256, DIGESTS[0]}, 1)


def test_spools_that_the_tables_do_not_know_are_found() -> None:
    objects = MemoryObjects()
    register_uploader(objects, "one", "node-1")
    register_uploader(objects, "one", "node-1")
    register_uploader(objects, "two", "node-2")
    assert unknown_uploaders(objects, frozenset({"one"})) == ["two"]
