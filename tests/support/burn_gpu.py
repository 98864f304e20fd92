"""A process that uses a GPU in a known way; for `record_nvml.py`, on a machine with a GPU and PyTorch.

Commands come on stdin, a line each: `load DUTY` multiplies matrices for DUTY (0 to 1) of each 50 ms, `stop` ends
the load, `quit` ends the process. Answers and, once a second, the time that the GPU spent on its kernels (by CUDA
events) go to stdout as JSON lines.
"""

import json
import select
import sys
import time
from typing import Any

PERIOD_S = 0.05


def say(**fields: Any) -> None:
    print(json.dumps({"at_us": time.time_ns() // 1000, **fields}), flush=True)


def main(memory_mib: int, size: int) -> None:
    import torch

    device = torch.device("cuda:0")
    held = torch.ones(memory_mib * 1024 * 1024 // 4, dtype=torch.float32, device=device)
    left = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    right = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    out = left @ right
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    say(
        ready=True,
        held=held.numel() * 4,
        reserved=torch.cuda.memory_reserved(),
        name=torch.cuda.get_device_name(),
    )
    duty, busy_ms, kernels, said = 0.0, 0.0, 0, time.monotonic()
    while True:
        if select.select([sys.stdin], [], [], PERIOD_S if duty == 0 else 0)[0]:
            words = sys.stdin.readline().split()
            if not words or words[0] == "quit":
                break
            duty = float(words[1]) if words[0] == "load" else 0.0
            say(duty=duty)
        if duty > 0:
            begin = time.monotonic()
            while time.monotonic() - begin < PERIOD_S * duty:
                start.record()
                for _ in range(4):
                    torch.mm(left, right, out=out)
                end.record()
                torch.cuda.synchronize()
                busy_ms += start.elapsed_time(end)
                kernels += 4
            rest = PERIOD_S - (time.monotonic() - begin)
            if duty < 1 and rest > 0:
                time.sleep(rest)
        now = time.monotonic()
        if now - said >= 1:
            # Of two processes the events also count the time that the other one's kernels took in between.
            say(gpu_ms=round(busy_ms, 1), kernels=kernels, over_s=round(now - said, 4), duty=duty)
            busy_ms, kernels, said = 0.0, 0, now
    say(done=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
