"""A PostgreSQL for a benchmark: writes the URL of an empty database to standard output, and lives until it is ended."""

from __future__ import annotations

import signal
from types import FrameType

from tests.support.postgres import Cluster


def main() -> None:
    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, leave)
    cluster = Cluster.start()
    try:
        print(cluster.database(), flush=True)
        signal.pause()
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
