"""Which reversals a look begins, and which it takes over from whoever began them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from gateway.order import Order
from gateway.reversal_workflows import DurableRuns, workflow_id
from gateway.states import OrderState
from gateway.store import OrderStore
from tests.gateway.conftest import ACQUIRER, NOW, Clock, new_order, run

OVERDUE = timedelta(seconds=30)
MANY = 20


class Rows:
    """Stands for the durable rows: what was asked of them. While `held`, they take their time."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.taken_over: list[str] = []
        self.held = asyncio.Event()
        self.held.set()

    async def begin(self, _loop: str, name: str) -> None:
        await self.held.wait()
        self.begun.append(name)

    async def take_over(self, _loop: str, name: str) -> None:
        self.taken_over.append(name)

    def close(self) -> None: ...


async def due(book: OrderStore, numbers: range) -> list[Order]:
    for number in numbers:
        key = (await book.receive(new_order(number), NOW)).key
        await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="603799******7893", now=NOW)
        await book.sent(key, {11: "000001"}, NOW)
        await book.conclude(key, OrderState.UNKNOWN, NOW)
        await book.queue_reversal(key, OrderState.UNKNOWN, "no answer", NOW)
    return book.due_reversals(NOW, MANY)


def made(book: OrderStore, clock: Clock) -> tuple[DurableRuns, Rows]:
    attempts: Any = None  # nothing is attempted here
    runs, rows = DurableRuns(attempts, book, clock, OVERDUE), Rows()
    runs._thread = rows  # type: ignore[assignment]
    return runs, rows


async def settled() -> None:
    for _ in range(3 * MANY):
        await asyncio.sleep(0)


def test_what_is_late_is_taken_over_a_few_at_a_look(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        queued = await due(book, range(1, MANY + 1))
        runs, rows = made(book, clock)
        for _ in range(2):  # the second look finds nothing new, and nothing late
            runs.begin(queued)
            await settled()
        assert rows.begun == [workflow_id(order.key, 1) for order in queued]
        assert rows.taken_over == []
        clock.advance(31)
        for looks in (1, 2):
            runs.begin(queued)
            await settled()
            assert len(set(rows.taken_over)) == looks * 8

    run(scenario())


def test_what_waits_for_its_turn_to_be_begun_is_not_late(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        queued = await due(book, range(1, MANY + 1))
        runs, rows = made(book, clock)
        rows.held.clear()
        runs.begin(queued)
        clock.advance(31)
        runs.begin(queued)
        rows.held.set()
        await settled()
        assert (len(rows.begun), rows.taken_over) == (MANY, [])

    run(scenario())
