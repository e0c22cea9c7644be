"""MACs and PIN blocks in software, against published vectors and two independent computations."""

from __future__ import annotations

from typing import Any

import pytest

from shetab import pin_block
from shetab.mac import aes_cmac, retail_mac
from shetab.pin_block import PinBlockFormat
from shetab.types import Pan, Pin
from tests.shetab.zone_vectors import of


@pytest.mark.parametrize("row", of("aes_cmac"))
def test_aes_cmac(row: dict[str, Any]) -> None:
    assert aes_cmac(row["key"], row["data"]) == row["mac"]


@pytest.mark.parametrize("row", of("retail_mac"))
def test_retail_mac(row: dict[str, Any]) -> None:
    assert retail_mac(row["key"], row["data"], row["padding"]) == row["mac"]


@pytest.mark.parametrize("row", of("format_0"))
def test_format_0(row: dict[str, Any]) -> None:
    built = pin_block.build(PinBlockFormat.FORMAT_0, Pin(row["pin"]), Pan(row["pan"]), rng=bytes)
    assert built == row["clear"]
    assert pin_block.encrypt(built, row["key"]) == row["block"]


@pytest.mark.parametrize("row", [*of("format_0"), *of("format_3")])
def test_blocks_of_others_open(row: dict[str, Any]) -> None:
    assert pin_block.decrypt(row["block"], row["key"]) == row["clear"]
    assert pin_block.parse(row["clear"], Pan(row["pan"])) == Pin(row["pin"])


@pytest.mark.parametrize("row", of("format_4"))
def test_format_4(row: dict[str, Any]) -> None:
    pin, pan = Pin(row["pin"]), Pan(row["pan"])
    assert pin_block.seal(PinBlockFormat.FORMAT_4, pin, pan, row["key"], rng=lambda _: row["random"]) == row["block"]
    assert pin_block.unseal(row["block"], pan, row["key"], block_format=PinBlockFormat.FORMAT_4) == pin
