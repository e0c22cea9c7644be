"""How many payments a second the tokens could do if nothing else had to be done: the best of three ways to ask them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.benchmarks.report import BenchmarkFailed


class TokenBound:
    """Two processes with tokens of their own (`token_loops`), idle between the measurements."""

    def __init__(self, home: Path) -> None:
        # One after the other: the first makes the tokens and keys that the second finds.
        self._workers: list[subprocess.Popen[str]] = []
        self._rates: dict[str, list[float]] = defaultdict(list)
        try:
            for _ in range(2):
                self._workers.append(_start(home))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()

    def measure(self, operations: Mapping[str, int], seconds: float) -> None:
        """Ask in each way for `seconds`. Call it between the measurements that the bound is compared with."""
        first, second = self._workers
        self._rates["1_thread"].append(_run([(first, 1)], operations, seconds))
        self._rates["2_threads"].append(_run([(first, 2)], operations, seconds))
        self._rates["2_processes"].append(_run([(first, 1), (second, 1)], operations, seconds))

    def rates(self) -> dict[str, float]:
        """Payments' worth of operations in a second, for each way to ask: the mean of its measurements."""
        return {way: statistics.fmean(rates) for way, rates in self._rates.items()}


def _start(home: Path) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.token_loops", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    if worker.stdout.readline().strip() != "ready":
        raise BenchmarkFailed("the loops on the bare token did not start")
    return worker


def _run(parts: list[tuple[subprocess.Popen[str], int]], operations: Mapping[str, int], seconds: float) -> float:
    for worker, threads in parts:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps({"operations": operations, "threads": threads, "seconds": seconds}) + "\n")
        worker.stdin.flush()
    total = 0.0
    for worker, _threads in parts:
        assert worker.stdout is not None
        answer = worker.stdout.readline()
        if not answer:
            raise BenchmarkFailed("a loop on the bare token ended early")
        total += float(json.loads(answer)["per_second"])
    return total
