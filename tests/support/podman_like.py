"""Stands in for podman where none may run: takes the options that `reproduce` gives it, and runs the command here.

A mount whose source is not there, an option that podman does not have, or an image without digest is refused, as podman does.
The command gets nothing of the caller's environment but PATH and HOME."""

import argparse
import os
import sys


def main() -> None:
    """`info`, or `run` in place of this process."""
    if sys.argv[1:] == ["info"]:
        return
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("run", choices=["run"])
    for flag in ("--rm", "--network=host", "--ipc=host", "--userns=keep-id", "--entrypoint="):
        parser.add_argument(flag.partition("=")[0], action="store_true" if "=" not in flag else "store")
    parser.add_argument("--mount", action="append", default=[])
    parser.add_argument("-e", action="append", default=[], dest="variables")
    parser.add_argument("-w", dest="folder", required=True)
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    told = parser.parse_args()
    for mount in told.mount:
        source, target = (
            dict(part.partition("=")[::2] for part in mount.split(","))[n] for n in ("source", "target")
        )
        if source != target or not os.path.exists(source):
            sys.stderr.write(f"Error: statfs {source}: no such file or directory\n")
            sys.exit(125)
    if "@sha256:" not in told.image:
        sys.exit(125)
    variables = dict(text.partition("=")[::2] for text in told.variables)
    os.chdir(told.folder)
    os.execvpe(told.command[0], told.command, {n: os.environ[n] for n in ("PATH", "HOME")} | variables)


if __name__ == "__main__":
    main()
