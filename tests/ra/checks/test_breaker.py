"""A register that does not answer is left alone for a while; then one tries, and an answer opens the way for all."""

from __future__ import annotations

from datetime import timedelta

from ra.checks.breaker import PAUSE, THRESHOLD, Breaker
from tests.support.ca_world import Clock
from tests.support.pki_factory import NOW


def _tired(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(THRESHOLD):
        assert breaker.allows()
        breaker.failed()
    return breaker


def test_after_a_few_failures_in_a_row_nobody_asks() -> None:
    breaker = _tired(Clock(NOW))
    assert not breaker.allows()
    assert breaker.reopens_at == NOW + PAUSE


def test_failures_between_answers_are_not_in_a_row() -> None:
    breaker = Breaker(Clock(NOW))
    for _ in range(3 * THRESHOLD):
        breaker.failed()
        breaker.answered()
    assert breaker.allows()
    assert breaker.reopens_at is None


def test_after_the_pause_one_tries_and_the_others_wait_for_them() -> None:
    clock = Clock(NOW)
    breaker = _tired(clock)
    clock.forward(PAUSE)
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    clock.forward(PAUSE - timedelta(seconds=1))
    assert not breaker.allows()
    clock.forward(timedelta(seconds=1))
    assert breaker.allows()
    breaker.answered()
    assert [breaker.allows(), breaker.allows()] == [True, True]
