"""What a network counts in a day whose books are made up: its payment is booked by the change, once, on both databases.

The network reckons for itself and is asked by the real worker; receivable comes to nothing again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from gateway.acquirer.network_pay import book_net
from gateway.acquirer.tables import network_payments
from gateway.routing import SWITCH
from gateway.settling.days import DayState, end_of
from gateway.states import OrderState
from kwbp.codes import EntryKind
from tests.gateway.acquirer.books import DAY, MAKER, NEXT, SENDER, Books, listed
from tests.gateway.acquirer.network import Network, compared
from tests.gateway.conftest import run

SALE = EntryKind.SALE


def balance(books: Books, account: str) -> int:
    return {each.account: each.balance for each in books.acquirer.balances(None)}.get(account, 0)


def booked(books: Books) -> list[tuple[int, int]]:
    with books.store.reading() as connection:
        query = select(network_payments.c.part, network_payments.c.net).order_by(network_payments.c.part)
        return [tuple(row) for row in connection.execute(query)]


def finished_day(books: Books, network: Network) -> None:
    """A sale of 100,000, its day closed with the network and paid out."""
    books.clock.now = end_of(DAY) + timedelta(hours=1)
    books.sale(100_000)
    network.count("M-1", DAY, SALE, 100_000)
    run(compared(books, network))
    run(books.acquirer.payouts.create(by=MAKER))
    assert booked(books) == [(1, 100_000)]
    assert balance(books, "receivable:switch") == 0


def test_what_comes_late_has_the_network_asked_again_and_its_payment_booked(books: Books) -> None:
    network = Network(NEXT)
    finished_day(books, network)
    books.sale(60_000)
    network.count("M-1", DAY, SALE, 60_000)
    (row,) = books.rows()
    assert (row.state, row.booked) == (DayState.OPEN, 100_000)  # what an operator sees
    assert balance(books, "receivable:switch") == 60_000
    run(compared(books, network))
    (row,) = books.rows()
    assert (row.state, row.booked) == (DayState.CLOSED, 160_000)
    assert booked(books) == [(1, 100_000), (2, 60_000)]
    assert balance(books, "receivable:switch") == 0
    assert balance(books, "intermediary") == 160_000
    assert run(books.acquirer.verify()) == []
    # The merchant has it with its next day; nothing of that is paid by the network once more.
    books.sale(50_000, day=NEXT)
    network.count("M-1", NEXT, SALE, 50_000)
    network.today = NEXT + timedelta(days=1)
    books.clock.now = end_of(NEXT) + timedelta(hours=1)
    run(compared(books, network))
    (payout,), _ = run(books.acquirer.payouts.create(by=MAKER))
    assert payout.gross == 110_000
    assert balance(books, "receivable:switch") == 0
    assert run(books.acquirer.verify()) == []


@pytest.mark.parametrize(("days", "told"), [(150, False), (151, True)])
def test_money_of_a_day_that_is_never_compared_is_told(books: Books, days: int, *, told: bool) -> None:
    """A DE 15 of over a month ahead is read as one of a year ago."""
    with capture_logs() as logs:
        books.sale(60_000, day=books.clock.now.date() - timedelta(days=days))
    alarms = [each["event"] for each in logs if each.get("alarm")]
    assert alarms == (["money moved in a business day that is too old to be compared"] if told else [])


def test_asked_again_and_again_the_change_is_booked_once(books: Books) -> None:
    network = Network(NEXT)
    finished_day(books, network)
    books.sale(60_000)
    network.count("M-1", DAY, SALE, 60_000)
    run(compared(books, network))

    def again(connection: Connection) -> int:
        return book_net(connection, "M-1", DAY, "switch", 160_000, books.clock.now)

    assert [run(books.store.writer.run(again)) for _ in range(2)] == [0, 0]
    assert booked(books) == [(1, 100_000), (2, 60_000)]
    books.credit(books.sale(7_000), 7_000)
    network.count("M-1", DAY, SALE, 7_000)
    network.count("M-1", DAY, EntryKind.CREDIT, 7_000)
    run(compared(books, network))  # the net is the same: there is nothing to book
    assert booked(books) == [(1, 100_000), (2, 60_000)]
    assert books.rows()[0].state == DayState.CLOSED
    assert run(books.acquirer.verify()) == []


def test_money_that_goes_back_late_is_booked_as_what_the_acquirer_pays(books: Books) -> None:
    network = Network(NEXT)
    finished_day(books, network)
    books.credit(books.sale(1, day=NEXT), 130_000)
    network.count("M-1", DAY, EntryKind.CREDIT, 130_000)
    run(compared(books, network))
    assert booked(books) == [(1, 100_000), (2, -130_000)]
    assert balance(books, "receivable:switch") == 1  # the next day's
    assert run(books.acquirer.verify()) == []


def test_a_network_that_is_back_in_the_day_has_not_said_its_last_word(books: Books) -> None:
    network = Network(NEXT)
    finished_day(books, network)
    network.today = DAY  # cut back: it goes on counting
    books.sale(60_000)
    network.count("M-1", DAY, SALE, 60_000)
    run(compared(books, network))
    assert books.rows()[0].state == DayState.OPEN
    assert booked(books) == [(1, 100_000)]
    books.sale(5_000)
    network.count("M-1", DAY, SALE, 5_000)
    network.today = NEXT
    run(compared(books, network))
    assert booked(books) == [(1, 100_000), (2, 65_000)]
    assert balance(books, "receivable:switch") == 0


def test_what_the_network_does_not_agree_to_is_not_booked(books: Books) -> None:
    network = Network(NEXT)
    finished_day(books, network)
    books.sale(60_000)
    run(compared(books, network))
    assert books.rows()[0].state == DayState.OPEN
    assert booked(books) == [(1, 100_000)]
    assert balance(books, "receivable:switch") == 60_000
    # It has found it: the next comparison settles it.
    network.count("M-1", DAY, SALE, 60_000)
    books.clock.advance(3_600)
    run(compared(books, network))
    assert booked(books) == [(1, 100_000), (2, 60_000)]
    assert balance(books, "receivable:switch") == 0


def test_what_came_in_while_the_network_was_asked_is_no_part_of_its_word(books: Books) -> None:
    """Its answer is of before: the day would be closed without what came."""
    network = Network(NEXT)
    finished_day(books, network)
    books.sale(60_000)
    network.count("M-1", DAY, SALE, 60_000)
    came: list[Any] = []

    async def more() -> None:
        if len(network.asked) == 4 and not came:  # two to close it first, one that finds it over, the last word
            came.append(await books._sale(5_000, "M-1", DAY, SWITCH, OrderState.APPROVED))
            network.count("M-1", DAY, SALE, 5_000)

    network.before_answer = more
    run(compared(books, network))
    assert len(came) == 1
    assert booked(books) == [(1, 100_000), (2, 65_000)]
    assert books.rows()[0].state == DayState.CLOSED
    assert balance(books, "receivable:switch") == 0


def test_what_a_person_books_of_a_finished_day_has_its_network_asked_again(books: Books) -> None:
    network = Network(NEXT)
    books.clock.now = end_of(DAY) + timedelta(hours=1)
    order = books.sale(100_000)
    network.count("M-1", DAY, SALE, 100_000)
    run(compared(books, network))
    run(books.acquirer.payouts.create(by=MAKER))
    # The network finds out later that it was another amount.
    network.counted = {("M-1", f"{DAY:%m%d}"): [(SALE, 170_000)]}
    books.take([listed(order, amount=170_000)])
    (row,) = books.acquirer.differences(state="OPEN")
    run(books.acquirer.decide(row.number, "CORRECTED", by=SENDER, reason="it has been paid"))
    assert balance(books, "receivable:switch") == 70_000
    run(compared(books, network))
    assert booked(books) == [(1, 100_000), (2, 70_000)]
    assert (balance(books, "receivable:switch"), balance(books, "suspense")) == (0, -70_000)
    assert run(books.acquirer.verify()) == []


def test_a_route_that_nobody_knew_of_the_finished_day_is_booked_too(books: Books) -> None:
    network, host = Network(NEXT), Network(NEXT, name="host")
    finished_day(books, network)
    books.sale(60_000, route="host")
    host.count("M-1", DAY, SALE, 60_000)
    run(compared(books, network, host))
    assert [(row.route, row.booked) for row in books.rows()] == [("host", 60_000), ("switch", 100_000)]
    assert balance(books, "receivable:host") == 0
    assert run(books.acquirer.verify()) == []


def test_nobody_books_a_part_twice_or_takes_one_back(books: Books) -> None:
    network = Network(NEXT)
    finished_day(books, network)
    values = {"merchant_id": "M-1", "business_day": DAY.isoformat(), "route": "switch", "part": 1, "net": 5}
    for change in (insert(network_payments).values(**values, booked_at=books.clock.now), delete(network_payments)):
        with pytest.raises(DBAPIError):
            run(books.store.writer.run(lambda connection, change=change: connection.execute(change)))


def test_what_a_person_books_of_a_closed_day_is_paid_though_nobody_had_finished_it(books: Books) -> None:
    network = Network(NEXT)
    books.clock.now = end_of(DAY) + timedelta(hours=1)
    order = books.sale(100_000)
    network.count("M-1", DAY, SALE, 100_000)
    run(compared(books, network))
    assert books.rows()[0].state == DayState.CLOSED
    network.counted = {("M-1", f"{DAY:%m%d}"): [(SALE, 170_000)]}
    books.take([listed(order, amount=170_000)])
    (row,) = books.acquirer.differences(state="OPEN")
    run(books.acquirer.decide(row.number, "CORRECTED", by=SENDER, reason="it has been paid"))
    run(compared(books, network))
    run(books.acquirer.payouts.create(by=MAKER))
    assert booked(books) == [(1, 170_000)]
    assert (balance(books, "receivable:switch"), balance(books, "suspense")) == (0, -70_000)
    assert run(books.acquirer.verify()) == []


@pytest.mark.parametrize("finished", [False, True])
def test_what_comes_after_it_was_corrected_is_a_difference_again_and_stands_in_the_books_once(
    books: Books, finished: bool
) -> None:
    network = Network(NEXT)
    books.clock.now = end_of(DAY) + timedelta(hours=1)
    first, second = books.sale(100_000), books.sale(1_000, merchant="M-2")
    if finished:
        network.count("M-1", DAY, SALE, 100_000)
        run(compared(books, network))
        run(books.acquirer.payouts.create(by=MAKER, merchant_id="M-1"))
    else:
        network.count("M-1", DAY, SALE, 100_000)
    coming = books.approved(60_000)
    network.count("M-1", DAY, SALE, 60_000)
    books.take([listed(first), listed(second), listed(coming)])
    (row,) = books.acquirer.differences(state="OPEN")
    run(books.acquirer.decide(row.number, "CORRECTED", by=SENDER, reason="the network pays it"))
    assert balance(books, "suspense") == -60_000
    with capture_logs() as logs:
        books.acknowledged(coming)
    assert "what was corrected has come into the books" in [each["event"] for each in logs if each.get("alarm")]
    (row,) = books.acquirer.differences(state="OPEN")
    assert (row.number, row.excess) == (1, 0)
    run(books.acquirer.decide(row.number, "CORRECTED", by=SENDER, reason="it is here"))
    run(compared(books, network))
    run(books.acquirer.payouts.create(by=MAKER, merchant_id="M-1"))
    assert sum(net for _, net in booked(books)) == 160_000
    assert (balance(books, "receivable:switch"), balance(books, "suspense")) == (1_000, 0)
    assert run(books.acquirer.verify()) == []


def test_what_was_shown_and_not_booked_is_settled_by_the_movement_that_comes(books: Books) -> None:
    """Another movement's difference is left alone."""
    first, coming, other = books.sale(100_000), books.approved(60_000), books.approved(7_000)
    books.take([listed(first), listed(coming), listed(other)])
    books.acknowledged(coming)
    assert [(row.their_amount, row.state) for row in books.acquirer.differences()] == [
        (60_000, "GONE"),
        (7_000, "OPEN"),
    ]


def test_of_what_comes_with_another_amount_the_rest_is_left(books: Books) -> None:
    coming = books.approved(60_000)
    books.take([listed(coming, amount=65_000)])
    (row,) = books.acquirer.differences(state="OPEN")
    run(books.acquirer.decide(row.number, "CORRECTED", by=SENDER, reason="the network pays it"))
    books.acknowledged(coming)
    (row,) = books.acquirer.differences(state="OPEN")
    run(books.acquirer.decide(row.number, "CORRECTED", excess=5_000, by=SENDER, reason="it pays more"))
    assert (balance(books, "receivable:switch"), balance(books, "suspense")) == (65_000, -5_000)
    assert run(books.acquirer.verify()) == []


def test_what_is_explained_by_another_day_has_the_network_of_a_finished_day_asked_again(books: Books) -> None:
    network = Network(NEXT)
    books.clock.now = end_of(DAY) + timedelta(hours=1)
    first = books.sale(100_000)
    network.count("M-1", DAY, SALE, 100_000)
    run(compared(books, network))
    run(books.acquirer.payouts.create(by=MAKER))
    moved = books.sale(60_000, day=NEXT)
    network.count("M-1", DAY, SALE, 60_000)  # ours is the next day's
    books.take([listed(first), listed(moved)])
    network.today = NEXT + timedelta(days=1)
    books.clock.now = end_of(NEXT) + timedelta(hours=1)
    books.take([], day=NEXT)
    for row in books.acquirer.differences(state="OPEN"):
        run(books.acquirer.decide(row.number, "EXPLAINED", by=SENDER, reason="it is the day before's"))
    run(compared(books, network))
    run(books.acquirer.payouts.create(by=MAKER))
    assert [row.booked for row in books.rows()] == [160_000]
    assert [row.booked for row in books.rows(NEXT)] == [0]
    assert (balance(books, "receivable:switch"), balance(books, "suspense")) == (0, 0)
    assert run(books.acquirer.verify()) == []
