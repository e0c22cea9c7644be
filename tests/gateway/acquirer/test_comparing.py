"""The worker that compares days goes on, whatever one look or one day came to; on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.settling import reconciliation
from gateway.settling.days import DayState, end_of
from gateway.settling.reconciliation import Reconciliation
from kwbp.codes import EntryKind
from runtime.group_writer import DatabaseUnavailableError
from shetab.message import Message
from tests.gateway.acquirer.books import DAY, NEXT, Books
from tests.gateway.acquirer.network import Network, comparing
from tests.gateway.conftest import run, until

SALE = EntryKind.SALE


class Failing(Network):
    """Fails at its first exchange."""

    async def exchange(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in ports
        if not self.asked:
            self.asked.append(message)
            raise RuntimeError("6037701234567890")
        return await super().exchange(message, raw, timeout)


async def closed(books: Books, worker: Reconciliation) -> None:
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: [row.state for row in books.rows()] == [DayState.CLOSED])
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def due(books: Books, network: Network) -> None:
    books.clock.now = end_of(DAY) + timedelta(hours=1)
    books.sale(100_000)
    network.count("M-1", DAY, SALE, 100_000)


def test_a_look_that_fails_does_not_end_it(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(NEXT)
    due(books, network)
    look, failed = books.store.look, 0

    async def away(*query: Any) -> Any:
        nonlocal failed
        failed += 1
        if failed <= 2:
            raise DatabaseUnavailableError("the order book cannot be read")
        return await look(*query)

    monkeypatch.setattr(books.store, "look", away)
    with capture_logs() as logs:
        run(closed(books, comparing(books, network, tick=0.01)))
    assert [log["error"] for log in logs if log["event"] == "days could not be looked through"] == [
        "DatabaseUnavailableError",
        "DatabaseUnavailableError",
    ]


def test_a_day_that_fails_is_compared_again(books: Books) -> None:
    network = Failing(NEXT)
    due(books, network)

    async def scenario() -> None:
        task = asyncio.create_task(_later(books, network))
        await closed(books, comparing(books, network, tick=0.01))
        await task

    with capture_logs() as logs:
        run(scenario())
    (told,) = (log for log in logs if log["event"] == "not reconciled")
    assert (told["error"], told["day"]) == ("RuntimeError", DAY.isoformat())
    assert "6037701234567890" not in str(logs)
    assert len(network.asked) == 3  # the one that failed, whether the day is over, its last word


class Hanging(Network):
    """Never comes to the end of its first exchange."""

    async def exchange(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in ports
        if not self.asked:
            self.asked.append(message)
            await asyncio.Event().wait()
        return await super().exchange(message, raw, timeout)


def test_a_day_that_hangs_is_left_and_compared_again(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_BESIDE", 0.5)
    network = Hanging(NEXT)
    due(books, network)

    async def scenario() -> None:
        task = asyncio.create_task(_later(books, network))
        await closed(books, comparing(books, network, tick=0.01, answer_timeout=0.0))
        await task

    with capture_logs() as logs:
        run(scenario())
    assert [log["error"] for log in logs if log["event"] == "not reconciled"] == ["TimeoutError"]
    assert len(network.asked) == 3


async def _later(books: Books, network: Network) -> None:
    """Time passes once the first comparison has failed: the next is due by itself."""
    await until(lambda: network.asked)
    books.clock.now += timedelta(minutes=1)


def test_what_is_wanted_while_it_waits_is_compared_at_once(books: Books) -> None:
    network = Network(NEXT, signed_on=True)
    worker = comparing(books, network, tick=3600.0)

    async def scenario() -> None:
        task = asyncio.create_task(closed(books, worker))
        await asyncio.sleep(0.05)  # it has looked, and waits
        assert not network.asked
        await asyncio.to_thread(due, books, network)
        await books.acquirer.compare()
        worker.wake()
        await task

    run(scenario())
    assert len(network.asked) == 2
