"""Two zones in one token: keys, PIN blocks, MACs and exchanges of one are nothing to the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from gateway_keys import wire, zone_keys
from gateway_keys.plugin import GatewayKeys
from gateway_keys.routes import CALLER
from gateway_keys.zones import HostZone
from hsm_service.key_states import KeyState
from hsm_service.vault import Vault
from runtime.problems import Problem
from runtime.settings import Home
from shetab import pin_block
from shetab.mac import zone_mac
from shetab.pin_block import PinBlockFormat
from shetab.types import Pan, Pin
from shetab.zone import SWITCH_ZONE, Zone, ZoneKeyName
from shetab.zone_keys import combine
from tests.support.softhsm import provisioned_home

HOST: Final = "melli"
DATA: Final = b"0200 and what follows"
PAN: Final = Pan.parse("6037991234567893")
OVERLAP: Final = timedelta(seconds=10)
AGREED: Final = {
    SWITCH_ZONE: Zone(),
    HOST: Zone.agreed(4, "x9.19", pin_key="aes-256"),
}


@dataclass
class Ends:
    """The gateway's end of both zones, and what is at their other ends."""

    vault: Vault
    home: Home
    now: datetime

    def __post_init__(self) -> None:
        others = {HOST: HostZone(AGREED[HOST], OVERLAP)}
        self.plugin = GatewayKeys.of(self.home, others=others, clock=lambda: self.now)

    def key(self, zone: str, kind: ZoneKeyName) -> bytes:
        which = zone_keys.ZoneKey(kind, zone)
        return combine([each.reveal() for each in zone_keys.read_components(self.home.secrets, which, AGREED[zone])])

    def mac(self, zone: str, caller: str = CALLER) -> bytes:
        request = wire.GenerateMacRequest(data=DATA, zone=zone)
        return self.vault.run(self.plugin.zones.generate_mac(self.vault, caller, request)).mac

    def verifies(self, zone: str, mac: bytes) -> bool:
        request = wire.VerifyMacRequest(data=DATA, mac=mac, zone=zone)
        return self.vault.run(self.plugin.zones.verify_mac(self.vault, CALLER, request)).valid

    def send(self, zone: str, kind: ZoneKeyName, value: bytes, *, as_of: str, index: int = 2) -> wire.ZoneKeyAnswer:
        """A key that the other end of `as_of` wrapped, handed over as one of `zone`."""
        agreed = AGREED[as_of]
        request = wire.ReceiveZoneKeyRequest(
            key=kind,
            index=index,
            wrapped=agreed.wrap(kind, self.key(as_of, "zone-master"), value),
            check_value=bytes.fromhex(agreed.kcv(kind, value)),
            zone=zone,
        )
        return self.plugin.zones.receive(self.vault, CALLER, request)

    def tend(self, zone: str) -> dict[str, wire.ZoneKeyAnswer]:
        answer = self.plugin.zones.tend(self.vault, CALLER, wire.TendZoneKeysRequest(zone=zone))
        return {each.key: each for each in answer.keys}


@pytest.fixture
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    home = provisioned_home(tmp_path_factory.mktemp("zones"))
    for name, agreed in AGREED.items():
        zone_keys.make_components(home.secrets, agreed, of=name)
    now = datetime(2026, 3, 21, tzinfo=UTC)
    with Vault.open(home, clock=lambda: found.now) as vault:
        found = Ends(vault, home, now)
        for name, agreed in AGREED.items():
            zone_keys.load(vault, home.secrets, agreed, of=name)
        yield found


def test_keys_and_component_files_are_called_by_their_zone(ends: Ends) -> None:
    held = {key.name: key.algorithm for key in ends.vault.list_keys(CALLER)}
    assert {name: held[name] for name in held if name.startswith("zone-")} == {
        "zone-pin": "des2",
        "zone-mac": "aes-128",
        "zone-master": "aes-128",
        "zone-pin-melli": "aes-256",
        "zone-mac-melli": "des2",
        "zone-master-melli": "aes-256",
    }
    assert (ends.home.secrets / "zone-master-melli-component-2").exists()
    again = zone_keys.load(ends.vault, ends.home.secrets, AGREED[HOST], of=HOST)
    assert again["zone-mac-melli"] == AGREED[HOST].kcv("zone-mac", ends.key(HOST, "zone-mac"))


def test_a_mac_under_the_key_of_another_zone_is_wrong(ends: Ends) -> None:
    made = {zone: ends.mac(zone) for zone in AGREED}
    for zone, agreed in AGREED.items():
        assert made[zone] == zone_mac(agreed.mac_algorithm, ends.key(zone, "zone-mac"), DATA)
        assert [other for other in AGREED if ends.verifies(zone, made[other])] == [zone]


def test_a_pin_is_sealed_in_the_form_and_under_the_key_of_the_zone_of_its_card(ends: Ends) -> None:
    pin = Pin.parse("73615")
    for zone, form in ((SWITCH_ZONE, PinBlockFormat.FORMAT_3), (HOST, PinBlockFormat.FORMAT_4)):
        sealed = ends.vault.run(ends.plugin.zones.find(zone).seal(ends.vault, CALLER, pin, PAN))
        assert sealed.block is not None
        opened = pin_block.unseal(sealed.block, PAN, ends.key(zone, "zone-pin"), block_format=form)
        assert (opened, sealed.block_format) == (pin, form)


def test_keys_of_one_zone_are_changed_and_ended_without_the_other(ends: Ends) -> None:
    before = ends.mac(HOST)
    value = AGREED[HOST].new_key("zone-mac", os.urandom)
    told = ends.send(HOST, "zone-mac", value, as_of=HOST)
    assert (told.zone, told.key, told.index) == (HOST, "zone-mac", 2)
    assert ends.mac(HOST) == zone_mac(AGREED[HOST].mac_algorithm, value, DATA)
    assert ends.verifies(HOST, before)
    ends.now += OVERLAP
    assert not ends.verifies(HOST, before)  # its own overlap, not the switch's
    assert {kind: each.index for kind, each in ends.tend(SWITCH_ZONE).items()} == {"zone-pin": 1, "zone-mac": 1}
    assert {key.row.state for key in ends.vault.versions("zone-mac-melli")} == {KeyState.ENABLED}
    assert {kind: each.index for kind, each in ends.tend(HOST).items()} == {"zone-pin": 1, "zone-mac": 2}
    assert [key.row.state for key in ends.vault.versions("zone-mac-melli")] == [KeyState.ENABLED, KeyState.DESTROYED]


@pytest.mark.parametrize("kind", ["zone-pin", "zone-mac"])
def test_a_key_wrapped_under_the_master_key_of_another_zone_is_none(ends: Ends, kind: ZoneKeyName) -> None:
    for zone, other in ((SWITCH_ZONE, HOST), (HOST, SWITCH_ZONE)):
        with pytest.raises(Problem) as refused:
            ends.send(zone, kind, AGREED[other].new_key(kind, os.urandom), as_of=other)
        assert refused.value.status in (400, 422)  # of another size, or it does not unwrap
        assert {each.index for each in ends.tend(zone).values()} == {1}


def test_a_zone_that_there_is_none_of_is_refused_on_the_record(ends: Ends) -> None:
    for ask in (ends.mac, lambda zone: ends.verifies(zone, bytes(8)), ends.tend):
        with pytest.raises(Problem) as refused:
            ask("saman")
        assert (refused.value.status, refused.value.type) == (422, "zone-unknown")


def test_the_keys_of_a_zone_are_lent_to_the_gateway_alone(ends: Ends) -> None:
    for zone in AGREED:
        seal = ends.plugin.zones.find(zone).seal(ends.vault, "service:ca", Pin.parse("73615"), PAN)
        for ask in (lambda zone=zone: ends.mac(zone, caller="service:ca"), lambda seal=seal: ends.vault.run(seal)):
            with pytest.raises(Problem) as refused:
                ask()
            assert refused.value.status == 403
