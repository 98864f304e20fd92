"""How well a run can be repeated, A to E: a pure function of what is recorded of it.

Five columns are judged, and the worst one is the grade:

    B  code stored whole; every package by content, or the image by the digest that its runtime told; every input kept;
       the whole command; all seeds
    C  a part of the code left out, or a notebook, or clean at a commit and not stored; a package by version only, or
       editable outside of the stored code; an input that may change; the working folder not known, or the command of
       one rank only; a seed among the parameters
    D  a commit, local changes lost; packages in part; an input by name only; no seed
    E  nothing known of the code, the environment or the command

A: as B, and a repetition had the same results. That also proves what was not known of randomness, on the hardware
and with the packages of the repetition, and nothing else. Data that was not declared counts as none used.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote

from .launch_shape import read_shape

__all__ = ["Facts", "InputFacts", "Judgement", "Opinion", "facts_of", "is_seed", "judge"]

_EDITABLE = "editable file://"
_NAMES_TOLD = 3
_NAME_CHARACTERS_MAX = 60
_SEED = "seed/"
_HASH_SEED = "PYTHONHASHSEED"
# What torch starts with when nobody seeds it (c10/core/GeneratorImpl.h): known, and nobody's choice.
_TORCH_DEFAULT = " 67280421310721"
_SEED_WORDS = frozenset({"seed", "seeds", "random_state", "random_seed", "rng_seed", "global_seed"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is looked at."""

    commit: str | None
    dirty: bool | None
    is_stored: bool
    left_out: int
    entry_point: str | None
    packages: int
    has_python: bool
    argv: int
    cwd: str | None
    rebuilt: str | None
    ranks: int
    seeds: tuple[str, ...]
    inputs: tuple["InputFacts", ...] = ()
    # Packages of which the content is not known.
    by_version: tuple[str, ...] = ()
    # How nodes and ranks of the run differed.
    differences: tuple[str, ...] = ()
    # Why there is no code.
    unstored: str | None = None
    image_digest: str | None = None
    image_source: str | None = None
    cells: int = 0
    # What the process said of its generators and flags, by name.
    randomness: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InputFacts:
    """An input that was declared, as `dataset_used` or view run_io has it. `is_asked`: an artifact of this ledger."""

    name: str
    status: str
    digest: str | None
    is_fixed: bool
    is_asked: bool


@dataclass(frozen=True, slots=True)
class Opinion:
    """The letter of one column and the reason."""

    column: str
    letter: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The grade and how it comes about."""

    letter: str
    opinions: tuple[Opinion, ...]

    @property
    def worst(self) -> Opinion:
        """The first column that decides."""
        return max(self.opinions, key=lambda opinion: opinion.letter)


def facts_of(
    provenance: Mapping[str, Any],
    *,
    parameters: Collection[str],
    ranks: int,
    inputs: Iterable[Mapping[str, Any]] = (),
    cells: int = 0,
) -> Facts:
    """From a provenance event or a row of its view, the names of the run's parameters, its ranks, its inputs as
    events `dataset_used` or rows of view run_io, and how many cells of a notebook are recorded."""
    variables = provenance.get("variables") or {}
    seeds = [name for name in parameters if is_seed(name)]
    seeds += [name for name in ("PL_GLOBAL_SEED",) if name in variables]
    shape = read_shape(provenance, ranks=ranks, nodes=1)
    return Facts(
        commit=provenance.get("commit"),
        dirty=provenance.get("dirty"),
        is_stored=provenance.get("snapshot_sha256") is not None,
        left_out=int(provenance.get("left_out") or 0),
        entry_point=provenance.get("entry_point"),
        packages=len(provenance.get("packages") or ()),
        has_python=provenance.get("python") is not None,
        argv=len(provenance.get("argv") or ()),
        cwd=provenance.get("cwd"),
        rebuilt=None if shape.is_known else shape.kind,
        ranks=shape.ranks,
        seeds=tuple(sorted(seeds)),
        inputs=tuple(_input_facts(told) for told in inputs),
        by_version=_by_version(provenance),
        differences=tuple(r for r in provenance.get("reasons") or () if r.startswith(("node ", "rank "))),
        unstored=_unstored(provenance),
        image_digest=provenance.get("image_digest"),
        image_source=provenance.get("image_source"),
        cells=cells,
        randomness=dict(provenance.get("randomness") or {}),
    )


def _by_version(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    known = dict(provenance.get("package_ids") or {})
    sources = dict(provenance.get("package_sources") or {})
    root = provenance.get("code_root")

    def is_stored(name: str) -> bool:
        """Whether it is editable, from a folder in the stored code."""
        source = sources.get(name, "")
        if root is None or not source.startswith(_EDITABLE):
            return False
        return PurePath(unquote(source.removeprefix(_EDITABLE))).is_relative_to(root)

    return tuple(
        name
        for name in sorted(provenance.get("packages") or ())
        # Trainledger only looks on: what it is made of decides no result.
        if name not in known and name != "trainledger" and not is_stored(name)
    )


def _input_facts(told: Mapping[str, Any]) -> InputFacts:
    return InputFacts(
        name=str(told["name"]),
        status=str(told["status"]),
        digest=told.get("digest"),
        is_fixed=bool(told.get("is_fixed")),
        is_asked=told.get("kind") != "dataset" and told.get("uri") is None,
    )


def is_seed(parameter: str) -> bool:
    """Whether a parameter is a seed, by the last part of its name."""
    return parameter.rpartition("/")[2].lower() in _SEED_WORDS


def judge(facts: Facts, *, is_repeated: bool = False) -> Judgement:
    """The grade; `is_repeated`: a repetition had the same results."""
    opinions = (
        Opinion("code", *_code(facts)),
        Opinion("environment", *_environment(facts)),
        Opinion("data", *_data(facts)),
        Opinion("command", *_command(facts)),
        Opinion("randomness", *_randomness(facts, is_repeated=is_repeated)),
    )
    worst = max(opinion.letter for opinion in opinions)
    return Judgement("A" if worst == "B" and is_repeated else worst, opinions)


def _unstored(provenance: Mapping[str, Any]) -> str | None:
    """The last that the capture said of the code: why there is none."""
    said = [r for r in provenance.get("reasons") or () if r.startswith("code: ")]
    return said[-1].removeprefix("code: ") if said else None


def _code(facts: Facts) -> tuple[str, str]:
    if facts.is_stored and facts.left_out:
        return "C", f"stored, but {facts.left_out} files were left out"
    if facts.is_stored and PurePath(facts.entry_point or "").suffix == ".ipynb":
        if facts.cells:
            return "C", f"a notebook; the {facts.cells} cells that ran are stored in their order"
        return "C", "a notebook is stored, not the order in which its cells ran"
    if facts.is_stored:
        return "B", "stored whole, with local changes" if facts.dirty else "stored whole"
    if facts.commit is not None and facts.dirty is False:
        return "C", f"at commit {facts.commit[:12]} without local changes, but not stored"
    if facts.commit is not None:
        return "D", f"at commit {facts.commit[:12]}; local changes are lost"
    return "E", "nothing is known of it" if facts.unstored is None else f"not stored: {facts.unstored}"


def _environment(facts: Facts) -> tuple[str, str]:
    if facts.differences:
        return "C", facts.differences[0]
    if facts.image_source == "runtime" and facts.image_digest is not None:
        return "B", f"the image {facts.image_digest[:19]}, as its runtime says"
    if facts.packages and facts.has_python and not facts.by_version:
        return "B", f"Python and the contents of {facts.packages} packages"
    if facts.packages and facts.has_python:
        return "C", (
            f"Python and the versions of {facts.packages} packages; of {len(facts.by_version)} not the contents: "
            f"{_some(facts.by_version)}"
        )
    if facts.packages or facts.has_python:
        return "D", "the packages or the interpreter are not known"
    return "E", "nothing is known of it"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_TOLD}" if len(names) > _NAMES_TOLD else ""
    return ", ".join(names[:_NAMES_TOLD]) + more


def _data(facts: Facts) -> tuple[str, str]:
    if not facts.inputs:
        return "B", "no input is recorded; counts as none used"
    judged = [(*_input(given), given.name) for given in facts.inputs]
    letter, reason, name = max(judged, key=lambda found: found[0])
    more = f" ({len(judged)} inputs in all)" if len(judged) > 1 else ""
    shown = name if len(name) <= _NAME_CHARACTERS_MAX else f"{name[: _NAME_CHARACTERS_MAX - 1]}…"
    return letter, f"{shown}: {reason}{more}"


def _input(given: InputFacts) -> tuple[str, str]:
    if given.is_asked and given.digest is not None and given.status == "complete":
        return "B", "a kept artifact, by its digest"
    if given.is_asked:
        return "C", "an artifact by its name in this ledger"
    if given.is_fixed and given.status in ("complete", "unmeasured"):
        return "B", "a version that never changes"
    if given.digest is not None and given.status == "complete":
        return "C", "its digest is known, its bytes are not kept"
    if given.digest is not None:
        return "D", f"its digest is not of the whole: {given.status}"
    return "D", "only its name or address is known"


def _command(facts: Facts) -> tuple[str, str]:
    if not facts.argv:
        return "E", "no command line is known"
    if facts.cwd is None:
        return "C", "the working folder is not known"
    if facts.rebuilt is not None:
        return (
            "C",
            f"of one of {facts.ranks} ranks; what started them ({facts.rebuilt}) is rebuilt from variables",
        )
    return "B", "command line and working folder"


def _randomness(facts: Facts, *, is_repeated: bool) -> tuple[str, str]:
    if is_repeated:
        return "B", "a repetition had the same results"
    told = {
        name.removeprefix(_SEED): value for name, value in facts.randomness.items() if name.startswith(_SEED)
    }
    numbers = [
        f"{name} {told[name]}" for name in sorted(told) if told[name].isdecimal() and name != _HASH_SEED
    ]
    chosen = [*facts.seeds, *(n for n in numbers if not n.endswith(_TORCH_DEFAULT))]
    if not chosen:
        return "D", "no seed is recorded; call trainledger.seed(0) after the imports"
    if facts.randomness.get("stage") != "finish":
        return "C", f"{', '.join(chosen)}; what else was drawn from is not known"
    open_ones = [name for name in sorted(told) if name != _HASH_SEED and _is_open(told[name])]
    if open_ones:
        return (
            "C",
            f"{', '.join(chosen)}; of {', '.join(open_ones)} no seed is known: call trainledger.seed(0)",
        )
    if _is_open(told.get(_HASH_SEED, "unknown")):
        return (
            "C",
            f"{', '.join(chosen)}; the order of sets is another each time: start with PYTHONHASHSEED=0",
        )
    return "B", f"{', '.join(chosen)}; no other generator of a library was drawn from"


def _is_open(value: str) -> bool:
    return value == "unknown" or value.startswith("fresh")
