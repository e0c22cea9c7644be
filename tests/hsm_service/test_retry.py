"""When a call is made again: the policy, without clock, chance or network."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_service.retry import ONCE, PATIENT, RetryPolicy, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 8),
    deadline=st.floats(0, 60),
    first_pause=st.floats(0, 5),
    longest_pause=st.floats(0, 5),
)


@given(POLICIES, st.integers(1, 9), st.floats(0, 100), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 100))
def test_no_attempt_is_one_too_many_too_late_or_earlier_than_asked(
    policy: RetryPolicy, attempt: int, spent: float, draw: float, asked: float | None
) -> None:
    pause = policy.pause(attempt, spent, draw, asked)
    if pause is None:
        return
    assert attempt < policy.attempts
    assert spent + pause <= policy.deadline
    assert (asked or 0) <= pause <= (asked or 0) + policy.longest_pause


def test_pauses_grow_up_to_the_longest_and_are_drawn() -> None:
    policy = RetryPolicy(attempts=10, deadline=100, first_pause=0.1, longest_pause=1.0)
    assert [policy.pause(attempt, 0, 0.5) for attempt in range(1, 7)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert policy.pause(1, 0, 0) == 0


def test_once_is_once() -> None:
    assert ONCE.pause(1, 0, 0) is None
    assert PATIENT.pause(1, 0, 0) == 0


@pytest.mark.parametrize("broken", [{"attempts": 0}, {"deadline": -1}, {"first_pause": -1}, {"longest_pause": -1}])
def test_a_policy_without_sense_is_refused(broken: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        RetryPolicy(**{"attempts": 1, "deadline": 1, **broken})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (503, "0", 0.0),
        (503, "7", 7.0),
        (429, " 7 ", 7.0),
        (503, "Thu, 01 Jan 2026 00:00:05 GMT", 5.0),
        (503, "Wed, 31 Dec 2025 23:59:59 GMT", 0.0),
        (503, "", None),
        (503, "soon", None),
        (503, "-1", None),
        (503, "1.5", None),
        (503, "٣", None),
        (503, "9" * 40, None),
        (500, "7", None),
        (409, "7", None),
        (200, "7", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_means_something_for_two_statuses(
    status: int, header: str, seconds: float | None
) -> None:
    assert retry_after(status, {"retry-after": header}, NOW) == seconds


def test_no_header_says_nothing() -> None:
    assert retry_after(503, {}, NOW) is None
