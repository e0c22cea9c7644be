"""So many at once, one more after each while; a bucket is one instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.token_bucket import NONE, Rate, take, whole_seconds

NOW = datetime(2026, 3, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RATE = Rate(burst=3, every=MINUTE)


def test_a_burst_and_then_one_a_while() -> None:
    full_at = None
    for _ in range(3):
        full_at, wait = take(RATE, full_at, NOW)
        assert wait == NONE
    assert take(RATE, full_at, NOW) == (NOW + 3 * MINUTE, MINUTE)
    full_at, wait = take(RATE, full_at, NOW + MINUTE)
    assert wait == NONE
    assert take(RATE, full_at, NOW + MINUTE)[1] == MINUTE


def test_a_refusal_costs_nothing() -> None:
    full_at = NOW + 3 * MINUTE
    for _ in range(5):
        full_at, wait = take(RATE, full_at, NOW)
        assert (full_at, wait) == (NOW + 3 * MINUTE, MINUTE)


def test_a_clock_that_went_back_makes_nobody_wait_longer_than_an_empty_bucket() -> None:
    assert take(RATE, NOW + timedelta(days=1), NOW) == (NOW + 3 * MINUTE, MINUTE)


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 5))
def test_no_more_than_the_rate_allows_in_any_window(pauses: list[int], burst: int) -> None:
    rate, now, full_at, taken = Rate(burst=burst, every=MINUTE), NOW, None, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        full_at, wait = take(rate, full_at, now)
        if wait == NONE:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) / MINUTE


def test_whole_seconds() -> None:
    assert [whole_seconds(timedelta(milliseconds=each)) for each in (1, 1000, 1001)] == [1, 1, 2]


@pytest.mark.parametrize("wrong", [{"burst": 0}, {"every": "PT0S"}, {"rate": 1}])
def test_a_rate_that_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rate.model_validate({"burst": 1, "every": "PT1M", **wrong})
