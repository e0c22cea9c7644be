"""The zone-key ceremony: components in files, keys in the token, the same keys at the other end."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway_keys import wire
from gateway_keys.errors import ZoneKeyError
from gateway_keys.plugin import GatewayKeys
from gateway_keys.zone_keys import (
    ZONE_KEYS,
    ZONE_MAC,
    ZONE_PIN,
    ZoneKey,
    load,
    make_components,
    read_components,
)
from hsm_service import capabilities
from hsm_service.capabilities import Ability, Capabilities, Finding
from hsm_service.vault import Vault
from runtime.problems import Problem
from runtime.secrets import Secret, SecretFileError
from runtime.settings import Home
from shetab.zone import Zone
from shetab.zone_keys import aes_kcv, combine, tdes_kcv
from tests.support.softhsm import provisioned_home


def test_each_custodian_gets_a_file_of_his_own(tmp_path: Path) -> None:
    written = make_components(tmp_path)
    assert [path.name for path in written] == [
        "zone-pin-component-1",
        "zone-pin-component-2",
        "zone-mac-component-1",
        "zone-mac-component-2",
        "zone-master-component-1",
        "zone-master-component-2",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert len({path.read_bytes() for path in written}) == len(written)


def test_a_second_ceremony_keeps_the_components(tmp_path: Path) -> None:
    paths = make_components(tmp_path)
    before = [path.read_bytes() for path in paths]
    assert make_components(tmp_path) == ()
    assert [path.read_bytes() for path in paths] == before


def test_one_component_says_nothing_about_the_key(tmp_path: Path) -> None:
    make_components(tmp_path)
    for zone_key in ZONE_KEYS:
        parts = [each.reveal() for each in read_components(tmp_path, zone_key)]
        assert combine(parts) not in parts


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = provisioned_home(tmp_path)
    make_components(home.secrets)
    return home


def test_the_token_holds_the_keys_of_the_components(home: Home) -> None:
    pin, mac, master = (combine([part.reveal() for part in read_components(home.secrets, each)]) for each in ZONE_KEYS)
    values = {"zone-pin": tdes_kcv(pin), "zone-mac": aes_kcv(mac), "zone-master": aes_kcv(master)}
    with Vault.open(home, ["gateway"]) as vault:
        assert load(vault, home.secrets) == values
        token, ref = vault.key("zone-pin").use()
        attributes = token.attributes(ref)
        assert attributes.imported
        assert (attributes.sensitive, attributes.extractable) == (True, False)


def test_loading_twice_changes_nothing(home: Home) -> None:
    with Vault.open(home, ["gateway"]) as vault:
        first = load(vault, home.secrets)
        assert load(vault, home.secrets) == first
        assert [key.version for key in vault.list_keys("ceremony")] == [1, 1, 1]


@pytest.mark.parametrize("which", ZONE_KEYS, ids=lambda which: which.name)
def test_components_of_another_key_are_found_out(home: Home, which: ZoneKey) -> None:
    with Vault.open(home, ["gateway"]) as vault:
        load(vault, home.secrets)
        component = which.files(home.secrets)[0]
        component.unlink()
        make_components(home.secrets)
        with pytest.raises(
            ZoneKeyError, match=f"{which.name} key with another check value|{which.name} key with check"
        ):
            load(vault, home.secrets)


def test_a_missing_component_names_its_file(tmp_path: Path) -> None:
    make_components(tmp_path)
    ZONE_MAC.files(tmp_path)[1].unlink()
    assert len(read_components(tmp_path, ZONE_PIN)) == 2
    with pytest.raises(ZoneKeyError, match="zone-mac-component-2 is missing"):
        read_components(tmp_path, ZONE_MAC)


@pytest.mark.parametrize("content", ["", "00" * 16, "AB" * 15, "AB" * 17, "XY" * 16])
def test_a_malformed_component_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    make_components(tmp_path)
    ZONE_PIN.files(tmp_path)[0].write_text(content)
    with pytest.raises(ZoneKeyError, match="zone-pin-component-1") as refusal:
        read_components(tmp_path, ZONE_PIN)
    assert not content or content not in str(refusal.value)


def test_a_component_that_others_can_read_is_refused(tmp_path: Path) -> None:
    make_components(tmp_path)
    ZONE_PIN.files(tmp_path)[0].chmod(0o640)
    with pytest.raises(SecretFileError, match="0640"):
        read_components(tmp_path, ZONE_PIN)


def test_components_do_not_print(tmp_path: Path) -> None:
    make_components(tmp_path)
    component = read_components(tmp_path, ZONE_PIN)[0]
    assert isinstance(component, Secret)
    assert component.reveal().hex() not in repr(component)


def test_a_token_that_cannot_do_it_takes_no_such_key_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = provisioned_home(tmp_path)
    zone = Zone.agreed(3, "x9.19")
    make_components(home.secrets, zone)
    honest = Capabilities.__getitem__

    def without(found: Capabilities, ability: Ability) -> Finding:
        lacking = Finding(Ability.RETAIL_MAC, False, reason="CKR_MECHANISM_INVALID")
        return lacking if ability is Ability.RETAIL_MAC else honest(found, ability)

    monkeypatch.setattr(capabilities.Capabilities, "__getitem__", without)
    with Vault.open(home, ["gateway"]) as vault:
        with pytest.raises(Problem, match=r"retail-mac \(CKR_MECHANISM_INVALID\)") as refusal:
            load(vault, home.secrets, zone)
        assert refusal.value.status == 409


def test_a_zone_that_agreed_on_another_kind_of_key_is_not_served(home: Home) -> None:
    with Vault.open(home, ["gateway"]) as vault:
        load(vault, home.secrets)
        plugin = GatewayKeys.of(home, zone=Zone.agreed(4, "x9.19"))
        with pytest.raises(Problem) as refusal:
            vault.run(plugin.zones.generate_mac(vault, "service:gateway", wire.GenerateMacRequest(data=b"data")))
        assert (refusal.value.status, refusal.value.type) == (503, "not-able")
        for path in (*ZONE_PIN.files(home.secrets), *ZONE_MAC.files(home.secrets)):
            path.unlink()
        other = Zone.agreed(4, "x9.19")
        make_components(home.secrets, other)
        with pytest.raises(ZoneKeyError, match="zone-pin key of des2, not of aes-128"):
            load(vault, home.secrets, other)


@pytest.mark.parametrize(
    "zone", [Zone.agreed(4, "aes-cmac", "aes-256", "aes-256"), Zone.agreed(3, "x9.19", "des3")], ids=str
)
def test_the_token_holds_keys_of_other_kinds(tmp_path: Path, zone: Zone) -> None:
    home = provisioned_home(tmp_path)
    make_components(home.secrets, zone)
    with Vault.open(home, ["gateway"]) as vault:
        first = load(vault, home.secrets, zone)
        assert load(vault, home.secrets, zone) == first
        for each in ZONE_KEYS:
            value = combine([part.reveal() for part in read_components(home.secrets, each, zone)])
            assert first[each.name] == zone.kcv(each.name, value)


def test_components_that_make_a_weak_key_are_refused_before_the_token_sees_them(home: Home) -> None:
    first, second = ZONE_PIN.files(home.secrets)
    half = bytes.fromhex("0123456789ABCDEF")
    second.write_text(first.read_text())
    with Vault.open(home, ["gateway"]) as vault:
        with pytest.raises(ZoneKeyError, match="cancel out"):
            load(vault, home.secrets)
        masked = bytes(a ^ b for a, b in zip(bytes.fromhex(first.read_text()), half * 2, strict=True))
        second.write_text(masked.hex())
        with pytest.raises(ZoneKeyError, match="equal or weak parts"):
            load(vault, home.secrets)
        assert vault.list_keys("ceremony") == []
