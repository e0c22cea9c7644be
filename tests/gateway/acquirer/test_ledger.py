"""The ledger: every posting balances, every account explains itself, the sums of all books are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.acquirer import ledger
from gateway.acquirer.fees import FeeRule, fees_of_day
from gateway.acquirer.ledger import (
    FEES,
    INTERMEDIARY,
    PAYOUTS,
    SUSPENSE,
    CauseKind,
    Fault,
    Finding,
    Posting,
    UnbalancedError,
)
from kwbp.codes import EntryKind
from kwbp.fields import to_time
from kwbp.settling import Entry

DAY = date(2026, 3, 20)
RULE = FeeRule(name="all", valid_from=DAY, fixed=500, per_mille="7.5", cap=9_000, reversed="waived")


def test_a_posting_that_does_not_balance_cannot_be_made() -> None:
    for lines in ((("a", 1),), (("a", 1), ("b", -2)), (("a", 1), ("a", -1)), (("a", 0), ("b", 0))):
        with pytest.raises(UnbalancedError):
            Posting(CauseKind.FEE, "x", DAY, lines)


@pytest.mark.parametrize(
    ("kind", "receivable"),
    [
        (EntryKind.SALE, 100),
        (EntryKind.CAPTURE, 100),
        (EntryKind.CREDIT_REVERSAL, 100),
        (EntryKind.SALE_REVERSAL, -100),
        (EntryKind.CAPTURE_REVERSAL, -100),
        (EntryKind.CREDIT, -100),
    ],
)
def test_a_movement_is_the_networks_debt_and_the_merchants_due(kind: EntryKind, receivable: int) -> None:
    posting = ledger.movement(b"h", merchant_id="M", route="switch", kind=kind, amount=100, day=DAY)
    assert ledger.balances([posting]) == {"receivable:switch": receivable, "payable:M": -receivable}


def test_nothing_is_booked_where_nothing_moved() -> None:
    assert ledger.network_paid(merchant_id="M", route="r", day=DAY, part=1, net=0) is None
    assert ledger.corrected(1, 1, route="r", day=DAY, excess=0) is None


def test_what_was_posted_is_compared_with_its_causes_line_by_line() -> None:
    def fee(cause: bytes, amount: int) -> Posting:
        return ledger.fee(cause, merchant_id="M", amount=amount, day=DAY)

    posted = [*ledger.lines((fee(b"a", 1), fee(b"b", 2), replace(fee(b"d", 4), business_day=date.min)))]
    found = ledger.compare(posted, [fee(b"a", 1), fee(b"c", 3), fee(b"d", 4)])
    assert found == [
        Finding(Fault.UNCAUSED, CauseKind.FEE, b"b".hex()),
        Finding(Fault.MISSING, CauseKind.FEE, b"c".hex()),
        Finding(Fault.OTHER, CauseKind.FEE, b"d".hex()),
    ]
    assert ledger.compare(ledger.lines([fee(b"b", 9)]), [fee(b"b", 2)])[0].fault is Fault.OTHER


# --- any history ------------------------------------------------------------------------------------------------------

Movement = tuple[str, str, EntryKind, int, int]
MOVEMENTS = st.lists(
    st.tuples(
        st.sampled_from(("M-1", "M-2")),
        st.sampled_from(("switch", "host")),
        st.sampled_from(EntryKind),
        st.integers(1, 10**9),
        st.integers(0, 2),
    ),
    max_size=30,
)


def entries_of(history: Iterable[Movement], merchant: str, day: date) -> list[Entry]:
    return [
        Entry(
            kind=kind,
            xid=bytes(20),
            h_answer=number.to_bytes(32, "big"),
            amount=amount,
            date=to_time(datetime(2026, 3, 20, tzinfo=UTC)),
        )
        for number, (whose, _, kind, amount, later) in enumerate(history)
        if whose == merchant and DAY + timedelta(days=later) == day
    ]


@given(history=MOVEMENTS, answers=st.lists(st.sampled_from(("paid", "returned", "both", "none")), min_size=6))
@settings(max_examples=60, deadline=None)
def test_for_any_history_the_ledger_balances_and_every_account_explains_itself(
    history: list[Movement], answers: list[str]
) -> None:
    """Σ shop = Σ gateway = Σ networks; what is not paid is owed, what is owed is due from somebody."""
    postings = [
        ledger.movement(
            number.to_bytes(32, "big"),
            merchant_id=merchant,
            route=route,
            kind=kind,
            amount=amount,
            day=DAY + timedelta(days=later),
        )
        for number, (merchant, route, kind, amount, later) in enumerate(history)
    ]
    shop = dict.fromkeys(("M-1", "M-2"), 0)
    fees = sent = answered = paid = 0
    for merchant in shop:
        carried = 0
        for offset in range(3):
            day = DAY + timedelta(days=offset)
            entries = entries_of(history, merchant, day)
            gross = sum(entry.kind.sign * entry.amount for entry in entries)
            charged = fees_of_day(RULE, entries)
            postings += [
                ledger.fee(each.h_answer, merchant_id=merchant, amount=each.amount, day=day) for each in charged
            ]
            shop[merchant] += gross
            fees += sum(each.amount for each in charged)
            for route in ("switch", "host"):
                net = sum(
                    kind.sign * amount
                    for whose, where, kind, amount, later in history
                    if (whose, where, DAY + timedelta(days=later)) == (merchant, route, day)
                )
                settled = ledger.network_paid(merchant_id=merchant, route=route, day=day, part=1, net=net)
                postings += [] if settled is None else [settled]
            due = gross - sum(each.amount for each in charged) + carried
            carried = min(due, 0)
            if due <= 0:
                continue
            reference, outcome = f"{merchant}-{offset}", answers.pop(0)
            postings.append(ledger.payout_sent(reference, merchant_id=merchant, day=day, amount=due))
            sent += due
            if outcome in ("paid", "both"):
                postings.append(ledger.payout_paid(reference, day=day, amount=due))
                paid += due
            if outcome in ("returned", "both"):
                was_paid = outcome == "both"
                told = {"merchant_id": merchant, "day": day, "amount": due, "was_paid": was_paid}
                postings.append(ledger.payout_returned(reference, **told))  # type: ignore[arg-type]
                sent -= due
                paid -= due if was_paid else 0
            answered += due if outcome == "paid" else 0
    found = ledger.balances(postings)
    assert sum(found.values()) == 0
    assert found.get("receivable:switch", 0) == found.get("receivable:host", 0) == 0  # the networks have paid
    assert -found.get(FEES, 0) == fees
    assert -found.get(PAYOUTS, 0) == sent - answered  # with the bank
    assert found.get(INTERMEDIARY, 0) == sum(shop.values()) - paid
    owed = {merchant: -found.get(f"payable:{merchant}", 0) for merchant in shop}
    assert sum(owed.values()) == sum(shop.values()) - fees - sent
    assert found.get(SUSPENSE, 0) == 0
    assert ledger.compare(ledger.lines(postings), postings) == []
