"""MACs and PIN blocks as the token makes them, against the vectors of software that knows nothing of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gateway_keys.orders import PinKey, message_mac, seal_pin
from hsm_service.keys import KeyKind, KeyRef, Usage
from hsm_service.token_operations import TokenOperations
from hsm_service.vault import Vault
from runtime.secrets import Secret
from runtime.settings import Home
from shetab.mac import MacAlgorithm
from shetab.pin_block import PinBlockFormat, pan_field, pin_field, unseal
from shetab.types import Pan, Pin
from tests.shetab.zone_vectors import of
from tests.support.softhsm import provisioned_home
from tests.support.steps import done

PAN, PIN = Pan("6037991234567893"), Pin("12345")
_X9_19 = {1: MacAlgorithm.X9_19, 2: MacAlgorithm.X9_19_PADDING_2}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def token(home: Home) -> Iterator[TokenOperations]:
    with Vault.open(home, ["gateway"]) as vault:
        yield vault.keys._custody.token("gateway")


def held(token: TokenOperations, kind: KeyKind, value: bytes, usage: Usage) -> KeyRef:
    """The key `value` in the token, its parity as the token wants it."""
    mask = os.urandom(len(value))
    components = (Secret(mask), Secret(bytes(a ^ b for a, b in zip(mask, value, strict=True))))
    label = f"{usage}-{kind}-{value.hex()}"
    found = token.find(label=label)
    return found or token.import_zone_key(label, kind, components, usage=usage)


def test_x9_19(token: TokenOperations) -> None:
    for row in of("retail_mac"):
        ref = held(token, KeyKind.DES2, row["key"], Usage.RETAIL_MAC)
        assert done(message_mac(token, ref, row["data"], _X9_19[row["padding"]])) == row["mac"]


def test_aes_cmac(token: TokenOperations) -> None:
    for row in of("aes_cmac"):
        if row["data"]:
            ref = held(token, KeyKind.AES, row["key"], Usage.MAC)
            assert done(message_mac(token, ref, row["data"])) == row["mac"][:8]


def test_formats_0_and_3(token: TokenOperations) -> None:
    for row in (*of("format_0"), *of("format_3")):
        kind = KeyKind.DES2 if len(row["key"]) == 16 else KeyKind.DES3
        ref = held(token, kind, row["key"], Usage.PIN_BLOCK)
        assert token.des3_ecb_encrypt(ref, row["clear"]) == row["block"]


def test_format_4(token: TokenOperations) -> None:
    for row in of("format_4"):
        ref = held(token, KeyKind.AES, row["key"], Usage.PIN_BLOCK)
        field = pin_field(Pin(row["pin"]), rng=lambda _size, row=row: row["random"])  # type: ignore[misc]
        assert token.aes_pin_block(ref, field, pan_field(Pan(row["pan"]))) == row["block"]


@pytest.mark.parametrize("block_format", PinBlockFormat)
def test_a_block_of_the_token_opens_at_the_other_end(token: TokenOperations, block_format: PinBlockFormat) -> None:
    kind = KeyKind.AES if block_format is PinBlockFormat.FORMAT_4 else KeyKind.DES2
    value = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    ref = held(token, kind, value, Usage.PIN_BLOCK)
    key = PinKey(token, ref, block_format)
    block = done(seal_pin(key, PIN, PAN))
    assert len(block) == block_format.block_size
    assert unseal(block, PAN, value, block_format=block_format) == PIN
    assert (done(seal_pin(key, PIN, PAN)) == block) is (block_format is PinBlockFormat.FORMAT_0)
