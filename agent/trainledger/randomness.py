"""Seeds and determinism flags, as only the training process itself can know them.

Looked at when a run begins and when it ends, in modules that the training has loaded already; nothing is imported for
it, no number is drawn and no state is changed. `trainledger.seed` sets all generators that are loaded.

    seed/<library>    a number; `unused` (nobody drew from it during the run); `fresh N` (from the system's entropy, no
                      repetition draws the same); `unknown` (set by somebody, the number cannot be read back)
    flag/<name>       a setting on which it depends whether the same numbers give the same result
    stage             when it was looked at last: init, seed or finish

Limits: generators that are objects of the training (`numpy.random.default_rng(3)`, JAX keys, `torch.Generator`) are not
seen; a seed of Python's `random` is known only from `trainledger.seed`, or when it is a parameter of the run and
nothing was drawn yet.
"""

import struct
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

from .interruption import is_from_handler
from .settings import process_environment

__all__ = ["SEED_WORDS", "Generators", "seed_libraries", "seeds_set"]

SEED_WORDS = frozenset({"seed", "seeds", "random_state", "random_seed", "rng_seed", "global_seed"})
VALUE_CHARACTERS_MAX = 200
# First word of numpy's state when it was not seeded by one number.
_NOT_BY_NUMBER = 0x80000000
_WORDS = 624
_set: dict[str, int] = {}


def seed_libraries(number: int) -> None:
    """Seed every generator that is loaded, and remember it."""
    __import__("random").seed(number)
    _set["random"] = number
    for name, (module, way) in _WAYS.items():
        function = _loaded(module, way)
        if function is not None:
            function(number % 2**32 if name == "numpy" else number)
            _set[name] = number


def seeds_set() -> Mapping[str, int]:
    """What `seed` has set so far, by library."""
    return dict(_set)


class Generators:
    """The states of a run's generators at its beginning, to be compared with those at its end."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """`parameters` of the run: one that is called a seed is tried."""
        self._candidates = tuple(_seeds_among(parameters))
        self._first: dict[str, str] = {}

    def look(self, stage: str) -> dict[str, str]:
        """What is known at `stage`: init, seed or finish. Never raises."""
        found = {"stage": stage, "seed/PYTHONHASHSEED": _hash_seed()}
        for part in (self._random, self._numpy, _torch, _tensorflow, _flags):
            try:
                found |= part(stage)
            except Exception as error:  # a library of another version, or half loaded
                if is_from_handler(error):
                    raise
        known = seeds_set()
        found |= {f"seed/{name}": str(number) for name, number in known.items() if name in _BY_STATE}
        return {name: value[:VALUE_CHARACTERS_MAX] for name, value in found.items()}

    def _random(self, stage: str) -> dict[str, str]:
        module = sys.modules.get("random")
        if module is None:
            return {}
        words = module.getstate()[1]
        mark = f"{crc32(struct.pack(f'<{len(words)}I', *words)):08x}"
        before = self._first.setdefault("random", mark) if stage != "finish" else self._first.get("random")
        # A seed that nothing was drawn after gives the state of that seed.
        tried = (
            n for n in self._candidates if words[-1] == _WORDS and module.Random(n).getstate()[1] == words
        )
        number = next(map(str, tried), None)
        return {"seed/random": number or ("unused" if before == mark else "unknown")}

    def _numpy(self, stage: str) -> dict[str, str]:
        module = sys.modules.get("numpy.random")
        if module is None:
            return {}
        # The state that the module's own functions draw from; reading it draws nothing.
        told = module.get_state(legacy=False)
        if told["bit_generator"] != "MT19937":
            return {"seed/numpy": "unknown"}
        key, position, has_gauss = told["state"]["key"], told["state"]["pos"], told["has_gauss"]
        if position == _WORDS and key[0] != _NOT_BY_NUMBER:
            return {"seed/numpy": str(int(key[0]))}
        mark = f"{crc32(key.tobytes()):08x} {position} {has_gauss}"
        before = self._first.setdefault("numpy", mark) if stage != "finish" else self._first.get("numpy")
        sequence = getattr(getattr(module.mtrand._rand, "_bit_generator", None), "seed_seq", None)
        entropy = getattr(sequence, "entropy", None)
        if entropy is None:
            return {"seed/numpy": "unused" if before == mark else "unknown"}
        fresh = module.MT19937(module.SeedSequence(entropy)).state["state"]
        is_fresh = position == fresh["pos"] and (key == fresh["key"]).all()
        return {"seed/numpy": "unused" if is_fresh or before == mark else f"fresh {entropy}"}


def _torch(_: str) -> dict[str, str]:
    torch = _loaded("torch")
    if torch is None or not hasattr(torch, "initial_seed"):
        return {}
    found = {"seed/torch": str(torch.initial_seed())}
    cuda = _loaded("torch.cuda")
    # Asked only where it runs already: it would start the driver.
    if cuda is not None and cuda.is_initialized():
        found["seed/torch.cuda"] = str(cuda.initial_seed())
    return found


def _tensorflow(_: str) -> dict[str, str]:
    context = _loaded("tensorflow.python.eager.context")
    number = None if context is None else context.global_seed()
    return {} if context is None else {"seed/tensorflow": "unknown" if number is None else str(number)}


def _flags(_: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if not sys.modules.keys() & _FLAGS.keys():
        return found
    with warnings.catch_warnings():
        # Some versions warn when their older settings are merely read.
        warnings.simplefilter("ignore")
        for module, flags in _FLAGS.items():
            library = sys.modules.get(module)
            for name, path in flags.items() if library is not None else ():
                value = _flag(library, path)
                if value is not None:
                    found[f"flag/{module.partition('.')[0]}.{name}"] = str(value)
    return found


def _flag(library: Any, path: str) -> Any:
    try:
        value = _part(library, path)
        return value() if callable(value) else value
    except Exception as error:  # refused while the newer setting of the same is in use
        if is_from_handler(error):
            raise
        return None


_FLAGS = {
    "torch": {
        "deterministic_algorithms": "are_deterministic_algorithms_enabled",
        "deterministic_warn_only": "is_deterministic_algorithms_warn_only_enabled",
        "fill_uninitialized_memory": "utils.deterministic.fill_uninitialized_memory",
        "cudnn.deterministic": "backends.cudnn.deterministic",
        "cudnn.benchmark": "backends.cudnn.benchmark",
        "cudnn.allow_tf32": "backends.cudnn.allow_tf32",
        "matmul.allow_tf32": "backends.cuda.matmul.allow_tf32",
        "matmul_precision": "get_float32_matmul_precision",
        "threads": "get_num_threads",
    },
    "jax": {
        "enable_x64": "config.jax_enable_x64",
        "default_matmul_precision": "config.jax_default_matmul_precision",
        "default_prng_impl": "config.jax_default_prng_impl",
        "threefry_partitionable": "config.jax_threefry_partitionable",
    },
    "tensorflow.python.framework.config": {"op_determinism": "is_op_determinism_enabled"},
}
# How each library is seeded; `random` aside, which is part of Python.
_WAYS = {
    # numpy loads this part of itself when it is asked for.
    "numpy": ("numpy", "random.seed"),
    "torch": ("torch", "manual_seed"),
    "tensorflow": ("tensorflow", "random.set_seed"),
}
# Those whose number cannot be read back once something was drawn.
_BY_STATE = frozenset({"random", "numpy"})


def _hash_seed() -> str:
    if sys.flags.hash_randomization and process_environment().get("PYTHONHASHSEED", "random") == "random":
        return "fresh"
    return process_environment().get("PYTHONHASHSEED") or "0"


def _seeds_among(parameters: Mapping[str, Any]) -> Iterable[int]:
    for name, value in list(parameters.items()):
        if isinstance(value, Mapping):
            yield from _seeds_among(value)
        elif isinstance(value, int) and str(name).rpartition("/")[2].lower() in SEED_WORDS:
            yield int(value)


def _loaded(module: str, way: str = "") -> Any:
    return _part(sys.modules.get(module), way)


def _part(found: Any, way: str) -> Any:
    for part in filter(None, way.split(".")):
        found = getattr(found, part, None)
    return found
