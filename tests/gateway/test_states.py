"""Orders move forward only, and only as the protocol says."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
from sqlalchemy import Connection, update

from gateway.errors import StateConflictError
from gateway.operating.history import steps_of
from gateway.order import Order
from gateway.order_rows import move
from gateway.schema import orders
from gateway.states import MOVES, OrderState, may_follow
from gateway.store import OrderStore
from tests.gateway.conftest import NOW, new_order, run


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


def test_an_acknowledged_approval_goes_back_as_a_hold_that_lapsed_or_not_at_all() -> None:
    """Which orders may is for the order book to judge (test_store): a sale never."""
    assert MOVES[OrderState.ACKED] == {OrderState.REV_QUEUED}


def test_what_a_person_stated_is_final() -> None:
    assert MOVES[OrderState.DEBITED] == frozenset()
    assert [state for state in OrderState if may_follow(state, OrderState.DEBITED)] == [OrderState.REV_FAILED]


def test_no_way_leads_from_unknown_to_approved() -> None:
    reachable = {OrderState.UNKNOWN}
    while more := {after for state in reachable for after in MOVES[state]} - reachable:
        reachable |= more
    assert not reachable & {OrderState.APPROVED, OrderState.ACKED, OrderState.DECLINED}


PAIRS = list(product(OrderState, OrderState))


def test_the_order_book_makes_the_steps_of_the_table_and_no_other(book: OrderStore) -> None:
    """Each pair of states, at the one place where states change; each step that is made leaves its row."""

    def step(connection: Connection, number: int, before: OrderState, after: OrderState) -> Order:
        connection.execute(update(orders).where(orders.c.xid == number.to_bytes(20, "big")).values(state=before))
        return move(connection, new_order(number).key, (before,), after, NOW)

    async def scenario() -> dict[tuple[OrderState, OrderState], bool]:
        made = {}
        for number, (before, after) in enumerate(PAIRS):
            await book.receive(new_order(number), NOW)
            try:
                order = await book.writer.run(partial(step, number=number, before=before, after=after))
                assert (order.state, order.steps) == (after, 2)
                made[before, after] = True
            except StateConflictError:
                made[before, after] = False
        return made

    assert run(scenario()) == {(before, after): may_follow(before, after) for before, after in PAIRS}


def test_a_step_from_another_state_than_the_order_is_in_changes_nothing(book: OrderStore) -> None:
    async def scenario() -> None:
        await book.receive(new_order(), NOW)
        for before, after in PAIRS:
            if before is OrderState.RECEIVED:
                continue
            with pytest.raises(StateConflictError):
                await book.writer.run(partial(move, key=new_order().key, before=(before,), after=after, now=NOW))
        with book.reading() as connection:
            order = book.find(new_order().key)
            assert order is not None
            assert [each.state for each in steps_of(connection, order)] == [OrderState.RECEIVED]

    run(scenario())
