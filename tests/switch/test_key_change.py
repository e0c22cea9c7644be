"""Zone keys over the line, as an acquirer sees it: asked for, sent, confirmed, and found again after any break."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.settings import Home, SwitchSettings
from shetab.key_data import ZoneKeyData
from shetab.message import Message
from shetab.subfields import SecurityControl, ZoneKeyKind
from shetab.types import Rial
from switch.service import RunningSwitch, running
from switch.zone import MASTER_KEY_COMPONENTS, ZoneKeys
from tests.support.acquirer import ACQUIRER, Acquirer
from tests.switch.conftest import Customer, Zone, new_zone

KINDS: tuple[ZoneKeyKind, ...] = ("zone-mac", "zone-pin")


@dataclasses.dataclass
class Received:
    """A key as the acquirer got it, and the message that it came in."""

    sent: Message
    index: int
    value: bytes


@pytest.fixture
def master(zone: Zone) -> ZoneKeys:
    return ZoneKeys.load(zone.home.secrets)


def take(acquirer: Acquirer, master: ZoneKeys) -> Received:
    """The key that the switch sends next; its check value must be right."""
    sent = acquirer.receive()
    kind, index = SecurityControl.from_de53(sent[53]).changed()
    data = ZoneKeyData.from_fields(sent.fields)
    value = master.unwrap(kind, data.wrapped)
    assert data.check_value.hex().upper() == master.agreed.kcv(kind, value)
    return Received(sent, index, value)


def asked(acquirer: Acquirer, master: ZoneKeys, kind: ZoneKeyKind, held: int) -> Received:
    assert acquirer.ask(acquirer.key_request(kind, held))[39] == "00"
    return take(acquirer, master)


def pays(acquirer: Acquirer, customer: Customer, pin_key: bytes, index: int) -> str:
    """The response code of a sale whose PIN block is under this key."""
    own = dataclasses.replace(acquirer, pin_key=pin_key)
    sale = own.sale(customer.card, 1_000, changed={11: acquirer.next_stan(), 53: SecurityControl(3, index).to_de53()})
    return acquirer.ask(sale)[39]


class TestMacKey:
    def test_is_in_use_once_it_is_answered(self, acquirer: Acquirer, master: ZoneKeys) -> None:
        key = asked(acquirer, master, "zone-mac", 1)
        assert key.index == 2
        acquirer.send(acquirer.key_answer(key.sent))
        acquirer.mac_key = key.value
        assert acquirer.ask(acquirer.network("301"))[39] == "00"

    def test_is_in_use_from_the_first_good_mac(self, acquirer: Acquirer, master: ZoneKeys) -> None:
        acquirer.mac_key = asked(acquirer, master, "zone-mac", 1).value
        assert acquirer.ask(acquirer.network("301"))[39] == "00"
        assert asked(acquirer, master, "zone-mac", 2).index == 3

    def test_the_one_before_is_believed_for_messages_in_flight(
        self, acquirer: Acquirer, master: ZoneKeys, customer: Customer
    ) -> None:
        old = acquirer.sealed(acquirer.sale(customer.card, 1_000))
        acquirer.mac_key = asked(acquirer, master, "zone-mac", 1).value
        assert acquirer.ask(acquirer.network("301"))[39] == "00"
        acquirer.send_raw(old)
        assert acquirer.receive()[39] == "00"  # under the new one

    def test_of_one_acquirer_is_none_of_anothers(
        self, switch: RunningSwitch, acquirer: Acquirer, master: ZoneKeys
    ) -> None:
        key = asked(acquirer, master, "zone-mac", 1)
        other = f"{ACQUIRER}99999"
        switch.bank.register_acquirer(other, "other")
        with dataclasses.replace(acquirer, code=other, mac_key=key.value) as stranger:
            stranger.send(stranger.network("001"))
            assert stranger.is_silent()


class TestPinKey:
    def test_is_in_use_with_its_index(self, acquirer: Acquirer, master: ZoneKeys, customer: Customer) -> None:
        key = asked(acquirer, master, "zone-pin", 1)
        assert pays(acquirer, customer, acquirer.pin_key, 1) == "00"  # made before it came
        assert pays(acquirer, customer, key.value, 2) == "00"
        assert pays(acquirer, customer, acquirer.pin_key, 1) == "00"  # in flight
        assert asked(acquirer, master, "zone-pin", 2).index == 3

    def test_unknown_index_moves_no_money_and_says_so(self, acquirer: Acquirer, customer: Customer) -> None:
        assert pays(acquirer, customer, acquirer.pin_key, 7) == "89"


class TestNotTaken:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("rc", ["86", "87", "89", "30"])
    def test_a_refused_key_is_never_used_and_the_next_is_another(
        self, acquirer: Acquirer, master: ZoneKeys, kind: ZoneKeyKind, rc: str
    ) -> None:
        first = asked(acquirer, master, kind, 1)
        acquirer.send(acquirer.key_answer(first.sent, rc))
        second = asked(acquirer, master, kind, 1)
        assert (second.index, second.value == first.value) == (2, False)

    @pytest.mark.parametrize("kind", KINDS)
    def test_after_an_answer_that_proves_nothing_the_same_key_comes_again(
        self, acquirer: Acquirer, master: ZoneKeys, kind: ZoneKeyKind
    ) -> None:
        first = asked(acquirer, master, kind, 1)
        acquirer.send(acquirer.key_answer(first.sent, "96"))
        assert asked(acquirer, master, kind, 1).value == first.value

    @pytest.mark.parametrize(("kind", "rc"), [("zone-mac", "87"), ("zone-pin", "89")])
    def test_who_holds_another_index_is_told(self, acquirer: Acquirer, kind: ZoneKeyKind, rc: str) -> None:
        assert acquirer.ask(acquirer.key_request(kind, 5))[39] == rc

    def test_a_request_that_names_no_key(self, acquirer: Acquirer) -> None:
        assert acquirer.ask(acquirer.network("101"))[39] == "30"

    def test_before_sign_on(self, line: Acquirer) -> None:
        with line:
            assert line.ask(line.key_request("zone-mac", 1))[39] == "92"

    def test_without_a_master_key(self, tmp_path: Path) -> None:
        other = new_zone(Home(tmp_path))
        for name in MASTER_KEY_COMPONENTS:
            (other.home.secrets / name).unlink()
        with (
            running(other.home, SwitchSettings(port=0, admin_port=0), acquirers=(ACQUIRER,)) as switch,
            Acquirer(switch.host, switch.port, other.pin_key, other.mac_key) as acquirer,
        ):
            acquirer.sign_on()
            assert acquirer.ask(acquirer.key_request("zone-mac", 1))[39] == "40"


def test_the_counter_sends_keys_unasked(switch: RunningSwitch, acquirer: Acquirer, master: ZoneKeys) -> None:
    assert switch.admin.change_keys(acquirer.code) == ["zone-mac", "zone-pin"]
    received = [take(acquirer, master) for _ in KINDS]
    assert [each.index for each in received] == [2, 2]


class TestAfterARestart:
    """The simulator is stopped between two steps, and started again on what it had written."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Zone:
        return new_zone(Home(tmp_path))

    def test_a_key_that_was_sent_is_known_whether_or_not_it_was_taken(self, home: Zone) -> None:
        moment = datetime(2026, 3, 21, 12, 0, tzinfo=UTC)
        settings = SwitchSettings(port=0, admin_port=0, key_overlap=timedelta(seconds=30))
        master = ZoneKeys.load(home.home.secrets)
        with running(home.home, settings, acquirers=(ACQUIRER,), clock=lambda: moment) as switch:
            with Acquirer(switch.host, switch.port, home.pin_key, home.mac_key) as acquirer:
                acquirer.sign_on()
                key = asked(acquirer, master, "zone-mac", 1)
        with running(home.home, settings, clock=lambda: moment) as switch:
            with Acquirer(switch.host, switch.port, home.pin_key, home.mac_key) as acquirer:
                acquirer.sign_on()  # it did not take it
                assert asked(acquirer, master, "zone-mac", 1).value == key.value
            with Acquirer(switch.host, switch.port, home.pin_key, key.value) as acquirer:
                acquirer.sign_on()  # it did
            account = switch.bank.open_account("603770", holder="Member One", balance=Rial(1_000))
            assert account.balance == 1_000
        with running(home.home, settings, clock=lambda: moment + timedelta(seconds=31)) as switch:
            with Acquirer(switch.host, switch.port, home.pin_key, home.mac_key) as acquirer:
                acquirer.send(acquirer.network("001"))
                assert acquirer.is_silent()  # its time is over
            with Acquirer(switch.host, switch.port, home.pin_key, key.value) as acquirer:
                acquirer.sign_on()
            assert switch.processor.statistics.dropped["mac"] == 1
