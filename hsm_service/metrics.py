"""How long each operation waits and works, by key and step, and what becomes of it: for Prometheus.

    kwbp_hsm_step_seconds{key, kind, verb, step}                 histogram
    kwbp_hsm_operations_total{key, kind, verb, result, reason}   counter

    step    queue: until the token's turn (or a thread) came; token: in the token, its process and the way there; audit:
            until intent and outcome were on the disk; total: all of it, with what is computed in between
    kind    of the structure (`hsm_service.kinds`), or the operation of a plug-in
    verb    sign, batch (one observation a request, one count a structure), check (a dry run), plugin
    result  done; refused: the caller's mistake (4xx); failed: ours, or the token's
    reason  the problem's type, empty for done

Ten thousand signatures a second are observed here, each with four durations and a count, so this is no
`prometheus_client.Histogram`, which takes a lock and two microseconds for one: each thread has tables of its own that
nobody else writes, and whoever reads adds them up. A reader may see an operation's sum before its count.

Labels are bounded and hold nothing that a caller chose: a key's name only if the registry knows it, reasons only from
our own types, and no more than `LARGEST` series a thread; the rest is counted under an empty name.
"""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from runtime.problems import Problem

BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: upper bounds of the buckets; one more holds the rest."""
STEPS: Final = ("queue", "token", "audit", "total")
LARGEST: Final = 2000

DONE: Final = ("done", "")
_MANY_REASONS: Final = 64
_NAMES: Final = [*map(str, BOUNDS), "+Inf"]

Labels: TypeAlias = tuple[str, str, str]
"""Key, kind, verb."""
Result: TypeAlias = tuple[str, str]
"""Result, reason."""


class Timing:
    """Seconds that one operation spent in each step; filled by whoever runs it (`hsm_service.steps`)."""

    __slots__ = ("audit", "queue", "token")

    def __init__(self) -> None:
        self.queue = self.token = self.audit = 0.0


class _Series:
    """What one thread saw of one key, kind and verb."""

    __slots__ = ("buckets", "results", "sums")

    def __init__(self) -> None:
        self.buckets = [[0] * (len(BOUNDS) + 1) for _ in STEPS]
        self.sums = [0.0] * len(STEPS)
        self.results: dict[Result, int] = {}

    def add(self, other: _Series) -> None:
        """Add what another thread saw."""
        for mine, theirs in zip(self.buckets, other.buckets, strict=True):
            mine[:] = map(int.__add__, mine, theirs)
        self.sums = [mine + theirs for mine, theirs in zip(self.sums, other.sums, strict=True)]
        for result, count in tuple(other.results.items()):
            self.results[result] = self.results.get(result, 0) + count


class Metrics(Collector):
    """The tables of all threads. There is one, `METRICS`; tests make their own."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._tables: list[dict[Labels, _Series]] = []

    def observe(
        self,
        labels: Labels,
        timing: Timing,
        total: float,
        result: Result = DONE,
        known: Callable[[str], bool] = lambda _key: True,
        count: int = 1,
    ) -> None:
        """One operation that took `total` seconds, and `count` structures with this result.

        `known(key)` says whether the registry has a key of this name; asked once for each that it has.
        """
        series = self._table().get(labels) or self._open(labels, known)
        buckets, sums = series.buckets, series.sums
        # Unrolled: a loop costs as much as what it does.
        spent = timing.queue
        buckets[0][bisect_left(BOUNDS, spent)] += 1
        sums[0] += spent
        spent = timing.token
        buckets[1][bisect_left(BOUNDS, spent)] += 1
        sums[1] += spent
        spent = timing.audit
        buckets[2][bisect_left(BOUNDS, spent)] += 1
        sums[2] += spent
        buckets[3][bisect_left(BOUNDS, total)] += 1
        sums[3] += total
        self._add(series, result, count)

    def took(self, labels: Labels, total: float, result: Result) -> None:
        """One operation that took `total` seconds, of which no single steps are known."""
        series = self._table().get(labels) or self._open(labels, lambda _key: True)
        series.buckets[3][bisect_left(BOUNDS, total)] += 1
        series.sums[3] += total
        self._add(series, result, 1)

    def count(self, labels: Labels, result: Result, known: Callable[[str], bool] = lambda _key: True) -> None:
        """One more structure with this result, without durations: it shared them with others."""
        self._add(self._table().get(labels) or self._open(labels, known), result, 1)

    def _add(self, series: _Series, result: Result, count: int) -> None:
        results = series.results
        if result not in results and len(results) >= _MANY_REASONS:
            result = (result[0], "other")
        results[result] = results.get(result, 0) + count

    def _table(self) -> dict[Labels, _Series]:
        try:
            table: dict[Labels, _Series] = self._mine.table
        except AttributeError:
            table = self._mine.table = {}
            with self._lock:
                self._tables.append(table)
        return table

    def _open(self, labels: Labels, known: Callable[[str], bool]) -> _Series:
        table = self._table()
        if len(table) >= LARGEST or not known(labels[0]):
            labels = ("", *labels[1:])
        return table.setdefault(labels, _Series())

    def collect(self) -> Iterator[HistogramMetricFamily | CounterMetricFamily]:
        """For Prometheus."""
        with self._lock:
            tables = tuple(self._tables)
        everything: dict[Labels, _Series] = {}
        for table in tables:
            for labels, series in tuple(table.items()):
                everything.setdefault(labels, _Series()).add(series)
        steps = HistogramMetricFamily(
            "kwbp_hsm_step_seconds",
            "Time that operations spend in each step",
            labels=["key", "kind", "verb", "step"],
        )
        results = CounterMetricFamily(
            "kwbp_hsm_operations",
            "Structures and operations by what became of them",
            labels=["key", "kind", "verb", "result", "reason"],
        )
        for labels, series in sorted(everything.items()):
            for step, buckets, spent in zip(STEPS, series.buckets, series.sums, strict=True):
                if any(buckets):
                    steps.add_metric([*labels, step], list(zip(_NAMES, accumulate(buckets), strict=True)), spent)
            for result, count in sorted(series.results.items()):
                results.add_metric([*labels, *result], count)
        yield steps
        yield results

    def describe(self) -> Iterator[HistogramMetricFamily | CounterMetricFamily]:
        """The families without values."""
        return Metrics().collect()


METRICS: Final = Metrics()
REGISTRY.register(METRICS)


def result_of(error: BaseException) -> Result:
    """What became of an operation that raised `error`."""
    if isinstance(error, Problem):
        return ("refused" if error.status < 500 else "failed"), error.type
    if isinstance(error, asyncio.CancelledError):
        return "failed", "cancelled"
    return "failed", "internal"
