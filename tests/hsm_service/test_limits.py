from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hsm_service.limits import Bucket, Limits, Meter, check_window, take
from runtime.problems import Problem
from tests.support.pki_factory import NOW

SECOND = timedelta(seconds=1)


def _meter(before: int = 0) -> Meter:
    return Meter(lambda _name, _version: before)


def test_a_keys_own_limits_hold_over_its_templates_field_by_field() -> None:
    template = Limits(uses=10, rate=5, burst=7)
    assert Limits().over(template) == template
    assert Limits(uses=3).over(template) == Limits(uses=3, rate=5, burst=7)
    assert Limits(rate=None).over(template).rate is None
    stored = Limits(rate=None, uses=3).to_json()
    assert stored is not None
    assert Limits.model_validate_json(stored).over(template) == Limits(uses=3, burst=7)
    assert Limits().to_json() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"uses": -1},
        {"rate": 0},
        {"burst": 0},
        {"uses": "many"},
        {"speed": 1},
        {"not_before": NOW, "not_after": NOW},
        {"not_before": NOW.replace(tzinfo=None)},
    ],
)
def test_what_is_no_limit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(wrong)


def test_a_key_is_used_as_often_as_its_limit_says_counting_what_the_journal_knows() -> None:
    meter, limits = _meter(before=3), Limits(uses=6)
    meter.admit("key", 1, limits, NOW)
    meter.admit("key", 1, limits, NOW, 2)
    with pytest.raises(Problem) as caught:
        meter.admit("key", 1, limits, NOW)
    assert (caught.value.status, caught.value.type) == (403, "key-used-up")
    assert meter.uses("key", 1) == 6


def test_a_batch_that_exceeds_the_limit_is_refused_whole() -> None:
    meter = _meter()
    with pytest.raises(Problem):
        meter.admit("key", 1, Limits(uses=9), NOW, 10)
    assert meter.uses("key", 1) == 0


def test_a_rate_lets_a_burst_through_and_then_one_at_a_time() -> None:
    meter, limits = _meter(), Limits(rate=0.5, burst=3)
    for _ in range(3):
        meter.admit("key", 1, limits, NOW)
    with pytest.raises(Problem) as caught:
        meter.admit("key", 1, limits, NOW)
    assert (caught.value.status, caught.value.type, caught.value.headers) == (429, "key-rate", {"Retry-After": "2"})
    meter.admit("key", 1, limits, NOW + 2 * SECOND)
    with pytest.raises(Problem):
        meter.admit("key", 1, limits, NOW + 3 * SECOND)
    meter.admit("key", 2, limits, NOW + 3 * SECOND)  # a bucket of its own


def test_a_batch_larger_than_the_bucket_goes_through_when_it_is_full_and_is_paid_for_afterwards() -> None:
    limits = Limits(rate=10, burst=10)
    bucket, wait = take(None, limits, NOW, 30)
    assert (bucket.level, wait) == (-20, 0)
    assert take(bucket, limits, NOW)[1] == pytest.approx(2.1)
    assert take(bucket, limits, NOW + 3 * SECOND)[1] == 0


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(-1, 2), max_size=60),
)
def test_no_history_exceeds_burst_plus_rate_times_time(rate: float, burst: int, gaps: list[float]) -> None:
    limits, bucket, now, done = Limits(rate=rate, burst=burst), None, NOW, 0
    moments = [NOW]  # the bucket is full at the first use, whatever time that is
    for number, gap in enumerate(gaps):
        now += timedelta(seconds=gap) if number else timedelta()
        moments.append(now)
        bucket, wait = take(bucket, limits, now)
        done += wait == 0
        assert isinstance(bucket, Bucket)
    assert done <= burst + rate * (max(moments) - NOW).total_seconds() + 1e-3


@pytest.mark.parametrize(
    ("limits", "ends", "slug"),
    [
        (Limits(not_before=NOW + SECOND), None, "key-not-yet-valid"),
        (Limits(not_after=NOW - SECOND), None, "key-expired"),
        (Limits(), NOW - SECOND, "certificate-expired"),
    ],
)
def test_a_key_is_used_within_its_validity_and_its_certificates(limits: Limits, ends: Any, slug: str) -> None:
    with pytest.raises(Problem) as caught:
        check_window("key", limits, NOW, ends)
    assert (caught.value.status, caught.value.type) == (403, slug)


def test_the_ends_of_a_validity_belong_to_it() -> None:
    check_window("key", Limits(not_before=NOW, not_after=NOW + SECOND), NOW, NOW)
    check_window("key", Limits(not_before=NOW - SECOND, not_after=NOW), NOW, None)
