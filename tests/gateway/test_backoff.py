"""Pauses double up to a cap and are spread over their upper half."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import pause


def test_pauses_double_up_to_the_cap() -> None:
    assert [pause(n, first=1.0, longest=10.0, rng=lambda _: b"\xff\xff") for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(st.integers(1, 10_000), st.binary(min_size=2, max_size=2))
def test_a_pause_lies_between_half_and_all_of_it(attempt: int, random: bytes) -> None:
    whole = pause(attempt, first=0.5, longest=300.0, rng=lambda _: b"\xff\xff")
    assert whole / 2 <= pause(attempt, first=0.5, longest=300.0, rng=lambda _: random) <= whole <= 300.0
