"""Slurm's accounting: the rows of `sacct -P` with a header, or its `--json`, as jobs.

Only times that are seconds since 1970 are taken (SLURM_TIME_FORMAT=%s): sacct's usual local time has no offset, and
one hour of the year comes twice. The row of the job alone counts: those of its steps are parts of it. A job that goes
on has no end yet and is known up to its start + ElapsedRaw.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainledger_schemas.errors import UsageError

from .hostlist import expand_hostlist
from .reservation import JobRecord, NodeSize
from .tres import amounts_of, parse_tres

__all__ = ["SACCT_FIELDS", "SacctJobs", "parse_sacct", "parse_sinfo", "sacct_command"]

# What the tables hold: hours are seconds in 32 bits.
SECONDS_MAX = 2**32 - 3600
RESTARTS_MAX = 2**31 - 1
SACCT_FIELDS = (
    "JobIDRaw", "JobID", "Cluster", "Submit", "Start", "End", "ElapsedRaw", "State", "Account", "User", "Partition",
    "QOS", "NodeList", "AllocTRES", "Restarts",
)  # fmt: skip
_NEEDED = frozenset({"JobIDRaw", "Submit", "Start", "End", "ElapsedRaw", "State", "NodeList", "AllocTRES"})
_NOT_YET = frozenset({"", "Unknown", "None", "0"})
_NO_NODES = frozenset({"", "None assigned", "None"})
# Older versions of sacct know no Restarts, and a restart is a submission of its own.
HOW = "SLURM_TIME_FORMAT=%s sacct -a -D -P -S START -E END --format=" + ",".join(SACCT_FIELDS[:-1])


@dataclass(slots=True)
class SacctJobs:
    """Jobs that had nodes, and how many rows were left out, by why."""

    jobs: list[JobRecord] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def sacct_command(available: Iterable[str], *, start: str, end: str) -> list[str]:
    """The command whose output `parse_sacct` reads, of the fields that this version of sacct has."""
    known = {name.lower() for name in available}
    fields = [name for name in SACCT_FIELDS if not known or name.lower() in known]
    return ["sacct", "-a", "-D", "-P", "-S", start, "-E", end, f"--format={','.join(fields)}"]


def parse_sacct(text: str) -> SacctJobs:
    """The jobs of sacct's output; raises UsageError for anything that is not of the form that it needs."""
    if text.lstrip().startswith("{"):
        return _parse_json(text)
    found = SacctJobs()
    lines = text.split("\n")
    header = lines[0].strip("\r").split("|")
    missing = _NEEDED - set(header)
    if missing:
        raise UsageError(
            f"the first line of sacct's output lacks {', '.join(sorted(missing))}; make it with: {HOW}"
        )
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        values = line.strip("\r").split("|")
        if len(values) != len(header):
            raise UsageError(
                f"line {number} has {len(values)} fields, the first line {len(header)}: a field holds a `|` "
                f"(leave JobName and Comment out); make it with: {HOW}"
            )
        _take_checked(found, dict(zip(header, values, strict=True)), f"line {number}")
    return found


def parse_sinfo(text: str) -> dict[str, NodeSize]:
    """The sizes of nodes from `sinfo -h -a -N -o "%N|%c|%G"`."""
    sizes: dict[str, NodeSize] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        parts = line.strip().split("|")
        if len(parts) != 3 or not parts[1].isdecimal() or not int(parts[1]):
            raise UsageError(
                f'line {number} of the nodes is not of the form of: sinfo -h -a -N -o "%N|%c|%G"'
            )
        gpus = re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", parts[2])
        sizes[parts[0]] = NodeSize(int(parts[1]), sum(map(int, gpus)) or None)
    return sizes


def _take_checked(found: SacctJobs, row: Mapping[str, str], where: str) -> None:
    """Take a row; what is wrong in it is told with its place and job."""
    try:
        _take(found, row, where)
    except UsageError as error:
        if str(error).startswith(where):
            raise
        raise UsageError(f"{where}, job {row['JobIDRaw'][:40]!r}: {error}") from None


def _take(found: SacctJobs, row: Mapping[str, str], where: str) -> None:
    if "." in row["JobIDRaw"]:
        found.left_out["steps of jobs"] += 1
        return
    if row["NodeList"] in _NO_NODES or row["Start"] in _NOT_YET:
        found.left_out["jobs that had no node yet"] += 1
        return
    start = _seconds(row["Start"], where)
    is_over = row["End"] not in _NOT_YET
    elapsed = row["ElapsedRaw"] or "0"
    if not elapsed.isdecimal():
        raise UsageError(
            f"{where}: ElapsedRaw is {elapsed[:40]!r}, no number of seconds; make it with: {HOW}"
        )
    end = _seconds(row["End"], where) if is_over else start + int(elapsed)
    if max(start, end) > SECONDS_MAX:
        raise UsageError(f"{where}: the job ends after the year 2105; see its Start, End and ElapsedRaw")
    amounts = amounts_of(parse_tres(row["AllocTRES"]))
    restarts = row.get("Restarts") or "0"
    if restarts.isdecimal() and int(restarts) > RESTARTS_MAX:
        raise UsageError(f"{where}: Restarts is {restarts[:40]}, more than {RESTARTS_MAX}")
    cluster = row.get("Cluster") or ""
    found.jobs.append(
        JobRecord(
            source="sacct",
            cluster=cluster,
            key=f"{row['JobIDRaw']} {row['Submit']} {restarts}",
            job=row.get("JobID") or row["JobIDRaw"],
            nodes=expand_hostlist(row["NodeList"]),
            start_us=start * 1_000_000,
            end_us=max(start, end) * 1_000_000,
            is_over=is_over,
            state=row["State"].split(" ")[0],
            owner=row.get("User") or None,
            account=f"account:{row['Account']}" if row.get("Account") else None,
            restarts=int(restarts) if restarts.isdecimal() else 0,
            partition=row.get("Partition") or None,
            qos=row.get("QOS") or None,
            cpu_milli=amounts.cpu_milli,
            device_milli=amounts.device_milli,
            memory_bytes=amounts.memory_bytes,
        )
    )


def _seconds(text: str, where: str) -> int:
    if not text.isdecimal():
        raise UsageError(
            f"{where}: {text[:40]!r} is local time without an offset, which comes twice when the clocks are set back; "
            f"seconds since 1970 are needed: {HOW}"
        )
    return int(text)


def _parse_json(text: str) -> SacctJobs:
    try:
        jobs: Sequence[Mapping[str, Any]] = json.loads(text)["jobs"]
    except (ValueError, KeyError, TypeError):
        raise UsageError("this is not what `sacct --json` prints: an object with `jobs` is needed") from None
    found = SacctJobs()
    for place, job in enumerate(jobs):
        try:
            row = _row_of_json(job)
        except (KeyError, TypeError, AttributeError):
            raise UsageError(
                f"job {place} of sacct's JSON is not of a known form; make it with: {HOW}"
            ) from None
        _take_checked(found, row, f"job {place}")
    return found


def _row_of_json(job: Mapping[str, Any]) -> dict[str, str]:
    """The row that `sacct -P` has of it. Numbers stand alone, or in newer versions as {"set", "number"}."""
    time, state = job["time"], job["state"]["current"]
    tres = {
        item["type"] + (f"/{item['name']}" if item.get("name") else ""): _number(item["count"])
        for item in job["tres"]["allocated"]
        if item["count"] is not None
    }
    if "mem" in tres:
        tres["mem"] += "M"
    array = job.get("array") or {}
    task, master = _number(array.get("task_id")), _number(array.get("job_id"))
    number = str(job["job_id"])
    return {
        "JobIDRaw": number,
        "JobID": f"{master}_{task}" if master not in ("", "0") and task else number,
        "Cluster": job.get("cluster") or "",
        "Submit": _number(time["submission"]),
        "Start": _number(time["start"]),
        "End": _number(time["end"]),
        "ElapsedRaw": _number(time["elapsed"]),
        "State": state[0] if isinstance(state, list) else str(state),
        "Account": job.get("account") or "",
        "User": job.get("user") or (job.get("association") or {}).get("user") or "",
        "Partition": job.get("partition") or "",
        "QOS": job.get("qos") or "",
        "NodeList": job.get("nodes") or "",
        "AllocTRES": ",".join(f"{name}={count}" for name, count in tres.items()),
        "Restarts": _number(job.get("restart_cnt")),
    }


def _number(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set", True) else None
    return "" if value is None else str(value)
