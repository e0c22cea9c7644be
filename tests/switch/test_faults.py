"""Faults on demand: each does to the next messages what it says, and the books stay right."""

from __future__ import annotations

import pytest

from runtime.problems import Problem
from shetab.errors import DialectError, FramingError
from shetab.message import Message
from shetab.reversal import repeated, reversal_advice
from switch.faults import Fault, FaultPlan, Kind
from switch.service import RunningSwitch
from tests.support.acquirer import Acquirer
from tests.switch.conftest import OPENING, Customer


def balance(switch: RunningSwitch, customer: Customer) -> int:
    return switch.admin.account(customer.account.iban).balance


@pytest.fixture
def sale(acquirer: Acquirer, customer: Customer) -> Message:
    return acquirer.sale(customer.card, 150_000)


@pytest.mark.parametrize(
    "idle",
    [
        {"kind": "delay"},
        {"kind": "alter"},
        {"kind": "alter", "fields": {1: "x"}},
        {"kind": "alter", "fields": {129: "x"}},
    ],
)
def test_a_fault_that_would_do_nothing_is_none(idle: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needs|numbered"):
        Fault.model_validate({"mti": "0200", **idle})


def test_ignore_loses_the_request(switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message) -> None:
    switch.admin.add_fault("0200", "ignore")
    acquirer.send(sale)
    assert acquirer.is_silent()
    assert balance(switch, customer) == OPENING
    assert acquirer.ask(sale)[39] == "00"


def test_drop_loses_the_answer_and_a_repeat_gets_it(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    switch.admin.add_fault("0200", "drop")
    acquirer.send(sale)
    assert acquirer.is_silent()
    assert balance(switch, customer) == OPENING - 150_000
    assert acquirer.ask(repeated(sale, transmission_time="0101000000"))[39] == "00"
    assert balance(switch, customer) == OPENING - 150_000


def test_drop_of_reversal_answers_until_one_gets_through(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    acquirer.ask(sale)
    switch.admin.add_fault("042x", "drop", count=2)
    advice = reversal_advice(sale, stan=acquirer.next_stan(), transmission_time="0101000000")
    acquirer.send(advice)
    acquirer.send(repeated(advice, transmission_time="0101000001"))
    assert acquirer.is_silent()
    assert switch.admin.faults() == []
    assert acquirer.ask(repeated(advice, transmission_time="0101000002"))[39] == "00"
    assert balance(switch, customer) == OPENING


def test_delay_lets_others_pass(switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message) -> None:
    switch.admin.add_fault("0200", "delay", seconds=1)
    acquirer.send(sale)
    assert acquirer.ask(acquirer.network("301"))[39] == "00"
    late = acquirer.receive()
    acquirer.dialect.check_echo(sale, late)
    assert late[39] == "00"


def test_a_delayed_answer_to_a_connection_that_is_gone(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    switch.admin.add_fault("0200", "delay", seconds=0.2)
    acquirer.send(sale)
    assert acquirer.ask(acquirer.network("301"))[39] == "00"
    switch.admin.break_connections()
    with pytest.raises(ConnectionError):
        acquirer.receive_raw()
    with acquirer as again:
        assert again.is_silent(0.5)


def test_repeat_answers_twice(switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message) -> None:
    switch.admin.add_fault("0200", "repeat")
    acquirer.send(sale)
    assert acquirer.receive_raw() == acquirer.receive_raw()
    assert balance(switch, customer) == OPENING - 150_000


def test_disconnect_breaks_the_line_after_the_debit(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    switch.admin.add_fault("0200", "disconnect")
    acquirer.send(sale)
    with pytest.raises(ConnectionError):
        acquirer.receive_raw()
    assert balance(switch, customer) == OPENING - 150_000


def test_corrupt_mac(switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message) -> None:
    switch.admin.add_fault("0200", "corrupt_mac")
    acquirer.send(sale)
    with pytest.raises(AssertionError, match="wrong MAC"):
        acquirer.receive()


def test_garble(switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message) -> None:
    switch.admin.add_fault("0200", "garble")
    acquirer.send(sale)
    raw = acquirer.receive_raw()
    with pytest.raises(DialectError):
        acquirer.dialect.decode(raw)


def test_wrong_stan_under_a_right_mac(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    switch.admin.add_fault("0200", "wrong_stan")
    acquirer.send(sale)
    answer = acquirer.receive()
    assert int(answer[11]) == int(sale[11]) + 1
    assert acquirer.dialect.match_key(answer) != acquirer.dialect.match_key(sale)


def test_alter_changes_what_it_is_told_under_a_right_mac(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    switch.admin.add_fault("0200", "alter", changed={4: "000000150001"})
    acquirer.send(sale)
    assert acquirer.receive()[4] == "000000150001"


def test_refuse_books_nothing(switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message) -> None:
    switch.admin.add_fault("0200", "refuse", rc="91")
    assert acquirer.ask(sale)[39] == "91"
    assert acquirer.ask(sale)[39] == "91"
    assert balance(switch, customer) == OPENING


def test_an_answer_that_cannot_be_built_is_counted_and_the_line_goes_on(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    switch.admin.add_fault("0200", "alter", changed={4: "x"})
    acquirer.send(sale)
    assert acquirer.is_silent()
    assert switch.admin.statistics()["dropped"]["failed"] == 1
    assert acquirer.ask(acquirer.network("301"))[39] == "00"


class TestPlan:
    def test_first_come_first_served_and_counted(self) -> None:
        plan = FaultPlan()
        plan.add(Fault(mti="0200", kind="drop", count=2))
        plan.add(Fault(mti="xxxx", kind="repeat"))
        taken = [plan.take(mti) for mti in ("0200", "0420", "0200", "0200")]
        assert [fault and fault.kind for fault in taken] == ["drop", "repeat", "drop", None]

    def test_clear(self, switch: RunningSwitch) -> None:
        switch.admin.add_fault("0200", "drop", count=3)
        assert [fault.count for fault in switch.admin.faults()] == [3]
        switch.admin.clear_faults()
        assert switch.admin.faults() == []

    @pytest.mark.parametrize(
        "body",
        [
            {"mti": "0200", "kind": "explode"},
            {"mti": "02*0", "kind": "drop"},
            {"mti": "0200", "kind": "drop", "count": 0},
            {"mti": "0200", "kind": "delay", "seconds": -1},
            {"mti": "0200", "kind": "drop", "more": 1},
        ],
    )
    def test_what_is_no_fault_is_refused(self, switch: RunningSwitch, body: dict[str, object]) -> None:
        with pytest.raises(Problem) as refusal:
            switch.admin._call("POST", "/v1/faults", body)
        assert refusal.value.status == 422


def test_a_fault_of_one_card_leaves_the_others_alone(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer
) -> None:
    last = customer.card.pan.reveal()[-4:]
    other = "0000" if last != "0000" else "1111"
    switch.admin.add(Fault(mti="0200", kind="refuse", rc="61", card=other))
    assert acquirer.ask(acquirer.sale(customer.card, 1_000))[39] == "00"
    switch.admin.add(Fault(mti="0200", kind="refuse", rc="62", card=last))
    assert acquirer.ask(acquirer.sale(customer.card, 1_000))[39] == "62"
    assert [fault.card for fault in switch.admin.faults()] == [other]


def test_a_fault_that_is_only_probable_waits_for_its_chance() -> None:
    chances = iter([0.9, 0.2, 0.1])
    plan = FaultPlan(chance=lambda: next(chances))
    plan.add(Fault(mti="0200", kind="drop", probability=0.5, count=2))
    assert [plan.take("0200") is not None for _ in range(3)] == [False, True, True]
    assert plan.waiting() == []


def test_an_answer_of_one_rial_more_is_told_from_the_right_one_by_its_amount_alone(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    switch.admin.add_fault("0200", "wrong_amount")
    with pytest.raises(DialectError, match="field 4: must_equal_the_request"):
        acquirer.ask(sale)
    assert balance(switch, customer) == OPENING - 150_000


@pytest.mark.parametrize("kind", ["partial", "bad_length"])
def test_an_answer_that_is_not_whole_is_no_answer_and_the_sale_stands(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message, kind: Kind
) -> None:
    switch.admin.add_fault("0200", kind)
    with pytest.raises((FramingError, ConnectionError, EOFError)):
        acquirer.ask(sale)
    assert balance(switch, customer) == OPENING - 150_000
