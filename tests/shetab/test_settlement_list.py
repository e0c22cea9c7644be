"""The network's settlement list: what was signed is what is read; anything else is refused before it is looked at."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from shetab import settlement_list
from shetab.settlement_list import ListedMovement, SettlementList, SettlementListError, read_list, write_list

KEY: Final = ec.derive_private_key(7, ec.SECP256R1())
NOW: Final = datetime(2026, 3, 21, 1, 2, 3, tzinfo=UTC)


def movement(number: int, **changes: Any) -> ListedMovement:
    told = {"merchant": "M-1", "terminal": "T1", "rrn": f"{number:012d}", "stan": f"{number:06d}"}
    return ListedMovement(**{**told, "movement": "debit", "amount": 150_000, **changes})


LIST: Final = SettlementList(
    "603770",
    date(2026, 3, 20),
    True,
    NOW,
    (movement(1), movement(2, movement="credit", amount=1), movement(3, void=True)),
)


def signed(lines: list[dict[str, Any]], key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """These lines as a list, with a right digest and signature whatever they say."""
    content = b"".join(json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n" for line in lines[:-1])
    trailer = {**lines[-1], "sha256": lines[-1].get("sha256") or sha256(content).hexdigest()}
    content += json.dumps(trailer, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    signature = base64.b64encode(key.sign(content, ec.ECDSA(hashes.SHA256()))).decode()
    return content + json.dumps({"signature": signature}, separators=(",", ":")).encode() + b"\n"


def lines_of(found: SettlementList = LIST) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in write_list(found, KEY).splitlines()[:-1]]
    del lines[-1]["sha256"]
    return lines


def test_what_was_written_is_read() -> None:
    data = write_list(LIST, KEY)
    assert read_list(data, KEY.public_key()) == LIST
    assert json.loads(data.splitlines()[-2])["net"] == 149_999  # what is void does not count
    empty = replace(LIST, movements=())
    assert read_list(write_list(empty, KEY), KEY.public_key()) == empty


def test_the_helper_of_this_test_signs_what_is_accepted() -> None:
    assert read_list(signed(lines_of()), KEY.public_key()) == LIST


def test_every_changed_byte_is_refused() -> None:
    data = write_list(LIST, KEY)
    for at in range(0, len(data), 7):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(SettlementListError):
            read_list(changed, KEY.public_key())


def test_a_list_of_another_key_is_refused() -> None:
    with pytest.raises(SettlementListError, match="not signed by"):
        read_list(write_list(LIST, ec.derive_private_key(8, ec.SECP256R1())), KEY.public_key())


def at(number: int, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda lines: lines[number].update(changes)


WRONG: Final = {
    "other format": (at(0, format="list-2"), "line 1: format"),
    "no day": (at(0, business_day="2026-02-30"), "line 1: business_day"),
    "no zone": (at(0, made_at="2026-03-21T01:02:03"), "line 1: made_at"),
    "nothing of an amount": (at(1, amount=0), "line 2: amount"),
    "an amount as text": (at(1, amount="150000"), "line 2: amount"),
    "a card number": (at(1, pan="6037701000000007"), "line 2: pan"),
    "other movement": (at(1, movement="gift"), "line 2: movement"),
    "other number": (at(-1, items=4), "items and net"),
    "other net": (at(-1, net=150_000), "items and net"),
    "other digest": (at(-1, sha256="0" * 64), "sha256"),
    "twice": (lambda lines: lines.__setitem__(2, {**lines[1], "amount": 1}) or lines[-1].update(net=150_001), "twice"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_network_signed_in_the_wrong_form_is_refused_too(name: str) -> None:
    change, reason = WRONG[name]
    lines = lines_of()
    change(lines)
    with pytest.raises(SettlementListError, match=reason) as refused:
        read_list(signed(lines), KEY.public_key())
    assert "6037701000000007" not in str(refused.value)


def test_what_is_no_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"\n", b"{}\n{}\n", b"{}\n{}\n{}\n", b"\xff\n" * 5, b"[]\n" * 4):
        with pytest.raises(SettlementListError):
            read_list(data, KEY.public_key())
    monkeypatch.setattr(settlement_list, "LARGEST", 100)
    with pytest.raises(SettlementListError, match="at most 100 bytes"):
        read_list(write_list(LIST, KEY), KEY.public_key())


def resigned(data: bytes) -> bytes:
    """These lines but the last two with a right digest, trailer and signature: the network's own key has signed it."""
    content = b"".join(data.splitlines(keepends=True)[:-2])
    trailer = {"items": 3, "net": 149_999, "sha256": sha256(content).hexdigest()}
    content += json.dumps(trailer, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    signature = base64.b64encode(KEY.sign(content, ec.ECDSA(hashes.SHA256()))).decode()
    return content + json.dumps({"signature": signature}, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("was", "instead"),
    [
        (b'"amount":150000,', b'"amount":1,"amount":150000,'),  # whoever reads the first reads another amount
        (b'"amount":1,', b'"amount": 1,'),
        (b'"business_day":"2026-03-20"', b'"business_day":1773964800'),
        (b"\n", b"\r\n"),
        (b'"merchant":"M-1"', b'"merchant":"\\u004d-1"'),
        (b'"made_at":"2026-03-21T01:02:03Z"', b'"made_at":"1774054923"'),
        (b',"void":false', b""),
    ],
)
def test_a_signed_line_has_one_form(was: bytes, instead: bytes) -> None:
    data = write_list(LIST, KEY)
    assert read_list(resigned(data), KEY.public_key()) == LIST
    with pytest.raises(SettlementListError, match="one form"):
        read_list(resigned(data.replace(was, instead, 1)), KEY.public_key())


@pytest.mark.parametrize("amount", [b"1e5", b"150000.0", b"9" * 5_000, b"1000000000000", b"-1", b"true", b"NaN"])
def test_an_amount_is_a_whole_number_of_twelve_digits(amount: bytes) -> None:
    with pytest.raises(SettlementListError, match="line 2"):
        read_list(resigned(write_list(LIST, KEY).replace(b":150000,", b":" + amount + b",", 1)), KEY.public_key())
