"""The simulator's end of zones of other kinds: every pair of PIN block format and MAC, also while keys change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from runtime.settings import Home, SwitchSettings
from runtime.zone_settings import ZoneSettings
from shetab.dialect import Dialect
from shetab.message import Message
from shetab.subfields import SecurityControl
from shetab.types import Rial
from shetab.zone import Zone
from switch.service import RunningSwitch, running
from switch.zone import ZoneKeys
from tests.support.acquirer import ACQUIRER, Acquirer, write_zone_keys
from tests.switch.conftest import Customer
from tests.switch.test_key_change import asked

ZONES = {
    "format 0, X9.19": ("shetab87_ascii", 0, "x9.19", ZoneSettings()),
    "format 3 under three keys, X9.19 padding 2": (
        "shetab87_ascii",
        3,
        "x9.19",
        ZoneSettings(pin_key="des3", mac_padding=2),
    ),
    "format 4, CMAC": ("shetab93_binary_pin4", 4, "aes-cmac", ZoneSettings()),
    "format 4 and CMAC under AES-256": (
        "shetab93_binary_pin4",
        4,
        "aes-cmac",
        ZoneSettings(pin_key="aes-256", mac_key="aes-256"),
    ),
}


@dataclass
class End:
    """A switch of one zone, and an acquirer that is signed on."""

    switch: RunningSwitch
    acquirer: Acquirer
    keys: ZoneKeys
    customer: Customer
    pin_index: int = 1


@pytest.fixture(params=ZONES.values(), ids=ZONES.keys(), scope="module")
def end(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[End]:
    base, block_format, mac, kinds = request.param
    home = Home(tmp_path_factory.mktemp("zone"))
    home.create()
    (home.path / "own.yaml").write_text(
        f"name: own\nbase: {base}\npin_block_format: {block_format}\nmac_algorithm: {mac}\n"
    )
    settings = SwitchSettings(port=0, admin_port=0, dialect="own.yaml", zone=kinds)
    dialect = Dialect.load(home.dialect("own.yaml"))
    agreed = Zone.of(dialect, kinds)
    pin_key, mac_key = write_zone_keys(home.secrets, agreed)
    with running(home, settings, acquirers=(ACQUIRER,)) as switch:
        account = switch.bank.open_account("603770", holder="Member One", balance=Rial(1_000_000))
        with Acquirer(switch.host, switch.port, pin_key, mac_key, dialect=dialect, agreed=agreed) as acquirer:
            acquirer.sign_on()
            customer = Customer(account, switch.bank.issue_card(account.iban))
            yield End(switch, acquirer, ZoneKeys.load(home.secrets, agreed), customer)


def pays(end: End, said_format: int | None = None) -> str:
    """The response code of a sale under the keys that the acquirer holds."""
    return end.acquirer.ask(sale(end, said_format))[39]


def sale(end: End, said_format: int | None = None) -> Message:
    block_format = int(end.acquirer.agreed.pin_block_format) if said_format is None else said_format
    security = SecurityControl(block_format, end.pin_index).to_de53()
    return end.acquirer.sale(end.customer.card, 1_000, changed={53: security})


def test_a_sale_is_paid_and_keys_change_under_it(end: End) -> None:
    acquirer = end.acquirer
    assert pays(end) == "00"
    for held in (1, 2):
        in_flight = acquirer.sealed(sale(end))
        mac_key = asked(acquirer, end.keys, "zone-mac", held)
        pin_key = asked(acquirer, end.keys, "zone-pin", held)
        acquirer.send_raw(in_flight)  # under the MAC key before
        assert acquirer.receive()[39] == "00"
        acquirer.mac_key = mac_key.value
        old = sale(end)
        acquirer.pin_key, end.pin_index = pin_key.value, pin_key.index
        assert pays(end) == "00"
        assert acquirer.ask(old)[39] == "00"  # its PIN block was under the key before
    assert end.switch.bank.is_balanced()


def test_a_block_of_another_format_moves_no_money(end: End) -> None:
    before = end.switch.admin.account(end.customer.account.iban).balance
    for said_format in {0, 1, 2, 3, 4} - {int(end.acquirer.agreed.pin_block_format)}:
        assert pays(end, said_format) == "63"
    assert end.switch.admin.account(end.customer.account.iban).balance == before


def test_a_mac_of_another_algorithm_is_not_answered(end: End) -> None:
    other = Zone.agreed(0, "x9.19") if end.acquirer.agreed.mac_key != "des2" else Zone.agreed(0, "aes-cmac")
    key = (end.acquirer.mac_key * 2)[:16]
    with dataclasses.replace(end.acquirer, agreed=other, mac_key=key) as stranger:
        stranger.send(stranger.network("001"))
        assert stranger.is_silent()
