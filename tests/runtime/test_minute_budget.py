"""So many in a minute, each caller for itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runtime.minute_budget import MinuteBudget

BEGIN = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)


def test_a_minute_has_so_many() -> None:
    at = BEGIN
    budget = MinuteBudget(2, clock=lambda: at)
    assert [budget.take("a") for _ in range(4)] == [True, True, False, False]
    assert budget.take("b")
    at = BEGIN + timedelta(seconds=59)
    assert not budget.take("a")
    at = BEGIN + timedelta(seconds=60)
    assert [budget.take("a") for _ in range(3)] == [True, True, False]


def test_what_was_not_taken_does_not_count() -> None:
    at = BEGIN
    budget = MinuteBudget(1, clock=lambda: at)
    assert budget.take("a")
    for second in range(1, 60):
        at = BEGIN + timedelta(seconds=second)
        assert not budget.take("a")
    at = BEGIN + timedelta(seconds=60)
    assert budget.take("a")


def test_a_clock_that_is_put_back_refuses_nobody_for_longer() -> None:
    at = BEGIN + timedelta(days=1)
    budget = MinuteBudget(2, clock=lambda: at)
    assert [budget.take("a") for _ in range(3)] == [True, True, False]
    at = BEGIN
    assert [budget.take("a") for _ in range(3)] == [True, True, False]


def test_who_stays_away_is_forgotten() -> None:
    at = BEGIN
    budget = MinuteBudget(1, clock=lambda: at)
    assert all(budget.take(str(number)) for number in range(1000))
    at = BEGIN + timedelta(seconds=30)
    assert budget.take("late")
    assert len(budget) == 1001
    at = BEGIN + timedelta(seconds=60)
    assert not budget.take("late")
    assert len(budget) == 1
