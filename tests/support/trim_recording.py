"""Cuts a recording of `record_nvml.py` down to a fixture: `python tests/support/trim_recording.py IN OUT`.

Kept: the return code of each call that was tried once on the idle GPU, and each second what the reader gave.
"""

import json
import sys
from pathlib import Path
from typing import Any

GAUGES = ("gpu_util_pct", "power_w", "mem_used_bytes", "sm_active_pct")


def trimmed(recording: dict[str, Any]) -> dict[str, Any]:
    """The fixture of a whole recording."""
    begin_us = recording["phases"][0]["start_us"]
    codes = {
        " ".join([row["call"], *map(str, row["args"])]): row["code"]
        for row in recording["static"]
        if row["code"] >= 0 and "FieldValues" not in row["call"]
    }
    rounds = [
        {
            "at_s": round((row["at_us"] - begin_us) / 1e6, 3),
            "gauges": {
                name: row["sample"][0]["gauges"][name]
                for name in GAUGES
                if name in row["sample"][0]["gauges"]
            },
            "energy_mj": row["sample"][0]["counters"].get("energy_mj"),
            "processes": [
                [item["pid"], item["memory_bytes"], item["busy_pct"]]
                for item in row["processes"][0]["processes"]
            ],
        }
        for row in recording["rounds"]
    ]
    kernels = {
        name: [
            [round((said["at_us"] - begin_us) / 1e6, 3), said["kernels"]]
            for said in burner["said"]
            if said.get("kernels")
        ]
        for name, burner in recording["burners"].items()
    }
    return {
        "model": recording["devices"][0]["model"],
        "driver": recording["devices"][0]["driver"],
        "device_id": recording["devices"][0]["device_id"],
        "memory_bytes": recording["devices"][0]["memory_bytes"],
        "pids": {name: burner["pid"] for name, burner in recording["burners"].items()},
        "phases": [
            [
                phase["name"],
                round((phase["start_us"] - begin_us) / 1e6, 3),
                round((phase["end_us"] - begin_us) / 1e6, 3),
            ]
            for phase in recording["phases"]
        ],
        "codes": codes,
        "rounds": rounds,
        "kernels": kernels,
    }


if __name__ == "__main__":
    result = trimmed(json.loads(Path(sys.argv[1]).read_text()))
    lines = []
    for name, value in result.items():
        if isinstance(value, list):
            rows = ",\n".join("  " + json.dumps(item) for item in value)
            lines.append(f" {json.dumps(name)}: [\n{rows}\n ]")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    Path(sys.argv[2]).write_text("{\n" + ",\n".join(lines) + "\n}\n")
