"""Orders move forward only, and only as the protocol says."""

from __future__ import annotations

from gateway.states import MOVES, OrderState, may_follow


def test_every_state_is_in_the_table() -> None:
    assert set(MOVES) == set(OrderState)


def test_nothing_is_sent_twice() -> None:
    """SENT is entered from VERIFIED only, and nothing leads back to where it could be entered again."""
    assert [state for state in OrderState if may_follow(state, OrderState.SENT)] == [OrderState.VERIFIED]
    reachable = {OrderState.SENT}
    while more := {after for state in reachable for after in MOVES[state]} - reachable:
        reachable |= more
    assert not reachable & {OrderState.RECEIVED, OrderState.VERIFIED}


def test_an_unknown_outcome_is_always_reversed() -> None:
    assert MOVES[OrderState.UNKNOWN] == {OrderState.REV_QUEUED}


def test_an_acknowledged_approval_is_final() -> None:
    assert MOVES[OrderState.ACKED] == frozenset()


def test_no_way_leads_from_unknown_to_approved() -> None:
    reachable = {OrderState.UNKNOWN}
    while more := {after for state in reachable for after in MOVES[state]} - reachable:
        reachable |= more
    assert not reachable & {OrderState.APPROVED, OrderState.ACKED, OrderState.DECLINED}
