"""Orders as operators see them: the life of an order, lists, what may be ordered and by which rule not, alarms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import update

from audit.journal import Journal
from gateway.dual_control import DualControl
from gateway.errors import CardBusyError, OrderCommandError, StateConflictError
from gateway.operating.commands import OrderCommands
from gateway.operating.history import Step
from gateway.operating.orders import Selection, key_of, life_of, listed
from gateway.operating.watching import OrderWatch
from gateway.order import Answer, Order, OrderKey
from gateway.reversal import LAPSED
from gateway.schema import orders
from gateway.states import OrderState
from gateway.store import OrderStore
from runtime.settings import OrderAlarms
from tests.gateway.conftest import ACQUIRER, NOW, SHOP, Clock, new_order, run

OPERATOR, OFFICER = "service:operator", "officer:security-officer-1"


class Desk:
    """An operator's desk over one order book."""

    def __init__(self, book: OrderStore, folder: Path, clock: Clock) -> None:
        self.book = book
        self.clock = clock
        self.path = folder / "gateway.jsonl"
        self.journal = Journal.open(self.path)
        self.woken = 0
        console = DualControl.CONSOLE  # the other settings are in test_dual_control.py
        self.commands = OrderCommands(book, self.journal, clock=clock, on_reversal=self._wake, dual_control=console)

    def _wake(self) -> None:
        self.woken += 1

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["entry"]["event"] for line in self.path.read_text().splitlines() if '"event"' in line]

    def steps(self, number: int = 1) -> list[Step]:
        order = self.order(number)
        with self.book.reading() as connection:
            return life_of(connection, order).steps

    def order(self, number: int = 1) -> Order:
        order = self.book.find(new_order(number).key)
        assert order is not None
        return order


@pytest.fixture
def desk(book: OrderStore, tmp_path: Path, clock: Clock) -> Iterator[Desk]:
    made = Desk(book, tmp_path, clock)
    with made.journal:
        yield made


async def sent(book: OrderStore, number: int = 1, *, mti: str = "0200", card: bytes = b"c" * 32) -> OrderKey:
    key = (await book.receive(new_order(number), NOW)).key
    await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="6037*0007", now=NOW, card_id=card)
    await book.sent(key, {3: "000000"} | ({0: mti} if mti != "0200" else {}), NOW)
    return key


async def approved(book: OrderStore, number: int = 1, *, mti: str = "0200") -> OrderKey:
    key = await sent(book, number, mti=mti)
    answer = Answer(b"signed", 0)
    await book.conclude(key, OrderState.APPROVED, NOW, approved=True, rc="00", approval="123456", answer=answer)
    return key


async def failed(book: OrderStore, number: int = 1) -> OrderKey:
    key = await sent(book, number)
    await book.conclude(key, OrderState.UNKNOWN, NOW)
    queued = await book.queue_reversal(key, OrderState.UNKNOWN, "no answer", NOW)
    await book.give_up_reversal(queued, "13", NOW, "refused")
    return key


# --- the life of an order -----------------------------------------------------------------------------------------


def test_each_step_is_told_with_its_time_and_what_is_known(desk: Desk) -> None:
    async def scenario() -> None:
        key = await sent(desk.book)
        await desk.book.conclude(key, OrderState.UNKNOWN, NOW + timedelta(seconds=25))
        queued = await desk.book.queue_reversal(key, OrderState.UNKNOWN, "no answer", NOW + timedelta(seconds=26))
        later = NOW + timedelta(seconds=27)
        claimed = await desk.book.claim_reversal(queued, NOW + timedelta(minutes=1), now=later, until=later)
        await desk.book.reversal_answered(claimed, "91", NOW + timedelta(seconds=28))
        await desk.book.finish_reversal(claimed, "00", NOW + timedelta(seconds=90), found_original=True)

    run(scenario())
    order = desk.order()
    assert [(each.number, (each.at - NOW).seconds, each.state, dict(each.what)) for each in desk.steps()] == [
        (1, 0, "RECEIVED", {}),
        (2, 0, "VERIFIED", {"stan": order.stan, "rrn": order.rrn}),
        (3, 0, "SENT", {"mti": "0200"}),
        (4, 25, "UNKNOWN", {}),
        (5, 26, "REV_QUEUED", {"reason": "no answer"}),
        (6, 27, "REV_QUEUED", {"attempt": 1}),
        (7, 28, "REV_QUEUED", {"attempt": 1, "rc": "91"}),
        (8, 90, "REVERSED", {"rc": "00"}),
    ]


def test_a_step_that_is_lost_to_another_leaves_no_row(desk: Desk) -> None:
    async def scenario() -> None:
        key = await approved(desk.book)
        await desk.book.acknowledge(key, b"ack", NOW)
        before = len(desk.steps())
        with pytest.raises(StateConflictError):
            await desk.book.queue_reversal(key, OrderState.APPROVED, "no acknowledgement", NOW)
        assert len(desk.steps()) == before

    run(scenario())


# --- lists --------------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_and_page_by_page(desk: Desk) -> None:
    async def scenario() -> None:
        for number in range(1, 8):
            await desk.book.receive(new_order(number), NOW + timedelta(seconds=number // 3))

    run(scenario())

    def numbers(selection: Selection) -> list[int]:
        with desk.book.reading() as connection:
            return [int.from_bytes(row.xid, "big") for row in listed(connection, selection)]

    assert numbers(Selection()) == [7, 6, 5, 4, 3, 2, 1]
    pages, after = [], None
    for _ in range(3):
        with desk.book.reading() as connection:
            rows = listed(connection, Selection(limit=3, after=after))
        pages.append([int.from_bytes(row.xid, "big") for row in rows])
        after = (rows[-1].received_at, rows[-1].xid)
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert numbers(Selection(since=NOW + timedelta(seconds=1), until=NOW + timedelta(seconds=2))) == [5, 4, 3]
    assert numbers(Selection(state=OrderState.SENT)) == []
    assert numbers(Selection(merchant_id=SHOP.merchant_id, limit=1)) == [7]
    assert numbers(Selection(merchant_id="M-2")) == []


def test_an_order_is_found_by_its_xid_alone(desk: Desk) -> None:
    run(desk.book.receive(new_order(), NOW))
    xid = new_order().key.xid
    with desk.book.reading() as connection:
        assert key_of(connection, xid, None) == new_order().key
        assert key_of(connection, xid, "M-2") is None
        assert key_of(connection, bytes(20), None) is None


# --- reversals by hand --------------------------------------------------------------------------------------------


def test_a_reversal_that_was_given_up_is_queued_again_with_a_stan_of_its_own(desk: Desk) -> None:
    async def scenario() -> None:
        key = await failed(desk.book)
        first = desk.order()
        again = await desk.commands.reverse(key, by=OPERATOR, reason="the bank is back")
        assert (again.state, again.reversal_number, again.reversal_attempts) == (OrderState.REV_QUEUED, 2, 0)
        assert again.reversal_stan != first.reversal_stan
        assert desk.woken == 1
        assert desk.steps()[-1].what == {"reason": "operator: the bank is back", "by": OPERATOR}
        assert desk.events == ["order-reverse"]

    run(scenario())


def test_an_approval_that_waits_for_its_acknowledgement_may_be_reversed(desk: Desk) -> None:
    async def scenario() -> None:
        key = await approved(desk.book)
        assert (await desk.commands.reverse(key, by=OFFICER, reason="fraud")).state is OrderState.REV_QUEUED

    run(scenario())


def test_an_acknowledged_sale_is_its_merchants_and_a_hold_nobody_asked_about_is_not(desk: Desk) -> None:
    async def scenario() -> None:
        sale, hold = await approved(desk.book, 1), await approved(desk.book, 2, mti="0100")
        for key in (sale, hold):
            await desk.book.acknowledge(key, b"ack", NOW)
        with pytest.raises(OrderCommandError) as refused:
            await desk.commands.reverse(sale, by=OPERATOR, reason="buyer called")
        assert refused.value.clause == "KWBP row 20"
        assert desk.order(1).state is OrderState.ACKED
        assert (await desk.commands.reverse(hold, by=OPERATOR, reason="expired")).state is OrderState.REV_QUEUED

    run(scenario())


@pytest.mark.parametrize("state", sorted(set(OrderState) - {"APPROVED", "ACKED", "REV_FAILED"}))
def test_nothing_else_is_reversed_by_hand(desk: Desk, state: OrderState) -> None:
    async def scenario() -> None:
        key = await sent(desk.book)
        await desk.book.writer.run(lambda connection: connection.execute(orders.update().values(state=state)))
        with pytest.raises(OrderCommandError) as refused:
            await desk.commands.reverse(key, by=OPERATOR, reason="because")
        assert refused.value.clause.startswith("KWBP ")
        assert desk.order().state is state
        assert desk.events == []

    run(scenario())


def test_without_its_card_an_order_is_not_reversed(desk: Desk) -> None:
    async def scenario() -> None:
        key = await failed(desk.book)
        await desk.book.writer.run(lambda connection: connection.execute(orders.update().values(pan_sealed=None)))
        with pytest.raises(OrderCommandError, match="forgotten"):
            await desk.commands.reverse(key, by=OPERATOR, reason="because")

    run(scenario())


# --- outcomes that persons state ----------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [OrderState.REVERSED, OrderState.DEBITED])
def test_an_outcome_counts_once_another_person_confirms_it(desk: Desk, outcome: OrderState) -> None:
    async def scenario() -> None:
        key = await failed(desk.book)
        told = partial(desk.commands.state, key, outcome, reason="call 31 of the bank's desk")
        assert (await told(by=OPERATOR)).state is OrderState.REV_FAILED
        with pytest.raises(OrderCommandError):
            await told(by=OFFICER)  # one outcome at a time
        with pytest.raises(OrderCommandError):
            await desk.commands.confirm(key, outcome, by=OPERATOR)
        other = OrderState.DEBITED if outcome is OrderState.REVERSED else OrderState.REVERSED
        with pytest.raises(OrderCommandError):
            await desk.commands.confirm(key, other, by=OFFICER)
        assert desk.order().state is OrderState.REV_FAILED
        ended = await desk.commands.confirm(key, outcome, by=OFFICER)
        assert (ended.state, ended.pan_sealed) == (outcome, None)
        what = {"reason": "call 31 of the bank's desk", "stated_by": OPERATOR, "by": OFFICER}
        assert desk.steps()[-1].what == what
        with desk.book.reading() as connection:
            stated = life_of(connection, ended).stated
        assert stated is not None
        assert (stated.outcome, stated.stated_by, stated.confirmed_by) == (outcome, OPERATOR, OFFICER)
        assert desk.events[0] == "order-outcome-stated"
        assert desk.events[-1] == "order-outcome-confirmed"

    run(scenario())


def test_a_stated_outcome_may_be_withdrawn_until_it_is_confirmed(desk: Desk) -> None:
    async def scenario() -> None:
        key = await failed(desk.book)
        with pytest.raises(OrderCommandError):
            await desk.commands.withdraw(key, by=OPERATOR)
        await desk.commands.state(key, OrderState.DEBITED, by=OPERATOR, reason="the wrong order")
        await desk.commands.withdraw(key, by=OFFICER)
        with pytest.raises(OrderCommandError):
            await desk.commands.confirm(key, OrderState.DEBITED, by=OFFICER)
        await desk.commands.state(key, OrderState.REVERSED, by=OPERATOR, reason="this one")
        await desk.commands.confirm(key, OrderState.REVERSED, by=OFFICER)
        with pytest.raises(OrderCommandError):
            await desk.commands.withdraw(key, by=OFFICER)

    run(scenario())


def test_what_was_stated_of_one_reversal_is_not_said_of_the_next(desk: Desk) -> None:
    async def scenario() -> None:
        key = await failed(desk.book)
        await desk.commands.state(key, OrderState.DEBITED, by=OPERATOR, reason="as told")
        queued = await desk.commands.reverse(key, by=OPERATOR, reason="once more")
        with pytest.raises(OrderCommandError):
            await desk.commands.confirm(key, OrderState.DEBITED, by=OFFICER)
        await desk.book.give_up_reversal(queued, None, NOW, "no answer")
        with pytest.raises(OrderCommandError):
            await desk.commands.confirm(key, OrderState.DEBITED, by=OFFICER)

    run(scenario())


@pytest.mark.parametrize("state", sorted(set(OrderState) - {"REV_FAILED"}))
def test_an_outcome_is_stated_of_what_waits_for_a_person_alone(desk: Desk, state: OrderState) -> None:
    async def scenario() -> None:
        key = await sent(desk.book)
        await desk.book.writer.run(lambda connection: connection.execute(orders.update().values(state=state)))
        with pytest.raises(OrderCommandError):
            await desk.commands.state(key, OrderState.DEBITED, by=OPERATOR, reason="because")
        with pytest.raises(OrderCommandError):
            await desk.commands.confirm(key, OrderState.DEBITED, by=OFFICER)

    run(scenario())


def test_only_two_outcomes_can_be_stated_and_only_of_orders_that_are(desk: Desk) -> None:
    async def scenario() -> None:
        key = await failed(desk.book)
        with pytest.raises(OrderCommandError):
            await desk.commands.state(key, OrderState.APPROVED, by=OPERATOR, reason="because")
        with pytest.raises(OrderCommandError):
            await desk.commands.state(new_order(9).key, OrderState.DEBITED, by=OPERATOR, reason="because")
        received = await desk.book.receive(new_order(10), NOW)
        with pytest.raises(OrderCommandError, match="only an order in REV_FAILED waits for a person; this is RECEIVED"):
            await desk.commands.state(received.key, OrderState.DEBITED, by=OPERATOR, reason="because")

    run(scenario())


# --- reversals of one card ----------------------------------------------------------------------------------------


def test_reversals_of_one_card_go_one_at_a_time_the_oldest_first(book: OrderStore) -> None:
    async def scenario() -> None:
        queued = []
        for number in (1, 2):
            key = await sent(book, number)
            await book.conclude(key, OrderState.UNKNOWN, NOW)
            at = NOW + timedelta(seconds=number)
            queued.append(await book.queue_reversal(key, OrderState.UNKNOWN, "no answer", at))
        first, second = queued
        now = NOW + timedelta(seconds=5)
        claim = partial(
            book.claim_reversal, next_at=now + timedelta(seconds=60), now=now, until=now + timedelta(seconds=25)
        )
        assert book.card_is_busy(second, now)
        with pytest.raises(CardBusyError):
            await claim(second)
        claimed = await claim(first)
        assert book.card_is_busy(second, now)  # under way
        assert not book.card_is_busy(second, now + timedelta(seconds=26))
        await book.reversal_answered(claimed, "91", now)
        assert not book.card_is_busy(second, now)
        await claim(second)

    run(scenario())


# --- holds --------------------------------------------------------------------------------------------------------


def test_a_hold_that_nobody_captured_lapses(book: OrderStore) -> None:
    async def scenario() -> None:
        key = await approved(book, mti="0100")
        await book.acknowledge(key, b"ack", NOW, lapses_at=NOW + timedelta(days=28))
        assert book.lapsed(NOW + timedelta(days=27), 9) == []
        (hold,) = book.lapsed(NOW + timedelta(days=28), 9)
        queued = await book.queue_reversal(hold.key, OrderState.ACKED, LAPSED, NOW)
        assert (queued.state, queued.reversal_reason, queued.lapses_at) == (OrderState.REV_QUEUED, LAPSED, None)
        assert book.lapsed(NOW + timedelta(days=99), 9) == []

    run(scenario())


def test_a_hold_that_was_asked_about_is_let_alone(book: OrderStore) -> None:
    async def scenario() -> None:
        key = await approved(book, mti="0100")
        await book.acknowledge(key, b"ack", NOW, lapses_at=NOW)
        await book.hold_longer(key, NOW + timedelta(hours=1))
        assert book.lapsed(NOW, 9) == []
        assert len(book.lapsed(NOW + timedelta(hours=1), 9)) == 1

    run(scenario())


# --- alarms -------------------------------------------------------------------------------------------------------


def test_a_reversal_whose_connector_is_gone_is_an_alarm_at_once(
    book: OrderStore, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody attempts it, so nothing else would tell: it waits for its connector, for ever if nobody minds."""

    def watch(*connectors: str) -> OrderWatch:
        return OrderWatch(book, OrderAlarms(), clock=clock, connectors=connectors)

    async def scenario() -> None:
        key = await sent(book, 1)
        await book.writer.run(lambda connection: connection.execute(update(orders).values(route="wallet")).rowcount)
        assert (await watch("switch").look()).homeless == 0  # its outcome is on its way
        await book.conclude(key, OrderState.UNKNOWN, NOW)
        assert (await watch("switch", "wallet").look()).homeless == 0
        assert "connector" not in capfd.readouterr().err
        assert (await watch("switch").look()).homeless == 1
        assert "reversals whose connector is not in the settings" in capfd.readouterr().err

    run(scenario())


def test_the_operator_is_told_once_when_a_threshold_is_passed(
    book: OrderStore, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    watch = OrderWatch(book, OrderAlarms(unknown=2, reversal_age=timedelta(minutes=5), attempts=3), clock=clock)

    async def scenario() -> None:
        for number in (1, 2):
            key = await sent(book, number)
            await book.conclude(key, OrderState.UNKNOWN, NOW)
        await failed(book, 3)
        await approved(book, 4)
        clock.advance(60)
        found = await watch.look()
        assert (found.unknown, found.counts[OrderState.REV_FAILED]) == (2, 1)
        assert (found.reversal_age, found.unacknowledged_age) == (None, timedelta(seconds=60))
        await watch.look()
        told = [json.loads(line)["what"] for line in capfd.readouterr().err.splitlines() if '"what"' in line]
        assert told == ["reversals that a person must look at", "unknown outcomes"]
        await book.queue_reversal(new_order(1).key, OrderState.UNKNOWN, "no answer", clock())
        clock.advance(300)
        assert (await watch.look()).reversal_age == timedelta(minutes=5)
        assert "age of the oldest reversal" in capfd.readouterr().err

    run(scenario())
    assert REGISTRY.get_sample_value("kwbp_gateway_unknown_outcomes_count") == 2
    assert REGISTRY.get_sample_value("kwbp_gateway_oldest_reversal_age_seconds") == 300
    assert REGISTRY.get_sample_value("kwbp_gateway_open_orders_count", {"state": "APPROVED"}) == 1
