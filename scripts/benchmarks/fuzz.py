"""Every reader of bytes from outside, fuzzed for some seconds each: executions per second, news, faults.

    python -m scripts.benchmarks.fuzz --folder DIR --seconds S --concurrency C --seed N --load L --output table|json

The readers, their corpus and the four rules are those of `tests/fuzz`; here they run as long as they are given, with
twins that no other run made. DIR/new/READER gets the inputs that made a reader say something it had not said before,
from which the corpus may grow; DIR/failed gets those that broke a rule, and the run ends with how to see each again.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from scripts.benchmarks.report import BenchmarkFailed, Metric, emit
from tests.fuzz.registry import decoders
from tests.fuzz.running import Found, inputs, judged, warm

_KEPT: Final = 64  # of each reader; more would be more of the same


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one reader: executions, seconds of processor time, and how many inputs were new and failed."""

    name: str
    executions: int
    seconds: float
    news: int
    failed: tuple[str, ...]


def fuzz(name: str, *, folder: Path, seconds: float, seed: int) -> Run:
    """Run one reader for so many seconds of processor time."""
    decoder = decoders()[name]
    warm(decoder)
    heard: set[tuple[bool, str]] = set()
    kept = len(decoder.seeds())
    executions, news = 0, 0
    failed: list[str] = []
    began = time.process_time()
    for data in inputs(decoder, seed):
        if executions >= kept and time.process_time() - began > seconds:
            break
        executions += 1
        try:
            verdict = judged(decoder, data)
        except Found as found:
            path = _keep(folder / "failed" / name, data)
            failed.append(f"{found.violation}\n    python -m tests.fuzz.reproduce {name} {path}")
            if len(failed) == _KEPT:
                break
            continue
        said = (verdict.accepted, "" if verdict.accepted else str(verdict.said))
        if said not in heard:
            heard.add(said)
            if executions > kept and news < _KEPT:
                news += 1
                _keep(folder / "new" / name, data)
    return Run(name, executions, time.process_time() - began, news, tuple(failed))


def _keep(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def metrics(runs: Sequence[Run]) -> Iterator[Metric]:
    """Sums first, then each reader."""
    executions, seconds = sum(run.executions for run in runs), sum(run.seconds for run in runs)
    yield Metric("fuzz_executions", executions, "executions, each with its rules", ",.0f")
    yield Metric("fuzz_per_second", executions / seconds, "executions per second of processor time")
    yield Metric("fuzz_readers", len(runs), "readers", ",.0f")
    yield Metric("fuzz_new_inputs", sum(run.news for run in runs), "inputs with a new answer", ",.0f")
    yield Metric("fuzz_failures", sum(len(run.failed) for run in runs), "inputs that broke a rule", ",.0f")
    for run in runs:
        name = run.name.replace(".", "_").replace("-", "_")
        yield Metric(f"fuzz_{name}_per_second", run.executions / run.seconds, f"{run.name}, per second")


def main() -> None:
    """Fuzz and print; ends with an error if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--readers", default="", help="only those whose names begin with this")
    arguments = parser.parse_args()
    seed = time.time_ns() if arguments.seed is None else arguments.seed
    names = [name for name in decoders() if name.startswith(arguments.readers)]
    work = partial(fuzz, folder=arguments.folder, seconds=arguments.seconds, seed=seed)
    print(f"seed {seed}", file=sys.stderr)
    with ProcessPoolExecutor(arguments.concurrency, mp_context=get_context("fork")) as pool:
        runs = list(pool.map(work, names))
    emit("fuzz", arguments.load, list(metrics(runs)), as_json=arguments.output == "json")
    failed = [each for run in runs for each in run.failed]
    if failed:
        raise BenchmarkFailed("\n".join(failed))


if __name__ == "__main__":
    main()
