"""Any history of the acquirer's books, kept beside by a shop and a bank that reckon for themselves: all agree.

The shop counts what it sold and gave back, the network what it settled, the bank what it was told to pay; none of them
asks the ledger. Histories run over the ends of both years, Jalali (1404/12/29) and Gregorian, day after day.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring

from gateway.acquirer.bank_answer import Outcome
from gateway.acquirer.fees import FeeRule, FeeSchedule
from gateway.acquirer.payout import PayoutState
from gateway.order import Order
from gateway.settling.days import day_of
from kwbp.codes import EntryKind
from runtime.problems import Problem
from tests.gateway.acquirer.books import DAY, MAKER, SENDER, Books
from tests.gateway.acquirer.network import Network, compared
from tests.gateway.conftest import run
from tests.support.databases import gateway_database

FEES = FeeSchedule(rules=(FeeRule(name="all", valid_from=date(2020, 1, 1), fixed=500, per_mille="7.5", cap=3_000),))
ENDS = (DAY - timedelta(days=1), date(2026, 12, 30))


@pytest.mark.parametrize("seed", range(6))
def test_shop_network_bank_and_ledger_have_the_same_money(tmp_path: Path, invoice: bytes, seed: int) -> None:
    rng = random.Random(seed)
    books = Books.open(gateway_database("sqlite", tmp_path), tmp_path, invoice, fees=FEES)
    shops, fees, network, bank = dict.fromkeys(("M-1", "M-2"), 0), 0, 0, dict.fromkeys(("M-1", "M-2"), 0)
    sold: list[Order] = []
    its = Network(DAY)
    payouts = books.acquirer.payouts
    try:
        for offset in range(5):
            is_last = offset == 4  # what came late for a day before is settled with it
            day = ENDS[seed % 2] + timedelta(days=offset)
            books.clock.now = datetime(day.year, day.month, day.day, 20, 45, tzinfo=UTC)  # the next day in Iran
            for each in range(2 if is_last else rng.randrange(4)):
                merchant = ("M-1", "M-2")[each] if is_last else rng.choice(("M-1", "M-2"))
                amount = rng.randrange(1, 500_000)
                # Now and then the network counts a sale in a day before, which is finished: it was cut back to it.
                counted = day - timedelta(days=0 if is_last else rng.choice((0, 0, min(offset, 1))))
                sold.append(books.sale(amount, merchant=merchant, day=counted))
                its.count(merchant, counted, EntryKind.SALE, amount)
                shops[merchant] += amount
                network += amount
                fees += min(500 + (amount * 75 + 5_000) // 10_000, 3_000, amount)
            for order in rng.sample(sold, min(len(sold), rng.randrange(3))):
                books.credit(order, order.amount, day=day)
                its.count(order.merchant_id, day, EntryKind.CREDIT, order.amount)
                sold.remove(order)
                shops[order.merchant_id] -= order.amount
                network -= order.amount
            its.today = day + timedelta(days=1)
            run(compared(books, its))
            run(payouts.create(by=MAKER))
            try:
                made, _ = run(payouts.make_file(by=MAKER))
            except Problem:
                continue
            run(payouts.sent(made.number, digest=made.digest, by=SENDER))
            for transfer in fromstring(made.content).iterfind(".//{*}CdtTrfTxInf"):
                reference = transfer.findtext(".//{*}EndToEndId", "")
                amount = int(transfer.findtext(".//{*}InstdAmt", ""))
                fate = rng.choice(("paid", "returned", "both", "silent"))
                if fate in ("paid", "both"):
                    run(payouts.answered([Outcome(reference, "PAID")], by=MAKER))
                if fate in ("returned", "both"):
                    run(payouts.answered([Outcome(reference, "RETURNED")], by=MAKER))
                    run(payouts.again(reference, by=MAKER))
                if fate == "paid":
                    bank["M-1" if "M-1" in reference else "M-2"] += amount
        found = {each.account: each.balance for each in books.acquirer.balances(None)}
        silent = sum(each.amount for each in payouts.all(state=PayoutState.SENT))
        waiting = sum(-found.get(f"payable:{merchant}", 0) for merchant in shops)
        assert sum(found.values()) == 0
        assert found.get("receivable:switch", 0) == 0
        assert network == sum(shops.values())
        assert -found.get("fees", 0) == fees
        assert -found.get("payouts", 0) == silent
        assert found.get("intermediary", 0) == network - sum(bank.values())
        assert waiting == sum(shops.values()) - fees - silent - sum(bank.values())
        # Nobody is paid what it owes: what was to be paid, and what is carried on, is what the shops are due.
        first = [each for each in payouts.all() if each.attempt == 1]
        carried = {each.merchant_id: each.carried_forward for each in first}
        assert sum(each.amount for each in first) + sum(carried.values()) == sum(shops.values()) - fees
        assert run(books.acquirer.verify()) == []
    finally:
        books.store.close()


@pytest.mark.parametrize(
    ("settle_date", "given", "day"),
    [
        ("1231", datetime(2026, 12, 31, 20, 29, tzinfo=UTC), date(2026, 12, 31)),
        ("1231", datetime(2026, 12, 31, 20, 31, tzinfo=UTC), date(2026, 12, 31)),  # 00:01 of the next year in Iran
        ("0101", datetime(2026, 12, 31, 20, 31, tzinfo=UTC), date(2027, 1, 1)),
        ("0101", datetime(2026, 12, 31, 12, 0, tzinfo=UTC), date(2027, 1, 1)),  # the network was cut over early
        ("1231", datetime(2027, 1, 2, 9, 0, tzinfo=UTC), date(2026, 12, 31)),
        (None, datetime(2026, 3, 20, 20, 29, tzinfo=UTC), date(2026, 3, 20)),  # 1404/12/29, a minute before midnight
        (None, datetime(2026, 3, 20, 20, 31, tzinfo=UTC), date(2026, 3, 21)),
        ("0229", datetime(2028, 3, 1, 1, 0, tzinfo=UTC), date(2028, 2, 29)),
        ("0229", datetime(2029, 1, 9, 1, 0, tzinfo=UTC), date(2028, 2, 29)),  # the first copy was never answered
        ("0310", datetime(2026, 11, 20, 9, 0, tzinfo=UTC), date(2026, 3, 10)),  # nearer to that of next year
        ("1231", datetime(2027, 11, 1, 9, 0, tzinfo=UTC), date(2026, 12, 31)),
    ],
)
def test_the_business_day_at_midnight_and_at_the_ends_of_years(
    settle_date: str | None, given: datetime, day: date
) -> None:
    assert day_of(settle_date, given) == day


def test_a_day_of_last_year_is_listed_paid_and_told_apart_in_the_new_one(opened: Callable[..., Books]) -> None:
    books, day = opened(), date(2026, 12, 31)
    books.clock.now = datetime(2026, 12, 31, 20, 31, tzinfo=UTC)
    books.sale(day=day)
    books.clock.now = datetime(2027, 1, 2, 20, 31, tzinfo=UTC)
    books.take([], day=day)
    (row,) = books.acquirer.differences()
    assert (row.kind, row.business_day, row.own_day) == ("missing_there", "2026-12-31", "2026-12-31")
    run(books.acquirer.decide(row.number, "EXPLAINED", reason="looked it up", by=MAKER))
    books.close(day)
    ((payout,), _) = run(books.acquirer.payouts.create(by=MAKER))
    assert payout.reference == "KWBP-20261231-M-1"
    made, _ = run(books.acquirer.payouts.make_file(by=MAKER))
    assert b"<Dt>2027-01-03</Dt>" in made.content  # it is past midnight in Iran
    assert made.message_id.startswith("KWBP-20270103000100-")
