"""Threats against money that moves after the authorisation: by the merchant's requests, and by the calendar.

One test for each row of the threat table, named after it (`threats.yaml`).
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection

from gateway.routing import SWITCH, Routes
from gateway.settling import entries
from gateway.settling.days import DayState
from gateway.settling.reconciliation import Reconciliation
from gateway.store import OrderStore
from gateway.trace_numbers import business_day, rrn_for
from kwbp.codes import EntryKind, ErrorCode
from kwbp.common import Draft
from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.fields import VERSION, to_time
from kwbp.money import Money
from kwbp.settling import ANSWERS, CapReqTBS, CapRevReqTBS, CredReqTBS, Entry, SettlingReq, Standing
from kwbp.settling.request import check_against_book
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.oids import CT_ERROR
from pki.roles import Role
from runtime.settings import Home
from shetab import jalali
from shetab.dialect import Dialect
from shetab.subfields import Coding, OriginalDataElements
from shetab.types import Expiry, Rial
from switch.records import IssuedCard
from switch.service import RunningSwitch, running
from tests.gateway.conftest import Clock, line, run, until
from tests.gateway.settling_shop import Collected, collected, request_message
from tests.gateway.test_settling_requests import gets
from tests.support.acquirer import ACQUIRER, MERCHANT, Acquirer
from tests.support.payment_parties import Buyer, Shop, now
from tests.support.payment_site import OPENING, Site
from tests.support.pki_factory import NOW
from tests.switch.conftest import new_zone

XID: Final = bytes(range(20))


def all_at_once(order: Collected, drafts: list[Draft[Any]]) -> list[str]:
    """Send them in parallel, each again while another one of the order is open: "approved", or what refused it."""
    messages = [request_message(order.shop, draft) for draft in drafts]

    def settled(draft: Draft[Any], message: bytes) -> str:
        while True:
            answer = unwrap(order.sent(message), expected=(ANSWERS[draft.content_type], CT_ERROR))
            if answer.msg_type != CT_ERROR:
                return "approved" if order.judged(draft, message, order.sent(message)).approved else "declined"
            refusal = read_error(
                answer, sent=message, role=Role.GATEWAY_SIGNING, trust=order.shop.site.pki.trust(now()), now=now()
            ).body
            if refusal.error_code is not ErrorCode.UNKNOWN_OUTCOME:
                return refusal.clause
            time.sleep(0.2)

    with ThreadPoolExecutor(len(drafts)) as pool:
        return list(pool.map(settled, drafts, messages))


APPROVED: Final = 100
ORDER: Final = sha256(b"AuthRes")


def asked(kind: type[SettlingReq], h_answer: bytes, amount: int) -> SettlingReq:
    """A merchant's request about the order, as the gateway has read it."""
    token: dict[str, Any] = {"cap_token": None} if kind is CapReqTBS else {}
    make: Any = kind
    made: SettlingReq = make(
        version=VERSION,
        rrpid=bytes(20),
        xid=bytes(20),
        merchant_id="M-1",
        gw_id="GW-1",
        h_answer=h_answer,
        date=to_time(NOW),
        amount=Money.rial(amount),
        **token,
    )
    return made


@dataclass
class Book:
    """The gateway's book of one order that was authorised and not captured."""

    standing: Standing
    approvals: int = 0

    def approve(self, body: SettlingReq) -> bytes:
        """Take in, and the bank says yes; the hash of the answer."""
        check_against_book(body, self.standing)
        self.approvals += 1
        h_answer = sha256(bytes([self.approvals]))
        rrpid = bytes([self.approvals]) * 20
        self.standing = self.standing.taken_in(rrpid, sha256(rrpid)).concluded(body, h_answer)
        return h_answer

    def refuses(self, body: SettlingReq) -> ErrorCode:
        before = self.standing
        with pytest.raises(ProtocolError) as caught:
            check_against_book(body, self.standing)
        assert self.standing == before
        return caught.value.code


def test_38_double_capture_or_refund_of_more_than_was_captured(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    """Twenty captures at once, then twenty credits: what is taken is what was authorised, what is given what was taken.

    Then the bookkeeping alone, which every request passes.
    """
    held = collected(site, gateway, shop, buyer, 100_000, hold=True)
    assert sorted(all_at_once(held, [held.capture(10_000) for _ in range(20)])) == ["H9"] * 10 + ["approved"] * 10
    assert (buyer.balance, gets(site, shop)) == (OPENING - 100_000, 100_000)
    sale = collected(site, gateway, shop, buyer, 90_000)
    assert sorted(all_at_once(sale, [sale.credit(12_000) for _ in range(20)])) == ["H9"] * 13 + ["approved"] * 7
    assert (buyer.balance, gets(site, shop)) == (OPENING - 106_000, 106_000)
    assert site.switch.admin.is_balanced()

    book = Book(
        Standing(
            xid=bytes(20), merchant_id="M-1", h_auth_res=ORDER, approved=Money.rial(APPROVED), authorised=APPROVED,
            cap_token=None, acknowledged=True,
        )
    )  # fmt: skip
    first = book.approve(asked(CapReqTBS, ORDER, 60))
    assert book.refuses(asked(CapReqTBS, ORDER, 60)) is ErrorCode.AMOUNT_MISMATCH
    second = book.approve(asked(CapReqTBS, ORDER, 40))
    assert book.refuses(asked(CapReqTBS, ORDER, 1)) is ErrorCode.AMOUNT_MISMATCH
    book.approve(asked(CredReqTBS, first, 59))
    assert book.refuses(asked(CredReqTBS, first, 2)) is ErrorCode.AMOUNT_MISMATCH  # though the order has room for it
    assert book.refuses(asked(CapRevReqTBS, first, 60)) is ErrorCode.AMOUNT_MISMATCH  # money that was given back
    book.approve(asked(CredReqTBS, first, 1))
    assert book.refuses(asked(CredReqTBS, first, 1)) is ErrorCode.AMOUNT_MISMATCH
    assert (book.standing.captured, book.standing.refunded) == (APPROVED, 60)

    busy = asked(CredReqTBS, second, 40)  # a request whose outcome nobody knows yet holds up every other
    book.standing = book.standing.taken_in(b"\x09" * 20, sha256(b"open"))
    assert book.refuses(busy) is ErrorCode.UNKNOWN_OUTCOME
    with pytest.raises(ValueError, match="refunded"):
        replace(book.standing, authorised=APPROVED - 1)


def test_39_business_day_and_year_ends(tmp_path: Path) -> None:
    """A second before and after midnight in Iran, Nowruz and New Year: one message, one day, at both ends.

    What was sent before midnight and booked after it counts where the network says, for both; the totals agree.
    """
    midnight = datetime(2026, 3, 20, 20, 30, tzinfo=UTC)  # 00:00 of 1 Farvardin 1405 in Iran
    before, after = midnight - timedelta(seconds=1), midnight
    assert (business_day(before), business_day(after)) == (date(2026, 3, 20), date(2026, 3, 21))
    assert jalali.from_gregorian(business_day(before)) == (1404, 12, 29)
    assert jalali.from_gregorian(business_day(after)) == (1405, 1, 1)
    assert [jalali.local_time_and_date(each) for each in (before, after)] == [("235959", "0320"), ("000000", "0321")]
    assert rrn_for("000001", before) != rrn_for("000001", after)

    new_year = datetime(2026, 12, 31, 20, 29, 59, tzinfo=UTC)  # 23:59:59 of 31 December in Iran
    for sent in (new_year, new_year + timedelta(seconds=1)):
        _time, day = jalali.local_time_and_date(sent)
        for read in (sent - timedelta(hours=1), sent, sent + timedelta(hours=1)):  # by a clock on the other side of it
            assert jalali.complete_date(day, read) == business_day(sent)
            assert jalali.complete_transmission_time(jalali.transmission_time(sent), read) == sent

    for year, last in ((1404, 29), (1403, 30)):  # 1403 is a leap year
        card = Expiry(f"{year % 100:02d}12")
        ends = datetime.combine(jalali.to_gregorian(year, 12, last), datetime.min.time(), UTC) + timedelta(hours=20.5)
        assert not jalali.has_expired(card, ends - timedelta(seconds=1))
        assert jalali.has_expired(card, ends + timedelta(seconds=1))

    zone = new_zone(Home(tmp_path / "home"))
    clock = Clock(before)
    with running(zone.home, acquirers=(ACQUIRER,), clock=clock) as switch, OrderStore.open(tmp_path / "book") as book:
        account = switch.bank.open_account("603770", holder="Member One", balance=Rial(1_000_000))
        card = switch.bank.issue_card(account.iban)
        with Acquirer(switch.host, switch.port, zone.pin_key, zone.mac_key) as acquirer:
            acquirer.sign_on()
            for last in (before, new_year):
                run(settled_around_midnight(switch, acquirer, card, book, clock, last, zone.mac_key))
        assert switch.bank.intermediary(ACQUIRER).balance == 2 * (150_000 + 70_000 + 20_000 - 30_000)
        assert switch.bank.is_balanced()


async def settled_around_midnight(
    switch: RunningSwitch,
    acquirer: Acquirer,
    card: IssuedCard,
    book: OrderStore,
    clock: Clock,
    last: datetime,
    key: bytes,
) -> None:
    """`last` is the last second of a day: sales before, over and after midnight, a credit after it; both ends agree."""
    clock.now = acquirer.clock = last
    first = acquirer.sale(card, 150_000, changed={62: Coding(XID).to_de62()})
    crossing = acquirer.sale(card, 20_000)
    answers = [(EntryKind.SALE, acquirer.ask(first))]
    clock.now = last + timedelta(
        seconds=1
    )  # sent at 23:59:59, with that day's date in DE 13, and booked after midnight
    answers.append((EntryKind.SALE, acquirer.ask(crossing)))
    acquirer.clock = clock.now
    answers.append((EntryKind.SALE, acquirer.ask(acquirer.sale(card, 70_000))))
    refund = {3: "200000", 14: None, 52: None, 53: None, 62: Coding(XID, "CREDIT").to_de62()}
    refund[90] = OriginalDataElements.of(first).to_de90()
    answers.append((EntryKind.CREDIT, acquirer.ask(acquirer.sale(card, 30_000, changed=refund))))
    assert [answer[39] for _, answer in answers] == ["00"] * 4
    ended, begun = business_day(last), business_day(clock.now)
    booked = [jalali.complete_date(answer[15], clock.now) for _, answer in answers]
    assert booked == [ended, begun, begun, begun]

    def enter(connection: Connection) -> None:
        for (kind, answer), day in zip(answers, booked, strict=True):
            h_answer = sha256(f"{answer[37]} {last}".encode())
            entry = Entry(kind=kind, xid=bytes(20), h_answer=h_answer, amount=int(answer[4]), date=to_time(clock.now))
            entries.enter(connection, MERCHANT, entry, day, SWITCH, clock.now)

    await book.writer.run(enter)
    async with line(switch, clock=clock, key=key, institution=ACQUIRER) as link:
        reconciliation = Reconciliation(
            book,
            Routes({SWITCH: link}),
            Dialect.load("shetab87_ascii"),
            acquirer=ACQUIRER,
            answer_timeout=10.0,
            first_pause=0.1,
            clock=clock,
            rng=bytes,
            checkpoint=lambda step: None,
            tick=0.01,
        )
        task = asyncio.create_task(reconciliation.run())
        for day in (ended, begun):
            await reconciliation.want(MERCHANT, day)
        await until(lambda: _day(reconciliation, ended).state == DayState.CLOSED)
        await until(lambda: _day(reconciliation, begun).compared_at is not None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert _day(reconciliation, ended).theirs["97"] == f"C{150_000:016d}"
    running_day = _day(reconciliation, begun)
    assert (running_day.state, running_day.settled) == (DayState.OPEN, "1")
    assert running_day.theirs == running_day.own
    assert running_day.theirs["97"] == f"C{60_000:016d}"


def _day(reconciliation: Reconciliation, day: date) -> Any:
    (row,) = [each for each in reconciliation.days(MERCHANT) if each.business_day == day.isoformat()]
    return row
