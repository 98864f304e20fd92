"""Workers of a training that are started by spawn and by joblib: from their log() to the tables."""

from pathlib import Path

from support.installation import Installation

WORKER = """
import trainledger

def work(n):
    trainledger.log({"x": float(n)}, step=n)

def work_with(run, n):
    run.log({"y": float(n)}, step=n)
"""
TRAIN = """
import joblib, multiprocessing, trainledger, worker
if __name__ == "__main__":
    with trainledger.init(project="p", name="family") as run:
        run.log({"loss": 1.0})
        process = multiprocessing.get_context("spawn").Process(target=worker.work, args=(100,))
        process.start(); process.join()
        with joblib.parallel_config("loky", n_jobs=2):
            joblib.Parallel()(joblib.delayed(worker.work)(n) for n in range(20))
            joblib.Parallel()(joblib.delayed(worker.work_with)(run, n) for n in range(20))
"""


def test_points_of_workers_are_points_of_the_run(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    done = installation.script(TRAIN)
    assert done.returncode == 0 and "nothing is recorded" not in done.stderr, done.stderr
    (run,) = installation.json("ls")
    assert (run["name"], run["project"], run["state"]) == ("family", "p", "finished")
    points = installation.sql("SELECT key, step, value FROM metrics ORDER BY key, step")
    assert [(p["step"], p["value"]) for p in points if p["key"] == "x"] == [(n, n) for n in (*range(20), 100)]
    assert [(p["step"], p["value"]) for p in points if p["key"] == "y"] == [(n, n) for n in range(20)]
    states = [row["state"] for row in installation.sql("SELECT state FROM run_writers ORDER BY started_at")]
    assert states[0] == "finished" and set(states[1:]) == {"ended"} and len(states) >= 3
