"""Seeds and flags are read without drawing, in real processes; `seed` sets all that is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.training import Training
from trainledger.randomness import Generators

DEFAULT = 67280421310721


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


def seen(training: Training) -> list[dict[str, Any]]:
    journal = training.only()
    return [claim for claim in journal.claims if claim["type"] == "runtime_seen"]


def run(training: Training, body: str, **environment: str) -> list[dict[str, Any]]:
    done = training.run(body, TRAINLEDGER_CAPTURE="on", **environment)
    assert done.returncode == 0, done.stderr
    journals = [journal for journal in training.read() if not journal.claims_of("provenance")]
    return [claim for journal in journals for claim in journal.claims if claim["type"] == "runtime_seen"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "", ("unused", "none")),
        ("np.random", "", ("unused", "unused")),
        ("np.random.seed(42)", "", ("unused", "42")),
        ("np.random.seed(42); np.random.rand()", "", ("unused", "unused")),
        ("np.random.rand()", "np.random.rand()", ("unused", "fresh")),
        ("", "np.random.rand()", ("unused", "fresh")),
        ("np.random.set_bit_generator(np.random.PCG64(3))", "", ("unused", "unknown")),
        ("", "np.random.seed(7); np.random.rand()", ("unused", "unknown")),
        ("random.seed(3)", "", ("3", "none")),
        ("random.seed(3)", "random.random()", ("unknown", "none")),
        ("", "trainledger.seed(5); random.random(); np.random.rand()", ("5", "5")),
        ("trainledger.seed(5); random.random(); np.random.rand()", "", ("5", "5")),
    ],
)
def test_what_is_known_of_generators_at_the_end(
    training: Training, before: str, after: str, expected: tuple[str, str]
) -> None:
    claims = run(
        training,
        f"import random; import numpy as np; {before}\n"
        f"run = trainledger.init(config={{'model': {{'seed': 3}}}})\n{after}\nrun.finish()",
    )
    assert claims[0]["stage"] == "init" and claims[-1]["stage"] == "finish"
    last = claims[-1]["randomness"]
    assert (last["seed/random"], last.get("seed/numpy", "none").split()[0]) == expected
    assert last["stage"] == "finish" and last["seed/PYTHONHASHSEED"] == "fresh"


def test_looking_draws_nothing_and_fresh_entropy_can_be_used_again() -> None:
    import random

    import numpy as np

    states = (random.getstate(), repr(np.random.get_state()))
    generators = Generators({})
    for stage in ("init", "finish"):
        generators.look(stage)
    assert (random.getstate(), repr(np.random.get_state())) == states


def test_seed_sets_records_and_tells_that_the_order_of_sets_is_open(training: Training) -> None:
    body = """
        import random, json
        import numpy as np
        run = trainledger.init()
        number = trainledger.seed(11)
        drawn = [random.random(), np.random.rand(), np.random.default_rng(number).random()]
        trainledger.seed(11)
        again = [random.random(), np.random.rand(), np.random.default_rng(11).random()]
        print(json.dumps([drawn, again]))
        """
    done = training.run(body, TRAINLEDGER_CAPTURE="on")
    drawn, again = json.loads(done.stdout)
    assert drawn == again
    assert done.stderr.count("PYTHONHASHSEED=0") == 1
    (journal,) = [j for j in training.read() if not j.claims_of("provenance")]
    claims = [claim for claim in journal.claims if claim["type"] == "runtime_seen"]
    assert [claim["stage"] for claim in claims] == ["init", "seed", "seed", "finish"]
    assert claims[1]["randomness"] | {"seed/random": "11", "seed/numpy": "11"} == claims[1]["randomness"]
    done = training.run("trainledger.seed(1)", PYTHONHASHSEED="0")
    assert "PYTHONHASHSEED" not in done.stderr


@pytest.mark.parametrize(("number", "error"), [(-1, "ValueError"), (1.5, "TypeError"), ("3", "TypeError")])
def test_what_is_no_seed_is_refused(training: Training, number: object, error: str) -> None:
    done = training.run_until(1, f"trainledger.seed({number!r})")
    assert error in done.stderr


def test_hash_seed_is_known_when_it_was_set(training: Training) -> None:
    (first, _) = run(training, "trainledger.init()", PYTHONHASHSEED="7")
    assert first["randomness"]["seed/PYTHONHASHSEED"] == "7"


# The interface of torch as far as it is asked; torch itself is too large for a test.
TORCH = f"""
import sys, types
class Torch(types.ModuleType):
    number = {DEFAULT}
    def initial_seed(self): return self.number
    def manual_seed(self, number): self.number = number
    def are_deterministic_algorithms_enabled(self): return True
    def get_float32_matmul_precision(self): return "high"
torch = sys.modules["torch"] = Torch("torch")
class Matmul:
    @property
    def allow_tf32(self):
        import warnings
        warnings.warn("Please use the new API")
        raise RuntimeError("mix of the legacy and new APIs")
torch.backends = types.SimpleNamespace(cuda=types.SimpleNamespace(matmul=Matmul()), cudnn=types.SimpleNamespace(benchmark=False, deterministic=True))
jax = sys.modules["jax"] = types.ModuleType("jax")
jax.config = types.SimpleNamespace(jax_enable_x64=False, jax_default_prng_impl="threefry2x32")
torch.cuda = sys.modules["torch.cuda"] = types.SimpleNamespace(is_initialized=lambda: True, initial_seed=lambda: 9)
"""


def test_torch_tells_its_seed_and_flags_and_is_seeded(training: Training) -> None:
    claims = run(training, f"{TORCH}\nrun = trainledger.init()\ntrainledger.seed(2**40)\nrun.finish()")
    assert claims[0]["randomness"]["seed/torch"] == str(DEFAULT)
    last = claims[-1]["randomness"]
    assert (last["seed/torch"], last["seed/torch.cuda"]) == (str(2**40), "9")
    assert {name: value for name, value in last.items() if name.startswith("flag/")} == {
        "flag/torch.deterministic_algorithms": "True",
        "flag/torch.matmul_precision": "high",
        "flag/torch.cudnn.benchmark": "False",
        "flag/torch.cudnn.deterministic": "True",
        "flag/jax.enable_x64": "False",
        "flag/jax.default_prng_impl": "threefry2x32",
    }


def test_library_that_raises_harms_neither_the_training_nor_the_rest(training: Training) -> None:
    broken = "import sys, types\nm = sys.modules['torch'] = types.ModuleType('torch')\nm.initial_seed = lambda: 1 / 0"
    claims = run(
        training, f"{broken}\nimport random\nrun = trainledger.init(); run.log({{'x': 1.0}}); run.finish()"
    )
    assert "seed/torch" not in claims[-1]["randomness"] and "seed/random" in claims[-1]["randomness"]


def test_worker_processes_and_runs_without_a_capture_say_nothing(training: Training) -> None:
    training.run("run = trainledger.init(); run.finish()", TRAINLEDGER_CAPTURE="off")
    assert seen(training) == []
