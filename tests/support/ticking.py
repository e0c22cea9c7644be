"""A process with one schedule, for tests of `runtime.durable`: each tick is noted in a file when begun and when ended.

    python -m tests.support.ticking DATABASE FILE REPLICA PAUSE      # ends at SIGTERM; a tick takes PAUSE seconds

Work does not know its tick, so it reads it from DBOS, where `runtime.durable` has it from.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path

from runtime.durable import Durable, Schedule


def main(database: str, file: str, replica: str, pause: str) -> None:
    """Run until told to end."""
    from dbos import DBOS

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def note(event: str) -> None:
        with Path(file).open("a", encoding="utf-8") as ticks:
            ticks.write(json.dumps({"tick": DBOS.workflow_id, "event": event, "by": replica}) + "\n")

    def work() -> None:
        note("begun")
        time.sleep(float(pause))
        note("ended")

    schedules = [Schedule("work", "* * * * * *", work)]
    with Durable("try", schedules, database=database, replica=replica, patience=1.0, poll=0.05):
        stop.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
