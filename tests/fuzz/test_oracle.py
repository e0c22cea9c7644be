"""The oracle sees what it is there to see: for each rule a reader that breaks it and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz.decoder import Decoder
from tests.fuzz.oracle import Violation, judge

INPUT = b"[" * 40_000
_numbers: Iterator[int] = itertools.count()


class PanicException(BaseException):
    """As a library in Rust raises it."""


def _panic(_data: bytes) -> None:
    raise PanicException


def _quadratic(data: bytes) -> int:
    return sum(min(1, len(data)) for _ in range(len(data) * 9))


def _deep(data: bytes) -> int:
    return 0 if not data else _deep(data[1:])


def reader(decode: Callable[[bytes], Any], **more: Any) -> Decoder:
    return Decoder("reader", decode, (ValueError,), **more)


def test_a_sound_reader_is_let_be() -> None:
    assert judge(reader(len), INPUT).accepted
    assert not judge(reader(int), INPUT).accepted


@pytest.mark.parametrize(
    ("decode", "more", "words"),
    [
        (lambda data: {}[data], {}, "KeyError gets out"),
        (_panic, {}, "PanicException gets out"),
        (_deep, {}, "RecursionError gets out"),
        (lambda _data: next(_numbers), {}, "read twice"),
        (bytes.lower, {"encode": bytes.upper}, None),
        (lambda _data: b"x", {"encode": bytes.upper}, "another encoding"),
        (lambda data: [object() for _ in range(3 * len(data))], {"statement": len}, "bytes of memory"),
        (_quadratic, {}, "calls"),
    ],
)
def test_a_reader_with_one_fault_is_seen(
    decode: Callable[[bytes], Any], more: dict[str, Any], words: str | None
) -> None:
    if words is None:
        assert judge(reader(decode, **more), INPUT).accepted
        return
    with pytest.raises(Violation, match=words):
        judge(reader(decode, **more), INPUT)
