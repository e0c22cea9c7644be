"""Zone keys that come over the line, in a real token: checked before they are stored, in use at once, ended in time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from gateway_keys import wire, zone_keys
from gateway_keys.plugin import CALLER, GatewayKeys
from gateway_keys.zone_exchange import index_of
from hsm_service.key_states import KeyState
from hsm_service.vault import Vault
from runtime.problems import Problem
from runtime.settings import Home
from shetab.mac import message_mac
from shetab.zone_keys import aes_kcv, combine, next_index, tdes_kcv, with_odd_parity, wrap
from tests.support.softhsm import provisioned_home

OVERLAP: Final = timedelta(seconds=30)
KINDS: Final = ("zone-mac", "zone-pin")
DATA: Final = b"0800 and what follows"


@dataclass
class Zone:
    """The gateway's end in the token, and what the other end would do."""

    vault: Vault
    plugin: GatewayKeys
    home: Home
    now: datetime

    def shared(self, which: zone_keys.ZoneKey) -> bytes:
        return combine([each.reveal() for each in zone_keys.read_components(self.home.secrets, which)])

    def version(self, kind: str) -> int:
        return self.vault.key(kind).row.version

    def receive(
        self, kind: str, value: bytes, *, master: bytes | None = None, caller: str = CALLER, **other: Any
    ) -> Any:
        """Hand over a key as the switch would, with one thing changed by `other`."""
        wrapped = wrap(master or self.shared(zone_keys.ZONE_MASTER), value)
        kcv = tdes_kcv(value) if kind == "zone-pin" else aes_kcv(value)
        honest = {
            "key": kind,
            "index": index_of(self.version(kind) + 1),
            "wrapped": wrapped,
            "check_value": bytes.fromhex(kcv),
        }
        return self.plugin.zone.receive(self.vault, caller, wire.ReceiveZoneKeyRequest(**{**honest, **other}))

    def verifies(self, key: bytes) -> bool:
        request = wire.VerifyMacRequest(data=DATA, mac=message_mac(key, DATA))
        return self.plugin.verify_mac(self.vault, CALLER, request).valid

    def tend(self) -> dict[str, wire.ZoneKeyAnswer]:
        answer = self.plugin.zone.tend(self.vault, CALLER, wire.TendZoneKeysRequest())
        return {each.key: each for each in answer.keys}

    def objects(self) -> int:
        token, _ = self.vault.key("zone-mac").use()
        return len(token.keys())


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zone]:
    home = provisioned_home(tmp_path_factory.mktemp("zone"))
    zone_keys.make_components(home.secrets)
    start = datetime(2026, 3, 21, 12, 0, tzinfo=UTC)
    with Vault.open(home, ["gateway"], clock=lambda: zone.now) as vault:
        zone = Zone(vault, GatewayKeys.of(home, overlap=OVERLAP, clock=lambda: zone.now), home, start)
        zone_keys.load(vault, home.secrets)
        yield zone


def new_key(kind: str) -> bytes:
    return with_odd_parity(os.urandom(16)) if kind == "zone-pin" else os.urandom(16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_in_use_at_once_and_cannot_leave(zone: Zone, kind: str) -> None:
    value, before = new_key(kind), zone.version(kind)
    taken = zone.receive(kind, value)
    assert (taken.index, taken.check_value) == (
        index_of(before + 1),
        tdes_kcv(value) if kind == "zone-pin" else aes_kcv(value),
    )
    token, ref = zone.vault.key(kind).use()
    attributes = token.attributes(ref)
    assert (attributes.sensitive, attributes.extractable, attributes.imported) == (True, False, True)
    if kind == "zone-mac":
        made = zone.plugin.generate_mac(zone.vault, CALLER, wire.GenerateMacRequest(data=DATA)).mac
        assert made == message_mac(value, DATA)


def test_the_mac_key_before_is_believed_for_its_overlap_and_destroyed_then(zone: Zone) -> None:
    old, new = new_key("zone-mac"), new_key("zone-mac")
    zone.receive("zone-mac", old)
    zone.now += OVERLAP
    zone.tend()
    zone.receive("zone-mac", new)
    held = zone.objects()
    assert zone.verifies(old)
    assert zone.verifies(new)
    assert not zone.verifies(new_key("zone-mac"))
    zone.now += OVERLAP - timedelta(seconds=1)
    assert (zone.verifies(old), zone.tend()["zone-mac"].replaced_still_valid) == (True, 1)
    zone.now += timedelta(seconds=1)
    assert not zone.verifies(old)
    assert zone.tend()["zone-mac"].replaced_still_valid == 0
    assert zone.objects() == held - 1
    states = {key.row.state for key in zone.vault.versions("zone-mac")[1:]}
    assert states == {KeyState.DESTROYED}
    assert zone.verifies(new)


@pytest.mark.parametrize("kind", KINDS)
class TestRefused:
    """The key in use stays, and the token holds what it held."""

    @pytest.fixture(autouse=True)
    def unchanged(self, zone: Zone, kind: str) -> Iterator[None]:
        before = (zone.version(kind), zone.objects(), zone.tend()[kind].check_value)
        yield
        assert (zone.version(kind), zone.objects(), zone.tend()[kind].check_value) == before

    def test_another_check_value(self, zone: Zone, kind: str) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, new_key(kind), check_value=b"\0\0\0")
        assert (refusal.value.status, refusal.value.type) == (422, "wrong-check-value")

    def test_under_another_master_key(self, zone: Zone, kind: str) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, new_key(kind), master=os.urandom(16))
        assert refusal.value.type == "wrong-check-value"

    def test_another_index(self, zone: Zone, kind: str) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, new_key(kind), index=index_of(zone.version(kind) + 2))
        assert (refusal.value.status, refusal.value.type) == (409, "wrong-key-index")

    def test_another_key_of_the_index_in_use(self, zone: Zone, kind: str) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, new_key(kind), index=index_of(zone.version(kind)))
        assert refusal.value.type == "wrong-check-value"

    def test_another_length(self, zone: Zone, kind: str) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, new_key(kind), wrapped=wrap(zone.shared(zone_keys.ZONE_MASTER), os.urandom(32)))
        assert refusal.value.status == 400

    def test_another_caller(self, zone: Zone, kind: str) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, new_key(kind), caller="service:ca")
        assert refusal.value.status == 403


def test_no_other_key_comes_over_the_line(zone: Zone) -> None:
    with pytest.raises(Problem) as refusal:
        zone.receive("zone-mac", new_key("zone-mac"), key="zone-master", index=2)
    assert refusal.value.status == 422


def test_the_same_key_again_changes_nothing(zone: Zone) -> None:
    value = new_key("zone-mac")
    first = zone.receive("zone-mac", value)
    held = zone.objects()
    assert zone.receive("zone-mac", value, index=first.index) == first
    assert zone.objects() == held


@pytest.mark.parametrize("same", [True, False])
def test_what_a_killed_process_left_half_made_is_taken_up(
    zone: Zone, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    value = new_key("zone-mac")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(zone.vault._registry), "made", killed)
        with pytest.raises(KeyboardInterrupt):
            zone.receive("zone-mac", value)
    held = zone.objects()
    assert not zone.verifies(value)  # in the token, and not in use
    again = value if same else new_key("zone-mac")
    zone.receive("zone-mac", again)
    assert zone.objects() == held
    assert (zone.verifies(again), zone.verifies(value)) == (True, same)


def test_the_ceremony_does_not_mind_a_key_that_was_changed_since(zone: Zone) -> None:
    zone.receive("zone-pin", value := new_key("zone-pin"))
    assert zone_keys.load(zone.vault, zone.home.secrets)["zone-pin"] == tdes_kcv(value)


def test_indexes_go_round() -> None:
    assert [index_of(version) for version in (1, 2, 99, 100, 199)] == [1, 2, 99, 1, 1]
    assert all(next_index(index_of(each)) == index_of(each + 1) for each in range(1, 250))


def test_the_journal_has_check_values_and_no_key(zone: Zone, tmp_path: Path) -> None:
    value = new_key("zone-mac")
    zone.receive("zone-mac", value)
    journal = (zone.home.audit / "hsm.jsonl").read_text()
    assert aes_kcv(value) in journal
    assert value.hex() not in journal.lower()
