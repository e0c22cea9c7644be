"""The order book of rows 19 to 22: what stands is what the durable rows say, and each step happens once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, insert, select, update
from structlog.testing import capture_logs

from gateway.acquirer.tables import finished_days
from gateway.errors import StateConflictError, UnknownOrderError
from gateway.merchants import MerchantRegistry
from gateway.order import Answer, NewOrder, OrderKey
from gateway.schema import batches, entries, reconciliations
from gateway.settling.book import standing_of, undecided
from gateway.settling.days import DayState
from gateway.settling.row import Settling
from gateway.settling.states import MOVES, SettlingState, may_follow
from gateway.settling.store import SettlingStore
from gateway.settling.translation import repeated_message
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.trace_numbers import business_day
from kwbp.codes import AuthCode, EntryKind
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.settling import SettlingRequest, SettlingResTBS, Standing, build_answer, sale_entry
from kwbp.settling.request import CheckedSettlingRequest
from kwbp.wrapper import wrap
from pki.der import sha256
from pki.oids import CT_AUTH_RES
from shetab.jalali import local_time_and_date, transmission_time
from shetab.types import Pan
from tests.gateway.conftest import SHOP, run
from tests.kwbp.settling import Settling as Parties
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.databases import DATABASES, gateway_database
from tests.support.iso8583_messages import PAN
from tests.support.pki_factory import PkiFactory

SECOND: Final = timedelta(seconds=1)


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties(World(PkiFactory()))


class Desk:
    """The order book with one acknowledged order of each kind, and its requests."""

    def __init__(self, parties: Parties, book: OrderStore) -> None:
        self.parties = parties
        self.world = parties.world
        self.book = book
        self.store = SettlingStore(book)
        self.now: datetime = parties.world.now
        for purchase, mti in ((parties.sale, "0200"), (parties.held, "0100")):
            run(self._acknowledged(purchase, mti))

    async def _acknowledged(self, purchase: Purchase, mti: str) -> None:
        body, now, key = purchase.auth_res.body, self.now, self.key(purchase)
        await MerchantRegistry(self.book).register(replace(SHOP, merchant_id=body.merchant_id), now)
        new = NewOrder(key, bytes(32), body.rrpid, "T0000001", body.amount.amount, b"invoice", b"dual")
        await self.book.receive(new, now)
        await self.book.verify(key, acquirer="603770", pan_sealed=b"sealed", masked_pan="masked", now=now)
        await self.book.sent(key, {0: mti} if mti == "0100" else {}, now)
        message = wrap(CT_AUTH_RES, purchase.auth_res_signed, rrpid=body.rrpid, xid=body.xid)
        await self.book.conclude(
            key, OrderState.APPROVED, now, approved=True, settle_date="0320", ack_by=now, answer=Answer(message, 0)
        )
        entry = sale_entry(purchase.auth_res_signed) if mti == "0200" else None
        await self.book.acknowledge(key, b"ack", now, entry=entry)

    @staticmethod
    def key(purchase: Purchase) -> OrderKey:
        body = purchase.auth_res.body
        return OrderKey(body.merchant_id, body.xid)

    def standing(self, purchase: Purchase) -> Standing:
        with self.book.reading() as connection:
            standing = standing_of(connection, self.book.find(self.key(purchase)))
        assert standing is not None
        return standing

    def request(self, draft: Draft[Any]) -> SettlingRequest:
        return self.parties.receive(self.parties.message(draft))

    def take(self, draft: Draft[Any]) -> tuple[Settling, bool]:
        request = self.request(draft)
        return run(self.store.take(request, acquirer="603770", next_at=self.now, now=self.now))

    def sent(self, draft: Draft[Any]) -> Settling:
        row, new = self.take(draft)
        assert new
        return run(self.store.sending(row, "0220", {11: row.stan}, self.now, self.now))

    def concluded(self, draft: Draft[Any], code: AuthCode = AuthCode.APPROVED) -> Settling:
        return run(self.store.conclude(self.sent(draft), self.now, auth_code=code, rc="00", settle_date="0320"))

    def answer(self, row: Settling) -> Settling:
        """As the gateway signs and stores it."""
        assert row.date is not None
        _, standing = self.store.order_and_standing(row.order)
        assert standing is not None
        asked = row.asked
        draft: Draft[SettlingResTBS] = build_answer(
            CheckedSettlingRequest(asked.received, asked.content_type, standing),
            gateway=self.world.gateway_identity,
            auth_code=AuthCode(row.auth_code or 0),
            now=row.date,
            rc=row.rc,
            stan=row.stan,
            rrn=row.rrn,
        )
        signed = self.world.gateway_signing.sign(draft.content_type, draft.content)
        return run(self.store.answered(row, draft.body, draft.message(signed), sha256(signed), self.now))

    def close(self, until: datetime) -> None:
        values = {"merchant_id": "M-1", "batch_id": 1, "until": until}
        run(self.book.writer.run(lambda connection: connection.execute(insert(batches).values(values))))

    def day(self) -> Any:
        with self.book.reading() as connection:
            return connection.execute(select(reconciliations)).one()

    def entries(self) -> list[tuple[EntryKind, int]]:
        with self.book.reading() as connection:
            rows = connection.execute(select(entries).order_by(entries.c.date, entries.c.amount))
            return [(EntryKind(row.kind), row.amount) for row in rows]


@pytest.fixture(params=DATABASES)
def desk(request: pytest.FixtureRequest, parties: Parties, tmp_path: Path) -> Iterator[Desk]:
    with OrderStore.open(gateway_database(request.param, tmp_path)) as book:
        yield Desk(parties, book)


def test_every_state_is_in_the_table_and_sent_is_not_left_without_an_outcome() -> None:
    assert set(MOVES) == set(SettlingState)
    assert MOVES[SettlingState.SENT] == {SettlingState.SENT, SettlingState.CONCLUDED}
    assert not may_follow(SettlingState.CONCLUDED, SettlingState.SENT)
    assert MOVES[SettlingState.ANSWERED] == frozenset()


def test_what_stands_after_the_acknowledgement_is_what_was_approved(desk: Desk, parties: Parties) -> None:
    assert desk.standing(parties.sale) == parties.standing(parties.sale)
    assert desk.standing(parties.held) == parties.standing(parties.held)
    assert desk.entries() == [(EntryKind.SALE, TOTAL)]
    with desk.book.reading() as connection:
        (watched,) = connection.execute(select(reconciliations)).all()
    assert (watched.merchant_id, watched.state) == ("M-1", "OPEN")


def test_what_stands_after_requests_is_what_the_pure_book_says(desk: Desk, parties: Parties) -> None:
    draft = parties.capture(1_000_000)
    row = desk.answer(desk.concluded(draft))
    assert row.h_answer is not None
    expected = parties.standing(parties.held).taken_in(draft.rrpid, row.digest).concluded(draft.body, row.h_answer)
    assert desk.standing(parties.held) == expected
    declined = parties.capture(500_000)
    row = desk.answer(desk.concluded(declined, AuthCode.DECLINED))
    expected = expected.taken_in(declined.rrpid, row.digest).concluded(declined.body, None)
    assert desk.standing(parties.held) == expected
    assert desk.entries() == [(EntryKind.CAPTURE, 1_000_000), (EntryKind.SALE, TOTAL)]


@pytest.mark.parametrize("state", [SettlingState.TAKEN, SettlingState.SENT, SettlingState.CONCLUDED])
def test_one_request_of_an_order_is_open_at_a_time(desk: Desk, parties: Parties, state: SettlingState) -> None:
    draft = parties.capture(1000)
    begin = {SettlingState.TAKEN: lambda d: desk.take(d)[0], SettlingState.SENT: desk.sent}
    row = begin.get(state, desk.concluded)(draft)
    assert row.state is state
    with pytest.raises(ProtocolError) as caught:
        desk.take(parties.capture(1000))
    assert caught.value.check == "H5"
    again = desk.store.take(row.asked, acquirer="603770", next_at=desk.now, now=desk.now)
    assert run(again) == (row, False)  # the same again is not another one


def test_another_order_is_not_held_up(desk: Desk, parties: Parties) -> None:
    desk.sent(parties.capture(1000))
    credit = parties.credit(parties.authorisation(parties.sale), 1000)
    assert desk.take(credit)[1]


def test_a_request_about_no_order_is_not_taken_in(desk: Desk, parties: Parties) -> None:
    request = desk.request(parties.capture(1000))
    with pytest.raises(ProtocolError) as caught:
        run(SettlingStore(desk.book).take(_elsewhere(request, parties), acquirer="1", next_at=desk.now, now=desk.now))
    assert caught.value.check == "H2"
    with pytest.raises(UnknownOrderError):
        run(desk.store.answered(*_of_nobody(desk, parties)))


def _elsewhere(request: SettlingRequest, parties: Parties) -> SettlingRequest:
    draft = parties.capture(1000)
    return parties.receive(parties.message(draft, xid=bytes(20), header={"xid": bytes(20)}))


def _of_nobody(desk: Desk, parties: Parties) -> tuple[Any, ...]:
    row = desk.concluded(parties.capture(1000))
    return replace(row, rrpid=bytes(20)), None, b"", b"", desk.now


def test_a_step_that_somebody_else_did_is_not_done_again(desk: Desk, parties: Parties) -> None:
    row, _ = desk.take(parties.capture(1000))
    sent = run(desk.store.sending(row, "0220", {11: row.stan}, desk.now, desk.now))
    with pytest.raises(StateConflictError):
        run(desk.store.sending(row, "0220", {}, desk.now, desk.now))
    again = run(desk.store.sending(sent, "0221", {}, desk.now, desk.now))
    assert (again.attempts, again.mti, again.sent_fields) == (2, "0220", {"11": row.stan})
    with pytest.raises(StateConflictError):  # the outcome of an attempt that another one has followed
        run(desk.store.conclude(sent, desk.now, auth_code=0))
    concluded = run(desk.store.conclude(again, desk.now, auth_code=0, rc="00", settle_date="0320"))
    answered = desk.answer(concluded)
    with pytest.raises(StateConflictError):
        desk.answer(concluded)
    with pytest.raises(StateConflictError):
        run(desk.store.date_again(answered, desk.now))


def test_no_answer_is_dated_before_the_end_of_a_closed_batch(desk: Desk, parties: Parties) -> None:
    """Whatever a clock says that was put back."""
    until = desk.now.replace(microsecond=0) + 10 * SECOND
    row = desk.concluded(parties.capture(1000))
    assert row.date is not None
    assert row.date < until
    with desk.book.reading() as connection:
        assert undecided(connection, "M-1", until)
        assert not undecided(connection, "M-1", row.date)
    desk.close(until)
    again = run(desk.store.date_again(row, desk.now))
    assert again.date == until
    with pytest.raises(StateConflictError):  # a signature over the date that it had before
        desk.answer(row)
    assert desk.answer(again).state is SettlingState.ANSWERED


@pytest.mark.parametrize("finished", [False, True])
def test_money_that_moves_in_a_closed_day_is_entered_and_told(desk: Desk, parties: Parties, finished: bool) -> None:
    """A network that is cut back to a day that was over: nothing is lost, and it is compared again."""
    day = desk.day()
    made_up = {"merchant_id": "M-1", "business_day": day.business_day, "gross": TOTAL, "fees": 0}

    def close(connection: Connection) -> None:
        connection.execute(update(reconciliations).values(state=DayState.CLOSED))
        if finished:
            connection.execute(insert(finished_days).values(**made_up, finished_at=desk.now))

    run(desk.book.writer.run(close))
    with capture_logs() as logs:
        desk.answer(desk.concluded(parties.capture(1000)))
    assert desk.entries() == [(EntryKind.CAPTURE, 1000), (EntryKind.SALE, TOTAL)]
    assert (desk.day().state, desk.day().over_at) == (DayState.OPEN, None)
    (told,) = [each for each in logs if each.get("alarm")]
    assert (told["merchant"], told["day"], told["finished"]) == ("M-1", day.business_day, finished)


@pytest.mark.parametrize("settle_date", ["0231", None])
def test_a_settlement_date_that_is_no_day_holds_up_no_money(
    desk: Desk, parties: Parties, settle_date: str | None
) -> None:
    """The switch has booked it: it is entered on the day of the answer, as the merchant reckons too."""
    row = run(desk.store.conclude(desk.sent(parties.capture(1000)), desk.now, auth_code=0, rc="00", settle_date="0320"))
    answered = desk.answer(replace(row, settle_date=settle_date))
    assert answered.state is SettlingState.ANSWERED
    with desk.book.reading() as connection:
        query = select(entries.c.business_day).where(entries.c.kind == int(EntryKind.CAPTURE))
        assert connection.execute(query).scalar_one() == business_day(desk.now).isoformat()


def test_what_is_in_a_closed_batch_is_settled(desk: Desk, parties: Parties) -> None:
    capture = desk.answer(desk.concluded(parties.capture(1000)))
    desk.close(desk.now + SECOND)
    assert [each.settled for each in desk.standing(parties.held).captures] == [True]
    assert [each.settled for each in desk.standing(parties.sale).captures] == [True]
    assert capture.h_answer is not None


def test_the_card_is_forgotten_in_time_and_not_while_it_is_needed(desk: Desk, parties: Parties) -> None:
    row = desk.sent(parties.capture(1000))
    forget_pans = partial(desk.store.forget_pans, now=desk.now)
    assert run(forget_pans(desk.now)) == 0  # not yet
    with capture_logs() as logs:
        assert run(forget_pans(desk.now + SECOND)) == 1  # the sale's; the other is in use
    assert logs == []
    concluded = run(desk.store.conclude(row, desk.now, auth_code=0, rc="00", settle_date="0320"))
    desk.answer(concluded)
    with capture_logs() as logs:
        assert run(forget_pans(desk.now + SECOND)) == 1
    assert [(each["held"], each["alarm"]) for each in logs] == [(TOTAL - 1000, True)]  # nobody can release it here now


def test_the_card_of_what_was_reversed_as_a_whole_is_forgotten_at_once(desk: Desk, parties: Parties) -> None:
    desk.answer(desk.concluded(parties.auth_reversal(parties.held, 0)))
    order = desk.book.find(desk.key(parties.held))
    assert order is not None
    assert (order.state, order.pan_sealed) == (OrderState.ACKED, None)


def test_the_first_word_about_an_open_outcome_stays(desk: Desk, parties: Parties) -> None:
    row = desk.sent(parties.capture(1000))
    assert run(desk.store.told_open(row, b"first")).open_answer == b"first"
    assert run(desk.store.told_open(row, b"second")).open_answer == b"first"


def test_a_refund_that_is_repeated_a_year_later_is_of_the_day_it_was_sent_on(desk: Desk, parties: Parties) -> None:
    """In 1993 the year is on the wire: with that of today it would be another refund, and be paid twice."""
    row, _ = desk.take(parties.credit(parties.authorisation(parties.sale), 1000))
    order = desk.book.find(row.order)
    assert order is not None
    local_time, local_date = local_time_and_date(desk.now)
    fields = {7: transmission_time(desk.now), 11: row.stan, 12: local_time, 13: local_date, 37: row.rrn}
    sent_order = {"7": fields[7], "12": local_time, "13": local_date, "32": "603770"}
    row = run(desk.store.sending(row, "0200", fields, desk.now, desk.now))
    later = desk.now + timedelta(days=366)
    again = repeated_message(row, replace(order, sent_fields=sent_order), None, Pan.parse(PAN), later)
    assert again.mti == "0201"
    assert again.local_at == desk.now.replace(microsecond=0)
    assert (again[12], again[13]) == (local_time, local_date)
    assert again[7] != fields[7]
