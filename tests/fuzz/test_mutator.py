"""Twins are made the same way each time, and a change deep inside leaves every length around it right."""

from __future__ import annotations

import itertools
import random

from kwbp import structure
from kwbp.wrapper import KwbpMessage
from pki.der import decode, encode, tlv
from tests.fuzz.mutator import LARGEST, Mutator, elements, length, replaced
from tests.fuzz.reading_protocol import catalogue
from tests.fuzz.registry import decoders
from tests.fuzz.running import inputs

NESTED = tlv(0x30, tlv(0x04, tlv(0x30, encode(7) + encode(300))) + tlv(0x03, b"\x00" + tlv(0x30, encode(b"x"))))


def test_what_is_wrapped_in_strings_is_taken_apart_too() -> None:
    found = elements(NESTED)
    assert [NESTED[each.start] for each in found] == [0x30, 0x04, 0x30, 0x02, 0x02, 0x03, 0x30, 0x04]
    assert elements(b"\x30\x80\x00\x00") == ()


def test_lengths_are_put_right_on_the_way_out() -> None:
    number = next(n for n, each in enumerate(elements(NESTED)) if NESTED[each.start : each.end] == encode(7))
    longer = replaced(NESTED, number, tlv(0x04, bytes(200)))
    assert elements(longer)[0].end == len(longer)
    assert longer[:3] == b"\x30" + length(len(longer) - 3)
    assert replaced(longer, number, encode(7)) == NESTED


def test_a_change_inside_a_signed_object_reaches_its_reader() -> None:
    """The wrapper around it is read as before."""
    message = catalogue().exchanges["auth_req"].message
    deepest = max(range(len(elements(message))), key=lambda number: elements(message)[number].start)
    twin = replaced(message, deepest, b"\x05\x00")
    assert structure.decode(KwbpMessage, twin).msg_type == decode(KwbpMessage, message).msg_type
    assert twin != message


def test_one_seed_makes_one_sequence() -> None:
    decoder = decoders()["structure.InvoiceTBS"]
    first, again = ([*itertools.islice(inputs(decoder, 5), 60)] for _ in range(2))
    assert first == again
    assert first != [*itertools.islice(inputs(decoder, 6), 60)]
    assert all(len(each) <= LARGEST for each in first)


def test_every_kind_of_twin_differs_from_what_it_was_made_of() -> None:
    mutator = Mutator(random.Random(1), [NESTED])
    assert sum(mutator.twin() != NESTED for _ in range(300)) > 290
    text = Mutator(random.Random(1), [b'{"a": 1}\n'], text=True)
    assert sum(text.twin() != b'{"a": 1}\n' for _ in range(300)) > 270
