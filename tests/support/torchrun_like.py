"""Starts ranks as torchrun does: the same options, and the variables that its agent sets, for real processes."""

import argparse
import os
import subprocess
import sys


def main() -> int:
    """Start --nproc-per-node ranks and wait; 1 if one failed."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--nnodes", type=int, default=1)
    parser.add_argument("--nproc-per-node", type=int, default=1)
    parser.add_argument("--node-rank", type=int, default=0)
    parser.add_argument("--master-addr", default="127.0.0.1")
    parser.add_argument("--master-port", default="29500")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    told = parser.parse_args()
    ranks = []
    for local in range(told.nproc_per_node):
        variables = {
            "RANK": told.node_rank * told.nproc_per_node + local,
            "LOCAL_RANK": local,
            "WORLD_SIZE": told.nnodes * told.nproc_per_node,
            "LOCAL_WORLD_SIZE": told.nproc_per_node,
            "GROUP_RANK": told.node_rank,
            "GROUP_WORLD_SIZE": told.nnodes,
            "MASTER_ADDR": told.master_addr,
            "MASTER_PORT": told.master_port,
            "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_RESTART_COUNT": 0,
        }
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        ranks.append(subprocess.Popen([sys.executable, *told.command], env=environment))
    statuses = [rank.wait() for rank in ranks]
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main())
