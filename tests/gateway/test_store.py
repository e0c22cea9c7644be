"""The order book: compare-and-set, durable steps, nothing of the card in clear."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from gateway.errors import StateConflictError, StoreLockedError, UnknownOrderError
from gateway.merchants import MerchantRegistry
from gateway.order import Answer, NewOrder, Order, Promise, UnclaimedAnswer
from gateway.schema import orders, unclaimed_answers
from gateway.states import OrderState
from gateway.store import OrderStore
from tests.gateway.conftest import ACQUIRER, NOW, SHOP, new_order, run
from tests.support.databases import DATABASES, gateway_database
from tests.support.uptime import BOOT

SENT_FIELDS = {11: "000001", 37: "608015000001"}
ANSWER = Answer(b"signed answer", 0)
PROMISE = Promise(BOOT, 7_200_000)


@pytest.fixture(params=DATABASES)
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OrderStore]:
    """An empty order book with one registered merchant, on each database."""
    with OrderStore.open(gateway_database(request.param, tmp_path)) as store:
        run(MerchantRegistry(store).register(SHOP, NOW))
        yield store


async def received(book: OrderStore, number: int = 1) -> Order:
    return await book.receive(new_order(number), NOW)


async def verified(book: OrderStore, number: int = 1) -> Order:
    order = await received(book, number)
    return await book.verify(order.key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="603799******7893", now=NOW)


async def sent(book: OrderStore, number: int = 1) -> Order:
    order = await verified(book, number)
    return await book.sent(order.key, SENT_FIELDS, NOW)


async def approved(book: OrderStore, number: int = 1) -> Order:
    order = await sent(book, number)
    ack_by = NOW + timedelta(minutes=15)
    return await book.conclude(
        order.key,
        OrderState.APPROVED,
        NOW,
        approved=True,
        rc="00",
        approval="A12345",
        ack_by=ack_by,
        promise=PROMISE,
        answer=ANSWER,
    )


async def unknown(book: OrderStore, number: int = 1) -> Order:
    order = await sent(book, number)
    return await book.conclude(order.key, OrderState.UNKNOWN, NOW, answer=ANSWER)


async def queued(book: OrderStore, number: int = 1) -> Order:
    order = await unknown(book, number)
    return await book.queue_reversal(order.key, OrderState.UNKNOWN, "no answer", NOW)


async def reversed_without_original(book: OrderStore, number: int = 1) -> Order:
    order = await queued(book, number)
    return await book.finish_reversal(order, "25", NOW, found_original=False)


def late(order: Order, *, rc: str = "00", mti: str = "0210") -> UnclaimedAnswer:
    return UnclaimedAnswer(mti, order.acquirer, order.stan, order.rrn, order.terminal_id, rc, "A12345", rc == "00")


def test_an_order_goes_the_whole_way(book: OrderStore) -> None:
    async def scenario() -> None:
        assert (await received(book)).state is OrderState.RECEIVED
        key = new_order().key
        order = await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="603799******7893", now=NOW)
        assert (order.state, order.stan, order.rrn) == (OrderState.VERIFIED, "000001", "608015000001")
        order = await book.sent(key, SENT_FIELDS, NOW)
        assert order.sent_fields == {"11": "000001", "37": "608015000001"}
        order = await book.conclude(key, OrderState.APPROVED, NOW, approved=True, ack_by=NOW, answer=ANSWER)
        assert (order.answer, order.approved) == (b"signed answer", True)
        order = await book.acknowledge(key, b"signed ack", NOW)
        assert (order.state, order.auth_ack, order.pan_sealed) == (OrderState.ACKED, b"signed ack", b"sealed")
        assert book.find(key) == order

    run(scenario())


def test_a_key_is_taken_once(book: OrderStore) -> None:
    async def scenario() -> None:
        results = await asyncio.gather(*(received(book) for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(result, Order) for result in results) == 1
        assert sum(isinstance(result, StateConflictError) for result in results) == 19

    run(scenario())


def test_of_two_steps_from_one_state_exactly_one_wins(book: OrderStore) -> None:
    """The acknowledgement and the clock race for an approved order."""

    async def scenario() -> None:
        order = await approved(book)
        results = await asyncio.gather(
            book.acknowledge(order.key, b"ack", NOW),
            book.queue_reversal(order.key, OrderState.APPROVED, "no acknowledgement", NOW),
            return_exceptions=True,
        )
        assert isinstance(results[0], Order)
        assert isinstance(results[1], StateConflictError)
        assert book.find(order.key) == results[0]

    run(scenario())


def test_a_lost_race_leaves_no_trace(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await sent(book)
        with pytest.raises(StateConflictError, match="expected the order in state VERIFIED, found SENT"):
            await book.sent(order.key, {11: "999999"}, NOW + timedelta(seconds=5))
        assert book.find(order.key) == order

    run(scenario())


def test_a_step_that_the_protocol_does_not_know_is_refused(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await sent(book)
        with pytest.raises(StateConflictError):
            await book.conclude(order.key, OrderState.ACKED, NOW)

    run(scenario())


def test_an_order_nobody_placed_cannot_be_moved(book: OrderStore) -> None:
    with pytest.raises(UnknownOrderError):
        run(book.acknowledge(new_order(7).key, b"ack", NOW))


def test_an_order_that_was_never_sent_may_start_over_with_new_numbers(book: OrderStore) -> None:
    async def scenario() -> None:
        first = await verified(book)
        again = await book.verify(first.key, acquirer=ACQUIRER, pan_sealed=b"2", masked_pan="", now=NOW)
        assert (first.stan, again.stan) == ("000001", "000002")

    run(scenario())


def test_an_answer_is_stored_once(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await sent(book)
        await book.conclude(order.key, OrderState.UNKNOWN, NOW)
        stored = await book.answered(order.key, Answer(b"first", 3), state=OrderState.UNKNOWN)
        assert stored.answer == b"first"
        with pytest.raises(StateConflictError):
            await book.answered(order.key, Answer(b"second", 3), state=OrderState.UNKNOWN)
        assert book.find(order.key) == stored

    run(scenario())


def test_an_answer_for_a_state_that_is_past_is_not_stored(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await sent(book)
        await book.conclude(order.key, OrderState.APPROVED, NOW, rc="00", ack_by=NOW)
        await book.queue_reversal(order.key, OrderState.APPROVED, "no acknowledgement", NOW)
        with pytest.raises(StateConflictError):
            await book.answered(order.key, ANSWER, state=OrderState.APPROVED)

    run(scenario())


def test_a_restart_makes_what_was_sent_unknown(book: OrderStore) -> None:
    async def scenario() -> None:
        orders = [await sent(book, 1), await sent(book, 2), await approved(book, 3), await verified(book, 4)]
        recovered = await book.recover(NOW, sent_before=NOW)
        assert {order.key for order in recovered} == {orders[0].key, orders[1].key}
        assert {order.state for order in recovered} == {OrderState.UNKNOWN}
        assert book.counts() == {OrderState.UNKNOWN: 2, OrderState.APPROVED: 1, OrderState.VERIFIED: 1}

    run(scenario())


def test_an_order_that_may_still_be_answered_is_left_alone(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await sent(book)
        assert await book.recover(NOW, sent_before=NOW - timedelta(seconds=1)) == []
        assert book.find(order.key) == order

    run(scenario())


def test_an_order_that_was_never_sent_is_given_up_when_its_request_is_too_old(book: OrderStore) -> None:
    async def scenario() -> None:
        never_sent, was_sent = await verified(book, 1), await sent(book, 2)
        assert await book.abandon(NOW, untouched_since=NOW - timedelta(seconds=1)) == 0
        assert await book.abandon(NOW, untouched_since=NOW) == 1
        given_up = book.find(never_sent.key)
        assert given_up is not None
        assert (given_up.state, given_up.pan_sealed) == (OrderState.DECLINED, None)
        assert book.find(was_sent.key) == was_sent

    run(scenario())


def test_approvals_fall_due_by_their_own_clock(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await approved(book)
        quarter, over = NOW + timedelta(minutes=15), PROMISE
        assert book.unacknowledged(quarter - timedelta(minutes=1), over, 10) == []
        assert book.unacknowledged(quarter, over, 10) == [order]

    run(scenario())


def test_an_approval_stands_as_long_as_was_promised_on_this_machine(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await approved(book)
        much_later = NOW + timedelta(days=1)  # by a clock that is ahead
        assert book.unacknowledged(much_later, Promise(BOOT, PROMISE.until - 1), 10) == []
        assert book.unacknowledged(much_later, Promise("another start", PROMISE.until), 10) == []
        assert book.unacknowledged_elsewhere(much_later, PROMISE) == []
        assert book.unacknowledged_elsewhere(much_later, Promise("another start", PROMISE.until)) == [order]
        assert book.unacknowledged_elsewhere(much_later, Promise(BOOT, PROMISE.until - 1)) == [order]

    run(scenario())


def test_however_many_of_a_lost_gateway_are_due_they_hide_none_of_this_one(book: OrderStore) -> None:
    async def scenario() -> None:
        for number in range(1, 6):
            key = (await received(book, number)).key
            await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="603799******7893", now=NOW)
            await book.sent(key, {11: "000001"}, NOW)
            await book.conclude(key, OrderState.UNKNOWN, NOW)
            await book.queue_reversal(key, OrderState.UNKNOWN, "no answer", NOW + timedelta(seconds=number))
            theirs = update(orders).where(orders.c.xid == key.xid).values(runner="lost")
            if number < 5:
                await book.writer.run(lambda connection, theirs=theirs: connection.execute(theirs))
        due = book.due_reversals(NOW + timedelta(minutes=1), 3)
        assert [int.from_bytes(order.xid, "big") for order in due] == [5, 1, 2, 3]

    run(scenario())


def test_many_reversals_of_one_card_are_in_no_other_ones_way(book: OrderStore) -> None:
    async def scenario() -> None:
        cards = [bytes(32), bytes(32), bytes(32), b"\1" * 32]
        for number, card in enumerate(cards, start=1):
            key = (await received(book, number)).key
            values = {"acquirer": ACQUIRER, "pan_sealed": b"sealed", "masked_pan": "603799******7893"}
            await book.verify(key, now=NOW, card_id=card, **values)
            await book.sent(key, SENT_FIELDS, NOW)
            await book.conclude(key, OrderState.UNKNOWN, NOW)
            queued_at = NOW + timedelta(seconds=number)
            await book.queue_reversal(key, OrderState.UNKNOWN, "no answer", queued_at)
        now = NOW + timedelta(minutes=1)
        first, other = book.due_reversals(now, 2)
        assert (first.key, other.key) == (new_order(1).key, new_order(4).key)
        await book.claim_reversal(first, now + timedelta(minutes=1), now=now, until=now + timedelta(seconds=30))
        assert book.due_reversals(now, 10) == [other]  # one of the card is under way
        after = now + timedelta(seconds=31)
        assert [each.key for each in book.due_reversals(after, 10)] == [new_order(2).key, other.key]

    run(scenario())


def test_a_reversal_has_a_number_of_its_own_and_is_due_at_once(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await queued(book)
        assert (order.stan, order.reversal_stan, order.rrn) == ("000001", "000002", "608015000001")
        assert book.due_reversals(NOW, 10) == [order]
        await book.claim_reversal(order, NOW + timedelta(seconds=30), now=NOW)
        assert book.due_reversals(NOW + timedelta(seconds=29), 10) == []
        (due,) = book.due_reversals(NOW + timedelta(seconds=30), 10)
        assert due.reversal_attempts == 1

    run(scenario())


def test_a_finished_reversal_forgets_the_card(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await queued(book)
        ended = await book.finish_reversal(order, "00", NOW, found_original=True)
        assert (ended.state, ended.pan_sealed) == (OrderState.REVERSED, None)

    run(scenario())


def test_an_approval_that_the_switch_cannot_find_needs_a_person(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await approved(book)
        order = await book.queue_reversal(order.key, OrderState.APPROVED, "no acknowledgement", NOW)
        ended = await book.finish_reversal(order, "25", NOW, found_original=False)
        assert ended.state is OrderState.REV_FAILED

    run(scenario())


def test_an_order_that_never_arrived_is_reversed_by_not_being_found(book: OrderStore) -> None:
    async def scenario() -> None:
        assert (await reversed_without_original(book)).state is OrderState.REVERSED

    run(scenario())


def test_a_late_approval_is_filed_and_does_not_stop_the_reversal(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await queued(book)
        filed = await book.file_unclaimed(late(order), NOW)
        assert filed is not None
        assert (filed.state, filed.late_rc, filed.late_approved) == (OrderState.REV_QUEUED, "00", True)
        ended = await book.finish_reversal(order, "25", NOW, found_original=False)
        assert ended.state is OrderState.REV_FAILED  # approved as we now know, and not to be found

    run(scenario())


def test_an_approval_that_its_reversal_overtook_is_reversed_again(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await reversed_without_original(book)
        again = await book.file_unclaimed(late(order), NOW)
        assert again is not None
        assert (again.state, again.reversal_stan, again.reversal_attempts) == (OrderState.REV_QUEUED, "000003", 0)

    run(scenario())


def test_a_late_refusal_changes_nothing_after_the_reversal(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await reversed_without_original(book)
        filed = await book.file_unclaimed(late(order, rc="51"), NOW)
        assert filed is not None
        assert (filed.state, filed.late_rc) == (OrderState.REVERSED, "51")

    run(scenario())


def test_a_repeated_answer_changes_nothing(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await approved(book)
        assert await book.file_unclaimed(late(order), NOW) == order

    run(scenario())


def test_only_the_first_late_answer_is_noted_in_the_order_all_are_filed(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await queued(book)
        await book.file_unclaimed(late(order), NOW)
        filed = await book.file_unclaimed(late(order, rc="51"), NOW)
        assert filed is not None
        assert filed.late_rc == "00"
        with book.reading() as connection:
            assert [row.rc for row in connection.execute(select(unclaimed_answers))] == ["00", "51"]

    run(scenario())


@pytest.mark.parametrize("field", ["acquirer", "stan", "rrn", "terminal_id"])
def test_an_answer_of_nobody_is_filed_under_nobody(book: OrderStore, field: str) -> None:
    async def scenario() -> None:
        order = await queued(book)
        values = {name: getattr(late(order), name) for name in UnclaimedAnswer.__slots__} | {field: "9"}
        assert await book.file_unclaimed(UnclaimedAnswer(**values), NOW) is None
        with book.reading() as connection:
            (row,) = connection.execute(select(unclaimed_answers)).all()
        assert (row.merchant_id, row.xid) == (None, None)

    run(scenario())


def test_a_connector_speaks_of_its_own_orders_alone(book: OrderStore) -> None:
    """Another host's word, that it was refused say, must not stand where the late approval of the true one belongs."""

    async def scenario() -> None:
        order = await reversed_without_original(book)
        await book.writer.run(lambda connection: connection.execute(update(orders).values(route="wallet")).rowcount)
        assert await book.file_unclaimed(replace(late(order, rc="51"), route="switch"), NOW) is None
        filed = await book.file_unclaimed(replace(late(order), route="wallet"), NOW)
        assert filed is not None
        assert filed.state is OrderState.REV_QUEUED

    run(scenario())


def test_sealed_pans_are_dropped_when_nothing_can_come_any_more(book: OrderStore) -> None:
    async def scenario() -> None:
        order = await reversed_without_original(book)
        assert await book.forget_pans(NOW) == 0
        assert await book.forget_pans(NOW + timedelta(seconds=1)) == 1
        found = book.find(order.key)
        assert found is not None
        assert found.pan_sealed is None
        filed = await book.file_unclaimed(late(order), NOW)
        assert filed is not None
        assert filed.state is OrderState.REVERSED  # without the PAN it can only be filed

    run(scenario())


def test_a_file_has_one_gateway_and_a_server_has_many(book: OrderStore) -> None:
    if not book.is_shared:
        with pytest.raises(StoreLockedError):
            OrderStore.open(book.url)
        return
    with OrderStore.open(book.url, replica="another") as other:
        run(received(other))
    assert book.find(new_order().key) is not None


def test_everything_is_there_after_a_restart(book: OrderStore) -> None:
    async def before() -> Order:
        return await queued(book)

    order = run(before())
    book.close()
    with OrderStore.open(book.url) as again:
        assert again.find(order.key) == order


def test_an_order_of_an_unregistered_merchant_cannot_be_stored(book: OrderStore) -> None:
    stranger = new_order()
    values = {name: getattr(stranger, name) for name in NewOrder.__slots__}
    values["key"] = type(stranger.key)("M-9", stranger.key.xid)
    with pytest.raises(StateConflictError):
        run(book.receive(NewOrder(**values), NOW))
    assert SHOP.merchant_id != "M-9"
