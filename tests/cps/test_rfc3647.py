"""The outline of RFC 3647 section 6."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from cps.rfc3647 import LANGUAGES, above, heading_of, outline


def test_the_headings_are_numbered_without_a_gap() -> None:
    numbers = [tuple(map(int, number.split("."))) for number in outline()]
    for before, after in pairwise(numbers):
        next_of = {(*before[:depth], before[depth] + 1) for depth in range(len(before))}
        assert after == (*before, 1) or after in next_of, (before, after)


def test_each_chapter_has_as_many_headings_as_in_the_rfc() -> None:
    counted = Counter(number.partition(".")[0] for number in outline())
    assert counted == {"1": 18, "2": 5, "3": 19, "4": 67, "5": 48, "6": 37, "7": 17, "8": 7, "9": 52}


def test_deep_and_last_headings_are_those_of_the_rfc() -> None:
    found = outline()
    assert found["4.9.16"].titles["en"] == "Limits on suspension period"
    assert found["4.9.12"].titles["en"] == "Special requirements re key compromise"
    assert found["7.1.9"].titles["en"] == "Processing semantics for the critical Certificate Policies extension"
    assert list(found)[-1] == "9.17"


def test_every_title_is_in_both_languages_and_persian_ones_are_persian() -> None:
    for heading in outline().values():
        assert set(heading.titles) == set(LANGUAGES)
        persian = heading.titles["fa"]
        assert not set(persian) & set("يك")
        assert any("\u0600" <= letter <= "\u06ff" for letter in persian)
        assert heading.titles["en"].isascii()


def test_a_heading_knows_its_depth_and_whether_others_stand_below_it() -> None:
    found = outline()
    assert (found["4"].level, found["4.9"].level, found["4.9.1"].level) == (1, 2, 3)
    assert (found["4.9"].has_parts, found["4.9.1"].has_parts, found["4.1"].has_parts) == (True, False, True)
    assert not found["1.1"].has_parts, "1.1 is no parent of 1.10"
    assert not found["9.17"].has_parts


def test_a_section_of_the_pack_belongs_to_a_heading() -> None:
    assert heading_of("4.9.1/keyCompromise") == "4.9.1"
    assert heading_of("5.2.4") == "5.2.4"
    assert above("4.9.5") == ("4.9.5", "4.9", "4")
