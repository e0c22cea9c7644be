"""One-time passwords at the card's bank: given to the holder, good for one payment, once, for a short time (P8)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from runtime.database import open_database
from runtime.settings import Home, PasswordSettings, SwitchSettings
from runtime.token_bucket import Rate
from shetab.message import Message
from shetab.subfields import Coding, PasswordNotice
from shetab.types import Cvv2, Pin, Rial
from switch.inbox import Inbox, ShortMessage
from switch.service import RunningSwitch, database_path, running
from tests.support.acquirer import MERCHANT, Acquirer
from tests.switch.conftest import OPENING, Customer, Zone, new_zone

AMOUNT = 150_000


class Payer:
    """A holder who pays one purchase with a one-time password."""

    def __init__(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
        self.switch, self.acquirer, self.customer = switch, acquirer, customer
        self.xid, self.request = os.urandom(20), os.urandom(32)

    def asking(self, **changed: str | None) -> Message:
        """The 0600 for the purchase; `changed` as de4="…"."""
        sale = self.acquirer.sale(self.customer.card, AMOUNT)
        kept = (2, 4, 7, 11, 12, 13, 14, 18, 19, 25, 32, 37, 41, 42, 43, 49, 100)
        fields: dict[int, str | None] = {number: sale[number] for number in kept}
        fields |= {3: "380000", 48: self.request.hex(), 62: Coding(self.xid).to_de62()}
        fields |= {int(name.removeprefix("de")): value for name, value in changed.items()}
        return Message("0600", {number: value for number, value in fields.items() if value is not None})

    def ask(self, **changed: str | None) -> Message:
        return self.acquirer.ask(self.asking(**changed))

    @property
    def messages(self) -> list[ShortMessage]:
        return self.switch.admin.messages(self.customer.card.card_id)

    @property
    def password(self) -> Pin:
        return Pin.parse(self.messages[-1].password)

    def pay(self, typed: Pin, amount: int = AMOUNT, *, changed: dict[int, str | None] | None = None) -> str:
        card = replace(self.customer.card, pin2=typed)
        named: dict[int, str | None] = {62: Coding(self.xid).to_de62(), **(changed or {})}
        return self.acquirer.ask(self.acquirer.sale(card, amount, changed=named))[39]

    @property
    def balance(self) -> int:
        return int(self.switch.admin.account(self.customer.account.iban).balance)


@pytest.fixture
def payer(switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> Payer:
    return Payer(switch, acquirer, customer)


def other(password: Pin) -> Pin:
    digits = password.reveal()
    return Pin(digits[:-1] + str((int(digits[-1]) + 1) % 10))


def test_a_password_is_sent_to_the_holder_and_pays_once(payer: Payer) -> None:
    answer = payer.ask()
    assert (answer.mti, answer[39]) == ("0610", "00")
    (message,) = payer.messages
    told = PasswordNotice.from_de48(answer[48])
    assert told.sent_to == f"{message.number[:4]}*****{message.number[-2:]}"
    assert told.valid_until == message.valid_until
    assert (message.merchant, message.amount, len(message.password)) == (MERCHANT, AMOUNT, 7)
    assert message.password in message.text
    assert message.password not in repr(message)
    assert payer.pay(payer.password) == "00"
    assert payer.balance == OPENING - AMOUNT
    assert payer.pay(payer.password) == "55"
    assert payer.balance == OPENING - AMOUNT


def test_a_repeat_gets_the_same_answer_and_no_second_message(payer: Payer) -> None:
    first = payer.ask()
    again = payer.ask()  # another trace number, the same request of the holder
    assert (first[48], len(payer.messages)) == (again[48], 1)
    payer.request = os.urandom(32)
    payer.ask()
    one, two = (Pin.parse(each.password) for each in payer.messages)
    if one != two:
        assert payer.pay(one) == "55"  # the one before is worth nothing
    assert payer.pay(two) == "00"


def test_a_purchase_that_took_its_password_gets_no_other(payer: Payer) -> None:
    payer.ask()
    assert payer.pay(payer.password) == "00"
    payer.request = os.urandom(32)
    assert payer.ask()[39] == "65"
    assert len(payer.messages) == 1
    payer.xid = os.urandom(20)
    assert payer.ask()[39] == "00"


def test_p8_another_merchant_amount_or_purchase(payer: Payer) -> None:
    payer.ask()
    password, dialect = payer.password, payer.acquirer.dialect
    assert payer.pay(password, changed={42: dialect.pad(42, "M2")}) == "55"
    assert payer.pay(password, AMOUNT + 1) == "55"
    assert payer.balance == OPENING
    payer.switch.admin.unblock_card(payer.customer.card.card_id)  # two wrong tries
    assert payer.pay(password, changed={62: Coding(os.urandom(20)).to_de62()}) == "55"
    assert payer.pay(password, changed={62: "ORDER 17"}) == "55"
    assert payer.balance == OPENING


def test_wrong_passwords_count_and_block(payer: Payer) -> None:
    payer.ask()
    password = payer.password
    assert [payer.pay(other(password)) for _ in range(4)] == ["55", "55", "75", "75"]
    assert payer.pay(password) == "75"
    assert payer.ask()[39] == "75"
    assert payer.balance == OPENING


def test_a_password_without_the_cvv2_is_not_used_up(payer: Payer) -> None:
    payer.ask()
    card = payer.customer.card
    wrong = "0000" if card.cvv2 != Cvv2("0000") else "0001"
    assert payer.pay(payer.password, changed={48: f"  {wrong}00"}) == "14"
    assert payer.pay(payer.password) == "00"


def test_a_card_may_demand_a_password(payer: Payer) -> None:
    card = payer.customer.card
    payer.switch.admin.set_static_pin2(card.card_id, False)
    assert payer.pay(card.pin2) == "55"
    payer.ask()
    assert payer.pay(payer.password) == "00"
    payer.switch.admin.set_static_pin2(card.card_id, True)
    payer.xid = os.urandom(20)
    assert payer.pay(card.pin2) == "00"


@pytest.mark.parametrize(
    ("changed", "rc"),
    [
        ({"de3": "310000"}, "12"),
        ({"de4": "0" * 12}, "13"),
        ({"de62": "ORDER 17"}, "12"),
        ({"de48": "no hash"}, "12"),
        ({"de32": "627353"}, "58"),
        ({"de2": "6037700000000001"}, "14"),
        ({"de2": "9999990000000006"}, "15"),
        ({"de14": "0101"}, "54"),
    ],
)
def test_one_thing_wrong(payer: Payer, changed: dict[str, str], rc: str) -> None:
    assert payer.ask(**changed)[39] == rc
    assert payer.messages == []


def test_a_wrong_expiry_counts_as_a_wrong_try(payer: Payer) -> None:
    assert [payer.ask(de14="0101")[39] for _ in range(3)] == ["54", "54", "75"]


def test_nobody_asks_before_signing_on(line: Acquirer, switch: RunningSwitch, customer: Customer) -> None:
    with line:
        assert Payer(switch, line, customer).ask()[39] == "92"


def test_a_blocked_card_gets_no_password(payer: Payer) -> None:
    payer.switch.admin.block_card(payer.customer.card.card_id)
    assert payer.ask()[39] == "62"


def test_the_password_is_in_no_file(payer: Payer, zone: Zone) -> None:
    payer.ask()
    password = payer.password.reveal()
    for path in zone.home.db.glob("switch.sqlite*"):
        assert password.encode() not in path.read_bytes()
    engine = open_database(database_path(zone.home))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM passwords")).all()
    engine.dispose()
    assert rows
    assert not any(password == str(value) for row in rows for value in row)


# --- clocks, rates, restarts ------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def own_zone(tmp_path_factory: pytest.TempPathFactory) -> Zone:
    return new_zone(Home(tmp_path_factory.mktemp("own-switch")))


def paying(switch: RunningSwitch, zone: Zone, customer: Customer) -> Iterator[Payer]:
    acquirer = Acquirer(switch.host, switch.port, zone.pin_key, zone.mac_key)
    with acquirer:
        acquirer.sign_on()
        yield Payer(switch, acquirer, customer)


def test_p8_too_late_and_p9_too_often(own_zone: Zone) -> None:
    clock = Clock()
    rules = PasswordSettings(digits=5, lifetime=timedelta(seconds=90), rate=Rate(burst=2, every=timedelta(minutes=1)))
    settings = SwitchSettings(port=0, admin_port=0, passwords=rules)
    with running(own_zone.home, settings, acquirers=("603770",), clock=clock) as switch:
        account = switch.bank.open_account("603770", holder="Member One", balance=Rial(OPENING), phone="09121234567")
        customer = Customer(account, switch.bank.issue_card(account.iban))
        for payer in paying(switch, own_zone, customer):
            assert payer.ask()[48].endswith(" 0912*****67")
            assert len(payer.password.reveal()) == 5
            clock.now += timedelta(seconds=90)
            assert payer.pay(payer.password) == "55"
            payer.request = os.urandom(32)
            assert payer.ask()[39] == "00"
            payer.request = os.urandom(32)
            assert payer.ask()[39] == "00"
            payer.request = os.urandom(32)
            assert payer.ask()[39] == "65"
            spent = payer.messages[-1]
    with running(own_zone.home, settings, acquirers=("603770",), clock=clock) as switch:
        for payer in paying(switch, own_zone, customer):
            assert payer.messages == []  # the telephones are in memory
            payer.xid = os.urandom(20)
            assert payer.ask()[39] == "65"  # a restart takes nothing back
            clock.now += timedelta(days=2)
            assert payer.ask()[39] == "00"
            assert payer.messages[-1] != spent


def test_a_telephone_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch.inbox._TELEPHONES", 2)
    inbox = Inbox()
    message = ShortMessage("c1", "09120000000", "12345", "M1", 1, datetime.now(UTC))
    for number in range(20):
        inbox.deliver(replace(message, password=f"{number:05d}"))
    assert [each.password for each in inbox.messages("c1")] == [f"{number:05d}" for number in range(12, 20)]
    inbox.deliver(replace(message, card_id="c2"))
    inbox.deliver(replace(message, card_id="c3"))
    assert inbox.messages("c1") == []
