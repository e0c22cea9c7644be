"""One order book on PostgreSQL, open twice: whatever two gateways do at once, one of them has done it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import LimitExceededError, StateConflictError
from gateway.guarding.watch import Watch
from gateway.leases import Lease
from gateway.limits.counting import Claim, take
from gateway.merchants import MerchantRegistry
from gateway.order import Order
from gateway.states import OrderState
from gateway.store import OrderStore
from runtime.group_writer import DatabaseUnavailableError
from tests.gateway.conftest import ACQUIRER, NOW, SHOP, new_order, run
from tests.support.databases import cluster, gateway_database

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=30)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[tuple[OrderStore, OrderStore]]:
    url = gateway_database("postgresql", tmp_path)
    with OrderStore.open(url, replica="one", lease=LEASE) as one, OrderStore.open(url, replica="other") as other:
        run(MerchantRegistry(one).register(SHOP, NOW))
        yield one, other


async def verified(book: OrderStore, number: int = 1) -> Order:
    card: dict[str, Any] = {"acquirer": ACQUIRER, "pan_sealed": b"sealed", "masked_pan": "603799******7893"}
    return await book.verify(new_order(number).key, **card, now=NOW)


async def sent(book: OrderStore, number: int = 1) -> Order:
    await book.receive(new_order(number), NOW)
    order = await verified(book, number)
    return await book.sent(order.key, {11: order.stan or ""}, NOW)


async def queued(book: OrderStore) -> Order:
    order = await sent(book)
    await book.conclude(order.key, OrderState.UNKNOWN, NOW)
    return await book.queue_reversal(order.key, OrderState.UNKNOWN, "no answer", NOW)


async def once(*steps: Any) -> Any:
    """Of these one comes about; the others lost the race."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    (won,) = [each for each in results if not isinstance(each, Exception)]
    assert all(isinstance(each, StateConflictError) for each in results if each is not won)
    return won


def test_an_order_is_received_once(books: tuple[OrderStore, OrderStore]) -> None:
    run(once(*(book.receive(new_order(), NOW) for book in books for _ in range(5))))


def test_trace_numbers_are_given_out_once(books: tuple[OrderStore, OrderStore]) -> None:
    async def numbers() -> list[str]:
        return await asyncio.gather(*(book.next_stan(ACQUIRER, NOW) for book in books for _ in range(50)))

    assert sorted(run(numbers())) == [f"{number:06d}" for number in range(1, 101)]


def test_an_order_that_was_not_sent_is_taken_up_when_its_time_is_over_and_then_lost_to_the_first(
    books: tuple[OrderStore, OrderStore],
) -> None:
    one, other = books

    async def scenario() -> None:
        order = await one.receive(new_order(), NOW)
        with pytest.raises(StateConflictError):
            await other.take_up(order.key, NOW + LEASE - SECOND)
        assert (await one.take_up(order.key, NOW)).runner == "one"  # its own, after a restart
        await verified(one)
        assert (await other.take_up(order.key, NOW + LEASE)).runner == "other"
        with pytest.raises(StateConflictError):
            await one.sent(order.key, {}, NOW)
        with pytest.raises(StateConflictError):
            await verified(one)
        again = await verified(other)
        assert (await other.sent(again.key, {}, NOW)).state is OrderState.SENT
        with pytest.raises(StateConflictError):  # whose message it is not
            await one.conclude(order.key, OrderState.APPROVED, NOW, approved=True)

    run(scenario())


def test_a_gateway_that_starts_puts_right_what_was_its_own(books: tuple[OrderStore, OrderStore]) -> None:
    one, other = books

    async def scenario() -> None:
        mine, others = await sent(one, 1), await sent(other, 2)
        assert [each.key for each in await one.recover_own(NOW)] == [mine.key]
        assert other.find(others.key) == others
        assert await one.recover(NOW, sent_before=NOW - SECOND) == []
        lost = await asyncio.gather(*(book.recover(NOW, sent_before=NOW) for book in books))
        assert [order.key for found in lost for order in found] == [others.key]
        with pytest.raises(StateConflictError):
            await other.conclude(others.key, OrderState.APPROVED, NOW, approved=True)

    run(scenario())


def test_an_attempt_of_a_reversal_is_claimed_by_one(books: tuple[OrderStore, OrderStore]) -> None:
    async def scenario() -> None:
        order = await queued(books[0])
        claimed = await once(*(book.claim_reversal(order, NOW + SECOND, now=NOW) for book in books))
        assert claimed.reversal_attempts == 1
        await books[1].postpone_reversal(order, NOW)  # seen before it was claimed: nothing is put off, or brought on
        assert books[0].find(order.key) == claimed

    run(scenario())


def test_acknowledged_at_one_and_given_back_by_the_other_it_is_one_of_both(
    books: tuple[OrderStore, OrderStore],
) -> None:
    async def scenario() -> None:
        order = await sent(books[0])
        await books[0].conclude(order.key, OrderState.APPROVED, NOW, approved=True, ack_by=NOW)
        back = books[1].queue_reversal(order.key, OrderState.APPROVED, "no acknowledgement", NOW)
        won = await once(books[0].acknowledge(order.key, b"ack", NOW), back)
        assert books[0].find(order.key) == won

    run(scenario())


def test_steps_that_lock_each_other_out_are_all_done(books: tuple[OrderStore, OrderStore]) -> None:
    """Each of two transactions holds what the other wants: the server ends one of them, and it is run again."""

    async def scenario() -> None:
        orders = [await sent(books[0], number) for number in (1, 2)]

        def both(book: OrderStore, order: list[Order]) -> Any:
            def job(connection: Any) -> int:
                for each in order:
                    this = "UPDATE orders SET changed_at = changed_at + 1 WHERE xid = %(xid)s"
                    connection.exec_driver_sql(this, {"xid": each.xid})
                    connection.exec_driver_sql("SELECT pg_sleep(0.3)")
                return len(order)

            return book.writer.run(job)

        done = await asyncio.gather(both(books[0], orders), both(books[1], orders[::-1]))
        assert list(done) == [2, 2]
        for order in orders:
            found = books[0].find(order.key)
            assert found is not None
            assert found.changed_at == order.changed_at + timedelta(microseconds=2)

    run(scenario())


def test_the_first_two_orders_of_a_window_are_both_counted(books: tuple[OrderStore, OrderStore]) -> None:
    """While one begins the window's counter another one wants to: it waits, and takes from what there is."""
    claim = Claim("day", "M-1", NOW, 150_000, most_orders=2, most_amount=None, gives_back=frozenset())

    async def scenario() -> None:
        begun = threading.Event()

        def first(connection: Any) -> Any:
            used = take(connection, [claim])
            begun.set()
            connection.exec_driver_sql("SELECT pg_sleep(0.3)")
            return used

        one = asyncio.ensure_future(books[0].writer.run(first))
        await asyncio.to_thread(begun.wait)
        await books[1].writer.run(lambda connection: take(connection, [claim]))
        await one
        with pytest.raises(LimitExceededError):
            await books[1].writer.run(lambda connection: take(connection, [claim]))

    run(scenario())


def test_an_answer_to_an_earlier_reversal_ends_no_later_one(books: tuple[OrderStore, OrderStore]) -> None:
    """One gateway stood still with the answer; the other gave up, and a person has queued the reversal again."""

    async def scenario() -> None:
        order = await queued(books[0])
        claimed = await books[0].claim_reversal(order, NOW, now=NOW)
        await books[1].give_up_reversal(claimed, None, NOW, "no answer")
        again = await books[1].queue_reversal(order.key, OrderState.REV_FAILED, "operator: again", NOW, by="officer:a")
        with pytest.raises(StateConflictError):
            await books[0].finish_reversal(claimed, "25", NOW, found_original=False)
        assert books[0].find(order.key) == again
        ended = await books[1].finish_reversal(again, "00", NOW, found_original=True)
        assert ended.state is OrderState.REVERSED

    run(scenario())


def test_of_a_persons_word_and_the_worker_one_is_first(books: tuple[OrderStore, OrderStore]) -> None:
    """`reverse` against the worker that gives up, `resolve` against another `reverse`: never both, nothing lost."""

    async def scenario() -> None:
        one, other = books
        order = await queued(one)
        claimed = await one.claim_reversal(order, NOW, now=NOW)
        failed = await once(*(book.give_up_reversal(claimed, None, NOW, "no answer") for book in books))
        await one.state_outcome(order.key, OrderState.DEBITED, by="officer:a", reason="told", now=NOW)
        ended = await once(
            one.queue_reversal(order.key, OrderState.REV_FAILED, "operator: again", NOW, by="officer:c"),
            other.confirm_outcome(order.key, OrderState.DEBITED, by="officer:b", now=NOW, counts=lambda by: True),
        )
        assert one.find(order.key) == ended
        assert ended.state in (OrderState.REV_QUEUED, OrderState.DEBITED)
        with pytest.raises(StateConflictError):  # what was stated of the reversal before counts no more
            await other.confirm_outcome(order.key, OrderState.DEBITED, by="officer:b", now=NOW, counts=lambda by: True)
        assert failed.reversal_number == 1

    run(scenario())


def test_a_lease_is_had_by_one_until_it_is_over(books: tuple[OrderStore, OrderStore]) -> None:
    async def scenario() -> None:
        now = [NOW]
        one, other = (Lease(book, "work", lasts=LEASE, clock=lambda: now[0]) for book in books)
        assert sorted(await asyncio.gather(one.take(), other.take())) == [False, True]
        holder, waiting = (one, other) if await one.take() else (other, one)
        assert (await holder.take(), await waiting.take()) == (True, False)
        await waiting.end()  # not its own
        assert not await waiting.take()
        now[0] += LEASE
        assert await waiting.take()
        await waiting.end()
        assert await holder.take()

    run(scenario())


def test_a_lease_that_was_ended_is_free_for_a_clock_that_is_behind(books: tuple[OrderStore, OrderStore]) -> None:
    async def scenario() -> None:
        ahead, behind = NOW + timedelta(minutes=5), NOW
        one = Lease(books[0], "work", lasts=LEASE, clock=lambda: ahead)
        other = Lease(books[1], "work", lasts=LEASE, clock=lambda: behind)
        assert await one.take()
        assert not await other.take()
        await one.end()
        assert await other.take()

    run(scenario())


def test_a_clock_that_is_not_the_servers_is_an_alarm(
    books: tuple[OrderStore, OrderStore], capfd: pytest.CaptureFixture[str]
) -> None:
    """Not the end of service: nothing is done twice for it. But what others work on would be taken for lost."""
    ahead = [timedelta(0)]

    async def answers(*_anything: Any) -> None:
        return None

    needed: Any = SimpleNamespace(describe_key=answers, trust=answers)

    async def scenario() -> None:
        watch = Watch(books[0], needed, needed, key="k", clock=lambda: datetime.now(UTC) + ahead[0])
        await watch.look()
        assert (watch.missing, watch.degraded) == ((), ())
        for minutes in (1, -1):
            ahead[0] = timedelta(minutes=minutes)
            await watch.look()
            assert (watch.missing, watch.degraded) == ((), ("clock",))
        ahead[0] = timedelta(0)
        await watch.look()
        assert watch.degraded == ()

    run(scenario())
    assert capfd.readouterr().err.count("the clock is not the database's") == 1


def test_a_merchant_that_another_gateway_changed_is_known_at_the_next_look(
    books: tuple[OrderStore, OrderStore],
) -> None:
    async def scenario() -> None:
        ticks = [0.0]
        registry = MerchantRegistry(books[1], monotonic=lambda: ticks[0])
        assert registry.find(SHOP.merchant_id) == SHOP
        await MerchantRegistry(books[0]).register(type(SHOP)("M-2", "T0000002", "Florist", "5992"), NOW)
        await registry.refresh()
        assert registry.find("M-2") is None
        ticks[0] += 1.0
        await registry.refresh()
        assert registry.find("M-2") is not None

    run(scenario())


def test_while_the_server_is_away_nothing_is_said_to_be_done_and_afterwards_all_goes_on(
    books: tuple[OrderStore, OrderStore],
) -> None:
    book = books[0]

    async def scenario() -> None:
        order = await sent(book)
        cluster().kill()
        try:
            with pytest.raises(DatabaseUnavailableError):
                await book.receive(new_order(2), NOW)
            with pytest.raises(DatabaseUnavailableError):
                await book.found(order.key)
        finally:
            cluster().resume()
        assert await book.found(order.key) == order
        assert (await book.receive(new_order(2), NOW)).state is OrderState.RECEIVED

    run(scenario())
