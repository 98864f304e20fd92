"""The provenance claim: what was found, as one JSON object that fits one journal record."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainledger_schemas.blobs import BLOBS_FOLDER, FolderBlobs
from trainledger_schemas.clock import Clock
from trainledger_schemas.code_snapshot import LeftOut
from trainledger_schemas.journal import CONTROL_OVERHEAD_BYTES, RECORD_BYTES_MAX

from ..redaction import redact, redact_argv
from ..settings import Settings
from .code import capture_code
from .code_here import has_code_of
from .code_store import CodeStore
from .environment import ask_interpreter, describe_system
from .gpu_stack import describe_gpu_stack
from .image import find_image
from .lock_files import store_lock_files
from .machine import describe_machine
from .packages import Packages, find_changed, read_packages
from .programs import Programs, UnavailableError
from .request import Request
from .settings import CONTENT_BUDGET_S, GIT_BUDGET_S, SNAPSHOT_BUDGET_S, program_environment
from .system_packages import CONDA_LIST, conda_explicit_list, describe_system_packages
from .used_files import UsedFiles, named_files
from .variables import describe_variables

__all__ = ["CLAIM_BYTES_MAX", "Capture", "fit"]

# Room for the frame and for padding.
CLAIM_BYTES_MAX = RECORD_BYTES_MAX - CONTROL_OVERHEAD_BYTES - 64
_ARGV_BYTES_MAX = 64 << 10
# All of them stand in the snapshot's document.
LEFT_OUT_MAX = 200
LEFT_OUT_PATH_CHARS_MAX = 300
REASONS_MAX = 100
REASON_CHARS_MAX = 400


class Capture:
    """Fills a claim step by step, so that what was found stands when time runs out in the middle."""

    def __init__(self, request: Request, *, environment: Mapping[str, str], clock: Clock) -> None:
        self._request = request
        self._environment = environment
        self._clock = clock
        self._started_ns = clock.wall_ns()
        self._programs = Programs(program_environment(environment), clock=clock, budget_s=GIT_BUDGET_S)
        self._done: list[str] = []
        self._packages = Packages()
        self._sys_path: tuple[str, ...] = ()
        self._claim: dict[str, Any] = {
            "type": "provenance",
            "at_us": clock.wall_ns() // 1000,
            "vcs": None,
            "repository": None,
            "commit": None,
            "branch": None,
            "dirty": None,
            "entry_point": _entry_point(request, environment),
            "argv": redact_argv(request.argv),
            "python": request.python,
            "packages": {},
            "os": None,
            "reasons": [],
            "snapshot_id": None,
            "snapshot_sha256": None,
            "patch_sha256": None,
            "patch_bytes": None,
            "left_out": None,
            "left_out_files": [],
            "code_root": None,
            "cwd": redact(str(request.cwd)),
            "launcher": redact_argv(request.launcher),
            "variables": {},
            "program": None,
            "package_ids": {},
            "package_sources": {},
            "lock_sha256": None,
            "lock_files": {},
            "image_digest": None,
            "image_source": None,
            "driver": None,
            "cuda": None,
            "cudnn": None,
            "nccl": None,
            "system": {},
        }

    def run(self) -> None:
        """Find everything; what cannot be found becomes a reason. Blocks for seconds."""
        for name, step in self._steps():
            step()
            self._done.append(name)

    def cut_short(self, why: str) -> None:
        """Say that the steps that are not done were given up."""
        missing = [name for name, _ in self._steps() if name not in self._done]
        self._claim["reasons"].append(f"{', '.join(missing)}: {why}")

    def claim(self) -> dict[str, Any]:
        """What was found so far, cut to what fits one record."""
        return fit(self._claim)

    def _steps(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        # The quick ones first.
        return (
            ("os", self._find_system),
            ("code", self._find_code),
            ("packages", self._find_packages),
            ("lock files", self._store_locks),
            ("machine", self._find_machine),
            ("stored code", self._store_code),
            ("contents of packages", self._check_contents),
            ("image", self._find_image),
        )

    def _find_system(self) -> None:
        self._claim["os"] = describe_system()
        self._claim["program"] = self._find_program()
        self._claim["variables"], withheld = describe_variables(self._environment)
        if withheld:
            self._claim["reasons"].append(
                f"variables: {withheld} were withheld: secret by name or form, or long"
            )

    def _find_program(self) -> str | None:
        if not self._request.argv:
            return None
        name = self._request.argv[0]
        if os.sep in name:
            return redact(os.path.normpath(self._request.cwd / name))
        found = shutil.which(name, path=self._environment.get("PATH"))
        return None if found is None else redact(found)

    def _find_code(self) -> None:
        facts = capture_code(self._code_folder(), self._programs)
        for name in ("vcs", "repository", "commit", "branch", "dirty"):
            self._claim[name] = getattr(facts, name)
        self._claim["reasons"] += facts.reasons

    def _store_code(self) -> None:
        settings = Settings.from_env(self._environment)
        programs = Programs(
            program_environment(self._environment), clock=self._clock, budget_s=SNAPSHOT_BUDGET_S
        )
        store = CodeStore(
            programs,
            FolderBlobs(self._request.uid_folder / BLOBS_FOLDER),
            started_ns=self._started_ns,
            never=(self._request.uid_folder.parent, settings.home),
            used=UsedFiles(
                tuple(Path(path) for path in self._request.loaded),
                named_files(self._request.argv[1:], self._request.cwd),
                settings.include,
                tuple(Path(entry) for entry in self._sys_path),
                self._python_path(),
            ),
        )
        folder = self._code_folder()
        # Without a script, a folder that is in no repository is just where somebody stood.
        has_entry = (
            self._request.script is not None
            or str(self._claim["entry_point"]).endswith(".ipynb")
            # A kernel whose notebook is not known: it runs in the folder of it.
            or any(word.startswith("ipykernel") for word in self._request.argv[1:4])
            or has_code_of(folder, self._request.argv, map(Path, self._request.loaded))
        )
        stored = store.store(folder, home=Path(os.path.expanduser("~")), takes_plain=has_entry)
        self._claim["reasons"] += [reason[:REASON_CHARS_MAX] for reason in stored.reasons[:REASONS_MAX]]
        if stored.document is None:
            return
        if self._request.is_from_stdin:
            stored.left_out += (LeftOut("<stdin>", None, None, "the program came from standard input"),)
        self._claim |= {
            "snapshot_id": stored.snapshot_id,
            "snapshot_sha256": stored.document.sha256,
            "patch_sha256": None if stored.patch is None else stored.patch.sha256,
            "patch_bytes": None if stored.patch is None else stored.patch.size_bytes,
            "left_out": len(stored.left_out),
            "left_out_files": [_left_out(item) for item in stored.left_out[:LEFT_OUT_MAX]],
            "code_root": redact(str(stored.root)),
        }

    def _python_path(self) -> tuple[Path, ...]:
        told = self._environment.get("PYTHONPATH", "").split(os.pathsep)
        return tuple(self._request.cwd / entry for entry in told if entry)

    def _code_folder(self) -> Path:
        folder = self._request.code_folder
        return folder if folder.is_dir() else self._request.cwd

    def _find_packages(self) -> None:
        sys_path = self._request.sys_path
        try:
            if sys_path is None:
                sys_path = self._ask_interpreter()
        except UnavailableError as error:
            self._claim["reasons"].append(f"packages: {redact(str(error))}")
            return
        self._sys_path = tuple(str(self._request.cwd / entry) for entry in sys_path)
        self._packages = read_packages(sys_path, self._request.cwd)
        self._claim |= {
            "packages": self._packages.versions,
            "package_ids": self._packages.ids,
            "package_sources": self._packages.sources,
        }
        self._claim["reasons"] += self._packages.reasons

    def _find_machine(self) -> None:
        system = describe_machine() | describe_system_packages(self._programs)
        self._claim["system"] = system
        try:
            system |= conda_explicit_list(
                self._sys_path, FolderBlobs(self._request.uid_folder / BLOBS_FOLDER)
            )
        except OSError as error:
            self._claim["reasons"].append(redact(f"conda: its list could not be stored: {error.strerror}"))
        if "conda.sha256" in system:
            # Among the lock files it is known as a blob of the run, and kept.
            self._claim["lock_files"] = {**self._claim["lock_files"], CONDA_LIST: system["conda.sha256"]}
        stack = describe_gpu_stack([Path(entry) for entry in self._sys_path], self._packages.versions, system)
        system |= {"hip": stack.pop("hip")} if "hip" in stack else {}
        self._claim |= stack

    def _find_image(self) -> None:
        image = find_image(
            Settings.from_env(self._environment).image,
            self._environment,
            self._claim["system"],
            self._packages.contents,
        )
        self._claim |= {"image_digest": image.digest, "image_source": image.source}
        if image.name is not None:
            self._claim["system"]["image.name"] = image.name
        if image.reason is not None:
            self._claim["reasons"].append(image.reason)

    def _check_contents(self) -> None:
        end_ns = self._clock.monotonic_ns() + round(CONTENT_BUDGET_S * 1e9)
        self._claim["reasons"] += find_changed(self._packages, clock=self._clock, end_ns=end_ns)

    def _store_locks(self) -> None:
        blobs = FolderBlobs(self._request.uid_folder / BLOBS_FOLDER)
        home = Path(os.path.expanduser("~"))
        locks = store_lock_files(self._code_folder(), home, self._packages.versions, blobs)
        self._claim |= {"lock_sha256": locks.first, "lock_files": locks.stored}
        self._claim["reasons"] += locks.reasons

    def _ask_interpreter(self) -> tuple[str, ...]:
        executable = self._request.python_executable
        if executable is None:
            raise UnavailableError("the command is not a Python interpreter that could be asked")
        path, python = ask_interpreter(executable, self._request.cwd, self._programs)
        self._claim["python"] = self._claim["python"] or python
        return tuple(path)


def fit(claim: dict[str, Any], bytes_max: int = CLAIM_BYTES_MAX) -> dict[str, Any]:
    """`claim` cut to `bytes_max` bytes of JSON: command line first, then packages; each cut is a reason."""
    if _size(claim) <= bytes_max:
        return claim
    cut = dict(claim, reasons=list(claim["reasons"]))
    argv, room = cut["argv"], min(_ARGV_BYTES_MAX, bytes_max // 4)
    kept: list[str] = []
    for argument in argv:
        room -= len(json.dumps(argument)) + 1
        if room < 0:
            cut["reasons"].append(
                f"argv: the last {len(argv) - len(kept)} of {len(argv)} arguments did not fit"
            )
            break
        kept.append(argument)
    cut["argv"] = kept
    packages = list(cut["packages"].items())
    while _size(cut) > bytes_max and packages:
        packages = packages[: len(packages) * 3 // 4]
        cut["packages"] = dict(packages)
        for name in ("package_ids", "package_sources"):
            cut[name] = {key: value for key, value in claim[name].items() if key in cut["packages"]}
    if len(packages) < len(claim["packages"]):
        cut["reasons"].append(f"packages: only {len(packages)} of {len(claim['packages'])} fit one record")
    return cut


def _entry_point(request: Request, environment: Mapping[str, str]) -> str | None:
    """The script or module; in a kernel of Jupyter the notebook, whose name its server puts into the environment."""
    told = request.entry_point
    if told is None and (notebook := environment.get("JPY_SESSION_NAME", "")).endswith(".ipynb"):
        told = notebook
    return None if told is None else redact(told)


def _left_out(item: LeftOut) -> dict[str, Any]:
    return asdict(item) | {"path": redact(item.path)[:LEFT_OUT_PATH_CHARS_MAX]}


def _size(claim: Mapping[str, Any]) -> int:
    return len(json.dumps(claim))
