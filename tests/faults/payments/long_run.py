"""Runs one after another, for people: `scripts/faults`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.faults.payments import storm
from tests.faults.payments.campaign import Outcome, Size, run
from tests.faults.payments.system import POSTGRESQL, SQLITE

_RUN: Final = 200
"""Purchases of one run: few enough that a report can be read, enough for events to meet each other."""
_EVENTS: Final = 4
"""Purchases for which there is one event."""


def main() -> None:
    """Run until there were enough purchases, time is over, or something is wrong."""
    asked = _arguments()
    if asked.storm is not None:
        _storm(asked)
        return
    began, seed, bought, wrong = time.monotonic(), asked.seed, 0, 0
    while bought < asked.purchases and (asked.seconds is None or time.monotonic() - began < asked.seconds):
        count = min(_RUN, asked.purchases - bought)
        size = Size(count, count // _EVENTS, asked.database, asked.replicas)
        print(f"seed {seed}: {count} purchases, {size.events} events, {size.database}, {size.gateways} gateway(s)")
        outcome = _one(size, seed, asked.keep)
        print(outcome.report(), flush=True)
        wrong += bool(outcome.findings)
        bought, seed = bought + count, seed + 1
    print(f"{bought} purchases in {time.monotonic() - began:.0f} s; {wrong} run(s) with something wrong")
    sys.exit(min(wrong, 1))


def _one(size: Size, seed: int, keep: Path | None) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="kwbp-faults-"))
    folder.chmod(0o711)  # PostgreSQL runs as a user of its own
    try:
        began = time.monotonic()
        outcome = run(folder / "run", size, seed=seed, tell=lambda line: _tell(time.monotonic() - began, line))
        if outcome.findings and keep is not None:
            shutil.copytree(folder, keep / f"seed-{seed}", symlinks=True)
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _storm(asked: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="kwbp-storm-"))
    folder.chmod(0o711)
    try:
        figures = storm.run(folder / "run", orders=asked.storm, database=asked.database, gateways=asked.replicas)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(figures)
    sys.exit(min(len(figures.findings), 1))


def _tell(seconds: float, line: str) -> None:
    print(f"{seconds:7.1f} s  {line}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Buy while everything breaks.")
    parser.add_argument("--purchases", type=int, default=1000, help="how many in all (default 1000)")
    parser.add_argument("--seconds", type=float, help="begin no further run after so many seconds")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next ones count on (default 1)")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL), default=SQLITE, help="of the gateways")
    parser.add_argument("--replicas", type=int, default=1, help="gateways that share a PostgreSQL (default 1)")
    parser.add_argument("--storm", type=int, metavar="N", help="instead: N reversals that are due in one moment")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all files of runs with something wrong here")
    asked = parser.parse_args()
    if asked.replicas > 1 and asked.database == SQLITE:
        parser.error("a SQLite file has one gateway: --database postgresql")
    return asked


if __name__ == "__main__":
    main()
