"""What the searches for card data would find, and what they leave alone: a search that finds nothing proves nothing."""

from __future__ import annotations

import json
from random import Random
from typing import Final

import pytest

from pki.der import tlv
from tests.support.canaries import traces

CARD: Final = {"pan": "6037991234567893", "expiry": "0512", "cvv2": "407", "pin2": "846192735046"}
LEAKS: Final = {
    "json": json.dumps({"a": CARD["pin2"], "b": CARD["cvv2"]}).encode(),
    "row": repr((7, CARD["expiry"], CARD["cvv2"])).encode(),
    "csv": b"1;%b;%b;2" % (CARD["cvv2"].encode(), CARD["expiry"].encode()),
    "der": tlv(0x30, tlv(0x12, CARD["expiry"].encode()) + tlv(0x12, CARD["cvv2"].encode())),
    "filled-with-zero": tlv(0x12, b"0407") + tlv(0x04, CARD["expiry"].encode()),
    "joined": f"x{CARD['pan']}{CARD['expiry']}y".encode(),
    "member": json.dumps({"cvv2": CARD["cvv2"]}).encode(),
    "query": b"/card?expiry=0512&x=1",
    "repr-of-a-secret": b"Pin2(pin2=Pin('846192735046'))",
    "log": b"CVV2: 407",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_each_leak_is_found_in_the_middle_of_anything(leak: str) -> None:
    noise = Random(1).randbytes(512)
    assert traces(**CARD).search(noise + b"\0" + LEAKS[leak] + b"\0" + noise)


@pytest.mark.parametrize("value", [f"{value}" for value in CARD.values()])
def test_digits_in_no_such_company_are_left_alone(value: str) -> None:
    found = traces(**CARD)
    assert not found.search(f"port {value}, version 1.2; at 2026-05-12T04:07:00Z".encode())
    assert not found.search(f'{{"{value}": 1, "code": "{value}1", "other": 9}}'.encode())


def test_no_card_is_found_by_chance_in_a_million_bytes() -> None:
    random = Random(2)
    content = random.randbytes(500_000) + " ".join(str(random.randrange(10**5)) for _ in range(80_000)).encode()
    assert not traces(**CARD).search(content)
