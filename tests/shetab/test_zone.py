"""What two ends of a zone can agree on, and what no zone is."""

from __future__ import annotations

import os
from typing import Any

import pytest

from shetab.dialect import Dialect
from shetab.errors import ValueFormatError
from shetab.mac import MacAlgorithm
from shetab.pin_block import PinBlockFormat
from shetab.zone import Zone
from shetab.zone_keys import KeyAlgorithm, check_strength, combine, pair_kcv, parse_component, single_des_part, wrap

KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
MASTER = bytes(range(16))


def test_a_kind_of_key_that_is_not_said_fits() -> None:
    assert Zone.agreed() == Zone(PinBlockFormat.FORMAT_3, MacAlgorithm.AES_CMAC, "des2", "aes-128", "aes-128")
    four = Zone.agreed(4, "x9.19", mac_padding=2)
    assert (four.pin_key, four.mac_key, four.mac_algorithm) == ("aes-128", "des2", MacAlgorithm.X9_19_PADDING_2)
    assert Zone.agreed(4, pin_key="aes-256").master_key == "aes-256"


def test_a_dialect_says_format_and_mac() -> None:
    class Kinds:
        pin_key: KeyAlgorithm | None = "aes-256"
        mac_key: KeyAlgorithm | None = None
        master_key: KeyAlgorithm | None = None
        mac_padding = 1

    zone = Zone.of(Dialect.load("shetab93_binary_pin4"), Kinds())
    assert (zone.pin_block_format, zone.pin_key, zone.master_key) == (PinBlockFormat.FORMAT_4, "aes-256", "aes-256")


@pytest.mark.parametrize(
    "wrong",
    [
        {"pin_block_format": 1},
        {"pin_block_format": 2},
        {"mac_algorithm": "hmac"},
        {"pin_block_format": 4, "pin_key": "des2"},
        {"pin_block_format": 3, "pin_key": "aes-128"},
        {"mac_algorithm": "x9.19", "mac_key": "des3"},
        {"mac_algorithm": "aes-cmac", "mac_key": "des2"},
        {"master_key": "des2"},
        {"pin_block_format": 4, "pin_key": "aes-256", "master_key": "aes-128"},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueFormatError):
        Zone.agreed(**wrong)


def test_only_format_0_repeats_itself() -> None:
    assert [Zone.agreed(each).is_deterministic for each in (0, 3, 4)] == [True, False, False]


def test_new_keys_are_as_agreed_and_never_weak() -> None:
    weak = bytes.fromhex("0101010101010101FEDCBA9876543210")
    served = iter([KEY[:8] * 2, weak, KEY])
    assert Zone.agreed(3).new_key("zone-pin", lambda size: next(served)[:size]) == KEY
    for zone in (Zone.agreed(0, "x9.19", pin_key="des3"), Zone.agreed(4, pin_key="aes-256", mac_key="aes-256")):
        assert len(zone.new_key("zone-pin", os.urandom)) == zone.size("zone-pin")
        assert len(zone.new_key("zone-mac", os.urandom)) == zone.size("zone-mac")


class TestAKeyOfX919:
    zone = Zone.agreed(3, "x9.19")

    def test_comes_as_a_pair(self) -> None:
        wrapped = self.zone.wrap("zone-mac", MASTER, KEY)
        assert (len(wrapped), self.zone.unwrap("zone-mac", MASTER, wrapped)) == (56, KEY)

    def test_whose_parts_belong_together(self) -> None:
        other = wrap(MASTER, KEY) + wrap(MASTER, single_des_part(KEY[8:] + KEY[:8]))
        for wrong in (other, wrap(MASTER, KEY), wrap(MASTER, single_des_part(KEY)) + wrap(MASTER, KEY)):
            with pytest.raises(ValueFormatError):
                self.zone.unwrap("zone-mac", MASTER, wrong)

    def test_has_a_check_value_that_begins_with_that_of_triple_des(self) -> None:
        assert self.zone.kcv("zone-mac", KEY) == pair_kcv(KEY)
        assert (pair_kcv(KEY)[:6], len(pair_kcv(KEY))) == ("08D7B4", 12)


def test_a_key_of_another_size_is_refused() -> None:
    with pytest.raises(ValueFormatError, match="another size"):
        Zone.agreed(3).unwrap("zone-mac", MASTER, wrap(MASTER, bytes(range(32))))


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("des2", KEY[:8] * 2),
        ("des2", bytes(8) + KEY[:8]),  # weak, once it has odd parity
        ("des2", bytes.fromhex("1FE01FE00EF10EF1") + KEY[:8]),
        ("des3", KEY + KEY[:8]),  # K1 = K3: two keys
        ("des3", KEY),
        ("aes-256", KEY),
    ],
)
def test_weak_keys_are_refused(algorithm: KeyAlgorithm, key: bytes) -> None:
    with pytest.raises(ValueFormatError):
        check_strength(algorithm, key)


def test_components_are_as_long_as_the_key() -> None:
    assert len(parse_component(b"01" * 24, 24)) == 24
    with pytest.raises(ValueFormatError):
        parse_component(b"01" * 24, 32)
    with pytest.raises(ValueFormatError, match="equal"):
        combine([KEY, KEY, MASTER])
    assert combine([bytes(range(24)), bytes(24)[:-1] + b"\x01"])[:23] == bytes(range(23))
