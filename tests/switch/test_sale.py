"""A sale debits once, what is wrong with it decides its response code, and refused sales move nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from runtime.database import open_database
from shetab.message import Message
from shetab.pin_block import PinBlockFormat
from shetab.reversal import repeated
from shetab.subfields import AdditionalData
from shetab.types import Cvv2, Expiry, Pin, Rial
from switch.service import RunningSwitch, database_path
from tests.support.acquirer import MERCHANT, Acquirer
from tests.switch.conftest import OPENING, Customer, Zone


def balance(switch: RunningSwitch, customer: Customer) -> int:
    return switch.admin.account(customer.account.iban).balance


@pytest.mark.parametrize("block_format", [PinBlockFormat.FORMAT_0, PinBlockFormat.FORMAT_3])
def test_an_approved_sale(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, block_format: PinBlockFormat
) -> None:
    request = acquirer.sale(customer.card, 150_000, block_format=block_format)
    answer = acquirer.ask(request)
    assert (answer.mti, answer[39], len(answer[38])) == ("0210", "00", 6)
    assert balance(switch, customer) == OPENING - 150_000
    assert switch.admin.intermediary(acquirer.code).balance == 150_000
    assert [(line.merchant, line.sales, line.amount) for line in switch.admin.merchant_totals(acquirer.code)] == [
        (MERCHANT, 1, 150_000)
    ]
    (recorded,) = switch.admin.transactions(reference=request[62])
    assert (recorded.state, recorded.masked_pan) == ("approved", customer.card.masked_pan)
    assert [entry["amount"] for entry in switch.admin.statement(customer.account.iban)] == [OPENING, -150_000]


def test_the_last_rial_can_be_spent_and_not_one_more(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer
) -> None:
    assert acquirer.ask(acquirer.sale(customer.card, OPENING + 1))[39] == "51"
    assert acquirer.ask(acquirer.sale(customer.card, OPENING))[39] == "00"
    assert acquirer.ask(acquirer.sale(customer.card, 1))[39] == "51"
    assert balance(switch, customer) == 0


def _other(digits: str) -> str:
    return digits[:-1] + str((int(digits[-1]) + 1) % 10)


class TestOneThingWrong:
    """Each request differs from an honest one in one field."""

    @pytest.mark.parametrize(
        ("changed", "rc"),
        [
            ({3: "310000"}, "12"),
            ({4: "0" * 12}, "13"),
            ({2: "6037701000000007"}, "14"),  # right bank, no such card
            ({2: "6037701000000008"}, "14"),  # Luhn
            ({2: "4000000000000002"}, "15"),  # no bank of the network
            ({14: None}, "54"),
            ({48: "      00"}, "14"),
            ({48: "12345678"}, "14"),
            ({52: None, 53: None}, "55"),
            ({52: "0" * 16}, "63"),
            ({53: "0001010000000000"}, "63"),  # says format 0, is format 3
            ({53: "0901010000000000"}, "63"),
            ({53: "0301010000000001"}, "63"),
            ({32: "621986"}, "58"),  # another acquirer's name
        ],
    )
    def test_is_refused(
        self,
        switch: RunningSwitch,
        acquirer: Acquirer,
        customer: Customer,
        changed: dict[int, str | None],
        rc: str,
    ) -> None:
        answer = acquirer.ask(acquirer.sale(customer.card, 1_000, changed=changed))
        assert answer[39] == rc
        assert 38 not in answer
        assert balance(switch, customer) == OPENING

    def test_wrong_expiry(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        later = f"{(int(customer.card.expiry.reveal()[:2]) + 1) % 100:02d}{customer.card.expiry.reveal()[2:]}"
        assert acquirer.ask(acquirer.sale(replace(customer.card, expiry=Expiry(later)), 1_000))[39] == "54"

    def test_wrong_cvv2(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        wrong = AdditionalData(Cvv2(_other(customer.card.cvv2.reveal()))).to_de48()
        assert acquirer.ask(acquirer.sale(customer.card, 1_000, changed={48: wrong}))[39] == "14"

    def test_wrong_pin(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        wrong = replace(customer.card, pin2=Pin(_other(customer.card.pin2.reveal())))
        assert acquirer.ask(acquirer.sale(wrong, 1_000))[39] == "55"
        assert balance(switch, customer) == OPENING

    def test_pin_block_under_another_key(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        acquirer.pin_key = bytes(reversed(acquirer.pin_key))
        assert acquirer.ask(acquirer.sale(customer.card, 1_000))[39] == "63"
        assert switch.admin.card(customer.card.card_id).wrong_tries == 0

    def test_blocked_card(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        switch.admin.block_card(customer.card.card_id)
        assert acquirer.ask(acquirer.sale(customer.card, 1_000))[39] == "62"
        switch.admin.unblock_card(customer.card.card_id)
        assert acquirer.ask(acquirer.sale(customer.card, 1_000))[39] == "00"

    def test_not_signed_on(self, line: Acquirer, customer: Customer) -> None:
        with line:
            assert line.ask(line.sale(customer.card, 1_000))[39] == "92"


class TestWrongTries:
    def test_the_third_wrong_value_locks_whatever_it_was(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer
    ) -> None:
        wrong_pin = replace(customer.card, pin2=Pin("1234"))
        wrong_cvv2 = {48: AdditionalData(Cvv2(_other(customer.card.cvv2.reveal()))).to_de48()}
        codes = [
            acquirer.ask(acquirer.sale(wrong_pin, 1_000))[39],
            acquirer.ask(acquirer.sale(customer.card, 1_000, changed={**wrong_cvv2}))[39],
            acquirer.ask(acquirer.sale(wrong_pin, 1_000))[39],
            acquirer.ask(acquirer.sale(customer.card, 1_000))[39],
        ]
        assert codes == ["55", "14", "75", "75"]
        assert balance(switch, customer) == OPENING

    def test_a_right_try_forgets_the_wrong_ones(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer
    ) -> None:
        wrong = replace(customer.card, pin2=Pin("1234"))
        for card in (wrong, wrong, customer.card, wrong):
            last = acquirer.ask(acquirer.sale(card, 1_000))[39]
        assert last == "55"
        assert switch.admin.card(customer.card.card_id).wrong_tries == 1


class TestRepeats:
    def test_the_same_request_again_gets_the_same_answer_and_debits_once(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer
    ) -> None:
        request = acquirer.sale(customer.card, 150_000)
        acquirer.send(request)
        first = acquirer.receive_raw()
        acquirer.send(repeated(request, transmission_time="0101000000"))
        acquirer.send(request)
        assert [acquirer.receive_raw(), acquirer.receive_raw()] == [first, first]
        assert balance(switch, customer) == OPENING - 150_000

    def test_a_hundred_at_once_are_one(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        request = acquirer.sale(customer.card, 1_000)
        for _ in range(100):
            acquirer.send(request)
        assert len({acquirer.receive_raw() for _ in range(100)}) == 1
        assert balance(switch, customer) == OPENING - 1_000

    @pytest.mark.parametrize("changed", [{4: "000000001001"}, {42: "M2".ljust(15)}, {62: "OTHER"}])
    def test_another_request_with_a_used_trace_is_refused(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer, changed: dict[int, str]
    ) -> None:
        request = acquirer.sale(customer.card, 1_000)
        assert acquirer.ask(request)[39] == "00"
        assert acquirer.ask(Message("0200", {**request.fields, **changed}))[39] == "94"
        assert balance(switch, customer) == OPENING - 1_000

    def test_a_trace_number_that_comes_round_again_is_another_sale(
        self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer
    ) -> None:
        request = acquirer.sale(customer.card, 1_000)
        assert acquirer.ask(request)[39] == "00"
        tomorrow = Message("0200", {**request.fields, 13: "0101" if request[13] != "0101" else "0102", 37: "9" * 12})
        assert acquirer.ask(tomorrow)[39] == "00"
        assert balance(switch, customer) == OPENING - 2_000

    def test_a_refusal_is_repeated_too(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        request = acquirer.sale(customer.card, OPENING + 1)
        assert acquirer.ask(request)[39] == "51"
        switch.admin.deposit(customer.account.iban, Rial(1))
        assert acquirer.ask(request)[39] == "51"
        assert balance(switch, customer) == OPENING + 1


class TestSeveralIssuers:
    def test_customers_of_two_banks_pay_one_merchant(self, switch: RunningSwitch, acquirer: Acquirer) -> None:
        for bin_, amount in (("603770", 40_000), ("621986", 60_000)):
            account = switch.admin.open_account(bin_, holder="Member", balance=Rial(100_000))
            card = switch.admin.issue_card(account.iban)
            assert card.pan.has_bin(bin_)
            assert acquirer.ask(acquirer.sale(card, amount))[39] == "00"
            assert switch.admin.account(account.iban).balance == 100_000 - amount
        assert switch.admin.intermediary(acquirer.code).balance == 100_000


def test_no_card_data_reach_the_disk(switch: RunningSwitch, acquirer: Acquirer, customer: Customer, zone: Zone) -> None:
    """PAN, PIN and CVV2 are in no file of the installation; neither are the PIN block and the expiry in a column."""
    request = acquirer.sale(customer.card, 1_000)
    assert acquirer.ask(request)[39] == "00"
    card = customer.card
    needles = [card.pan.reveal(), card.pin2.reveal(), request[52], request[48]]
    for path in (found for found in zone.home.path.rglob("*") if found.is_file()):
        content = path.read_bytes()
        for needle in needles:
            assert needle.encode() not in content, path
        assert bytes.fromhex(request[52]) not in content, path
    engine = open_database(database_path(zone.home))
    with engine.connect() as connection:
        for table in ("cards", "transactions", "accounts"):
            for row in connection.execute(text(f"SELECT * FROM {table}")):  # noqa: S608  # names from the line above
                assert card.expiry.reveal() not in [str(value) for value in row]
                assert card.cvv2.reveal() not in [str(value) for value in row]
    engine.dispose()
