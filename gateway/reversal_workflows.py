"""Reversals as durable workflows: one workflow a reversal, its attempts as steps, with durable sleeps between them.

The workflow's id is the reversal's own (merchant, XID, kind, which reversal of the order), so it cannot be begun twice,
by this gateway or another on the same database. What is killed goes on: this gateway's own when it starts again, a dead
gateway's when another sees that the order book has something due for longer than anybody alive would leave it.

None of it is the truth. The order book counts each attempt before it leaves and says when the next is due; a workflow
that is lost, begun twice or late finds that there, and the look of `Reversals` begins whatever is missing. The rows
hold ids and numbers of seconds, nothing else.

The workflows start with the first reversal there is to do: a gateway that has none pays nothing for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from gateway.order import Order, OrderKey
from gateway.reversal import Attempts
from gateway.store import OrderStore
from runtime.durable import Durable, Loop
from runtime.durable_thread import DurableThread
from runtime.logging import get_logger

_NAME: Final = "reversal"
_FORGOTTEN: Final = 10_000
"""Reversals that are remembered as begun."""
_TAKEN_OVER: Final = 8
"""Reversals of others that one look takes over: where hundreds are due, many are late though everybody is at work."""
_log = get_logger("gateway.reversal")


class DurableRuns:
    """`ReversalRuns` on DBOS, in a thread of their own: what they write does not keep payments waiting."""

    def __init__(
        self, attempts: Attempts, store: OrderStore, clock: Callable[[], datetime], overdue: timedelta
    ) -> None:
        """`overdue`: whoever is alive and has a line has claimed an attempt so long after it was due."""
        self._attempts = attempts
        self._replica = store.replica
        self._overdue = overdue
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._seen: dict[str, datetime] = {}
        self._beginning: set[asyncio.Task[None]] = set()
        durable = partial(
            Durable,
            "gateway",
            (),
            database=store.url,
            replica=store.replica,
            loops=[Loop(_NAME, self._step)],
        )
        self._thread = DurableThread(durable)

    @classmethod
    def of(
        cls, store: OrderStore, *, clock: Callable[[], datetime], overdue: timedelta
    ) -> Callable[[Attempts], DurableRuns]:
        """What makes the runs of a gateway on this order book."""
        return partial(cls, store=store, clock=clock, overdue=overdue)

    def begin(self, due: Sequence[Order]) -> None:
        now = self._clock()
        new, late = list[str](), list[str]()
        # This gateway's own first: of two that are alive, each begins at another end.
        for order in sorted(due, key=lambda order: order.runner != self._replica):
            name = workflow_id(order.key, order.reversal_number)
            if name not in self._seen:
                self._seen[name] = now
                new.append(name)
            elif (
                not self._beginning  # what waits for its turn here looks late as well
                and len(late) < _TAKEN_OVER
                and now - max(self._seen[name], order.reversal_next_at or now) > self._overdue
            ):
                self._seen[name] = now
                late.append(name)
        while len(self._seen) > _FORGOTTEN:
            del self._seen[next(iter(self._seen))]
        if new or late:
            task = asyncio.create_task(self._begin(new, late))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def close(self) -> None:
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        await asyncio.to_thread(self._thread.close)

    async def _begin(self, new: list[str], late: list[str]) -> None:
        for names, ask in ((new, self._thread.begin), (late, self._thread.take_over)):
            for name in names:
                try:
                    await ask(_NAME, name)
                except Exception as error:  # the next look finds it due still
                    _log.error("a reversal was not begun", error=type(error).__name__)
                    self._seen.pop(name, None)

    async def _step(self, name: str) -> float | None:
        """One attempt, made in the gateway's own loop, where its lines are."""
        key, number = _of_workflow(name)
        attempt = asyncio.run_coroutine_threadsafe(self._patiently(key, number), self._loop)
        return await asyncio.wrap_future(attempt)

    async def _patiently(self, key: OrderKey, number: int) -> float | None:
        """Short waits, for a line or another reversal of the card, are no steps: each step is a row."""
        while True:
            wait = await self._attempts.attempt(key, number)
            if wait is None or wait > self._attempts.tick:
                return wait
            await asyncio.sleep(max(wait, 0.01))


def workflow_id(key: OrderKey, number: int) -> str:
    """The id of the workflow of an order's reversal `number`."""
    return f"{key.merchant_id}/{key.xid.hex()}/{key.kind}/{number}"


def _of_workflow(name: str) -> tuple[OrderKey, int]:
    merchant_id, xid, kind, number = name.rsplit("/", 3)
    return OrderKey(merchant_id, bytes.fromhex(xid), kind), int(number)
