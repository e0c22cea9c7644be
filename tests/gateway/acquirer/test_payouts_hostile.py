"""Payouts when things go wrong: answers about something else, names that look alike, two gateways at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from gateway.acquirer.bank_answer import Outcome
from gateway.acquirer.payout import Payout, PayoutState
from gateway.merchants import MerchantRegistry
from gateway.open_work import open_work
from runtime.problems import Problem
from tests.gateway.acquirer.books import MAKER, NEXT, SENDER, Books, listed
from tests.gateway.conftest import SHOP, run
from tests.support.databases import gateway_database
from tests.support.payment_site import wait_for
from tests.support.pki_factory import IBAN

FIRST = "KWBP-20260320-M-1"
SECOND = f"{FIRST}+2"


def refused(kind: str, call: Callable[[], Any]) -> None:
    with pytest.raises(Problem) as problem:
        call()
    assert problem.value.type.endswith(kind)


def paid_out(books: Books) -> None:
    books.sale()
    books.close()
    run(books.acquirer.payouts.create(by=MAKER))


def file_of(books: Books) -> Any:
    books.clock.advance(1)
    return run(books.acquirer.payouts.make_file(by=MAKER))[0]


def send(books: Books, made: Any) -> list[Payout]:
    return run(books.acquirer.payouts.sent(made.number, digest=made.digest, by=SENDER))


def answered(books: Books, *outcomes: Outcome) -> list[Payout]:
    return run(books.acquirer.payouts.answered(outcomes, by=MAKER))


def test_a_second_attempt_has_no_other_merchants_reference(books: Books) -> None:
    """M-1's second attempt and M-1-2's first one are two payouts."""
    other = replace(SHOP, merchant_id="M-1-2", terminal_id="T0000003", iban=IBAN)
    run(MerchantRegistry(books.store).register(other, books.clock.now))
    books.sale()
    books.sale(merchant="M-1-2")
    books.close()
    run(books.acquirer.payouts.create(by=MAKER))
    send(books, file_of(books))
    answered(books, Outcome(FIRST, "RETURNED"))
    assert run(books.acquirer.payouts.again(FIRST, by=MAKER)).reference == SECOND
    assert {each.reference for each in books.acquirer.payouts.all()} == {FIRST, SECOND, f"{FIRST}-2"}


def test_an_answer_about_an_earlier_file_says_nothing_of_the_payouts_of_this_one(books: Books) -> None:
    """The bank refused a file that was withdrawn; its payouts are on their way in the next: returned they would be
    paid again, and so twice."""
    paid_out(books)
    earlier = file_of(books)
    run(books.acquirer.payouts.withdraw(earlier.number, by=MAKER))
    made = file_of(books)
    send(books, made)
    refused("another-file", lambda: answered(books, Outcome(FIRST, "RETURNED", "AC04", earlier.message_id)))
    assert [each.state for each in books.acquirer.payouts.all()] == [PayoutState.SENT]
    (payout,) = answered(books, Outcome(FIRST, "PAID", "", made.message_id))
    assert payout.state is PayoutState.PAID


def test_a_file_that_was_withdrawn_has_no_table(books: Books) -> None:
    paid_out(books)
    made = file_of(books)
    run(books.acquirer.payouts.withdraw(made.number, by=MAKER))
    refused("file-withdrawn", lambda: books.acquirer.payouts.file_csv(made.number))


def test_a_bank_that_pays_what_it_returned_is_an_alarm(books: Books) -> None:
    paid_out(books)
    send(books, file_of(books))
    answered(books, Outcome(FIRST, "RETURNED"))
    with structlog.testing.capture_logs() as logs:
        refused("payout-state", lambda: answered(books, Outcome(FIRST, "PAID")))
    assert [(each["payout"], each["alarm"]) for each in logs] == [(FIRST, True)]
    assert books.acquirer.payouts.all()[0].state is PayoutState.RETURNED


def test_what_waits_for_a_person_is_measured(books: Books) -> None:
    def measured() -> tuple[int, int, Any]:
        found = run(open_work(books.store, books.clock.now))
        return found.differences, found.returned_payouts, found.unanswered_since

    assert measured() == (0, 0, None)
    books.sale(day=NEXT)
    books.take([], day=NEXT)
    paid_out(books)
    send(books, file_of(books))
    assert measured() == (1, 0, books.clock.now)
    answered(books, Outcome(FIRST, "RETURNED"))
    (row,) = books.acquirer.differences()
    run(books.acquirer.decide(row.number, "EXPLAINED", reason="late", by=MAKER))
    assert measured() == (0, 1, None)
    run(books.acquirer.payouts.again(FIRST, by=MAKER))
    assert measured() == (0, 0, None)


# --- two gateways -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path, invoice: bytes) -> Iterator[tuple[Books, Books]]:
    """The same books, open at two gateways."""
    url = gateway_database("postgresql", tmp_path)
    both = Books.open(url, tmp_path, invoice), Books.open(url, tmp_path, invoice)
    yield both
    for each in both:
        each.store.close()


@contextmanager
def overtaken(books: Books, step: Callable[[], Any]) -> Iterator[list[Any]]:
    """What the block does is not committed before `step`, by another gateway, waits for it."""
    ended: list[Any] = []

    def other() -> None:
        try:
            ended.append(step())
        except Problem as problem:
            ended.append(problem)

    thread = threading.Thread(target=other)

    def waits() -> bool:
        with books.store.reading() as connection:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return bool(connection.execute(text(query)).scalar_one())

    def before_the_end(_connection: Any) -> None:
        thread.start()
        wait_for(lambda: waits() or not thread.is_alive())

    inner = books.store.writer.run

    def run_it(job: Callable[[Any], Any]) -> Any:
        def with_other(connection: Any) -> Any:
            done = job(connection)
            before_the_end(connection)
            return done

        return inner(with_other)

    books.store.writer.run = run_it  # type: ignore[method-assign]
    try:
        yield ended
    finally:
        books.store.writer.run = inner  # type: ignore[method-assign]
        thread.join()


def test_a_file_that_is_being_sent_cannot_be_withdrawn_at_the_other_gateway(two: tuple[Books, Books]) -> None:
    one, other = two
    paid_out(one)
    made = file_of(one)
    withdraw = other.acquirer.payouts.withdraw
    with overtaken(one, lambda: run(withdraw(made.number, by=MAKER))) as ended:
        send(one, made)
    (payout,) = one.acquirer.payouts.all()
    assert (payout.state, payout.file, payout.iban) == (PayoutState.SENT, made.number, IBAN)
    assert isinstance(ended[0], Problem)


def test_the_same_answer_at_two_gateways_at_once_is_booked_once(two: tuple[Books, Books]) -> None:
    one, other = two
    paid_out(one)
    send(one, file_of(one))
    with overtaken(one, lambda: answered(other, Outcome(FIRST, "PAID"))) as ended:
        (first,) = answered(one, Outcome(FIRST, "PAID"))
    assert ended == [[first]]
    assert run(one.acquirer.verify()) == []


def test_a_returned_payout_is_paid_again_by_one_of_two_gateways(two: tuple[Books, Books]) -> None:
    one, other = two
    paid_out(one)
    send(one, file_of(one))
    answered(one, Outcome(FIRST, "RETURNED"))
    with overtaken(one, lambda: run(other.acquirer.payouts.again(FIRST, by=SENDER))) as ended:
        run(one.acquirer.payouts.again(FIRST, by=MAKER))
    assert isinstance(ended[0], Problem)
    assert [each.reference for each in one.acquirer.payouts.all()] == [FIRST, SECOND]


def test_a_day_is_paid_out_by_one_of_two_gateways(two: tuple[Books, Books]) -> None:
    one, other = two
    one.sale()
    one.close()
    with overtaken(one, lambda: run(other.acquirer.payouts.create(by=SENDER))) as ended:
        run(one.acquirer.payouts.create(by=MAKER))
    assert ended == [([], [])]
    assert len(one.acquirer.payouts.all()) == 1
    assert run(one.acquirer.verify()) == []


def test_payouts_are_in_the_file_of_one_of_two_gateways(two: tuple[Books, Books]) -> None:
    one, other = two
    paid_out(one)
    with overtaken(one, lambda: run(other.acquirer.payouts.make_file(by=SENDER))) as ended:
        made = file_of(one)
    assert isinstance(ended[0], Problem)
    assert [each.number for each in one.acquirer.payouts.files()] == [made.number]


def test_a_difference_that_is_being_decided_is_not_opened_by_a_list_at_the_other_gateway(
    two: tuple[Books, Books],
) -> None:
    one, other = two
    one.sale()
    one.take([])
    (row,) = one.acquirer.differences()
    newer = one.list_of([], made_at=one.clock.now.replace(hour=7))
    with overtaken(one, lambda: run(other.acquirer.take_list(newer, route="switch", by=SENDER))) as ended:
        run(one.acquirer.decide(row.number, "CORRECTED", reason="nobody's", by=MAKER))
    assert ended[0].open_differences == 0
    assert [each.state for each in one.acquirer.differences()] == ["CORRECTED"]
    assert run(one.acquirer.verify()) == []


def test_of_two_lists_that_come_at_once_the_newer_one_counts(two: tuple[Books, Books]) -> None:
    """Each gateway has one of them: the older must not undo what the newer shows, though neither saw the other."""
    one, other = two
    order = one.sale()
    one.take([listed(order, amount=1)])
    hour = one.clock.now.replace(minute=0) + timedelta(hours=1)
    newer = one.list_of([listed(order, amount=2)], made_at=hour + timedelta(hours=1))
    older = one.list_of([listed(order)], made_at=hour)
    with overtaken(one, lambda: run(other.acquirer.take_list(older, route="switch", by=SENDER))) as ended:
        run(one.acquirer.take_list(newer, route="switch", by=SENDER))
    assert isinstance(ended[0], Problem)
    (row,) = one.acquirer.differences()
    assert (row.state, row.their_amount) == ("OPEN", 2)
