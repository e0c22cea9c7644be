"""What a seed stands for: the same purchases and the same events each time, every kind of fault among them."""

from __future__ import annotations

from random import Random

import pytest

from kwbp.codes import ErrorCode
from tests.faults.payments.buyers import refused_for_good
from tests.faults.payments.plans import Manner, What, purchases, schedule
from tests.faults.payments.wire import Fault

EVENTS = 30


def test_a_seed_is_a_run() -> None:
    first, second = (schedule(Random(7), 160, events=EVENTS) for _ in range(2))
    assert first == second
    assert first != schedule(Random(8), 160, events=EVENTS)
    assert purchases(Random(7), 50, buyers=8, shops=2) == purchases(Random(7), 50, buyers=8, shops=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_meets_every_kind_of_fault(seed: int) -> None:
    planned = schedule(Random(seed), 160, events=EVENTS)
    assert {event.what for event in planned} == set(What) - {What.DATABASE}
    assert {event.how for event in planned if event.what is What.WIRE} == set(Fault) - {Fault.NONE}
    assert {event.target for event in planned if event.what is What.KILL} == {"gateway", "hsm", "switch", "front"}
    assert all(1 <= event.at <= 144 for event in planned)
    assert planned == sorted(planned, key=lambda event: event.at)


def test_on_postgresql_the_database_falls_too() -> None:
    planned = schedule(Random(1), 160, events=EVENTS + 2, postgresql=True)
    assert {event.how for event in planned if event.what is What.DATABASE} == {"immediate stop", "killed backend"}


def test_orders_are_placed_in_every_manner() -> None:
    bought = purchases(Random(1), 160, buyers=8, shops=2)
    assert {plan.manner for plan in bought} == set(Manner)
    assert {operation for plan in bought for operation in plan.after} >= {"refund", "cancel", "capture", "uncapture"}
    assert {plan.buyer for plan in bought} == set(range(8))


def test_an_order_that_the_token_refused_is_over_for_its_merchant() -> None:
    """Every repeat gets the same Error: whoever asks on leaves the order open for ever (seed 903)."""
    assert refused_for_good(ErrorCode.DECODING_FAILURE) is not None
    assert refused_for_good(ErrorCode.MESSAGE_TOO_OLD) is not None
    assert refused_for_good(ErrorCode.UNKNOWN_OUTCOME) is None
