"""The issuing bank's statement: one DER form, version 1, whole seconds of UTC."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from cps.card_confirmation import CardConfirmation, build_card_confirmation, parse_card_confirmation
from pki import der
from pki.errors import DerError

_TEHRAN = timezone(timedelta(hours=3, minutes=30))
_DATE = datetime(2026, 3, 1, 12, 0, 0, 999, tzinfo=UTC)


def _content(spki_sha256: bytes = bytes(range(32)), card_ref: bytes | None = None) -> bytes:
    return build_card_confirmation(
        commitment="Y29tbWl0bWVudA",
        spki_sha256=spki_sha256,
        bin_="603770",
        expires_at=datetime(2029, 3, 20, 0, 0, 0, tzinfo=_TEHRAN),
        issuer="Bank Keshavarzi",
        date=_DATE,
        card_ref=card_ref,
    )


def test_what_was_built_is_read_back() -> None:
    confirmation = parse_card_confirmation(_content())
    assert (confirmation.version, confirmation.commitment, confirmation.bin) == (1, "Y29tbWl0bWVudA", "603770")
    assert confirmation.spki_sha256 == bytes(range(32))
    assert confirmation.issuer == "Bank Keshavarzi"
    assert confirmation.expires_at.as_datetime() == datetime(2029, 3, 19, 20, 30, tzinfo=UTC)
    assert confirmation.date.as_datetime() == _DATE.replace(microsecond=0)


def test_a_hash_of_another_length_cannot_be_stated() -> None:
    with pytest.raises(ValueError, match="size"):
        _content(bytes(31))


def test_another_version_is_refused() -> None:
    confirmation = parse_card_confirmation(_content())
    later = CardConfirmation(
        version=2,
        commitment=confirmation.commitment,
        spki_sha256=confirmation.spki_sha256,
        bin=confirmation.bin,
        expires_at=confirmation.expires_at,
        issuer=confirmation.issuer,
        date=confirmation.date,
        card_ref=None,
    )
    with pytest.raises(DerError) as refusal:
        parse_card_confirmation(der.encode(later))
    assert refusal.value.reason == "version"


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(DerError):
        parse_card_confirmation(_content() + b"\x00")


def test_a_card_reference_is_there_or_not() -> None:
    assert parse_card_confirmation(_content()).card_ref is None
    assert parse_card_confirmation(_content(card_ref=bytes(32))).card_ref == bytes(32)


def test_a_card_reference_of_another_size_is_neither_stated_nor_read() -> None:
    with pytest.raises(ValueError, match="size"):
        _content(card_ref=bytes(31))
    with pytest.raises(DerError) as refusal:
        parse_card_confirmation(der.encode(replace(parse_card_confirmation(_content()), card_ref=bytes(31))))
    assert refusal.value.reason == "malformed"
