"""What a repetition is going to be, from what is recorded and what was told; nothing is done yet."""

import os
import shutil
from pathlib import Path

from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_bytes, id_text, random_id

from ..reproduce.command import Launching, build_command, search_restored
from ..reproduce.data_places import check_outputs, map_command
from ..reproduce.environment import (
    HERE,
    UV,
    VENV,
    environment_folder,
    has_in_environment,
    use_environment,
)
from ..reproduce.inputs import map_path
from ..reproduce.installed import interpreter_of, read_installed
from ..reproduce.nodes import choose_place
from ..reproduce.plan import Intent, environment_steps
from ..reproduce.restore import restored_places
from ..reproduce.subject import Subject
from ..reproduce.told_options import check_data, check_folder, places_beside
from .opening import read_settings
from .reproduce_options import Choice, address_of

__all__ = ["intend"]

FOLDERS_MAX = 1000


def intend(subject: Subject, given: list[str], choice: Choice) -> Intent:
    """Raises UsageError for what was told and cannot be done."""
    facts, shape, environ = subject.facts, subject.facts.shape, os.environ
    master = None if choice.master is None else address_of(choice.master)
    place = choose_place(shape, node_rank=choice.node_rank, master=master, environ=environ)
    if choice.hosts and len(choice.hosts) not in (1, shape.nodes):
        raise UsageError(f"--hosts: the run had {shape.nodes} nodes; name as many machines")
    launching = Launching(shape, choice.ranks, place)
    repetition = _repetition_id(choice)
    name = facts.run_id[:8] if place is None else f"{facts.run_id[:8]}-{repetition[:8]}-node{place.node_rank}"
    if choice.into is not None and not choice.hosts:
        check_folder(choice.into)
    folder = (choice.into or _new_folder(read_settings().home / "reproduced", name)).absolute()
    outside = [pair for pair in choice.data if map_path(pair[0], [(subject.snapshot.root, "/")]) is None]
    told = given or facts.provenance.get("launcher") or facts.provenance.get("argv") or ()
    check_data(choice.data, inputs=facts.inputs, argv=told, code=subject.snapshot.root)
    cells = None if given else subject.cells
    # A new environment, or an image, has the program in its own place.
    exists = os.path.exists if choice.environment == HERE else lambda _: True
    script = folder.with_name(f"{folder.name}-cells.py")
    recorded = dict(facts.provenance) if cells is None else cells.provenance(facts.provenance, script)
    for field in ("launcher", "argv"):
        recorded[field] = map_command(recorded.get(field) or (), outside)
    command = build_command(
        recorded, str(folder), launching=launching, given=given, environ=environ, exists=exists
    )
    if cells is not None:
        command.variables |= cells.variables(facts.provenance)
        command.notes.append(f"the {len(cells.rows)} cells run in their order in one IPython session")
    search_restored(command, restored_places(subject.snapshot, folder))
    if choice.environment in (VENV, UV):
        use_environment(command, environment_folder(folder), environ, has=has_in_environment)
    check_outputs(facts.outputs, command.argv, code=subject.snapshot.root)
    search = environ.get("PATH", os.defpath)
    installed = read_installed(interpreter_of(command.argv, search))
    has_uv = shutil.which("uv") is not None
    steps = environment_steps(choice.environment, facts.provenance, installed, has_uv=has_uv)
    return Intent(facts, subject.snapshot, str(folder), launching, command, repetition,
                  choice.environment, tuple(steps), _free_bytes(folder))  # fmt: skip


def _free_bytes(folder: Path) -> int:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def _repetition_id(choice: Choice) -> str:
    if choice.repetition is not None:
        try:
            return id_text(id_bytes(choice.repetition))
        except ValueError as error:
            raise UsageError(f"--as {choice.repetition!r}: give an id, as --plan shows one") from error
    return id_text(random_id())


def _new_folder(parent: Path, name: str) -> Path:
    for number in range(1, FOLDERS_MAX):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not any(os.path.lexists(place) for place in (folder, *places_beside(folder))):
            return folder
    raise UsageError(
        f"{parent} holds too many repetitions of this run; remove some, or give a folder with --into"
    )
