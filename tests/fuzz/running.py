"""Run a reader over its corpus and over twins of it: what the tests do for a moment and the benchmark for longer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from tests.fuzz.decoder import Decoder
from tests.fuzz.mutator import Mutator
from tests.fuzz.oracle import Verdict, Violation, judge


def inputs(decoder: Decoder, seed: int) -> Iterator[bytes]:
    """The corpus, then twins of it without end. One seed, one sequence."""
    pool = decoder.seeds() or [b""]
    yield from pool
    mutator = Mutator(random.Random(f"{decoder.name} {seed}"), pool, text=decoder.kind == "text")
    while True:
        yield mutator.twin()


def bounded(decoder: Decoder, seed: int, budget: int) -> Iterator[bytes]:
    """The corpus whole, and of the twins as many as `budget` bytes last, each counted with `_EACH` for itself."""
    kept = len(decoder.seeds())
    for number, data in enumerate(inputs(decoder, seed)):
        if number >= kept:
            budget -= _EACH + len(data)
            if budget < 0:
                return
        yield data


_EACH: Final = 4000
"""What reading anything costs, in bytes whose reading costs as much."""


class Found(Exception):
    """A violation together with its input."""

    def __init__(self, violation: Violation, data: bytes) -> None:
        super().__init__(f"{violation} (input of {len(data)} bytes begins {data[:48].hex()})")
        self.violation = violation
        self.data = data


def judged(decoder: Decoder, data: bytes) -> Verdict:
    """As `judge`; raises Found."""
    try:
        return judge(decoder, data)
    except Violation as violation:
        raise Found(violation, data) from violation


def warm(decoder: Decoder) -> None:
    """Let the reader load and remember what it does on first use, which is no matter of the input."""
    for data in decoder.seeds()[:2]:
        try:
            decoder.decode(data)
        except decoder.refusals:
            continue
