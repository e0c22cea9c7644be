"""What must hold of a reader whatever it is given: one input in, a verdict or a `Violation` out.

No duration is looked at. A hang shows as calls: how many functions were called, of Python and of C, may grow with the
input in a straight line and no faster. Memory is what Python's allocator gave out at the same time, over what was given
out before; the objects that the DER library makes are among it.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from dataclasses import dataclass
from typing import Any, Final

from _pytest.outcomes import OutcomeException

from tests.fuzz.decoder import Decoder

MEMORY_FACTOR: Final = 16
"""Bytes of memory for each byte of input."""
MEMORY_CONSTANT: Final = 512 * 1024
"""Bytes that a reader may take whatever the size of the input: what is remembered of it in bounded caches (8 KiB an
object), texts of refusals, and what sixteen KiB of the smallest elements become as objects (42 times as much),
because below that no reader counts them beforehand."""
CALLS_CONSTANT: Final = 20_000
CALLS_PER_BYTE: Final = 8
"""The longest honest check makes some 6,000 calls; a reader of text may look at each character a few times."""


_NOT_OURS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, OutcomeException)


class Violation(AssertionError):
    """A reader did what no reader may do; the text says what, and the input is the caller's to keep."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an input. `said` is the statement it makes, or the refusal: its type and its words."""

    accepted: bool
    said: Any
    calls: int
    memory: int


def judge(decoder: Decoder, data: bytes) -> Verdict:
    """Read `data` twice. Raises Violation."""
    first = _read(decoder, data)
    again, memory = _measured(decoder, data)
    if (first.accepted, first.said) != (again.accepted, again.said):
        raise Violation(f"{decoder.name}: read twice, it says two things")
    allowed = MEMORY_FACTOR * len(data) + MEMORY_CONSTANT + decoder.memory
    if memory > allowed:
        raise Violation(f"{decoder.name}: {memory} bytes of memory for {len(data)} bytes, {allowed} are allowed")
    allowed = CALLS_PER_BYTE * len(data) + CALLS_CONSTANT + decoder.calls
    if first.calls > allowed:
        raise Violation(f"{decoder.name}: {first.calls} calls for {len(data)} bytes, {allowed} are allowed")
    return Verdict(first.accepted, first.said, first.calls, memory)


def _read(decoder: Decoder, data: bytes) -> Verdict:
    """Once, with the calls counted; what was accepted is written again."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        value = decoder.decode(data)
    except decoder.refusals as refusal:
        sys.setprofile(before)
        return Verdict(False, _words(refusal), calls, 0)
    except _NOT_OURS:
        raise
    except BaseException as error:  # a panic of the DER library is no Exception
        sys.setprofile(before)
        raise Violation(f"{decoder.name}: {type(error).__name__} gets out: {str(error)[:200]}") from error
    finally:
        sys.setprofile(before)
    if decoder.encode is not None and decoder.encode(value) != data:
        raise Violation(f"{decoder.name}: what was accepted has another encoding")
    return Verdict(True, decoder.statement(value), calls, 0)


def _measured(decoder: Decoder, data: bytes) -> tuple[Verdict, int]:
    """Once more, with its memory measured."""
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle would hide what was needed
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        try:
            value = decoder.decode(data)
        except decoder.refusals as refusal:
            verdict = Verdict(False, _words(refusal), 0, 0)
            peak = tracemalloc.get_traced_memory()[1]
        else:
            peak = tracemalloc.get_traced_memory()[1]
            verdict = Verdict(True, decoder.statement(value), 0, 0)
    finally:
        tracemalloc.stop()
        if collecting:
            gc.enable()
    return verdict, peak - base


def _words(refusal: BaseException) -> tuple[str, str]:
    return type(refusal).__name__, str(refusal)
