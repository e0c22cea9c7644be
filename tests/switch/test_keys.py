"""Key files: owner only, well-formed, made once; what is derived from them depends on every input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.secrets import SecretFileError
from runtime.settings import Home
from shetab.types import Cvv2, Expiry, Pan, Pin
from switch.errors import KeyFileError
from switch.issuer_keys import IssuerKeys
from switch.zone import MAC_KEY_COMPONENTS, MASTER_KEY_COMPONENTS, PIN_KEY_COMPONENTS, ZoneKeys
from tests.support.acquirer import write_zone_keys

PAN, OTHER = Pan("6037701000000007"), Pan("6219861000000009")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    home = Home(tmp_path)
    home.create()
    return home.secrets


class TestIssuerKeys:
    def test_made_once_for_the_owner_alone(self, secrets: Path) -> None:
        path = secrets / "key"
        first = IssuerKeys.load_or_create(path, rng=os.urandom)
        again = IssuerKeys.load_or_create(path, rng=os.urandom)
        assert first.pan_lookup(PAN) == again.pan_lookup(PAN)
        assert path.stat().st_mode & 0o777 == 0o600

    def test_another_master_gives_other_values(self) -> None:
        first, second = IssuerKeys(bytes(32)), IssuerKeys(bytes(31) + b"\x01")
        assert first.pan_lookup(PAN) != second.pan_lookup(PAN)

    def test_every_input_counts_and_every_use_has_its_own_key(self) -> None:
        keys = IssuerKeys(bytes(range(32)))
        values = [
            keys.pan_lookup(PAN),
            keys.pan_lookup(OTHER),
            keys.expiry_value(PAN, Expiry("0712")),
            keys.expiry_value(PAN, Expiry("0711")),
            keys.expiry_value(OTHER, Expiry("0712")),
            keys.pin_value(PAN, Pin("0712")),
            keys.pin_value(PAN, Pin("12345")),
            keys.pin_value(OTHER, Pin("12345")),
            keys.fingerprint({2: "1", 4: "2"}),
            keys.fingerprint({2: "1", 5: "2"}),
        ]
        assert len(set(values)) == len(values)
        assert keys.cvv2(PAN, Expiry("0712")) == keys.cvv2(PAN, Expiry("0712"))
        assert isinstance(keys.cvv2(PAN, Expiry("0712")), Cvv2)

    @pytest.mark.parametrize("content", ["", "00" * 31, "zz" * 32])
    def test_other_files(self, secrets: Path, content: str) -> None:
        path = secrets / "key"
        path.touch(mode=0o600)
        path.write_text(content)
        with pytest.raises(KeyFileError):
            IssuerKeys.load_or_create(path, rng=os.urandom)

    def test_a_file_that_others_can_read(self, secrets: Path) -> None:
        path = secrets / "key"
        path.write_text("00" * 32)
        path.chmod(0o640)
        with pytest.raises(SecretFileError):
            IssuerKeys.load_or_create(path, rng=os.urandom)

    def test_another_length(self) -> None:
        with pytest.raises(KeyFileError):
            IssuerKeys(bytes(16))


class TestZoneKeys:
    def test_from_components(self, secrets: Path) -> None:
        pin_key, mac_key = write_zone_keys(secrets)
        loaded = ZoneKeys.load(secrets)
        assert loaded.check_values == ZoneKeys(pin_key, mac_key).check_values
        assert loaded.unwrap("zone-pin", loaded.wrap("zone-pin", pin_key)) == pin_key

    def test_a_zone_of_before_has_no_master_key(self, secrets: Path) -> None:
        write_zone_keys(secrets)
        for name in MASTER_KEY_COMPONENTS:
            (secrets / name).unlink()
        loaded = ZoneKeys.load(secrets)
        assert not loaded.can_exchange
        with pytest.raises(KeyFileError, match="no zone master key"):
            loaded.wrap("zone-pin", bytes(16))

    def test_keys_under_another_master_key_do_not_open(self, secrets: Path) -> None:
        wrapped = ZoneKeys(bytes(16), bytes(16), bytes(range(16))).wrap("zone-mac", bytes(16))
        with pytest.raises(KeyFileError, match="not the one"):
            ZoneKeys(bytes(16), bytes(16), bytes(range(1, 17))).unwrap("zone-mac", wrapped)

    @pytest.mark.parametrize("name", [*PIN_KEY_COMPONENTS, *MAC_KEY_COMPONENTS, *MASTER_KEY_COMPONENTS])
    def test_a_missing_component_is_named(self, secrets: Path, name: str) -> None:
        write_zone_keys(secrets)
        (secrets / name).unlink()
        with pytest.raises(KeyFileError, match=name):
            ZoneKeys.load(secrets)

    def test_a_malformed_component_is_named_and_not_shown(self, secrets: Path) -> None:
        write_zone_keys(secrets)
        (secrets / PIN_KEY_COMPONENTS[0]).write_text("5ecre7")
        with pytest.raises(KeyFileError, match=PIN_KEY_COMPONENTS[0]) as refusal:
            ZoneKeys.load(secrets)
        assert "5ecre7" not in str(refusal.value)
