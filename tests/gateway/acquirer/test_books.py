"""The books of the acquirer, on SQLite and PostgreSQL: what is posted, finished, paid, returned, and only once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from cli.gateway_money import LEFT
from gateway.acquirer import day_end, differences, journal
from gateway.acquirer.bank_answer import Outcome
from gateway.acquirer.day_end import OpenReason
from gateway.acquirer.fees import FeeSchedule
from gateway.acquirer.ledger import CauseKind, Fault, Finding, fee
from gateway.acquirer.payout import Payout, PayoutState
from gateway.acquirer.tables import charged_fees, corrections, finished_days, ledger_lines, network_lists, payment_files
from gateway.schema import entries, merchant_accounts, reconciliations
from gateway.settling.days import end_of
from runtime.language import Language
from runtime.problems import Problem
from tests.gateway.acquirer.books import DAY, MAKER, NEXT, SENDER, Books, listed
from tests.gateway.conftest import run
from tests.support.pki_factory import IBAN

OTHER_IBAN = "IR820540102680020817909002"


def balances(books: Books) -> dict[str, int]:
    return {each.account: each.balance for each in books.acquirer.balances(None)}


def verified(books: Books) -> list[Finding]:
    return run(books.acquirer.verify())


def create(books: Books, **which: Any) -> tuple[list[Payout], list[Any]]:
    return run(books.acquirer.payouts.create(by=MAKER, **which))


def sent(books: Books) -> list[Payout]:
    """A payment file of all that waits, made by one and sent by another."""
    made, _ = run(books.acquirer.payouts.make_file(by=MAKER))
    return run(books.acquirer.payouts.sent(made.number, digest=made.digest, by=SENDER))


def refused(status: int, kind: str, call: Callable[[], Any]) -> None:
    with pytest.raises(Problem) as problem:
        call()
    assert (problem.value.status, problem.value.type.rpartition("/")[2].rpartition(":")[2]) == (status, kind)


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_a_movement_is_posted_with_its_entry_and_never_changes(books: Books) -> None:
    order = books.sale(150_000)
    books.credit(order, 30_000)
    books.sale(70_000, merchant="M-2", route="host")
    assert balances(books) == {
        "receivable:switch": 120_000,
        "receivable:host": 70_000,
        "payable:M-1": -120_000,
        "payable:M-2": -70_000,
    }
    assert verified(books) == []
    lines = books.acquirer.statement("payable:M-1", 10)
    assert [(each.amount, each.balance) for each in lines] in (
        [(-150_000, -150_000), (30_000, -120_000)],
        [(30_000, 30_000), (-150_000, -120_000)],  # both at one instant
    )


def test_a_sale_that_stays_debited_is_paid_by_the_network_and_owed_to_nobody(books: Books) -> None:
    """By the word of persons. Its merchant holds no approval; what the network pays for it explains itself."""
    order, other = books.stays_debited(books.given_back(80_000)), books.sale(150_000)
    assert balances(books) == {"receivable:switch": 230_000, "payable:M-1": -150_000, "suspense": -80_000}
    assert verified(books) == []
    assert books.take([listed(other)]).open_differences == 1, "the network does not have it"
    assert books.take([listed(order), listed(other)]).open_differences == 0
    books.close(excess=80_000)
    (payout,), _ = create(books)
    assert payout.gross == 150_000
    assert balances(books)["receivable:switch"] == 0
    assert verified(books) == []


def test_a_sale_that_stays_debited_is_posted_once_though_a_list_showed_it_before(books: Books) -> None:
    """As a difference that was open, or that a person had taken into the books."""
    seen, booked = books.given_back(80_000), books.given_back(50_000)
    assert books.take([listed(seen), listed(booked)]).open_differences == 2
    number = next(each.number for each in books.acquirer.differences() if each.rrn == booked.rrn)
    run(books.acquirer.decide(number, "CORRECTED", by=SENDER, reason="the bank says so"))
    for each in (seen, booked):
        books.stays_debited(each)
    assert balances(books) == {"receivable:switch": 130_000, "suspense": -130_000}
    assert verified(books) == []
    assert sorted(each.state for each in books.acquirer.differences()) == ["CORRECTED", "GONE"]


@pytest.mark.parametrize(
    "table", [ledger_lines, charged_fees, finished_days, network_lists, payment_files, corrections]
)
def test_what_is_written_into_the_books_takes_no_change(books: Books, table: Table) -> None:
    order = books.sale()
    books.take([listed(order, amount=order.amount + 1_000)])
    (row,) = books.acquirer.differences()
    run(books.acquirer.decide(row.number, "CORRECTED", excess=1_000, reason="looked it up", by=MAKER))
    books.close(excess=1_000)
    create(books)
    sent(books)
    column = next(iter(table.c))
    for statement in (update(table).values({column: column}), delete(table)):
        with pytest.raises(DBAPIError, match="append-only"):
            run(books.store.writer.run(lambda connection, job=statement: connection.execute(job)))


def test_a_posting_without_its_cause_and_a_cause_without_its_posting_are_found(books: Books) -> None:
    books.sale()
    stray = fee(bytes(32), merchant_id="M-1", amount=7, day=DAY)
    run(books.store.writer.run(lambda connection: journal.post(connection, [stray], books.clock.now)))
    run(books.store.writer.run(lambda connection: connection.execute(update(entries).values(amount=1))))
    (row,) = run(books.store.writer.run(lambda connection: connection.execute(select(entries)).all()))
    assert verified(books) == [
        Finding(Fault.UNCAUSED, CauseKind.FEE, bytes(32).hex()),
        Finding(Fault.OTHER, CauseKind.MOVEMENT, row.h_answer.hex()),
    ]


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("movement", [("suspense", DAY - timedelta(days=9), 5), ("intermediary", DAY - timedelta(days=9), -5)]),
        ("movement", [("suspense", DAY, 5)]),  # it does not even balance
        ("present", [("suspense", DAY, 5), ("intermediary", DAY, -5)]),
    ],
)
def test_lines_that_were_slipped_in_beside_a_posting_are_found(
    books: Books, kind: str, lines: list[tuple[str, Any, int]]
) -> None:
    books.sale()
    with books.store.reading() as connection:
        cause = connection.execute(select(ledger_lines.c.cause)).scalars().first()
    told = {"cause_kind": kind, "cause": cause, "posted_at": books.clock.now}
    rows = [told | {"account": account, "business_day": f"{day}", "amount": amount} for account, day, amount in lines]
    run(books.store.writer.run(lambda connection: connection.execute(insert(ledger_lines), rows)))
    fault = Fault.OTHER if kind == "movement" else Fault.UNCAUSED
    assert verified(books) == [Finding(fault, kind, cause or "")]


# --- the end of a day -------------------------------------------------------------------------------------------------


def test_a_closed_day_is_paid_out_once_with_its_fees(books: Books) -> None:
    first, _ = books.sale(150_000), books.sale(70_000)
    books.credit(first, 30_000)
    assert create(books)[0] == []  # nothing is closed
    books.close()
    (payout,), left = create(books)
    assert left == []
    assert (payout.gross, payout.fees, payout.amount, payout.state) == (190_000, 2_000, 188_000, PayoutState.CREATED)
    assert payout.reference == "KWBP-20260320-M-1"
    assert create(books) == ([], [])
    assert balances(books) == {"receivable:switch": 0, "intermediary": 190_000, "payable:M-1": -188_000, "fees": -2_000}
    assert verified(books) == []


def test_whoever_finishes_a_day_first_the_figures_are_the_same(books: Books) -> None:
    """Its advice finishes a day, or its payout; a fee that changed in between changes nothing."""
    books.sale()
    books.close()
    now = books.clock.now

    def finish(schedule: FeeSchedule) -> day_end.FinishedDay:
        return run(books.store.writer.run(lambda connection: day_end.finish(connection, "M-1", DAY, schedule, now)))

    assert finish(FeeSchedule.fixed(1)).fees == finish(FeeSchedule.fixed(9)).fees == 1
    (payout,), _ = create(books)
    assert (payout.fees, payout.amount) == (1, 149_999)


def test_payouts_asked_for_at_once_are_made_once(books: Books) -> None:
    for merchant in ("M-1", "M-2"):
        books.sale(merchant=merchant)
    books.close()

    async def at_once() -> list[tuple[list[Payout], list[Any]]]:
        return list(await asyncio.gather(*(books.acquirer.payouts.create(by=MAKER) for _ in range(4))))

    made = [payout for found, _ in run(at_once()) for payout in found]
    assert sorted(payout.merchant_id for payout in made) == ["M-1", "M-2"]
    assert len(books.acquirer.payouts.all()) == 2


def test_what_a_merchant_owes_is_deducted_from_its_next_payouts(books: Books) -> None:
    order = books.sale(100_000)
    books.close()
    create(books)
    books.credit(order, 80_000, day=NEXT)
    books.close(NEXT)
    (carried,), _ = create(books)
    assert (carried.state, carried.amount, carried.carried_forward) == (PayoutState.CARRIED, 0, -80_000)
    later = NEXT.replace(day=22)
    books.sale(200_000, day=later)
    books.close(later)
    (payout,), _ = create(books)
    assert (payout.brought_forward, payout.amount, payout.carried_forward) == (-80_000, 119_000, 0)
    assert [each.amount for each in sent(books)] == [99_000, 119_000]  # CARRIED is in no file
    assert balances(books)["payable:M-1"] == 0
    assert verified(books) == []


def test_a_day_that_is_left_says_why_until_it_is_closed(books: Books) -> None:
    order = books.sale(100_000)

    def reason(**values: Any) -> str:
        if values:
            told = update(reconciliations).values(**values)
            run(books.store.writer.run(lambda connection: connection.execute(told)))
        made, left = create(books)
        assert made == []
        return str(left[0].reason)

    ended, sums = end_of(DAY), {"88": "1"}
    books.clock.now = ended - timedelta(seconds=1)
    assert reason() == "not-ended"
    books.clock.now = ended
    assert reason() == "not-compared"
    assert reason(compared_at=ended) == "not-ended"  # asked after the end of the calendar day: it still counts in it
    assert reason(over_at=ended, own=sums, theirs=sums) == "not-compared"
    assert reason(theirs={"88": "2"}) == "totals-differ"
    books.given_back()
    assert reason(over_at=books.clock.now) == "undecided"
    books.take([listed(order, amount=1)])
    assert reason() == "differences-open"


def test_every_reason_is_told_to_people_in_both_languages() -> None:
    assert set(LEFT) == {*OpenReason, "no-account", "account-not-bound"}
    for message in LEFT.values():
        assert message.spoken(Language.FA) is Language.FA


def test_money_of_a_finished_day_is_settled_with_the_next(books: Books) -> None:
    books.sale(100_000)
    books.close()
    create(books)
    books.sale(60_000)  # the network was cut back: it counts in the day that is paid
    books.close()
    assert create(books) == ([], [])
    books.sale(50_000, day=NEXT)
    books.close(NEXT)
    (payout,), _ = create(books)
    assert (payout.business_day, payout.gross, payout.fees) == (NEXT.isoformat(), 110_000, 2_000)
    assert verified(books) == []


def test_a_day_is_closed_when_all_of_its_networks_have_closed_it(books: Books) -> None:
    books.sale(100_000)
    books.close()
    books.sale(100_000, route="host")
    assert [(row.route, row.state) for row in books.rows()] == [("host", "OPEN"), ("switch", "CLOSED")]
    made, left = create(books)
    assert made == []
    assert [each.reason for each in left] == ["not-compared"]
    books.close()
    assert [each.amount for each in create(books)[0]] == [198_000]


# --- to the bank and back ---------------------------------------------------------------------------------------------


def test_a_file_is_sent_by_another_person_with_the_file_that_was_looked_at(books: Books) -> None:
    books.sale()
    books.close()
    create(books)
    payouts = books.acquirer.payouts
    made, left = run(payouts.make_file(by=SENDER))
    assert (made.count, made.total, left) == (1, 149_000, [])
    assert sha256(made.content).hexdigest() == made.digest
    refused(409, "nothing-to-pay", lambda: run(payouts.make_file(by=MAKER)))
    refused(409, "another-file", lambda: run(payouts.sent(made.number, digest="0" * 64, by="officer:officer-2")))
    for same in (MAKER, SENDER):  # one made the payout, the other the file
        refused(409, "same-person", lambda same=same: run(payouts.sent(made.number, digest=made.digest, by=same)))
    refused(404, "no-such-file", lambda: run(payouts.sent(99, digest=made.digest, by=SENDER)))
    before = balances(books)
    (payout,) = run(payouts.sent(made.number, digest=made.digest, by="officer:officer-2"))
    assert (payout.state, payout.sent_by) == (PayoutState.SENT, "officer:officer-2")
    assert run(payouts.sent(made.number, digest=made.digest, by="officer:officer-3")) == [payout]  # said again
    assert balances(books)["payouts"] - before.get("payouts", 0) == -149_000
    refused(409, "file-sent", lambda: run(payouts.withdraw(made.number, by=MAKER)))
    assert payouts.files() == [made]
    assert b"KWBP-20260320-M-1" in payouts.file_csv(made.number)


def test_a_file_that_is_withdrawn_is_not_sent_and_the_next_one_has_its_payouts(books: Books) -> None:
    books.sale()
    books.close()
    create(books)
    payouts = books.acquirer.payouts
    first, _ = run(payouts.make_file(by=MAKER))
    assert run(payouts.withdraw(first.number, by=MAKER)) == 1
    refused(409, "file-withdrawn", lambda: run(payouts.sent(first.number, digest=first.digest, by=SENDER)))
    books.clock.advance(1)
    assert [each.file for each in sent(books)] == [2]


def test_only_the_account_that_the_certificate_is_bound_to_is_paid_to(books: Books) -> None:
    books.sale()
    books.sale(merchant="M-2")
    books.close()
    create(books)
    payouts = books.acquirer.payouts

    def change(iban: str | None) -> None:
        mine = merchant_accounts.c.merchant_id == "M-2"
        job = (
            delete(merchant_accounts).where(mine)
            if iban is None
            else update(merchant_accounts).where(mine).values(iban=iban)
        )
        run(books.store.writer.run(lambda connection: connection.execute(job)))

    change(OTHER_IBAN)
    made, left = run(payouts.make_file(by=MAKER))
    assert [(each.merchant_id, each.reason) for each in left] == [("M-2", "account-not-bound")]
    assert IBAN.encode() in made.content
    assert OTHER_IBAN.encode() not in made.content
    run(payouts.withdraw(made.number, by=MAKER))
    change(IBAN)
    books.clock.advance(1)
    made, left = run(payouts.make_file(by=MAKER))
    assert (made.count, left) == (2, [])
    change(OTHER_IBAN)
    refused(409, "account-changed", lambda: run(payouts.sent(made.number, digest=made.digest, by=SENDER)))
    assert {each.state for each in payouts.all()} == {PayoutState.CREATED}
    change(None)
    run(payouts.withdraw(made.number, by=MAKER))
    books.clock.advance(1)
    assert [each.reason for each in run(payouts.make_file(by=MAKER))[1]] == ["no-account"]


def test_what_the_bank_says_is_booked_once(books: Books) -> None:
    books.sale()
    books.sale(merchant="M-2")
    books.close()
    create(books)
    answered = books.acquirer.payouts.answered
    paid = Outcome("KWBP-20260320-M-1", "PAID")
    returned = Outcome("KWBP-20260320-M-2", "RETURNED", "AC04 closed")
    refused(409, "payout-state", lambda: run(answered([paid], by=MAKER)))  # not sent yet
    sent(books)
    refused(404, "no-such-payout", lambda: run(answered([paid, Outcome("KWBP-1", "PAID")], by=MAKER)))
    assert {each.state for each in books.acquirer.payouts.all()} == {PayoutState.SENT}  # all or none
    for _ in range(2):
        states = [each.state for each in run(answered([paid, returned], by=MAKER))]
        assert states == [PayoutState.PAID, PayoutState.RETURNED]
    expected = {"payouts": 0, "intermediary": 300_000 - 149_000, "payable:M-1": 0, "payable:M-2": -149_000}
    assert balances(books).items() >= expected.items()
    refused(409, "payout-state", lambda: run(answered([Outcome("KWBP-20260320-M-2", "PAID")], by=MAKER)))
    assert verified(books) == []


def test_a_returned_payout_is_paid_again_once(books: Books) -> None:
    books.sale()
    books.close()
    create(books)
    payouts = books.acquirer.payouts
    first = "KWBP-20260320-M-1"
    refused(409, "not-returned", lambda: run(payouts.again(first, by=MAKER)))
    sent(books)
    run(payouts.answered([Outcome(first, "PAID")], by=MAKER))
    run(payouts.answered([Outcome(first, "RETURNED", "after all")], by=MAKER))
    assert balances(books)["intermediary"] == 150_000
    second = run(payouts.again(first, by=MAKER))
    assert (second.reference, second.attempt, second.amount) == (f"{first}+2", 2, 149_000)
    refused(409, "paid-again", lambda: run(payouts.again(first, by=MAKER)))
    books.clock.advance(1)
    sent(books)
    run(payouts.answered([Outcome(second.reference, "PAID")], by=MAKER))
    assert balances(books)["payable:M-1"] == 0
    assert verified(books) == []


def test_without_an_account_to_pay_from_days_are_reckoned_and_nothing_is_paid(opened: Callable[..., Books]) -> None:
    books = opened(payer=False)
    books.sale()
    books.close()
    assert len(create(books)[0]) == 1
    refused(409, "no-payer", lambda: run(books.acquirer.payouts.make_file(by=MAKER)))


# --- differences ------------------------------------------------------------------------------------------------------


def test_a_list_that_agrees_shows_nothing_and_is_kept_once(books: Books) -> None:
    order = books.sale()
    books.credit(order, 30_000)
    credit = {"movement": "credit", "amount": 30_000, "stan": "900001", "rrn": f"9{1:011d}"}
    data = books.list_of([listed(order), listed(order, **credit)])
    for known in (False, True):
        taken = run(books.acquirer.take_list(data, route="switch", by=MAKER))
        assert (taken.movements, taken.known, taken.open_differences) == (2, known, 0)
    assert books.acquirer.differences() == []


def test_an_open_difference_keeps_a_day_from_being_paid_until_somebody_decides(books: Books) -> None:
    ours, reversed_, foreign = books.sale(100_000), books.given_back(70_000), books.sale(50_000, day=NEXT)
    books.take([listed(reversed_), listed(foreign)])
    rows = books.acquirer.differences(state="OPEN")
    kinds = {row.rrn: (row.kind, row.excess) for row in rows}
    assert kinds == {
        ours.rrn: ("missing_there", -100_000),
        reversed_.rrn: ("reversed_here", 70_000),
        foreign.rrn: ("other_day", 50_000),
    }
    excess = sum(row.excess for row in rows)
    books.close(excess=excess)
    assert [each.reason for each in create(books, day=DAY)[1]] == ["differences-open"]
    with books.store.reading() as connection:
        assert differences.accounted(connection, "M-1", DAY, "switch") is None
    for row in rows:
        decision: differences.Decision = "EXPLAINED" if row.kind == "other_day" else "CORRECTED"
        run(books.acquirer.decide(row.number, decision, reason="looked it up", by=MAKER))
        refused(
            409,
            "no-open-difference",
            lambda row=row: run(books.acquirer.decide(row.number, "EXPLAINED", reason="again", by=MAKER)),
        )
    with books.store.reading() as connection:
        assert differences.accounted(connection, "M-1", DAY, "switch") == {"debit": 20_000}
        assert differences.accounted(connection, "M-1", NEXT, "switch") is None  # no list of it
    assert [each.reason for each in create(books, day=DAY)[1]] == ["not-compared"]  # its last word was of before
    books.close(excess=excess)
    (payout,), _ = create(books, day=DAY)
    assert payout.amount == 99_000  # what we have signed is paid, whatever the network pays
    found = balances(books)
    assert found["suspense"] == 30_000  # 100,000 that the network does not pay, 70,000 that is nobody's
    assert found["receivable:switch"] == 0  # the other day's 50,000 came early
    assert verified(books) == []


def test_a_later_list_that_shows_a_movement_settles_its_difference(books: Books) -> None:
    order, other = books.sale(), books.sale()
    books.take([])
    assert len(books.acquirer.differences(state="OPEN")) == 2
    books.take([listed(order)])
    rows = {row.rrn: row.state for row in books.acquirer.differences()}
    assert rows == {order.rrn: "GONE", other.rrn: "OPEN"}


def test_lists_of_several_networks_do_not_mix(books: Books) -> None:
    order = books.sale(route="host")
    books.take([])
    assert books.acquirer.differences() == []
    books.take([listed(order, amount=1)], route="host")
    (row,) = books.acquirer.differences()
    assert (row.route, row.kind, row.own_amount, row.their_amount) == ("host", "other_amount", 150_000, 1)


def test_a_list_that_is_not_for_us_or_not_final_is_refused(books: Books) -> None:
    refused(422, "settlement-list-refused", lambda: books.take([], acquirer="581672"))
    refused(422, "settlement-list-refused", lambda: books.take([], final=False))
    refused(409, "no-list-key", lambda: books.take([], route="nowhere"))
    damaged = books.list_of([])[:-5]
    refused(422, "settlement-list-refused", lambda: run(books.acquirer.take_list(damaged, route="switch", by=MAKER)))


def test_an_older_list_changes_nothing_that_a_later_one_said(books: Books) -> None:
    """Somebody imports the network's first list of a day after its second."""
    order, now = books.sale(), books.clock.now
    first = books.list_of([], made_at=now)
    books.take([listed(order)], made_at=now + timedelta(minutes=1))
    refused(422, "settlement-list-refused", lambda: run(books.acquirer.take_list(first, route="switch", by=MAKER)))
    assert books.acquirer.differences() == []


def test_what_was_explained_is_gone_with_the_list_that_showed_it(books: Books) -> None:
    """Or the day could never be explained any more: what a person said of it would count for ever."""
    order = books.sale()
    books.take([listed(order, amount=1)])
    (row,) = books.acquirer.differences()
    run(books.acquirer.decide(row.number, "EXPLAINED", reason="a typing error of theirs", by=MAKER))
    books.take([listed(order)], made_at=books.clock.now + timedelta(minutes=1))
    assert [each.state for each in books.acquirer.differences()] == ["GONE"]
    with books.store.reading() as connection:
        assert differences.accounted(connection, "M-1", DAY, "switch") == {}


def test_what_was_corrected_stays_booked_until_a_person_decides_about_a_list_that_says_otherwise(books: Books) -> None:
    order = books.sale(1_000)
    books.take([listed(order, amount=1)])
    (row,) = books.acquirer.differences()
    for minutes, amount, decision, booked in (
        (0, 1, "CORRECTED", -999),
        (1, 2, "CORRECTED", -998),
        (2, 1_000, "CORRECTED", 0),  # it is not shown any more: booked back
        (3, 5, "CORRECTED", -995),
        (4, 7, "EXPLAINED", 0),  # no booking is needed, so none may stand
    ):
        if minutes:
            before = balances(books).get("suspense", 0)
            with capture_logs() as logs:
                books.take([listed(order, amount=amount)], made_at=books.clock.now + timedelta(minutes=minutes))
            assert [each["number"] for each in logs if "number" in each] == [row.number]
            assert balances(books).get("suspense", 0) == before  # nothing is booked by a list alone
            assert verified(books) == []
        told = {"excess": amount - 1_000, "reason": "as they say", "by": MAKER}
        assert run(books.acquirer.decide(row.number, decision, **told)).state == decision
        assert balances(books).get("suspense", 0) == -booked
        assert verified(books) == []


@pytest.mark.parametrize("seed", range(4))
def test_after_any_lists_and_decisions_suspense_is_what_was_taken_on(books: Books, seed: int) -> None:
    """Amounts come and go in the network's lists, people decide in any order: the ledger is what they said last."""
    rng = random.Random(seed)
    sold = [books.sale(rng.randrange(1_000, 9_000)) for _ in range(4)]
    for minutes in range(6):
        movements = [listed(each, amount=rng.choice((each.amount, rng.randrange(1, 9_999)))) for each in sold]
        some = rng.sample(movements, rng.randrange(len(movements) + 1))
        books.take(some, made_at=books.clock.now + timedelta(minutes=minutes))
        for row in books.acquirer.differences(state="OPEN"):
            if rng.random() < 0.7:
                told = {"excess": row.excess, "reason": "looked it up", "by": MAKER}
                run(books.acquirer.decide(row.number, rng.choice(("CORRECTED", "EXPLAINED")), **told))
        assert verified(books) == []
        found = balances(books)
        assert sum(found.values()) == 0
    for row in books.acquirer.differences(state="OPEN"):
        run(books.acquirer.decide(row.number, "CORRECTED", reason="looked it up", by=MAKER))
    taken_on = sum(row.excess for row in books.acquirer.differences(state="CORRECTED"))
    found = balances(books)
    assert -found.get("suspense", 0) == taken_on
    assert found["receivable:switch"] == sum(each.amount for each in sold) + taken_on
    assert verified(books) == []


def test_only_what_was_looked_at_is_decided(books: Books) -> None:
    """A list came in after the person had read the difference: it is another amount by now."""
    order = books.sale()
    books.take([listed(order, amount=1)])
    (row,) = books.acquirer.differences()
    books.take([listed(order, amount=2)], made_at=books.clock.now + timedelta(minutes=1))
    decide = books.acquirer.decide
    told = {"reason": "looked it up", "by": MAKER}
    refused(409, "no-open-difference", lambda: run(decide(row.number, "CORRECTED", excess=row.excess, **told)))
    assert run(decide(row.number, "CORRECTED", excess=row.excess + 1, **told)).state == "CORRECTED"
    assert verified(books) == []
