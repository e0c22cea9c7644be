"""A reversal gives the money back once, whatever is repeated, lost or overtaken."""

from __future__ import annotations

import pytest

from shetab.message import Message
from shetab.reversal import repeated, reversal_advice
from switch.service import RunningSwitch
from tests.support.acquirer import Acquirer
from tests.switch.conftest import OPENING, Customer


def balance(switch: RunningSwitch, customer: Customer) -> int:
    return switch.admin.account(customer.account.iban).balance


def advice_for(acquirer: Acquirer, request: Message) -> Message:
    return reversal_advice(request, stan=acquirer.next_stan(), transmission_time="0101000000")


@pytest.fixture
def sale(acquirer: Acquirer, customer: Customer) -> Message:
    return acquirer.sale(customer.card, 150_000)


def test_an_approved_sale_is_taken_back(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    assert acquirer.ask(sale)[39] == "00"
    answer = acquirer.ask(advice_for(acquirer, sale))
    assert (answer.mti, answer[39]) == ("0430", "00")
    assert balance(switch, customer) == OPENING
    assert switch.admin.intermediary(acquirer.code).balance == 0
    states = [(found.kind, found.state) for found in switch.admin.transactions(reference=sale[62])]
    assert states == [("sale", "reversed"), ("reversal", "approved")]
    (line,) = switch.admin.merchant_totals(acquirer.code)
    assert (line.sales, line.amount, line.reversed) == (0, 0, 1)


def test_repeats_get_the_same_answer_and_restore_once(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    acquirer.ask(sale)
    advice = advice_for(acquirer, sale)
    acquirer.send(advice)
    first = acquirer.receive_raw()
    for second in range(3):
        acquirer.send(repeated(advice, transmission_time=f"01010000{second:02d}"))
        assert acquirer.receive_raw() == first
    assert balance(switch, customer) == OPENING


def test_a_repeat_whose_first_was_lost_is_the_first(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    acquirer.ask(sale)
    answer = acquirer.ask(repeated(advice_for(acquirer, sale), transmission_time="0101000100"))
    assert answer[39] == "00"
    assert balance(switch, customer) == OPENING


def test_a_second_reversal_of_the_same_sale_restores_nothing(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    acquirer.ask(sale)
    assert acquirer.ask(advice_for(acquirer, sale))[39] == "00"
    assert acquirer.ask(advice_for(acquirer, sale))[39] == "94"
    assert balance(switch, customer) == OPENING


def test_a_sale_repeated_after_its_reversal_stays_reversed(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    acquirer.ask(sale)
    acquirer.ask(advice_for(acquirer, sale))
    acquirer.ask(repeated(sale, transmission_time="0101000200"))
    assert balance(switch, customer) == OPENING


def test_a_reversal_that_overtakes_its_sale_keeps_the_money_where_it_is(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
) -> None:
    advice = advice_for(acquirer, sale)
    assert acquirer.ask(advice)[39] == "25"
    assert acquirer.ask(sale)[39] == "05"
    assert acquirer.ask(sale)[39] == "05"
    assert acquirer.ask(repeated(advice, transmission_time="0101000300"))[39] == "25"
    assert balance(switch, customer) == OPENING
    assert switch.admin.transactions(reference=sale[62])[0].state == "forestalled"


def test_a_refused_sale_has_nothing_to_give_back(switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
    refused = acquirer.sale(customer.card, OPENING + 1)
    assert acquirer.ask(refused)[39] == "51"
    assert acquirer.ask(advice_for(acquirer, refused))[39] == "00"
    assert balance(switch, customer) == OPENING


class TestOneThingWrong:
    @pytest.mark.parametrize(
        ("changed", "rc"),
        [
            ({4: "000000150001"}, "13"),
            ({2: "6037701000000007"}, "14"),
            ({2: "6037701000000008"}, "14"),
            ({12: "000000"}, "25"),
            ({41: "T0000009"}, "25"),
            ({32: "621986"}, "58"),
            ({95: "0" * 42}, "12"),
        ],
    )
    def test_nothing_is_given_back(
        self,
        switch: RunningSwitch,
        acquirer: Acquirer,
        customer: Customer,
        sale: Message,
        changed: dict[int, str],
        rc: str,
    ) -> None:
        acquirer.ask(sale)
        advice = advice_for(acquirer, sale)
        assert acquirer.ask(Message("0420", {**advice.fields, **changed}))[39] == rc
        assert balance(switch, customer) == OPENING - 150_000

    @pytest.mark.parametrize("mti", ["0420", "0800"])
    def test_de_90_must_name_a_sale(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message, mti: str
    ) -> None:
        acquirer.ask(sale)
        advice = advice_for(acquirer, sale)
        assert acquirer.ask(Message("0420", {**advice.fields, 90: mti + advice[90][4:]}))[39] == "12"
        assert balance(switch, customer) == OPENING - 150_000

    def test_de_90_of_another_acquirer(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
    ) -> None:
        acquirer.ask(sale)
        advice = advice_for(acquirer, sale)
        other = advice[90][:20] + "621986".zfill(11) + advice[90][31:]
        assert acquirer.ask(Message("0420", {**advice.fields, 90: other}))[39] == "12"
        assert balance(switch, customer) == OPENING - 150_000

    def test_a_trace_of_another_reversal(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer, sale: Message
    ) -> None:
        acquirer.ask(sale)
        other = acquirer.sale(customer.card, 1_000)
        acquirer.ask(other)
        advice = advice_for(acquirer, sale)
        acquirer.ask(advice)
        used = reversal_advice(other, stan=advice[11], transmission_time="0101000000")
        assert acquirer.ask(used)[39] == "94"
        assert balance(switch, customer) == OPENING - 1_000
