"""One Kafka broker in the foreground, for trying the cluster way on one machine: `make kafka`.

Prints a line that starts with `ready` when it serves; Ctrl-C or SIGTERM ends it in order, with exit status 0.
The records stay in the folder for the next time. Loopback only, no passwords: not for data that matters.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
# The broker is the one the tests use; it is not part of the installed packages.
sys.path.insert(0, str(ROOT / "tests"))

from support.broker import Broker  # noqa: E402 - found only through the line above
from trainledger_schemas.clock import SystemClock  # noqa: E402 - kept with its neighbour


def interrupt(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM end the program on the same path as Ctrl-C."""
    raise KeyboardInterrupt


def main() -> int:
    """Run until told to end; 1 when the broker does not start or ends by itself."""
    parser = argparse.ArgumentParser(prog="run.py", description="Run one Kafka broker in the foreground.")
    parser.add_argument("--folder", type=Path, default=ROOT / ".kafka", help="where its records are kept")
    parser.add_argument("--port", type=int, default=9092)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    broker = Broker(arguments.folder, arguments.port)
    clock = SystemClock()
    # The folder hides itself from git wherever it lies.
    (broker.folder / ".gitignore").write_text("*\n", encoding="ascii")
    try:
        broker.start()
        sys.stdout.write(f"ready: Kafka on {broker.bootstrap}, records in {broker.folder}; Ctrl-C ends it\n")
        sys.stdout.write(f"  export TRAINLEDGER_KAFKA={broker.bootstrap}\n")
        sys.stdout.flush()
        while broker.is_running():
            clock.sleep(0.2)
        sys.stderr.write(f"the broker ended by itself; {broker.log_path} says why\n")
        return 1
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        broker.stop()


if __name__ == "__main__":
    sys.exit(main())
