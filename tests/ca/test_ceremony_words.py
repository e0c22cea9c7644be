"""Fingerprints read aloud: the same words for everybody, and no slip of the tongue that passes for another key."""

from __future__ import annotations

import hashlib
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.ceremony.words import Language, _words, lines, read_words, same, words
from ca.errors import CeremonyError

FINGERPRINT = hashlib.sha256(b"root").hexdigest()
LANGUAGES: tuple[Language, ...] = ("en", "fa")
_SOUND_ALIKE = str.maketrans("يكآذضظصثطحغ", "یکازززسستهق")

digests = st.binary(min_size=32, max_size=32)
languages = st.sampled_from(LANGUAGES)


def distance(one: str, other: str) -> int:
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for line, a in enumerate(one, 1):
        row = _next(row, line, a, other)
    return row[-1]


def _next(row: list[int], line: int, a: str, other: str) -> list[int]:
    after = [line]
    for column, b in enumerate(other, 1):
        after.append(min(row[column] + 1, after[-1] + 1, row[column - 1] + (a != b)))
    return after


def test_the_persian_list_has_256_words_that_nobody_takes_for_another() -> None:
    listed = _words("fa")
    assert len(set(listed)) == len(listed) == 256
    assert list(listed) == sorted(listed)
    assert all(3 <= len(word) <= 7 for word in listed)
    assert all("\u0621" <= char <= "\u06cc" for word in listed for char in word)
    folded = [word.translate(_SOUND_ALIKE) for word in listed]
    assert [pair for pair in combinations(folded, 2) if distance(*pair) < 2] == []
    assert len({"".join(sorted(word)) for word in folded}) == 256  # no two of the same letters


def test_the_english_list_is_that_of_slip_39() -> None:
    listed = _words("en")
    assert len({word[:4] for word in listed}) == len(listed) == 1024
    assert (listed[0], listed[-1]) == ("academic", "zero")


def test_a_fingerprint_reads_the_same_for_ever() -> None:
    assert words(FINGERPRINT) == [
        "behavior",
        "emission",
        "miracle",
        "speak",
        "aide",
        "game",
        "living",
        "sister",
        "dance",
        "gums",
        "raspy",
    ]
    assert words(FINGERPRINT, "fa") == [
        "خورشید",
        "ایوان",
        "دامن",
        "دروازه",
        "ایوان",
        "صحرا",
        "باربر",
        "جارو",
        "نردبان",
        "لبخند",
        "پیانو",
    ]


def test_eighty_bits_are_shown_and_all_on_demand() -> None:
    assert len(words(FINGERPRINT)) == 11
    assert len(words(FINGERPRINT, whole=True)) == 33
    assert " ".join(lines(FINGERPRINT, "fa")).split() == words(FINGERPRINT, "fa")


@given(digests, languages, st.booleans())
def test_words_lead_back_to_the_fingerprint(digest: bytes, language: Language, whole: bool) -> None:
    spoken = words(digest, language, whole=whole)
    assert read_words(spoken, language) == (digest if whole else digest[:10])
    assert same(" ".join(spoken).upper(), digest.hex(":"), language)


@given(digests, languages, st.booleans(), st.data())
def test_one_wrong_word_is_noticed(digest: bytes, language: Language, whole: bool, data: st.DataObject) -> None:
    spoken = words(digest, language, whole=whole)
    place = data.draw(st.integers(0, len(spoken) - 1))
    spoken[place] = data.draw(st.sampled_from([word for word in _words(language) if word != spoken[place]]))
    with pytest.raises(CeremonyError, match=f"check word|word {place + 1} cannot"):
        read_words(spoken, language)


@pytest.mark.parametrize("language", ["en", "fa"])
def test_the_last_word_and_the_check_word_exchanged_are_noticed(language: Language) -> None:
    for byte in range(256):
        spoken = words(bytes(9) + bytes([byte]) + bytes(22), language)
        if spoken[-1] != spoken[-2]:
            with pytest.raises(CeremonyError):
                read_words([*spoken[:-2], spoken[-1], spoken[-2]], language)


@given(digests, languages, st.booleans(), st.data())
def test_two_exchanged_words_are_noticed(digest: bytes, language: Language, whole: bool, data: st.DataObject) -> None:
    spoken = words(digest, language, whole=whole)
    one, other = data.draw(st.sampled_from(list(combinations(range(len(spoken)), 2))))
    if spoken[one] != spoken[other]:
        spoken[one], spoken[other] = spoken[other], spoken[one]
        with pytest.raises(CeremonyError, match=r"check word|cannot stand"):
            read_words(spoken, language)


@given(digests, languages, st.booleans(), st.data())
def test_a_skipped_or_repeated_word_is_noticed(
    digest: bytes, language: Language, whole: bool, data: st.DataObject
) -> None:
    spoken = words(digest, language, whole=whole)
    place = data.draw(st.integers(0, len(spoken) - 1))
    for heard in ([*spoken[:place], *spoken[place + 1 :]], [*spoken[:place], spoken[place], *spoken[place:]]):
        with pytest.raises(CeremonyError, match=r"words; a fingerprint has|cannot stand"):
            read_words(heard, language)


def test_letters_of_an_arabic_keyboard_are_understood() -> None:
    digest = next(d for d in (hashlib.sha256(bytes([n])).digest() for n in range(99)) if "ی" in str(words(d, "fa")))
    typed = " ".join(words(digest, "fa")).replace("ی", "ي").replace("ک", "ك")
    assert read_words(typed, "fa") == digest[:10]


def test_another_fingerprint_is_not_the_same() -> None:
    assert not same(words(FINGERPRINT), hashlib.sha256(b"brand").digest())


@pytest.mark.parametrize("wrong", ["", "xyz", FINGERPRINT[:-2], b"\0" * 31, b"\0" * 33])
def test_what_is_no_fingerprint_is_refused(wrong: str | bytes) -> None:
    with pytest.raises(CeremonyError, match="SHA-256"):
        words(wrong)


def test_a_word_that_is_not_in_the_list_is_named_by_its_place() -> None:
    spoken = words(FINGERPRINT)
    spoken[4] = "kwbp"
    with pytest.raises(CeremonyError, match="word 5 is not in the list"):
        read_words(spoken)
