"""What follows a sale or a hold, at the switch: booked once, in both sides of the ledger, and counted by day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

import pytest

from shetab.jalali import IRAN_STANDARD_TIME, transmission_time
from shetab.message import Message
from shetab.reversal import confirmation_advice, repeated, reversal_advice
from shetab.subfields import Coding, OriginalDataElements
from shetab.types import Rial
from switch.movements import HELD
from switch.service import RunningSwitch
from tests.support.acquirer import MERCHANT, Acquirer
from tests.switch.conftest import OPENING, Customer

AMOUNT: Final = 150_000
XID: Final = bytes(range(20))
NOW: Final = datetime(2026, 3, 21, 12, tzinfo=UTC)
_REFUND: Final[dict[int, str | None]] = {3: "200000", 14: None, 52: None, 53: None}


class Desk:
    """An acquirer that asks about one purchase of one customer."""

    def __init__(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        self.switch = switch
        self.acquirer = acquirer
        self.customer = customer

    def order(self, amount: int = AMOUNT, *, mti: str = "0200") -> Message:
        sale = self.acquirer.sale(self.customer.card, amount, changed={62: Coding(XID).to_de62()})
        order = Message(mti, sale.fields)
        assert self.acquirer.ask(order)[39] == "00"
        return order

    def capture(self, hold: Message, amount: int) -> Message:
        coding = Coding(XID, "CAPTURE").to_de62()
        return confirmation_advice(hold, Rial(amount), coding=coding, **self._sent())

    def reversal(self, original: Message, action: str, left: int | None = None) -> Message:
        replacement = None if left is None else Rial(left)
        return reversal_advice(original, coding=Coding(XID, action).to_de62(), replacement=replacement, **self._sent())

    def credit(self, original: Message, amount: int) -> Message:
        changed = {**_REFUND, 62: Coding(XID, "CREDIT").to_de62(), 90: OriginalDataElements.of(original).to_de90()}
        return self.acquirer.sale(self.customer.card, amount, changed=changed)

    def rc(self, message: Message) -> str:
        return self.acquirer.ask(message)[39]

    def accounts(self) -> tuple[int, int]:
        """Balances of the card's account and of the acquirer's."""
        own = self.switch.admin.account(self.customer.account.iban).balance
        return own, self.switch.admin.intermediary(self.acquirer.code).balance

    def _sent(self) -> dict[str, str]:
        return {"stan": self.acquirer.next_stan(), "transmission_time": transmission_time(self.acquirer.clock)}


@pytest.fixture
def desk(switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> Desk:
    return Desk(switch, acquirer, customer)


def held(switch: RunningSwitch) -> int:
    return switch.admin.account(HELD).balance


def test_a_hold_is_captured_as_far_as_it_goes(switch: RunningSwitch, desk: Desk) -> None:
    hold = desk.order(mti="0100")
    before = held(switch)
    assert desk.accounts() == (OPENING - AMOUNT, 0)
    assert [desk.rc(desk.capture(hold, amount)) for amount in (100_000, 50_001, 50_000, 1)] == ["00", "13", "00", "13"]
    assert desk.accounts() == (OPENING - AMOUNT, AMOUNT)
    assert held(switch) == before - AMOUNT


def test_a_repeat_is_booked_once_and_answered_the_same(desk: Desk) -> None:
    hold = desk.order(mti="0100")
    capture = desk.capture(hold, AMOUNT)
    first = desk.acquirer.ask(capture)
    again = desk.acquirer.ask(repeated(capture, transmission_time="0101000000"))
    assert (first[39], again.fields) == ("00", first.fields)
    assert desk.accounts() == (OPENING - AMOUNT, AMOUNT)


def test_a_repeat_whose_first_was_lost_is_the_first(desk: Desk) -> None:
    sale = desk.order()
    assert desk.rc(repeated(desk.credit(sale, 1000), transmission_time="0101000000")) == "00"
    assert desk.accounts() == (OPENING - AMOUNT + 1000, AMOUNT - 1000)


@pytest.mark.parametrize("rc", ["91", "96"])
def test_what_could_not_be_worked_on_is_worked_on_when_it_is_repeated(
    switch: RunningSwitch, desk: Desk, rc: str
) -> None:
    """Only the repeat: a copy of the first message, which its sender may have given up, gets the answer that it had."""
    sale = desk.order()
    credit = desk.credit(sale, 1000)
    switch.admin.add_fault("0200", "refuse", rc=rc)
    assert [desk.rc(credit), desk.rc(credit)] == [rc, rc]
    assert desk.accounts() == (OPENING - AMOUNT, AMOUNT)
    again = repeated(credit, transmission_time="0101000000")
    assert [desk.rc(again), desk.rc(again), desk.rc(credit)] == ["00", "00", "00"]
    assert desk.accounts() == (OPENING - AMOUNT + 1000, AMOUNT - 1000)
    other = desk.credit(sale, 2000)
    switch.admin.add_fault("0200", "refuse", rc="05")
    assert [desk.rc(other), desk.rc(repeated(other, transmission_time="0101000000"))] == ["05", "05"]


def test_the_same_trace_for_something_else_is_refused(desk: Desk) -> None:
    sale = desk.order()
    credit = desk.credit(sale, 1000)
    assert desk.rc(credit) == "00"
    assert desk.rc(Message("0200", {**credit.fields, 4: Rial(2000).to_de4()})) == "94"


def test_what_was_credited_is_not_taken_back_too(desk: Desk) -> None:
    hold = desk.order(mti="0100")
    capture = desk.capture(hold, AMOUNT)
    desk.rc(capture)
    credit = desk.credit(capture, 50_000)
    assert [desk.rc(credit), desk.rc(desk.credit(capture, AMOUNT))] == ["00", "13"]
    assert desk.rc(desk.reversal(capture, "CAPREV")) == "12"
    assert desk.rc(desk.reversal(credit, "CREDREV")) == "00"
    assert desk.rc(desk.reversal(capture, "CAPREV")) == "00"
    assert desk.rc(desk.reversal(capture, "CAPREV")) == "12"  # it does not stand any more
    assert desk.rc(desk.reversal(hold, "AUTHREV")) == "00"
    assert desk.accounts() == (OPENING, 0)


def test_a_credit_that_was_spent_is_not_given_back(desk: Desk) -> None:
    sale = desk.order(OPENING)
    credit = desk.credit(sale, 1000)
    assert desk.rc(credit) == "00"
    desk.order(1000)
    assert desk.rc(desk.reversal(credit, "CREDREV")) == "51"


def test_a_sale_is_reversed_in_part_but_not_below_what_was_credited(desk: Desk) -> None:
    sale = desk.order()
    desk.rc(desk.credit(sale, 40_000))
    answers = [desk.rc(desk.reversal(sale, "AUTHREV", left)) for left in (AMOUNT, 39_999, 60_000, 60_000, 40_000)]
    assert answers == ["13", "13", "00", "13", "00"]
    assert desk.accounts() == (OPENING, 0)


def test_what_was_captured_is_not_released_and_not_voided(desk: Desk) -> None:
    hold = desk.order(mti="0100")
    desk.rc(desk.capture(hold, 60_000))
    assert desk.rc(desk.reversal(hold, "AUTHREV", 59_999)) == "13"
    void = reversal_advice(hold, stan=desk.acquirer.next_stan(), transmission_time="0101000000")
    assert desk.rc(void) == "12"
    assert desk.rc(desk.reversal(hold, "AUTHREV", 60_000)) == "00"
    assert desk.accounts() == (OPENING - 60_000, 60_000)


def test_a_sale_that_money_was_given_back_of_is_not_voided_too(desk: Desk) -> None:
    """Whatever the acquirer believes of its outcome: the card would get more than it paid."""
    sale = desk.order()
    credit = desk.credit(sale, 40_000)
    assert desk.rc(credit) == "00"
    void = reversal_advice(sale, stan=desk.acquirer.next_stan(), transmission_time="0101000000")
    assert desk.rc(void) == "12"
    assert desk.accounts() == (OPENING - AMOUNT + 40_000, AMOUNT - 40_000)
    assert desk.rc(desk.reversal(credit, "CREDREV")) == "00"
    void = reversal_advice(sale, stan=desk.acquirer.next_stan(), transmission_time="0101000000")
    assert desk.rc(void) == "00"  # nothing was given back of it any more
    assert desk.accounts() == (OPENING, 0)


@pytest.mark.parametrize(
    ("changed", "rc"),
    [
        ({62: Coding(bytes(20), "CREDIT").to_de62()}, "25"),  # of another purchase
        ({62: Coding(XID, "ELSE").to_de62()}, "12"),
        ({62: Coding(XID).to_de62()}, "12"),
        ({90: None}, "12"),
        ({42: "M2".ljust(15)}, "12"),
        ({4: "000000000000"}, "13"),
    ],
)
def test_one_thing_wrong_books_nothing(desk: Desk, changed: dict[int, str | None], rc: str) -> None:
    sale = desk.order()
    fields: dict[int, str | None] = {**desk.credit(sale, 1000).fields, **changed}
    wrong = Message("0200", {field: value for field, value in fields.items() if value is not None})
    assert desk.rc(wrong) == rc
    assert desk.accounts() == (OPENING - AMOUNT, AMOUNT)


def test_a_hold_that_was_reversed_before_it_came_is_not_made(desk: Desk) -> None:
    sale = desk.acquirer.sale(desk.customer.card, AMOUNT, changed={62: Coding(XID).to_de62()})
    hold = Message("0100", sale.fields)
    assert desk.rc(reversal_advice(hold, stan=desk.acquirer.next_stan(), transmission_time="0101000000")) == "25"
    assert desk.rc(hold) == "05"
    assert desk.accounts() == (OPENING, 0)


# --- reconciliation ---------------------------------------------------------------------------------------------------


def totals(acquirer: Acquirer, day: date, **changed: str) -> Message:
    """A 0500 of the merchant with the sums in `changed`, otherwise nothing."""
    sale = acquirer.network("301")
    fields = {field: sale[field] for field in (7, 11, 12, 13)}
    fields |= {15: day.strftime("%m%d"), 32: acquirer.code, 42: MERCHANT.ljust(15), 50: "364", 99: acquirer.code}
    fields |= dict.fromkeys(range(74, 82), "0" * 10) | dict.fromkeys(range(82, 86), "0" * 12)
    fields |= dict.fromkeys(range(86, 90), "0" * 16) | {97: f"C{0:016d}"}
    return Message("0500", fields | {int(field[2:]): value for field, value in changed.items()})


TODAY: Final = datetime.now(IRAN_STANDARD_TIME).date()


@pytest.fixture
def one_day(switch: RunningSwitch) -> Iterator[None]:
    """The network counts in this day however late it is: midnight in Iran does not come between two messages."""
    switch.admin.cut_over(TODAY)
    yield
    switch.admin.cut_over(None)


@pytest.mark.usefixtures("one_day")
def test_totals_are_compared_and_told(desk: Desk) -> None:
    empty = desk.acquirer.ask(totals(desk.acquirer, TODAY))
    assert (empty[39], empty[66], empty[97]) == ("00", "1", f"C{0:016d}")
    sale = desk.order()
    desk.rc(desk.credit(sale, 50_000))
    lost = desk.order(70_000)
    void = reversal_advice(lost, stan=desk.acquirer.next_stan(), transmission_time="0101000000")
    assert desk.rc(void) == "00"  # nobody knew its outcome: it never was
    wrong = desk.acquirer.ask(totals(desk.acquirer, TODAY))
    assert (wrong[39], wrong[66]) == ("00", "2")
    sums = {f"de{field}": wrong[field] for field in (74, 75, 76, 77, 86, 87, 88, 89, 97)}
    assert sums["de76"] == f"{1:010d}"
    assert sums["de97"] == f"C{100_000:016d}"
    assert desk.acquirer.ask(totals(desk.acquirer, TODAY, **sums))[66] == "1"
    assert desk.accounts()[1] == 100_000


@pytest.mark.usefixtures("one_day")
def test_a_cut_over_moves_what_comes_after_it(switch: RunningSwitch, desk: Desk) -> None:
    tomorrow = TODAY + timedelta(days=1)
    sale = desk.order()
    assert switch.admin.cut_over(tomorrow) == switch.admin.business_day() == tomorrow
    try:
        credit = desk.acquirer.ask(desk.credit(sale, 50_000))
        assert credit[15] == tomorrow.strftime("%m%d")
        nets = [desk.acquirer.ask(totals(desk.acquirer, day)) for day in (TODAY, tomorrow)]
    finally:
        switch.admin.cut_over(None)
    assert [each[97] for each in nets] == [f"C{AMOUNT:016d}", f"D{50_000:016d}"]
    assert {each[15] for each in nets} == {tomorrow.strftime("%m%d")}


def test_another_acquirers_totals_are_not_told(switch: RunningSwitch, desk: Desk) -> None:
    asked = totals(desk.acquirer, TODAY)
    answer = desk.acquirer.ask(Message("0500", {**asked.fields, 32: "603770"}))
    assert (answer[39], answer[66], 97 in answer) == ("58", "3", False)
    nonsense = desk.acquirer.ask(Message("0500", {**totals(desk.acquirer, TODAY).fields, 15: "0231"}))
    assert (nonsense[39], nonsense[66]) == ("12", "3")
