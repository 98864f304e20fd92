"""A run of a work tree with local changes is repeated from what was stored, with the same bits."""

import subprocess
from pathlib import Path

import pytest

from support.installation import Installation
from support.nasty_repository import GitFolder, plain_environment
from support.polling import poll_until

OLD = b"""
ALPHA = 0.1
"""
TRAIN = b"""
import argparse
import sys
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

import trainledger
from settings import ALPHA
from new_module import RATE
import scaling
from generated import OFFSET

options = argparse.ArgumentParser()
options.add_argument("--data")
options.add_argument("--epochs", type=int)
options = options.parse_args()
run = trainledger.init(project="iris", name="dirty", config={"seed": 3, "alpha": ALPHA})
extra = np.loadtxt(options.data)
x, y = load_iris(return_X_y=True)
x = x * extra * scaling.factor() + OFFSET
model = SGDClassifier(loss="log_loss", alpha=ALPHA, eta0=RATE, random_state=3)
order = np.random.default_rng(3)
for epoch in range(options.epochs):
    rows = order.permutation(len(x))
    model.partial_fit(x[rows], y[rows], classes=np.unique(y))
    run.log({"loss": log_loss(y, model.predict_proba(x)), "accuracy": model.score(x, y), "epoch_time_s": 0.1})
print("weights", model.coef_.sum().hex())
"""


class Project:
    """A repository with a bare remote and local changes, in an installation."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installation(folder)
        self.installation.environment |= plain_environment(folder / "user") | {
            name: self.installation.environment[name]
            for name in ("PATH", "TRAINLEDGER_DIR", "TRAINLEDGER_HOME")
        }
        self.repository = GitFolder(folder / "project", self.installation.environment)
        self.repository.write("settings.py", OLD)
        self.repository.write("train.py", b"print('old')\n")
        self.repository.write(".gitignore", b"__pycache__\ngenerated.py\n")
        self.repository.commit_all()
        self.repository.publish(folder / "remote.git")
        self.repository.write("train.py", TRAIN)
        self.repository.write("settings.py", b"ALPHA = 0.0003\n")
        self.repository.write("new_module.py", b"RATE = 0.05\n")
        self.repository.write("data/scale.txt", b"0.5 1 2 1\n")
        self.repository.write("generated.py", b"OFFSET = 0.25\n")
        # A package of another folder, which imports the rest of itself late.
        outside = folder / "shared" / "scaling"
        outside.mkdir(parents=True)
        (outside / "__init__.py").write_text(
            "def factor():\n    from .late import FACTOR\n    return FACTOR\n"
        )
        (outside / "late.py").write_text("FACTOR = 0.7\n")
        self.installation.environment["PYTHONPATH"] = str(outside.parent)

    def train(self, *command: str, **environment: str) -> str:
        """Train, wait until the capture has written, and return the run's id."""
        done = subprocess.run(
            command
            or ("python", "train.py", "--data", f"{self.repository.folder}/data/scale.txt", "--epochs=5"),
            cwd=self.repository.folder,
            env=self.installation.environment | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "weights" in done.stdout, done.stderr
        # The capture makes its journal, the second one, when it has all that it wants to say.
        poll_until(lambda: len(list(self.installation.journals.glob("*/*/*.tlj"))) >= 2, deadline_s=60)
        (row,) = self.installation.sql("SELECT toString(run_id) AS id, snapshot_id, left_out FROM provenance")
        assert row["snapshot_id"] and row["left_out"] == 0, row
        return str(row["id"])

    def lose(self) -> None:
        """What a later day looks like: the work tree and the modules beside it are gone, only the remote is there."""
        for folder in (self.repository.folder, self.repository.folder.with_name("shared")):
            folder.rename(folder.with_name(f"{folder.name}-away"))
        del self.installation.environment["PYTHONPATH"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


FACTS = """
SELECT m.run_id = r.run_id AS is_original, toString(m.run_id) AS run, key, step, hex(reinterpretAsUInt64(value)) AS bits,
  r.outcome AS outcome, s.grade AS grade, s.state AS state, s.tags AS tags
FROM metrics AS m CROSS JOIN reproductions AS r INNER JOIN runs AS s ON s.run_id = m.run_id ORDER BY key, step
"""


def test_dirty_run_is_repeated_with_the_same_metrics_to_the_last_bit(project: Project) -> None:
    run = project.train()
    project.lose()
    tool = project.installation
    plan = tool.json("reproduce", "dirty", "--plan")
    assert next(row["what"] for row in plan if row["step"] == "run").endswith("/data/scale.txt --epochs=5")
    assert any("remote.git" in row["what"] for row in plan if row["step"] == "restore")
    assert not (tool.home / "reproduced").exists()
    for told, why in (
        (("--plan", "--into", str(tool.home)), "is not empty"),
        (("--plan", "--into", ""), "it is empty"),
        (("--plan", "--data", f"/no/such={tool.home}"), "no input below /no/such"),
        (("--plan", "--tolerance", "lost=1"), "no such metric; it has"),
        (("--compare", run), "itself"),
    ):
        refused = tool.command("reproduce", run, *told)
        assert refused.returncode == 2 and why in refused.stderr, refused.stderr
    (result,) = tool.json("reproduce", "dirty", "--yes")
    assert (result["outcome"], result["metrics"], result["points"]) == ("identical", 2, 10)
    assert result["not_compared"] == ["epoch_time_s"]
    assert result["deviations"] == [], "the restored code has the same id, and the packages are the same"
    rows = tool.sql(FACTS)
    bits = [
        [(row["key"], row["step"], row["bits"]) for row in rows if bool(row["is_original"]) == is_original]
        for is_original in (True, False)
    ]
    assert bits[0] == bits[1] and len(bits[0]) == 15
    assert {(row["run"], row["grade"], row["state"], row["outcome"]) for row in rows} == {
        # Its packages are known by content, and a repetition has proved it; the repetition has no seed of its hashes.
        (run, "A", "finished", "identical"),
        (result["repetition"], "C", "finished", "identical"),
    }
    assert {tag for row in rows if row["run"] != run for tag in row["tags"]} == {f"reproduces:{run}"}
    # The repetition has the same name and is newer; what is repeated is the run itself.
    other = tool.command("reproduce", "dirty", "--plan")
    assert f"plan for {run}" in other.stdout and "which is repeated again" in other.stderr
    shown = tool.command("show", run).stdout
    assert "grade" in shown and "the contents" in shown


def test_no_yes_other_results_and_lost_code_are_told_in_one_line(project: Project) -> None:
    run = project.train()
    done = project.installation.command("reproduce", run)
    assert done.returncode == 2 and "--yes" in done.stderr.splitlines()[-1]
    changed = TRAIN.replace(b"random_state=3", b"random_state=4").decode()
    changed = f"import sys\nsys.path.insert(0, '')\n{changed}"
    (project.installation.folder / "other.py").write_text(changed)
    done = project.installation.command(
        "reproduce", run, "--yes", "--", "python", str(project.installation.folder / "other.py"), "--data",
        f"{project.repository.folder}/data/scale.txt", "--epochs=5",
    )  # fmt: skip
    assert done.returncode == 1
    assert "different" in done.stderr.splitlines()[-1] and " at step " in done.stderr.splitlines()[-1]
    assert project.installation.sql("SELECT outcome FROM reproductions") == [{"outcome": "different"}]
    # What was given another command is no repetition, also when it is compared later, and the run is none of it.
    tool = project.installation
    (other,) = tool.sql(f"SELECT toString(run_id) AS id, tags FROM runs WHERE run_id != '{run}'")
    assert other["tags"] == [f"varies:{run}"]
    assert tool.command("reproduce", run, "--compare", other["id"], "--rtol", "1e9").returncode == 0
    swapped = tool.command("reproduce", other["id"], "--compare", run)
    assert f"{run} was not started by `reproduce {other['id']}`: nothing is recorded" in swapped.stderr
    assert tool.sql("SELECT outcome, proves FROM reproductions ORDER BY at") == [
        {"outcome": "different", "proves": False},
        {"outcome": "within tolerance", "proves": False},
    ]
    for blobs in project.installation.journals.rglob("blobs"):
        blobs.rename(blobs.with_name("lost"))
    done = project.installation.command("reproduce", run, "--yes")
    assert done.returncode == 1 and "copy that folder" in done.stderr.splitlines()[-1]


def test_wrapped_command_is_repeated_as_well(project: Project) -> None:
    run = project.train(
        "trainledger",
        "run",
        "--name",
        "wrapped",
        "--",
        "python",
        "train.py",
        "--data",
        "data/scale.txt",
        "--epochs=3",
        # Of a wrapped command nobody knows which modules it loads.
        TRAINLEDGER_INCLUDE="generated.py",
    )
    project.lose()
    tool, into = project.installation, project.installation.folder / "twice"
    refused = tool.command("reproduce", run, "--yes", "--repeats", "2", "--as", run)
    assert refused.returncode == 2 and "--as gives the id of one repetition" in refused.stderr
    results = tool.json("reproduce", run, "--yes", "--repeats", "2", "--into", str(into))
    assert [(r["outcome"], r["points"], r["deviations"]) for r in results] == [("identical", 6, [])] * 2
    assert sorted(folder.name for folder in into.iterdir()) == ["1", "1.outside", "2", "2.outside"]
