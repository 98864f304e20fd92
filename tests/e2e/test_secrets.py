"""Secrets that a user shows by accident are in no byte that the product writes, and in no answer of a command."""

import json
import subprocess
from pathlib import Path

from support.installation import BIN, Installation
from support.nasty_repository import GitFolder, plain_environment
from support.planted_secrets import FORMS, PlantedSecrets, table_bytes
from support.polling import poll_until

TRAIN = """
import json, logging, os, sys
from pathlib import Path
import outside
import trainledger

told = json.loads(Path(os.environ["PLANTED_FILE"]).read_text())
print("stdout begins", flush=True)
for kind, value in told["printed"].items():
    print(f"signing in with {value} now")
for kind, value in told["printed alone"].items():
    print(value)
for kind, value in told["on stderr"].items():
    logging.warning("refused: %s", value)
print(json.dumps({"user": "me", "password": told["printed by name"]}))
print(f"export WANDB_API_KEY={told['printed by name']}")
print({"client_secret": told["printed by name"]})
print(os.environ["AWS_SECRET_ACCESS_KEY"])
first, second = told["printed in two parts"][:9], told["printed in two parts"][9:]
sys.stdout.write(f"half {first}"); sys.stdout.flush()
sys.stdout.write(f"{second}\\n"); sys.stdout.flush()
print("x" * (16 * 1024 - 12) + " " + told["printed across a cut"])
run = trainledger.init(
    project="secrets", name=f"with {told['name']}", group=f"of {told['group']}",
    tags={"made-by": told["tag"], "hf_token": told["tag by name"]},
    config={"forms": told["config"], "list": list(told["config in a list"].values()),
            "db": {"password": told["config by name"], "urls": [{"secret": told["config by name"]}]}},
)
for kind, value in told["config as a key"].items():
    run.config[f"seen {value}"] = 1
for kind, value in told["config later"].items():
    run.config[f"later {kind}"] = f"was {value}"
for kind, value in told["summary"].items():
    run.summary[kind] = value
for kind, value in told["logged text"].items():
    run.log({f"text/{kind}": f"the answer was {value}!", "loss": 0.5})
run.log({"text/plain": os.environ["AWS_SECRET_ACCESS_KEY"]})
run.log({"api_key": told["logged by name"], "messages": [{"role": "x", "token": told["logged by name"]}]})
run.log({"long": "y" * 39_990 + " " + told["logged across a cut"]})
run.use_dataset(f"s3://user:{told['dataset address']}@bucket/train?X-Amz-Signature={told['dataset address']}&versionId=7")
run.use_dataset(f"https://host/{told['dataset path']}/train.csv")
run.use_dataset("data", name="local")
run.finish() if len(sys.argv) > 9 else None
raise RuntimeError(f"cannot sign in: {told['exception']} {os.environ['AWS_SECRET_ACCESS_KEY']}")
"""


class Workshop:
    """A repository with secrets in every place where one is met, and an installation."""

    def __init__(self, folder: Path, secrets: PlantedSecrets) -> None:
        self.secrets = secrets
        self.installation = Installation(folder)
        self.installation.environment |= plain_environment(folder / "user") | {
            name: self.installation.environment[name]
            for name in ("PATH", "TRAINLEDGER_DIR", "TRAINLEDGER_HOME")
        }
        self.outputs: list[tuple[str, bytes]] = []
        self.repository = GitFolder(folder / "project", self.installation.environment)
        self._plant_files(folder)
        forms, make = secrets.every_form, secrets.make
        told = {
            place: forms(place)
            for place in ("printed", "printed alone", "on stderr", "config", "config in a list", "config as a key",
                          "config later", "summary", "logged text")
        } | {
            place: make(place, "plain")
            for place in ("printed by name", "tag by name", "config by name", "logged by name", "dataset address")
        } | {
            place: make(place, "github")
            for place in ("printed in two parts", "printed across a cut", "name", "group", "tag", "exception",
                          "logged across a cut", "dataset path")
        }  # fmt: skip
        (folder / "planted.json").write_text(json.dumps(told))
        self.installation.environment |= {"PLANTED_FILE": str(folder / "planted.json")}
        self.installation.environment |= self._variables()

    def _plant_files(self, folder: Path) -> None:
        make, write = self.secrets.make, self.repository.write
        write("train.py", TRAIN.encode())
        write("old.py", b"TOKEN = '" + make("pushed file", "github").encode() + b"'\nX = 1\n")
        for kind in FORMS:
            write(f"settings_{kind}.py", b"X = 1\n")
        write(".gitignore", b"__pycache__\nlocal.yaml\n")
        # What the run uses although it is ignored, or is not in the repository at all.
        write("local.yaml", f"db_password: {make('ignored file', 'plain')}1\n".encode())
        (folder / "outside").mkdir()
        (folder / "outside" / "outside.py").write_text(f"TOKEN = '{make('module outside', 'gitlab')}'\n")
        self.repository.commit_all()
        self.repository.publish(folder / "remote.git")
        url = make("remote address", "plain")
        self.repository.git("config", "remote.origin.pushurl", f"https://me:{url}@host/x.git")
        self.repository.git(
            "config", "remote.second.url", f"https://{make('remote user', 'github')}@host/x.git"
        )
        # Before the first in the order of names: the first address is the one that is shown.
        self.repository.git("config", "remote.a.url", f"https://me:{url}@host/x.git?private_token={url}")
        token = make("insteadOf", "gitlab")
        self.repository.git("config", f"url.https://ci:{token}@host/.insteadOf", str(folder))
        self.repository.git("config", "http.extraheader", make("git header", "bearer"))
        write("unpushed.py", f"KEY = '{make('unpushed commit', 'hugging-face')}'\n".encode())
        self.repository.commit_all("a commit that no remote has")
        # What a patch shows: a line that is taken away.
        write("old.py", b"X = 2\n")
        for kind, value in self.secrets.every_form("changed file").items():
            write(f"settings_{kind}.py", f"X = '''{value}'''\n".encode())
        for kind, value in self.secrets.every_form("new file").items():
            write(f"notes/{kind}.md", f"# how to\nsign in with `{value}`\n".encode())
        write(".env", f"PASSWORD={make('.env', 'plain')}\n".encode())
        write("deploy.yaml", f"db:\n  password: {make('yaml', 'plain')}\n".encode())
        cell = {"outputs": [{"text": [f"token is {make('notebook', 'openai')}\n"]}], "source": ["x"]}
        write("look.ipynb", json.dumps({"cells": [cell]}).encode())
        index = f"--index-url https://me:{make('lock file', 'plain')}1@index/simple\na==1 --hash=sha256:00\n"
        write("requirements.txt", index.encode())
        write("example.md", f"sign in with {make('variable', 'plain')}\n".encode())
        write("data/train.txt", f"{make('data', 'github')}\n".encode())
        write(f"notes/{make('file name', 'github')}.txt", b"1\n")

    def _variables(self) -> dict[str, str]:
        make = self.secrets.make
        return {
            "PYTHONPATH": str(self.repository.folder.parent / "outside"),
            "AWS_SECRET_ACCESS_KEY": make("variable", "plain"),
            "NCCL_AUTH_TOKEN": make("allowed variable by name", "plain"),
            **{f"TORCH_{kind}": value for kind, value in self.secrets.every_form("allowed variable").items()},
            "CUDA_PROXY": f"http://me:{make('proxy', 'plain')}@proxy:1",
            "TRAINLEDGER_CLICKHOUSE": f"http://me:{make('server address', 'plain')}@127.0.0.1:9",
        }

    def arguments(self, place: str) -> list[str]:
        """A command line with secrets by name and by form."""
        make = self.secrets.make
        by_name = make(f"{place} by name", "plain")
        words = [
            "--config",
            "local.yaml",
            "--token",
            by_name,
            f"--api-key={by_name}",
            f"HF_TOKEN={by_name}",
            "-p",
            "plain",
        ]
        return words + [f"--x={value}" for value in self.secrets.every_form(place).values()]

    def run(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            command,
            cwd=self.repository.folder,
            env=self.installation.environment | environment,
            capture_output=True,
            timeout=60,
        )

    def ask(self, *arguments: str) -> bytes:
        """An answer of the product, remembered for the search."""
        environment = {
            k: v for k, v in self.installation.environment.items() if k != "TRAINLEDGER_CLICKHOUSE"
        }
        if arguments[0] == "doctor":
            environment = self.installation.environment
        done = subprocess.run(
            [str(BIN / "trainledger"), *arguments],
            cwd=self.repository.folder,
            env=environment,
            capture_output=True,
            timeout=120,
        )
        self.outputs.append((" ".join(arguments)[:60], done.stdout + done.stderr))
        return done.stdout


def captures(installation: Installation) -> int:
    """How many claims of provenance the journals hold."""
    return sum(b'"provenance"' in path.read_bytes() for path in installation.journals.glob("*/*/*.tlj"))


def test_no_byte_that_is_written_holds_a_planted_secret(tmp_path: Path) -> None:
    secrets = PlantedSecrets()
    shop = Workshop(tmp_path, secrets)
    tool = shop.installation
    # Without an agent: the journals as processes write them.
    done = shop.run("python", "train.py", *shop.arguments("argument"))
    assert done.returncode == 1 and b"cannot sign in" in done.stderr
    wrapped = shop.run("trainledger", "run", "--", "python", "train.py", *shop.arguments("wrapped argument"))
    assert wrapped.returncode == 1
    poll_until(lambda: captures(tool) >= 2, deadline_s=60)
    objects = shop.repository.folder
    found = secrets.search(tool.journals, objects)
    assert not found, "\n".join(sorted(found))
    tool.environment.pop("TRAINLEDGER_CLICKHOUSE")
    with tool.up() as up:
        shop.run("trainledger", "run", "--", "python", "train.py", *shop.arguments("argument under up"))
        runs = json.loads(shop.ask("ls", "--json"))
        assert len(runs) == 3, runs
        for command in (
            ("show", runs[0]["run_id"]),
            ("logs", runs[0]["run_id"]),
            ("doctor",),
            ("compare", *(run["run_id"] for run in runs)),
            ("reproduce", runs[0]["run_id"], "--plan"),
            ("sql", "SELECT * FROM provenance", "--json"),
        ):
            shop.ask(*command)
        up.stop()
    assert b"signing in with [redacted] now" in b"".join(data for _, data in shop.outputs)
    shop.outputs.append(("up", up.errors.read_bytes()))
    found |= {leak for name, data in shop.outputs for leak in secrets.found_in(name, data)}
    found |= secrets.search(tool.journals, objects) | secrets.search(tool.home, objects)
    tables = table_bytes(tool.home / "tables" / "data")
    assert b"signing in with [redacted] now" in tables
    found |= secrets.found_in("tables", tables)
    assert not found, "\n".join(sorted(found))


def test_search_finds_what_is_there(tmp_path: Path) -> None:
    secrets = PlantedSecrets()
    value = secrets.make("here", "github")
    (tmp_path / "a").write_text(f"x{value[:20]}")
    assert secrets.search(tmp_path, tmp_path) == {"here/github in a"}
