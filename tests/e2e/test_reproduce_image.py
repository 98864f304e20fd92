"""A run that knows its image is repeated in it, by a stand-in for podman that runs the command here."""

import sys
from pathlib import Path

from support.installation import Installation
from support.polling import poll_until

SUPPORT = Path(__file__).parents[1] / "support"
IMAGE = f"team/train:v1@sha256:{'a' * 64}"
TRAIN = """
import os, random, trainledger
run = trainledger.init(project="image", name="image", config={"seed": 3})
random.seed(3)
for step in range(4):
    run.log({"loss": random.random()})
assert os.environ["PYTHONHASHSEED"] == "0"
# A container has the variables that it is told, and no others.
assert "FIRST" in os.environ or "TRAINLEDGER_HOME" not in os.environ
"""


def test_run_is_repeated_in_its_image_and_what_is_missing_is_said(tmp_path: Path) -> None:
    tool = Installation(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    project = tmp_path / "project"
    project.mkdir()
    tool.folder = project
    done = tool.script(TRAIN, TRAINLEDGER_IMAGE=IMAGE, PYTHONHASHSEED="0", FIRST="1")
    assert done.returncode == 0, done.stderr
    poll_until(lambda: len(list(tool.journals.glob("*/*/*.tlj"))) >= 2, deadline_s=60)
    broken = programs / "docker"
    broken.write_text("#!/bin/sh\necho 'no daemon' >&2\nexit 1\n")
    broken.chmod(0o755)
    # Only what is in this folder, so that no engine of this machine is asked.
    (programs / "git").symlink_to("/usr/bin/git")
    alone = {"PATH": str(programs)}
    refused = tool.command("reproduce", "image", "--environment", "image", "--yes", **alone)
    assert refused.returncode == 2
    assert "docker does not work: no daemon; podman is not in PATH" in refused.stderr.splitlines()[-1]
    assert not (tool.home / "reproduced").exists(), "told before anything is restored"
    engine = programs / "podman"
    engine.write_text(f"#!{sys.executable}\n{(SUPPORT / 'podman_like.py').read_text(encoding='utf-8')}")
    engine.chmod(0o755)
    plan = {
        row["step"]: row["what"]
        for row in tool.json("reproduce", "image", "--environment", "image", "--plan")
    }
    assert plan["environment"] == f"the image team/train@sha256:{'a' * 64}, in a container"
    (result,) = tool.json("reproduce", "image", "--environment", "image", "--yes", **alone)
    assert (result["outcome"], result["points"], result["deviations"]) == ("identical", 4, [])
    assert result["proves"]
    (row,) = tool.sql(
        f"SELECT image_digest, image_source FROM provenance WHERE toString(run_id) = '{result['repetition']}'"
    )
    assert row == {"image_digest": f"sha256:{'a' * 64}", "image_source": "declared"}
