"""The simulator speaks the dialect of its settings: a sale, its reversal, a new key and the day's totals in each."""

from __future__ import annotations

import pytest

from runtime.settings import Home, SwitchSettings
from shetab.dialect import Dialect
from shetab.jalali import transmission_time
from shetab.message import Message
from shetab.reversal import reversal_advice
from shetab.types import Rial
from switch.service import running
from tests.support.acquirer import ACQUIRER, MERCHANT, Acquirer, write_zone_keys

OPENING = 1_000_000
AMOUNT = 150_000


@pytest.mark.parametrize("name", ["shetab87_ascii", "shetab87_binary", "shetab93_ascii", "shetab93_binary"])
def test_a_sale_its_reversal_a_new_key_and_the_totals(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    home = Home(tmp_path_factory.mktemp(name))
    home.create()
    pin_key, mac_key = write_zone_keys(home.secrets)
    settings = SwitchSettings(port=0, admin_port=0, dialect=name)
    with running(home, settings, acquirers=(ACQUIRER,)) as switch:
        account = switch.bank.open_account("603770", holder="Member One", balance=Rial(OPENING))
        card = switch.bank.issue_card(account.iban)
        dialect = Dialect.load(name)
        with Acquirer(switch.host, switch.port, pin_key, mac_key, dialect=dialect) as acquirer:
            acquirer.sign_on()
            sale = acquirer.sale(card, AMOUNT)
            approved = acquirer.ask(sale)
            assert approved[39] == "00"
            assert switch.bank.account(account.iban).balance == OPENING - AMOUNT
            assert acquirer.ask(acquirer.sale(card, 2 * OPENING))[39] == "51"

            advice = reversal_advice(
                sale, stan=acquirer.next_stan(), transmission_time=transmission_time(acquirer.clock)
            )
            assert acquirer.ask(advice)[39] == "00"
            assert switch.bank.account(account.iban).balance == OPENING

            assert acquirer.ask(acquirer.key_request("zone-mac", 1))[39] == "00"
            sent = acquirer.receive()
            assert (sent[70], sent[53][4:6], len(sent[96])) == ("101", "02", 48)
            acquirer.send(acquirer.key_answer(sent, "87"))  # the key of before stays

            assert acquirer.ask(_totals(acquirer, approved[15]))[66] == "1"  # what was reversed never was
            assert acquirer.ask(acquirer.sale(card, 40_000))[39] == "00"
            totals = acquirer.ask(_totals(acquirer, approved[15]))
            assert (totals[39], totals[66], totals[76], totals[97]) == ("00", "2", "0000000001", f"C{40_000:016d}")
        assert switch.processor.statistics.dropped == {}


def _totals(acquirer: Acquirer, day: str) -> Message:
    counts = dict.fromkeys(range(74, 82), f"{0:010d}") | dict.fromkeys(range(82, 86), f"{0:012d}")
    sums = dict.fromkeys(range(86, 90), f"{0:016d}") | {97: f"C{0:016d}"}
    trace = {field: value for field, value in acquirer.network("301").fields.items() if field in (7, 11, 12, 13)}
    own = {15: day, 32: ACQUIRER, 42: acquirer.dialect.pad(42, MERCHANT), 50: "364", 99: "900000"}
    return Message("0500", trace | own | counts | sums)


def test_a_message_of_another_dialect_is_dropped(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Home(tmp_path_factory.mktemp("other"))
    home.create()
    pin_key, mac_key = write_zone_keys(home.secrets)
    settings = SwitchSettings(port=0, admin_port=0, dialect="shetab93_binary")
    with (
        running(home, settings, acquirers=(ACQUIRER,)) as switch,
        Acquirer(switch.host, switch.port, pin_key, mac_key) as acquirer,
    ):
        acquirer.send(acquirer.network("001"))
        assert acquirer.is_silent()
        assert sum(switch.processor.statistics.dropped.values()) == 1
