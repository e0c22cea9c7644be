"""A list that comes in pieces is judged as one that comes whole, and its entries byte for byte while they pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.crl import CrlScope, entry_der, prepare_crl
from ca.prepare import Issuer
from ca.profile import CrlRule
from hsm_service.crl_reader import LARGEST, CrlReader, ReadCrl
from hsm_service.judging import SigningKey
from hsm_service.templates import built_in
from hsm_service.typed_crl import check_crl
from runtime.problems import Problem
from tests.support.pki_factory import DAY, NOW, PkiFactory

RULE = CrlRule(lifetime=2 * DAY, renew_before=DAY)
URL = "http://repository.example/crls/merchant-ca/partition-1.crl"
AUTHORITY = PkiFactory().merchant_ca
PUBLIC = AUTHORITY.credential.key.public_key()
assert isinstance(PUBLIC, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
KEY = SigningKey("merchant-ca", 1, built_in()["issuing-ca"], PUBLIC, (AUTHORITY.certificate,))
BASE = 5
"""Number of the one full list that the key signed."""
SERIALS = sorted({1, 0x7F, 0x80, 0xFFFF, *(int(hashlib.sha256(bytes([i])).hexdigest()[:32], 16) for i in range(90))})


def tbs(entries: Sequence[bytes], scope: CrlScope = CrlScope(), **changes: Any) -> bytes:
    fields: dict[str, Any] = {"number": 8, "rule": RULE, "now": NOW, **changes}
    return prepare_crl(Issuer("merchant-ca", AUTHORITY.certificate), entries=entries, scope=scope, **fields)


def entry(serial: int, reason: str = "keyCompromise", **changes: Any) -> bytes:
    fields = {"at": NOW - DAY, **changes}
    return entry_der(format(serial, "x"), reason=reason, **fields)


def read(data: bytes, at_once: int = 1 << 20) -> ReadCrl:
    reader = CrlReader(KEY, now=NOW, last=7, is_full=lambda number: number == BASE)
    for start in range(0, len(data), at_once):
        reader.feed(data[start : start + at_once])
    return reader.finish()


def refusal(data: bytes, at_once: int = 1 << 20) -> Problem:
    with pytest.raises(Problem) as caught:
        read(data, at_once)
    return caught.value


ENTRIES = [entry(serial, reason) for serial, reason in zip(SERIALS, ["unspecified", "superseded"] * 99, strict=False)]
SINCE = [
    entry(serial, reason, invalidity_date=NOW - 2 * DAY)
    for serial, reason in ((3, "unspecified"), (4, "keyCompromise"))
]
SCOPES = {
    "full": CrlScope(),
    "delta": CrlScope(base=BASE),
    "partition": CrlScope(address=URL),
    "full with deltas": CrlScope(freshest=URL),
}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("entries", [[], SINCE, ENTRIES], ids=["none", "two", "many"])
def test_lists_of_every_scope_are_read(scope: str, entries: list[bytes]) -> None:
    data = tbs(entries, SCOPES[scope])
    found = read(data)

    assert (found.order.scope, found.order.number) == (scope.split(" ", maxsplit=1)[0], 8)
    assert (found.revoked, found.size) == (len(entries), len(data))
    assert found.input_sha256 == hashlib.sha256(data).hexdigest()
    whole = check_crl(data, KEY, now=NOW, last=7, is_full=lambda number: number == BASE)
    assert (whole.scope, whole.number, whole.revoked) == (found.order.scope, 8, len(entries))


@settings(max_examples=40, deadline=None)
@given(at_once=st.integers(1, 400))
def test_how_it_is_cut_does_not_matter(at_once: int) -> None:
    data = tbs(ENTRIES, CrlScope(base=BASE))
    assert read(data, at_once) == read(data)


def test_a_delta_takes_entries_off_again() -> None:
    assert read(tbs([entry(1, "removeFromCRL")], CrlScope(base=BASE))).revoked == 1


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(tbs(ENTRIES)) - 1), bit=st.integers(0, 7))
def test_what_is_read_in_pieces_would_be_signed_whole(place: int, bit: int) -> None:
    """Whatever one changes: what passes here passes the judge that reads all of it; it never knows less."""
    data = bytearray(tbs(ENTRIES))
    data[place] ^= 1 << bit
    try:
        found = read(bytes(data), 100)
    except Problem:
        return
    whole = check_crl(bytes(data), KEY, now=NOW, last=7)
    assert (whole.number, whole.scope, whole.revoked) == (found.order.number, found.order.scope, found.revoked)


def sized(octets: int, last: int = 1) -> int:
    """A serial number of so many octets."""
    return 1 << 8 * (octets - 1) | last


HIDDEN = {
    "nine octets": (sized(9), {"reason": "unspecified"}),
    "seven octets and a reason": (sized(7), {"reason": "keyCompromise"}),
}
"""Entries of the length of what may follow another entry's date: nobody may take them for that."""


@pytest.mark.parametrize("hidden", HIDDEN)
def test_an_entry_is_not_taken_for_extensions_of_the_one_before(hidden: str) -> None:
    serial, fields = HIDDEN[hidden]
    first, after = entry(3, "unspecified"), entry(sized(12), "unspecified")

    assert read(tbs([first, entry(serial, **fields), after])).revoked == 3
    tomorrow = entry(serial, **fields, at=NOW + DAY)
    assert refusal(tbs([first, tomorrow, after])).type == "bad-revocation-date"
    assert refusal(tbs([entry(serial, "unspecified"), entry(serial, **fields), after])).type == "repeated-entry"


def spoiled(old: bytes, new: bytes) -> bytes:
    """A list of which one entry has other bytes, as many."""
    data = tbs(ENTRIES)
    assert data.count(old) >= 1
    assert len(old) == len(new)
    return data.replace(old, new, 1)


UTC = b"\x17\x0d" + (NOW - DAY).strftime("%y%m%d%H%M%SZ").encode()
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "malformed"),
    "no SEQUENCE": (lambda: b"\x31" + tbs(ENTRIES)[1:], "malformed"),
    "cut short": (lambda: tbs(ENTRIES)[:-1], "malformed"),
    "a byte more": (lambda: tbs(ENTRIES) + b"\x00", "malformed"),
    "indefinite length": (lambda: b"\x30\x80" + tbs(ENTRIES)[2:], "malformed"),
    "longer length octets than needed": (lambda: b"\x30\x83\x00" + tbs(ENTRIES)[2:], "malformed"),
    "no version": (lambda: tbs(ENTRIES).replace(b"\x02\x01\x01\x30", b"\x04\x01\x01\x30", 1), "malformed"),
    "empty list of entries": (
        lambda: _around(tbs([]), b"\x30\x00"),
        "malformed",
    ),
    "entries after the entries": (lambda: _around(tbs(ENTRIES), b"\x30\x00"), "malformed"),
    "serial of zero": (lambda: tbs([entry(0), *ENTRIES]), "malformed"),
    "negative serial": (lambda: spoiled(b"\x02\x01\x7f", b"\x02\x01\xff"), "malformed"),
    "serial with a needless zero": (lambda: spoiled(b"\x02\x02\x00\x80", b"\x02\x02\x00\x70"), "malformed"),
    "serial of 21 octets": (lambda: tbs([*ENTRIES, entry(1 << 160)]), "malformed"),
    "month 13": (lambda: spoiled(UTC, b"\x17\x0d251301000000Z"), "malformed"),
    "30 February": (lambda: spoiled(UTC, b"\x17\x0d250230000000Z"), "malformed"),
    "29 February of no leap year": (lambda: spoiled(UTC, b"\x17\x0d250229000000Z"), "malformed"),
    "hour 24": (lambda: spoiled(UTC, b"\x17\x0d250101240000Z"), "malformed"),
    "date without Z": (lambda: spoiled(UTC, UTC[:-1] + b"0"), "malformed"),
    "revoked in the future": (lambda: tbs([entry(9, at=NOW + DAY)]), "bad-revocation-date"),
    "listed twice": (lambda: tbs([ENTRIES[0], *ENTRIES]), "repeated-entry"),
    "listed twice in two pieces": (lambda: tbs([*ENTRIES, ENTRIES[-1]]), "repeated-entry"),
    "not in order": (lambda: tbs([ENTRIES[1], ENTRIES[0]]), "repeated-entry"),
    "reason of its own": (lambda: spoiled(b"\x0a\x01\x04", b"\x0a\x01\x0b"), "malformed"),
    "reason unspecified": (lambda: spoiled(b"\x0a\x01\x04", b"\x0a\x01\x00"), "malformed"),
    "removeFromCRL in a full list": (lambda: tbs([entry(1, "removeFromCRL")]), "bad-reason"),
    "another extension in an entry": (lambda: spoiled(b"\x55\x1d\x15", b"\x55\x1d\x1d"), "malformed"),
    "delta over a list that was not signed": (lambda: tbs(ENTRIES, CrlScope(base=6)), "unknown-base-crl"),
    "number far ahead": (lambda: tbs(ENTRIES, number=1 << 60), "bad-crl-number"),
    "thisUpdate in the future": (lambda: tbs(ENTRIES, now=NOW + DAY), "bad-this-update"),
    "nextUpdate far away": (
        lambda: tbs(ENTRIES, rule=CrlRule(lifetime=40 * DAY, renew_before=DAY)),
        "bad-next-update",
    ),
    "more than anybody signs": (
        lambda: b"\x30\x84" + (LARGEST + 1).to_bytes(4) + tbs(ENTRIES)[4:],
        "structure-too-large",
    ),
}


def _around(data: bytes, more: bytes) -> bytes:
    """The list with `more` before its extensions."""
    from pki.der import tlv

    place = data.rindex(b"\xa0", 0, data.rindex(b"\x55\x1d\x23"))
    start = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
    return tlv(0x30, data[start:place] + more + data[place:])


@pytest.mark.parametrize("twin", HOSTILE)
@pytest.mark.parametrize("at_once", [1 << 20, 64], ids=["whole", "in pieces"])
def test_a_list_with_one_wrong_thing_is_not_signed(twin: str, at_once: int) -> None:
    make, slug = HOSTILE[twin]
    refused = refusal(make(), at_once)
    assert refused.type == slug
    assert refused.status == (413 if slug == "structure-too-large" else 422)


@pytest.mark.parametrize("endless", [b"\x30\x83\x40\x00\x00" + b"\x02\x01\x01\x30\x83\x30\x00\x00", b"\x30"])
def test_what_never_comes_to_the_entries_is_not_gathered(endless: bytes) -> None:
    reader = CrlReader(KEY, now=NOW, last=7, is_full=lambda _number: False)
    with pytest.raises(Problem):
        for _ in range(100):
            reader.feed(endless.ljust(1024, b"\x00"))


def test_another_authoritys_list_is_not_signed() -> None:
    other = PkiFactory().gateway_ca
    data = prepare_crl(Issuer("gateway-ca", other.certificate), number=8, entries=ENTRIES, rule=RULE, now=NOW)
    assert refusal(data).status == 422


def test_a_list_of_a_minute_ahead_is_signed() -> None:
    assert read(tbs([entry(9, at=NOW + timedelta(minutes=1))])).revoked == 1
