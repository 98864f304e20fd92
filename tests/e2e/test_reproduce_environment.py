"""A dirty run in an environment of its own is repeated in a new one, made from what is recorded: grade A."""

import subprocess
import sys
from pathlib import Path

import trainledger
import trainledger_schemas
from support.installation import Installation
from support.nasty_repository import GitFolder, plain_environment
from support.polling import poll_until
from support.wheels import Wheels

TRAIN = b"""
import random
import thing
import trainledger

run = trainledger.init(project="iris", name="own", config={"seed": 3})
random.seed(3)
for step in range(4):
    run.log({"loss": random.random() * thing.VALUE})
"""


def test_dirty_run_is_repeated_in_a_new_environment_and_has_grade_a(tmp_path: Path) -> None:
    tool, wheels = Installation(tmp_path), Wheels(tmp_path / "wheels")
    kept = {name: tool.environment[name] for name in ("PATH", "TRAINLEDGER_DIR", "TRAINLEDGER_HOME")}
    tool.environment |= plain_environment(tmp_path / "user") | kept | {"PYTHONHASHSEED": "0"}
    tool.environment = wheels.environment(tool.environment)
    wheels.add("thing", "1.5", "VALUE = 0.1\n")
    wheels.add("thing", "1.6", "VALUE = 0.2\n")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "thing==1.5"]
    subprocess.run(pip, env=tool.environment, check=True)
    (site,) = venv.glob("lib/*/site-packages")
    sdk = [str(Path(package.__path__[0]).parent) for package in (trainledger, trainledger_schemas)]
    (site / "sdk.pth").write_text("\n".join(sdk))
    work = GitFolder(tmp_path / "project", tool.environment)
    work.write("train.py", b"old\n")
    work.commit_all()
    work.write("train.py", TRAIN)
    subprocess.run(
        [python, "train.py"], cwd=work.folder, env=tool.environment, check=True, capture_output=True
    )
    poll_until(lambda: len(list(tool.journals.glob("*/*/*.tlj"))) >= 2, deadline_s=60)
    work.folder.rename(tmp_path / "away")
    venv.rename(tmp_path / "away-venv")
    for kind in ("venv", "uv"):
        plan = {
            row["step"]: row["what"] for row in tool.json("reproduce", "own", "--environment", kind, "--plan")
        }
        new = f"{plan['into']}.environment/bin"
        assert plan["run"] == f"{new}/python train.py"
        assert "not here" not in plan.get("note", ""), "the old environment is not needed"
    (result,) = tool.json("reproduce", "own", "--environment", "uv", "--yes")
    assert (result["outcome"], result["points"], result["deviations"]) == ("identical", 4, [])
    assert result["proves"]
    shown = tool.command("show", result["run_id"]).stdout
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("grade ")] == ["A"], shown
