"""What is recorded of the environment of a run is in the views, through every real part."""

import importlib.metadata
import os
from pathlib import Path

from support.installation import Installation
from support.polling import poll_until
from trainledger_schemas.package_content import content_id

DIGEST = "sha256:" + "a" * 64
TRAIN = """
import random
import numpy as np
import trainledger
number = trainledger.seed(5)
run = trainledger.init(project="environment", config={"seed": number})
run.log({"loss": float(np.random.rand()) + random.random()})
np.ones((3, 3)) @ np.ones((3, 3))
"""
FACTS = """
SELECT packages['numpy'] AS version, package_ids['numpy'] AS numpy, package_ids['pytest'] AS pytest,
  package_sources['trainledger'] AS source, lock_sha256, lock_files, image_digest, image_source,
  system['cpu.model'] AS cpu, system['glibc'] AS glibc, libraries['openblas.path'] AS blas, randomness
FROM provenance
"""


def test_environment_of_a_run_is_in_the_view_and_decides_the_grade(tmp_path: Path) -> None:
    tool = Installation(tmp_path)
    (tmp_path / "uv.lock").write_text("[[package]]\nname = 'numpy'\nversion = '1.0'\n")
    done = tool.script(TRAIN, TRAINLEDGER_IMAGE=f"reg/train@{DIGEST}", PYTHONHASHSEED="0")
    assert done.returncode == 0, done.stderr
    poll_until(lambda: len(list(tool.journals.glob("*/*/*.tlj"))) >= 2, deadline_s=60)
    (row,) = tool.sql(FACTS)
    for name in ("numpy", "pytest"):
        record = importlib.metadata.distribution(name).read_text("RECORD")
        assert row[name] == content_id(record or "")
    assert row["version"] == importlib.metadata.version("numpy")
    assert row["source"].startswith("editable file://")
    assert row["lock_files"] == {"uv.lock": row["lock_sha256"]}
    blob = next(tool.journals.glob(f"*/blobs/sha256/*/{row['lock_sha256']}"))
    assert blob.read_bytes() == (tmp_path / "uv.lock").read_bytes()
    assert (row["image_digest"], row["image_source"]) == (DIGEST, "declared")
    assert row["cpu"] in Path("/proc/cpuinfo").read_text()
    assert row["glibc"] == (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[-1]
    assert "openblas" in row["blas"]
    known = {
        name: row["randomness"][name]
        for name in ("seed/random", "seed/numpy", "seed/PYTHONHASHSEED", "stage")
    }
    assert known == {"seed/random": "5", "seed/numpy": "5", "seed/PYTHONHASHSEED": "0", "stage": "finish"}
    (reasons,) = tool.sql("SELECT reasons FROM provenance")
    assert any("numpy 1.0 is locked" in reason for reason in reasons["reasons"])
    shown = {
        line.split()[0]: line
        for line in tool.command("show", tool.json("ls")[0]["run_id"]).stdout.splitlines()
        if line
    }
    assert "no other generator of a library was drawn from" in shown["randomness"]
    assert "(declared)" in shown["image"]
