"""How fast the audit log is: entries made durable per second, and the offline verification of a million of them.

    python -m scripts.benchmarks.audit --folder var/bench/audit …

leaves_per_s          entries per second that are on the disk and answered; as in the services, appenders do not wait
                      for one entry before they hand in the next: `concurrency` of them have up to 64 each under way
append_leaves_per_s   the same for `concurrency` threads that each wait for every entry
verify_1m_s           seconds in which `audit/verify.py` checks a million entries, their head and their tiles, on all
                      processors: what an auditor waits for
open_1m_s             seconds in which a service opens that log, with one processor

The entries are intents of signatures, about 350 bytes each.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from audit import AuditError, Journal, JsonValue, verify
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit

_UNDER_WAY: Final = 64  # entries of each appender
_MILLION: Final = 1_000_000


def entry(number: int) -> dict[str, JsonValue]:
    """An intent as the HSM service records it."""
    return {
        "event": "intent",
        "operation": "cms",
        "caller": f"urn:kwbp:service:merchant-{number % 97}",
        "keys": [f"merchant-{number % 97}-signing/1"],
        "input_sha256": hashlib.sha256(number.to_bytes(8, "big")).hexdigest(),
        "content_type": "2.25.189821692.1.5",
        "policy": "kwbp-cps-1.0.0",
    }


def submitted(path: Path, seconds: float, appenders: int) -> float:
    """Entries per second, handed in by `appenders` threads that go on as long as few enough are under way."""

    def appender(journal: Journal, number: int, end: float) -> None:
        free = threading.Semaphore(_UNDER_WAY)
        while time.monotonic() < end:
            free.acquire()
            journal.submit(entry(number), lambda answer: _answered(answer, free))
            number += appenders
        for _ in range(_UNDER_WAY):
            free.acquire()

    return _rate(path, seconds, appenders, appender)


def appended(path: Path, seconds: float, appenders: int) -> float:
    """Entries per second of `appenders` threads that wait for each."""

    def appender(journal: Journal, number: int, end: float) -> None:
        while time.monotonic() < end:
            journal.append(entry(number))
            number += appenders

    return _rate(path, seconds, appenders, appender)


def write(path: Path, entries: int) -> None:
    """A log of so many entries, made durable as any other, and its tiles."""
    with Journal.open(path) as journal:
        free = threading.Semaphore(4096)
        for number in range(entries):
            if number % 100_000 == 0:
                _say(f"{number:,} of {entries:,} entries written")
            free.acquire()
            journal.submit(entry(number), lambda answer: _answered(answer, free))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--output", choices=("json", "table"), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    try:
        half = options.seconds / 2
        _say(f"{options.concurrency} appenders for {half:g} s, then the same with each entry awaited")
        leaves = submitted(options.folder / "submitted.jsonl", half, options.concurrency)
        waiting = appended(options.folder / "appended.jsonl", half, options.concurrency)
        million = options.folder / "million.jsonl"
        write(million, _MILLION)
        _say("verification")
        # The threads of the appenders have ended: verification on several processors forks
        verification = _seconds(lambda: _whole(million, len(os.sched_getaffinity(0))))
        _say("opening")
        opening = _seconds(lambda: Journal.open(million).close())
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    emit(
        "audit",
        options.load,
        [
            Metric("leaves_per_s", leaves, "entries made durable a second"),
            Metric("append_leaves_per_s", waiting, "the same where each appender waits for each entry"),
            Metric("verify_1m_s", verification, "seconds to verify a million entries"),
            Metric("open_1m_s", opening, "seconds to open a log of a million entries"),
        ],
        as_json=options.output == "json",
    )


def _rate(path: Path, seconds: float, appenders: int, appender: Callable[[Journal, int, float], None]) -> float:
    with Journal.open(path) as journal:
        start = time.monotonic()
        threads = [
            threading.Thread(target=appender, args=(journal, number, start + seconds)) for number in range(appenders)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = journal.size / (time.monotonic() - start)
        if not journal.usable or journal.size == 0:
            raise BenchmarkFailed("the journal could not record")
    verify(path)
    return rate


def _whole(path: Path, processes: int) -> None:
    if verify(path, processes=processes).head.size != _MILLION:
        raise BenchmarkFailed("the log has not a million entries")


def _answered(answer: int | AuditError, free: threading.Semaphore) -> None:
    free.release()


def _seconds(work: Callable[[], None]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
