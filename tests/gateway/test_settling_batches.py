"""Batches and business days at a real gateway and switch: merchant, gateway and switch count the same money."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from kwbp.codes import BatchOperation, BatchStatus, EntryKind
from kwbp.common import Draft, instant
from kwbp.settling import (
    BatchTotals,
    CheckedSettlingAnswer,
    Entry,
    Followed,
    LedgerEntry,
    check_settle_advice,
    differences,
    sale_entry,
    totals_of,
    within,
)
from kwbp.wrapper import unwrap
from pki.oids import CT_SETTLE_ADVICE
from runtime.client import http_client, raise_problem
from runtime.problems import Problem
from shetab.jalali import IRAN_STANDARD_TIME
from tests.gateway.settling_shop import (
    Collected,
    answered,
    batch,
    batch_answer,
    batch_draft,
    collected,
    request_message,
)
from tests.support.payment_parties import Buyer, Shop, error_of, now
from tests.support.payment_site import ACQUIRER, GATEWAY_ID, Site, wait_for
from tests.support.pki_factory import IBAN

AMOUNT = 150_000
OTHER_IBAN = "IR820540102680020817909002"
"""A right number of somebody else's account."""
OPEN, CLOSE, STATUS = BatchOperation.OPEN, BatchOperation.CLOSE, BatchOperation.STATUS


class Book:
    """The merchant's own entries, from the answers that it holds."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def sale(self, order: Collected) -> Collected:
        self.entries.append(sale_entry(order.auth_res))
        return order

    def done(self, order: Collected, draft: Draft[Any], kind: EntryKind, amount: int) -> CheckedSettlingAnswer:
        answer = order.ask(draft)
        assert answer.approved, answer.body
        entry = Entry(kind=kind, xid=answer.body.xid, h_answer=answer.digest, amount=amount, date=answer.body.date)
        self.entries.append(entry)
        return answer

    def totals(self, until: datetime, begins: datetime | None = None) -> BatchTotals:
        return totals_of(within(self.entries, begins=begins, until=until))


def trade(site: Site, url: str, shop: Shop, buyer: Buyer) -> Book:
    """One movement of each kind."""
    book = Book()
    sale = book.sale(collected(site, url, shop, buyer, AMOUNT))
    book.done(sale, sale.auth_reversal(100_000), EntryKind.SALE_REVERSAL, 50_000)
    credit = book.done(sale, sale.credit(30_000), EntryKind.CREDIT, 30_000)
    book.done(sale, sale.credit_reversal(Followed.credit(credit.signed)), EntryKind.CREDIT_REVERSAL, 30_000)
    held = collected(site, url, shop, buyer, AMOUNT, hold=True)
    capture = book.done(held, held.capture(60_000), EntryKind.CAPTURE, 60_000)
    book.done(held, held.capture_reversal(Followed.capture(capture.signed)), EntryKind.CAPTURE_REVERSAL, 60_000)
    book.done(held, held.capture(40_000), EntryKind.CAPTURE, 40_000)
    return book


def next_second() -> datetime:
    """A whole second after everything that was answered; returns when it has come."""
    until = now().replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((until - now()).total_seconds() + 0.01)
    return until


def days(url: str, shop: Shop) -> list[dict[str, Any]]:
    with http_client(shop.tls, url) as client:
        found: list[dict[str, Any]] = raise_problem(client.get("/v1/business-days")).json()
    return found


def advice(url: str, shop: Shop, day: date) -> bytes:
    with http_client(shop.tls, url) as client:
        return raise_problem(client.get(f"/v1/settlement-advices/{day.isoformat()}")).content


@pytest.fixture
def yesterday(site: Site) -> Iterator[date]:
    """The network has not cut over yet: it still counts in the day before."""
    day = now().astimezone(IRAN_STANDARD_TIME).date() - timedelta(days=1)
    site.switch.admin.cut_over(day)
    yield day
    site.switch.admin.cut_over(None)


def test_a_batch_is_opened_counted_and_closed_by_the_sums_of_both(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    opened = batch(shop, gateway, batch_draft(shop, OPEN, 1))
    assert (opened.status, opened.totals.net) == (BatchStatus.OPEN, 0)
    book = trade(site, gateway, shop, buyer)
    until = next_second()
    status = batch(shop, gateway, batch_draft(shop, STATUS, 1, until=until))
    assert status.totals == book.totals(until)
    assert status.totals.net == 140_000
    draft = batch_draft(shop, CLOSE, 1, until=until, totals=book.totals(until))
    message = request_message(shop, draft)
    first = answered(shop, gateway, message)
    assert batch_answer(shop, message, first, draft).status is BatchStatus.CLOSED
    assert answered(shop, gateway, message) == first
    opened = batch(shop, gateway, batch_draft(shop, OPEN, 2))
    assert opened.begins is not None
    assert (instant(opened.begins), opened.totals.net) == (until, 0)


def test_what_is_settled_is_credited_and_not_taken_back(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    batch(shop, gateway, batch_draft(shop, OPEN, 1))
    book = Book()
    sale = book.sale(collected(site, gateway, shop, buyer, AMOUNT))
    until = next_second()
    batch(shop, gateway, batch_draft(shop, CLOSE, 1, until=until, totals=book.totals(until)))
    refusal = sale.refused(sale.auth_reversal(0))
    assert (refusal.error_code.protocol_name, refusal.clause) == ("invoiceExpired", "H8")
    answer = book.done(sale, sale.credit(AMOUNT), EntryKind.CREDIT, AMOUNT)
    batch(shop, gateway, batch_draft(shop, OPEN, 2))
    second = next_second()
    assert answer.approved
    closed = batch(shop, gateway, batch_draft(shop, CLOSE, 2, until=second, totals=book.totals(second, until)))
    assert (closed.totals.net, len(closed.totals.totals)) == (-AMOUNT, 1)


def test_other_sums_leave_the_batch_open(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    batch(shop, gateway, batch_draft(shop, OPEN, 1))
    book = Book()
    book.sale(collected(site, gateway, shop, buyer, AMOUNT))
    until = next_second()
    message = request_message(shop, batch_draft(shop, CLOSE, 1, until=until, totals=totals_of([])))
    refusal = error_of(answered(shop, gateway, message), message, site)
    assert (refusal.error_code.protocol_name, refusal.clause) == ("amountMismatch", "L5")
    assert batch(shop, gateway, batch_draft(shop, STATUS, 1)).status is BatchStatus.OPEN


def test_a_batch_stays_open_while_an_approval_in_it_is_not_acknowledged(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    """Afterwards the very same request closes it."""
    batch(shop, gateway, batch_draft(shop, OPEN, 1))
    purchase = site.purchase(shop, buyer, AMOUNT)
    answer = shop.collect(gateway, purchase)
    until = next_second()
    counted = totals_of(within([sale_entry(purchase.checked_answer(answer).signed)], begins=None, until=until))
    empty = batch_draft(shop, CLOSE, 1, until=until, totals=totals_of([]))
    message = request_message(shop, empty)
    refusal = error_of(answered(shop, gateway, message), message, site)
    assert (refusal.error_code.protocol_name, refusal.clause) == ("unknownOutcome", "L5")
    draft = batch_draft(shop, CLOSE, 1, until=until, totals=counted)
    assert shop.acknowledge(gateway, purchase.ack(answer)) == b""
    assert batch(shop, gateway, draft).status is BatchStatus.CLOSED


def test_another_merchants_batch_is_not_to_be_had(site: Site, gateway: str, shop: Shop) -> None:
    batch(shop, gateway, batch_draft(shop, OPEN, 1))
    other = site.new_shop()
    site.register(gateway, other)
    message = request_message(shop, batch_draft(shop, STATUS, 1))
    refusal = error_of(answered(other, gateway, message), message, site)
    assert (refusal.error_code.protocol_name, refusal.clause) == ("roleNotAllowed", "L1")
    message = request_message(other, batch_draft(other, STATUS, 1))
    assert error_of(answered(other, gateway, message), message, site).clause == "L3"


def test_what_the_gateway_counts_is_what_the_switch_counts(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    """Closing the batch compares the day, although it is not over."""
    batch(shop, gateway, batch_draft(shop, OPEN, 1))
    book = trade(site, gateway, shop, buyer)
    until = next_second()
    batch(shop, gateway, batch_draft(shop, CLOSE, 1, until=until, totals=book.totals(until)))
    wait_for(lambda: all(day["compared_at"] for day in days(gateway, shop)))
    compared = days(gateway, shop)
    assert [(day["state"], day["in_balance"]) for day in compared] == [("OPEN", True)] * len(compared)
    assert all(day["own"] == day["theirs"] for day in compared)
    net = sum(int(day["theirs"]["97"][1:]) for day in compared)
    (line,) = [each for each in site.switch.admin.merchant_totals(ACQUIRER) if each.merchant == shop.merchant_id]
    assert net == line.amount == book.totals(until).net == 140_000
    owed = sum(each.amount for each in site.switch.admin.merchant_totals(ACQUIRER))
    assert owed == site.switch.admin.intermediary(ACQUIRER).balance


def test_a_day_that_is_over_is_advised_line_by_line(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, yesterday: date
) -> None:
    site.register(gateway, shop, iban=IBAN)
    book = trade(site, gateway, shop, buyer)
    with pytest.raises(Problem, match="not closed"):
        advice(gateway, shop, yesterday)
    site.switch.admin.cut_over(None)
    later = collected(site, gateway, shop, buyer, 70_000)  # counted in the next day
    wait_for(lambda: _is_advised(gateway, shop, yesterday))
    message = advice(gateway, shop, yesterday)
    assert advice(gateway, shop, yesterday) == message
    checked = check_settle_advice(
        unwrap(message, expected=(CT_SETTLE_ADVICE,)),
        merchant=shop.identity,
        gw_id=GATEWAY_ID,
        known=None,
        trust=site.pki.trust(now()),
        now=now(),
    )
    ledger = [LedgerEntry(each.kind, each.xid, each.h_answer, each.amount, fee=0) for each in book.entries]
    assert differences([checked], ledger) == ()
    assert checked.body.net == 140_000
    assert later.authorisation.h_answer not in {line.h_answer for line in checked.body.lines}
    (closed, running) = days(gateway, shop)
    assert (closed["business_day"], closed["state"], running["state"]) == (yesterday.isoformat(), "CLOSED", "OPEN")


def test_a_day_is_not_closed_while_something_of_it_is_undecided(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, yesterday: date
) -> None:
    site.register(gateway, shop, iban=IBAN)
    collected(site, gateway, shop, buyer, AMOUNT)
    purchase = site.purchase(shop, buyer, 20_000)
    answer = shop.collect(gateway, purchase)  # approved, counted in yesterday, not acknowledged
    site.switch.admin.cut_over(None)
    assert not _is_advised(gateway, shop, yesterday)
    wait_for(lambda: days(gateway, shop)[0]["in_balance"] is False)
    assert days(gateway, shop)[0]["state"] == "OPEN"
    assert shop.acknowledge(gateway, purchase.ack(answer)) == b""
    wait_for(lambda: _is_advised(gateway, shop, yesterday))


def test_nobody_is_paid_to_an_account_that_is_not_known_or_not_the_merchants(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, yesterday: date
) -> None:
    """What is signed stays as it is, so the operator's mistake must be found before."""
    site.register(gateway, shop, iban=OTHER_IBAN)  # no certificate of the merchant's is known yet
    collected(site, gateway, shop, buyer, AMOUNT)
    site.switch.admin.cut_over(None)

    def problem() -> str:
        try:
            advice(gateway, shop, yesterday)
        except Problem as refused:
            return refused.type
        return ""

    wait_for(lambda: problem() == "account-not-bound")
    with pytest.raises(Problem, match="certificate is bound to"):
        site.register(gateway, shop, iban=OTHER_IBAN)
    site.register(gateway, shop)
    assert problem() == "no-account"
    site.register(gateway, shop, iban=IBAN)
    assert problem() == ""


def test_a_day_that_has_not_come_is_not_advised(gateway: str, shop: Shop) -> None:
    with pytest.raises(Problem, match="not closed"):
        advice(gateway, shop, now().date() + timedelta(days=2))
    assert days(gateway, shop) == []


def _is_advised(url: str, shop: Shop, day: date) -> bool:
    try:
        advice(url, shop, day)
    except Problem as problem:
        if problem.type != "day-open":
            raise
        return False
    return True
