"""Zone keys that come over the line, in a real token: checked before they are stored, in use at once, ended in time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from pkcs11 import Attribute, ObjectClass

from gateway_keys import wire, zone_keys
from gateway_keys.plugin import GatewayKeys
from gateway_keys.routes import CALLER
from gateway_keys.zone_exchange import index_of
from hsm_service import tokens
from hsm_service.errors import WrongCheckValue
from hsm_service.key_states import KeyState
from hsm_service.tokens import Token
from hsm_service.vault import Vault
from runtime.problems import Problem
from runtime.settings import Home
from shetab.mac import zone_mac
from shetab.zone import Zone
from shetab.zone_keys import combine, next_index, single_des_part, wrap
from tests.support.softhsm import provisioned_home, raw_session

OVERLAP: Final = timedelta(seconds=30)
WorkingKey = Literal["zone-mac", "zone-pin"]
KINDS: Final[tuple[WorkingKey, ...]] = ("zone-mac", "zone-pin")
OTHER_SIZE: Final = 40
DATA: Final = b"0800 and what follows"


@dataclass
class End:
    """The gateway's end in the token, and what the other end would do."""

    vault: Vault
    plugin: GatewayKeys
    home: Home
    now: datetime
    agreed: Zone

    def shared(self, which: zone_keys.ZoneKey) -> bytes:
        return combine([each.reveal() for each in zone_keys.read_components(self.home.secrets, which, self.agreed)])

    def version(self, kind: WorkingKey) -> int:
        return self.vault.key(kind).row.version

    def receive(
        self, kind: WorkingKey, value: bytes, *, master: bytes | None = None, caller: str = CALLER, **other: Any
    ) -> Any:
        """Hand over a key as the switch would, with one thing changed by `other`."""
        wrapped = self.agreed.wrap(kind, master or self.shared(zone_keys.ZONE_MASTER), value)
        kcv = self.agreed.kcv(kind, value)
        honest = {
            "key": kind,
            "index": index_of(self.version(kind) + 1),
            "wrapped": wrapped,
            "check_value": bytes.fromhex(kcv),
        }
        return self.plugin.zones.receive(self.vault, caller, wire.ReceiveZoneKeyRequest(**{**honest, **other}))

    def verifies(self, key: bytes) -> bool:
        request = wire.VerifyMacRequest(data=DATA, mac=self.mac(key))
        return self.vault.run(self.plugin.zones.verify_mac(self.vault, CALLER, request)).valid

    def mac(self, key: bytes) -> bytes:
        return zone_mac(self.agreed.mac_algorithm, key, DATA)

    def new_key(self, kind: WorkingKey) -> bytes:
        return self.agreed.new_key(kind, os.urandom)

    def tend(self) -> dict[str, wire.ZoneKeyAnswer]:
        answer = self.plugin.zones.tend(self.vault, CALLER, wire.TendZoneKeysRequest())
        return {each.key: each for each in answer.keys}

    def objects(self) -> int:
        """Keys in the token, both parts of X9.19 keys counted."""
        token, _ = self.vault.key("zone-mac").use()
        assert isinstance(token, Token)
        return sum(1 for _ in raw_session(token).get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY}))


AGREED: Final = {
    "format 3, CMAC": Zone(),
    "format 0, X9.19": Zone.agreed(0, "x9.19"),
    "format 3 under three keys, X9.19 padding 2": Zone.agreed(3, "x9.19", "des3", mac_padding=2),
    "format 4, CMAC, AES-256": Zone.agreed(4, "aes-cmac", "aes-256", "aes-256"),
}


@pytest.fixture(scope="module", params=AGREED.values(), ids=AGREED.keys())
def zone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[End]:
    agreed: Zone = request.param
    home = provisioned_home(tmp_path_factory.mktemp("zone"))
    zone_keys.make_components(home.secrets, agreed)
    start = datetime(2026, 3, 21, 12, 0, tzinfo=UTC)
    with Vault.open(home, ["gateway"], clock=lambda: zone.now) as vault:
        plugin = GatewayKeys.of(home, overlap=OVERLAP, zone=agreed, clock=lambda: zone.now)
        zone = End(vault, plugin, home, start, agreed)
        zone_keys.load(vault, home.secrets, agreed)
        yield zone


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_in_use_at_once_and_cannot_leave(zone: End, kind: WorkingKey) -> None:
    value, before = zone.new_key(kind), zone.version(kind)
    taken = zone.receive(kind, value)
    assert (taken.index, taken.check_value) == (
        index_of(before + 1),
        zone.agreed.kcv(kind, value),
    )
    token, ref = zone.vault.key(kind).use()
    attributes = token.attributes(ref)
    assert (attributes.sensitive, attributes.extractable, attributes.imported) == (True, False, True)
    if kind == "zone-mac":
        made = zone.vault.run(
            zone.plugin.zones.generate_mac(zone.vault, CALLER, wire.GenerateMacRequest(data=DATA))
        ).mac
        assert made == zone.mac(value)


def test_the_mac_key_before_is_believed_for_its_overlap_and_destroyed_then(zone: End) -> None:
    old, new = zone.new_key("zone-mac"), zone.new_key("zone-mac")
    zone.receive("zone-mac", old)
    zone.now += OVERLAP
    zone.tend()
    zone.receive("zone-mac", new)
    held = zone.objects()
    assert zone.verifies(old)
    assert zone.verifies(new)
    assert not zone.verifies(zone.new_key("zone-mac"))
    zone.now += OVERLAP - timedelta(seconds=1)
    assert (zone.verifies(old), zone.tend()["zone-mac"].replaced_still_valid) == (True, 1)
    zone.now += timedelta(seconds=1)
    assert not zone.verifies(old)
    assert zone.tend()["zone-mac"].replaced_still_valid == 0
    assert zone.objects() == held - (2 if zone.agreed.has_mac_pair("zone-mac") else 1)
    states = {key.row.state for key in zone.vault.versions("zone-mac")[1:]}
    assert states == {KeyState.DESTROYED}
    assert zone.verifies(new)


@pytest.mark.parametrize("kind", KINDS)
class TestRefused:
    """The key in use stays, and the token holds what it held."""

    @pytest.fixture(autouse=True)
    def unchanged(self, zone: End, kind: WorkingKey) -> Iterator[None]:
        before = (zone.version(kind), zone.objects(), zone.tend()[kind].check_value)
        yield
        assert (zone.version(kind), zone.objects(), zone.tend()[kind].check_value) == before

    def test_another_check_value(self, zone: End, kind: WorkingKey) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, zone.new_key(kind), check_value=b"\0\0\0")
        assert (refusal.value.status, refusal.value.type) == (422, "wrong-check-value")

    def test_under_another_master_key(self, zone: End, kind: WorkingKey) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, zone.new_key(kind), master=os.urandom(zone.agreed.size("zone-master")))
        assert refusal.value.type == "wrong-check-value"

    def test_another_index(self, zone: End, kind: WorkingKey) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, zone.new_key(kind), index=index_of(zone.version(kind) + 2))
        assert (refusal.value.status, refusal.value.type) == (409, "wrong-key-index")

    def test_another_key_of_the_index_in_use(self, zone: End, kind: WorkingKey) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, zone.new_key(kind), index=index_of(zone.version(kind)))
        assert refusal.value.type == "wrong-check-value"

    def test_another_length(self, zone: End, kind: WorkingKey) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(
                kind, zone.new_key(kind), wrapped=wrap(zone.shared(zone_keys.ZONE_MASTER), os.urandom(OTHER_SIZE))
            )
        assert refusal.value.status == 400

    def test_another_caller(self, zone: End, kind: WorkingKey) -> None:
        with pytest.raises(Problem) as refusal:
            zone.receive(kind, zone.new_key(kind), caller="service:ca")
        assert refusal.value.status == 403


def test_no_other_key_comes_over_the_line(zone: End) -> None:
    with pytest.raises(Problem) as refusal:
        zone.receive("zone-mac", zone.new_key("zone-mac"), key="zone-master", index=2)
    assert refusal.value.status == 422


def test_the_same_key_for_two_gateways_at_once_is_taken_for_both(zone: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusing one of them would have the switch withdraw the key that is in use here."""
    key, index, custody = zone.new_key("zone-mac"), index_of(zone.version("zone-mac") + 1), zone.vault._custody
    receive, taken = custody.receive, list[int]()

    def overtaken(*asked: Any) -> Any:
        monkeypatch.undo()
        taken.append(zone.receive("zone-mac", key, index=index).index)
        return receive(*asked)

    monkeypatch.setattr(custody, "receive", overtaken)
    taken.append(zone.receive("zone-mac", key, index=index).index)
    assert taken == [index, index]
    assert zone.verifies(key)


def test_another_key_for_two_gateways_at_once_is_taken_once(zone: End, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = zone.new_key("zone-mac"), zone.new_key("zone-mac")
    index, custody = index_of(zone.version("zone-mac") + 1), zone.vault._custody
    receive = custody.receive

    def overtaken(*asked: Any) -> Any:
        monkeypatch.undo()
        zone.receive("zone-mac", first, index=index)
        return receive(*asked)

    monkeypatch.setattr(custody, "receive", overtaken)
    with pytest.raises((WrongCheckValue, Problem)):
        zone.receive("zone-mac", second, index=index)
    assert zone.verifies(first)
    assert not zone.verifies(second)


def test_the_same_key_again_changes_nothing(zone: End) -> None:
    value = zone.new_key("zone-mac")
    first = zone.receive("zone-mac", value)
    held = zone.objects()
    assert zone.receive("zone-mac", value, index=first.index) == first
    assert zone.objects() == held


@pytest.mark.parametrize("same", [True, False])
def test_what_a_killed_process_left_half_made_is_taken_up(
    zone: End, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    value = zone.new_key("zone-mac")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(zone.vault._registry), "made", killed)
        with pytest.raises(KeyboardInterrupt):
            zone.receive("zone-mac", value)
    held = zone.objects()
    assert not zone.verifies(value)  # in the token, and not in use
    again = value if same else zone.new_key("zone-mac")
    zone.receive("zone-mac", again)
    assert zone.objects() == held
    assert (zone.verifies(again), zone.verifies(value)) == (True, same)


def test_the_ceremony_does_not_mind_a_key_that_was_changed_since(zone: End) -> None:
    zone.receive("zone-pin", value := zone.new_key("zone-pin"))
    assert zone_keys.load(zone.vault, zone.home.secrets, zone.agreed)["zone-pin"] == zone.agreed.kcv("zone-pin", value)


def test_indexes_go_round() -> None:
    assert [index_of(version) for version in (1, 2, 99, 100, 199)] == [1, 2, 99, 1, 1]
    assert all(next_index(index_of(each)) == index_of(each + 1) for each in range(1, 250))


def test_the_journal_has_check_values_and_no_key(zone: End, tmp_path: Path) -> None:
    value = zone.new_key("zone-mac")
    zone.receive("zone-mac", value)
    journal = (zone.home.audit / "hsm.jsonl").read_text()
    assert zone.agreed.kcv("zone-mac", value) in journal
    assert value.hex() not in journal.lower()


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_key_message_is_not_taken_again(zone: End, kind: WorkingKey) -> None:
    """What the switch sent one or two changes ago, byte for byte: neither its index nor its check value fits."""
    old, before = zone.new_key(kind), zone.version(kind)
    zone.receive(kind, old)
    zone.receive(kind, zone.new_key(kind))
    with pytest.raises(Problem) as refusal:
        zone.receive(kind, old, index=index_of(before + 1))
    assert (refusal.value.status, refusal.value.type) == (409, "wrong-key-index")
    assert zone.version(kind) == before + 2


def test_the_parts_of_two_x9_19_keys_are_not_put_together(zone: End) -> None:
    if not zone.agreed.has_mac_pair("zone-mac"):
        pytest.skip("the MAC key of this zone is one key")
    master, value, other = zone.shared(zone_keys.ZONE_MASTER), zone.new_key("zone-mac"), zone.new_key("zone-mac")
    held = zone.objects()
    with pytest.raises(Problem) as refusal:
        zone.receive("zone-mac", value, wrapped=wrap(master, value) + wrap(master, single_des_part(other)))
    assert (refusal.value.type, zone.objects()) == ("wrong-check-value", held)


def test_a_process_killed_between_the_two_parts_leaves_nothing_that_disturbs(
    zone: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not zone.agreed.has_mac_pair("zone-mac"):
        pytest.skip("the MAC key of this zone is one key")
    value, held, calls = zone.new_key("zone-mac"), zone.objects(), []
    honest = tokens._unwrapped_zone_key

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 4:  # two to try it, one of the two that stay
            raise KeyboardInterrupt
        return honest(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(tokens, "_unwrapped_zone_key", killed)
        with pytest.raises(KeyboardInterrupt):
            zone.receive("zone-mac", value)
    assert zone.objects() == held + 1
    zone.receive("zone-mac", value)
    assert (zone.objects(), zone.verifies(value)) == (held + 2, True)
