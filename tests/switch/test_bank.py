"""The counter: accounts and cards of network banks only, card data shown once."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.problems import Problem
from runtime.settings import Home
from shetab.iran import luhn_is_valid, parse_iban
from shetab.jalali import has_expired
from shetab.types import Rial
from switch.bank import Bank
from switch.errors import BankError, LedgerError
from switch.ledger import transfer
from switch.service import RunningSwitch, open_bank
from tests.switch.conftest import OPENING, Customer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    home = Home(tmp_path / "bank")
    home.create()
    return open_bank(home, clock=lambda: NOW)


def refused(reason: str) -> pytest.RaisesExc[BankError]:
    return pytest.RaisesExc(BankError, check=lambda error: error.reason == reason)


class TestAccounts:
    def test_a_new_account_has_a_valid_iban_of_its_bank(self, bank: Bank) -> None:
        account = bank.open_account("603770", holder="Member One", national_code="12345679", balance=Rial(500))
        assert parse_iban(account.iban) == account.iban
        assert account.iban[4:7] == "016"
        assert (account.kind, account.bank, account.balance) == ("customer", "Keshavarzi", 500)
        assert bank.account(account.iban) == account
        assert bank.deposit(account.iban, Rial(20)).balance == 520
        assert [(amount, text) for _, amount, text in bank.statement(account.iban)] == [
            (500, "deposit"),
            (20, "deposit"),
        ]
        assert bank.is_balanced()

    def test_an_empty_account_has_no_entries(self, bank: Bank) -> None:
        account = bank.open_account("621986", holder="Member Two")
        assert (account.balance, bank.statement(account.iban)) == (0, [])

    @pytest.mark.parametrize(
        ("bin_", "holder", "national_code", "reason"),
        [
            ("400000", "Member", None, "unknown_issuer"),
            ("", "Member", None, "unknown_issuer"),
            ("6037701", "Member", None, "invalid"),
            ("603770", " ", None, "invalid"),
            ("603770", "M" * 201, None, "invalid"),
            ("603770", "Member", "1111111111", "invalid"),
        ],
    )
    def test_what_cannot_be_opened(
        self, bank: Bank, bin_: str, holder: str, national_code: str | None, reason: str
    ) -> None:
        with refused(reason):
            bank.open_account(bin_, holder=holder, national_code=national_code)

    def test_accounts_nobody_has(self, bank: Bank) -> None:
        for ask in (bank.account, bank.statement, bank.issue_card):
            with refused("unknown_account"):
                ask("IR570560123456789012345678")
        with refused("unknown_account"):
            bank.deposit("IR570560123456789012345678", Rial(1))
        with refused("unknown_acquirer"):
            bank.intermediary("603770")

    @pytest.mark.parametrize(
        ("code", "reason"),
        [("60377", "invalid"), ("0603770", "invalid"), ("60377x", "invalid"), ("400000", "unknown_issuer")],
    )
    def test_acquirers_nobody_is(self, bank: Bank, code: str, reason: str) -> None:
        with refused(reason):
            bank.register_acquirer(code, "Acquirer")


class TestCards:
    def test_a_new_card(self, bank: Bank) -> None:
        account = bank.open_account("603770", holder="Member One")
        card = bank.issue_card(account.iban, years=2)
        assert luhn_is_valid(card.pan.reveal())
        assert card.pan.has_bin("603770")
        assert len(card.pan.reveal()) == 16
        assert card.expiry.reveal() == "0612"
        assert not has_expired(card.expiry, NOW)
        assert (len(card.cvv2.reveal()), len(card.pin2.reveal())) == (4, 8)
        status = bank.card(card.card_id)
        assert (status.masked_pan, status.state, status.iban) == (card.pan.masked, "active", account.iban)

    def test_two_cards_of_one_account_differ(self, bank: Bank) -> None:
        account = bank.open_account("603770", holder="Member One")
        first, second = bank.issue_card(account.iban), bank.issue_card(account.iban)
        assert first.pan != second.pan
        assert first.card_id != second.card_id

    def test_a_number_that_is_taken_is_not_issued_again(self, tmp_path: Path) -> None:
        home = Home(tmp_path / "bank")
        home.create()
        served: list[int] = []

        def rng(count: int) -> bytes:
            """The same digits for the first two card numbers."""
            served.append(count)
            return bytes(count) if served.count(9) <= 2 and count == 9 else os.urandom(count)

        bank = open_bank(home, rng=rng, clock=lambda: NOW)
        account = bank.open_account("603770", holder="Member One")
        first, second = bank.issue_card(account.iban), bank.issue_card(account.iban)
        assert first.pan.reveal().startswith("603770000000000")
        assert first.pan != second.pan

    @pytest.mark.parametrize("years", [0, 11])
    def test_years(self, bank: Bank, years: int) -> None:
        with refused("invalid"):
            bank.issue_card("", years=years)

    def test_only_customers_have_cards(self, bank: Bank) -> None:
        with refused("not_a_customer"):
            bank.issue_card(bank.register_acquirer("603770", "Acquirer").iban)

    def test_cards_nobody_has(self, bank: Bank) -> None:
        for ask in (bank.card, bank.block_card, bank.unblock_card):
            with refused("unknown_card"):
                ask("0" * 16)

    def test_repr_of_a_card_shows_no_secret(self, bank: Bank) -> None:
        card = bank.issue_card(bank.open_account("603770", holder="Member One").iban)
        for secret in (card.pan, card.expiry, card.cvv2, card.pin2):
            assert secret.reveal() not in repr(card).replace(card.iban, "").replace(card.card_id, "")


class TestOverHttp:
    @pytest.mark.parametrize("header", [b"", b"Bearer 00", "Bearer ٠".encode()])
    def test_without_the_token_nothing_is_told(self, switch: RunningSwitch, customer: Customer, header: bytes) -> None:
        path = f"/v1/accounts/{customer.account.iban}"
        response = switch.admin._http.get(path, headers=[(b"authorization", header)])
        assert response.status_code == 401
        assert customer.account.holder not in response.text

    def test_health_needs_no_token(self, switch: RunningSwitch) -> None:
        for path in ("/health/live", "/health/ready"):
            assert switch.admin._http.get(path, headers={"authorization": ""}).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("POST", "/v1/accounts", {"bin": "400000", "holder": "M"}, 422),
            ("POST", "/v1/accounts", {"bin": "603770", "holder": "M", "balance": -1}, 422),
            ("POST", "/v1/accounts", {"bin": "603770"}, 422),
            ("GET", "/v1/accounts/IR570560123456789012345678", None, 404),
            ("GET", "/v1/cards/00", None, 404),
            ("GET", "/v1/acquirers/621986/intermediary", None, 404),
        ],
    )
    def test_refusals_are_problems(
        self, switch: RunningSwitch, method: str, path: str, body: dict[str, object] | None, status: int
    ) -> None:
        with pytest.raises(Problem) as refusal:
            switch.admin._call(method, path, body)
        assert refusal.value.status == status

    def test_the_whole_counter(self, switch: RunningSwitch, customer: Customer) -> None:
        admin = switch.admin
        assert admin.account(customer.account.iban) == customer.account
        assert admin.deposit(customer.account.iban, Rial(5)).balance == OPENING + 5
        assert [entry["amount"] for entry in admin.statement(customer.account.iban)] == [OPENING, 5]
        assert admin.card(customer.card.card_id).state == "active"
        assert admin.transactions(reference="none") == []
        assert admin.is_balanced()


class TestLedger:
    @pytest.mark.parametrize(("credit", "amount"), [("IR570560123456789012345678", 5), ("CASH", 0), ("CASH", -5)])
    def test_bookings_that_cannot_be(self, bank: Bank, credit: str, amount: int) -> None:
        iban = bank.open_account("603770", holder="Member One", balance=Rial(100)).iban
        with pytest.raises(LedgerError):
            bank._transact(
                lambda connection: transfer(connection, debit=iban, credit=credit, amount=amount, text="wrong", now=NOW)
            )
        assert bank.account(iban).balance == 100
        assert bank.is_balanced()
