"""The list of all lists in force: one spelling, at most a day."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pki import bci
from pki.bci import Bci, NamedCrl
from pki.errors import DerError
from tests.support.pki_factory import NOW

LISTS = (
    NamedCrl("brand", "full", 7, b"\x01" * 32),
    NamedCrl("cardholder-ca", "delta", 9, b"\x02" * 32),
    NamedCrl("cardholder-ca", "full", 8, b"\x03" * 32),
)
CONTENT = Bci(number=4, this_update=NOW, next_update=NOW + timedelta(hours=24), lists=LISTS)


def test_what_is_written_is_read_back() -> None:
    assert Bci.from_der(CONTENT.to_der()) == CONTENT


def test_it_is_of_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bci, "VERSION", 2)
    der = CONTENT.to_der()
    monkeypatch.undo()
    with pytest.raises(DerError, match="version 1"):
        Bci.from_der(der)


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (replace(CONTENT, lists=(LISTS[0], LISTS[0])), "not_canonical"),
        (replace(CONTENT, lists=LISTS[::-1]), "not_canonical"),
        (replace(CONTENT, next_update=NOW + timedelta(hours=24, seconds=1)), "bad_validity"),
        (replace(CONTENT, next_update=NOW), "bad_validity"),
        (replace(CONTENT, number=1 << 160), "bad_number"),
        (replace(CONTENT, number=-1), "bad_number"),
        (replace(CONTENT, lists=(replace(LISTS[0], number=1 << 160),)), "bad_number"),
    ],
    ids=[
        "named twice",
        "not in order",
        "for longer than a day",
        "for no time",
        "number too long",
        "negative number",
        "number of a list too long",
    ],
)
def test_one_wrong_thing_and_it_is_refused(hostile: Bci, reason: str) -> None:
    with pytest.raises(DerError) as caught:
        Bci.from_der(hostile.to_der())
    assert caught.value.reason == reason
