"""Microseconds of processor time and instructions to build and check each message of the protocol, without the token.

    python -m scripts.benchmarks.protocol --folder DIR --seconds S --load L --output table|json

Time is processor time of this process, the best of several rounds, so that what else the machine does counts little.
Instructions are counted by callgrind where there is no counter of the processor to be had, which in most virtual
machines there is not: they do not depend on the machine's load, and they are those of a processor without the newest
vector instructions, so they compare runs, not processors. Without valgrind they are left out, and the output says so.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final, get_args

from scripts.benchmarks.protocol_operations import Kind, Operation, catalogue, gateway_checks, junk, operations
from scripts.benchmarks.report import Metric, emit
from tests.support import pki_factory

GATEWAY_TARGET: Final = 1000.0
JUNK_TARGET: Final = 100.0
_ROUNDS: Final = 5
_WARM: Final = 5
_SECONDS_TO_COUNT: Final = 10
_LONGEST: Final = 900  # seconds that callgrind may take
_NATIVE: Final = Path(__file__).with_name("native") / "count.c"


def everything() -> Iterator[Operation]:
    """What is measured, of both kinds of keys."""
    for kind in get_args(Kind):
        parties = catalogue(kind)
        yield from operations(kind, parties)
        if kind == "p256":
            yield from junk(parties)


def microseconds(run: Callable[[], Any], budget: float) -> float:
    """Processor time of one run, the best of some rounds that take `budget` seconds together."""
    for _ in range(_WARM):
        run()
    began = time.process_time_ns()
    run()
    once = max(1, time.process_time_ns() - began)
    times = max(1, int(budget * 1e9 / _ROUNDS / once))
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.process_time_ns()
        for _ in range(times):
            run()
        best = min(best, (time.process_time_ns() - began) / times)
    return best / 1000


def time_them(made: list[Operation], seconds: int) -> dict[str, float]:
    """Microseconds by name."""
    budget = max(0.02, seconds / len(made))
    return {each.name: microseconds(each.run, budget) for each in made}


def count_them(folder: Path) -> None:
    """In a process that callgrind runs: each operation counted, a file of counts each."""
    native = ctypes.CDLL(str(folder / "count.so"))
    parties = catalogue("p256")
    wanted = [each for each in operations("p256", parties) if "_signatures" not in each.name] + list(junk(parties))
    wanted += [each for each in gateway_checks("rsa3072", catalogue("rsa3072")) if "_signatures" not in each.name]
    for each in wanted:
        each.run()
        native.start()
        each.run()
        native.stop(each.name.encode())


def instructions(folder: Path) -> dict[str, float]:
    """Instructions by name, counted by callgrind in a process of its own; none if there is no callgrind."""
    if shutil.which("valgrind") is None or shutil.which("cc") is None:
        return {}
    compiled = subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", "-o", str(folder / "count.so"), str(_NATIVE)], check=False
    )
    if compiled.returncode:
        return {}
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder / 'counts'}"]
    own = [sys.executable, "-m", "scripts.benchmarks.protocol", "--folder", str(folder), "--count"]
    try:
        ran = subprocess.run([*valgrind, *own], stdout=sys.stderr, stderr=DEVNULL, timeout=_LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return {}
    found: dict[str, float] = {}
    for path in folder.glob("counts.*"):
        text = path.read_text("ascii", "replace")
        name = re.search(r"^desc: Trigger: Client Request: (\w+)$", text, re.MULTILINE)
        total = re.search(r"^summary: ([0-9]+)$", text, re.MULTILINE)
        if name is not None and total is not None:
            found[name[1]] = float(total[1])
    return {} if ran.returncode else found


def metrics(made: list[Operation], took: dict[str, float], counted: dict[str, float]) -> Iterator[Metric]:
    """The figures, those with a target first."""
    checks = [f"gateway_check_{kind}" for kind in get_args(Kind)]
    refusals = [each.name for each in made if each.name.startswith("junk_")]
    for name, parts, words in (
        (
            "gateway_check",
            checks,
            f"gateway's whole check of an AuthReq, the dearer kind of keys (≤ {GATEWAY_TARGET:.0f})",
        ),
        ("junk_refusal", refusals, f"structural refusal of junk, the dearest kind (≤ {JUNK_TARGET:.0f})"),
    ):
        yield Metric(f"{name}_us", max(took[part] for part in parts), f"{words}, µs")
        if counted:
            yield Metric(
                f"{name}_instructions",
                max(counted.get(part, 0.0) for part in parts),
                f"{words.split(' (')[0]}, instructions",
                ",.0f",
            )
    for each in made:
        yield Metric(f"{each.name}_us", took[each.name], f"{each.words}, µs")
        if each.name in counted:
            yield Metric(f"{each.name}_instructions", counted[each.name], f"{each.words}, instructions", ",.0f")
    yield Metric("instructions_counted", float(len(counted)), "operations whose instructions callgrind counted", ",.0f")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    keys = arguments.folder / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    pki_factory.shared_keys = keys  # RSA keys take long to make: both processes take the same
    if arguments.count:
        count_them(arguments.folder)
        return
    made = list(everything())
    took = time_them(made, arguments.seconds)
    counted = {} if arguments.seconds < _SECONDS_TO_COUNT else instructions(arguments.folder)
    if not counted:
        why = f"there is no valgrind that runs here, or less than {_SECONDS_TO_COUNT} seconds were given"
        print(f"instructions are not counted: {why}", file=sys.stderr)
    emit("protocol", arguments.load, list(metrics(made, took, counted)), as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
