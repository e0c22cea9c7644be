"""Names are written in Persian or Latin letters, so that none looks like another; each refusal names the character."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cps import written_host, written_text
from cps.written_text import LATIN, PERSIAN, WRITTEN, ZWNJ, TextError, check_text, text_fault
from runtime.language import Language
from runtime.language_catalogue import of_package, placeholders

HONEST = [
    "Bookshop Co",
    "کتاب‌فروشی",
    "خانهٔ کتاب",
    "شرکت Example (سهامی خاص)",
    "Ørsted & Söhne – «ریال»",
    "محمّدِ رحمٰن",
    "می‌خواهم، شاید؟",
    "O'Neill’s 24",
    "فروشگاه 24",
    "",
]

DECEPTIVE = {
    "right-to-left override": ("Book\u202eshop", "U+202E RIGHT-TO-LEFT OVERRIDE controls the direction"),
    "isolate": ("Book\u2066shop", "U+2066 LEFT-TO-RIGHT ISOLATE controls the direction"),
    "embedding": ("Book\u202ashop", "U+202A LEFT-TO-RIGHT EMBEDDING controls the direction"),
    "mark of direction": ("کتاب\u200f", "U+200F RIGHT-TO-LEFT MARK controls the direction"),
    "Arabic letter mark": ("کتاب\u061c", "U+061C ARABIC LETTER MARK controls the direction"),
    "line feed": ("Book\nshop", "U+000A is a control character"),
    "escape": ("Book\x1b[2Jshop", "U+001B is a control character"),
    "line separator": ("Book\u2028shop", "U+2028 LINE SEPARATOR is a control character"),
    "zero width space": ("Book\u200bshop", "U+200B ZERO WIDTH SPACE is invisible"),
    "zero width joiner": ("کت\u200dاب", "U+200D ZERO WIDTH JOINER is invisible"),
    "byte order mark": ("\ufeffBookshop", "U+FEFF ZERO WIDTH NO-BREAK SPACE is invisible"),
    "soft hyphen": ("Book\u00adshop", "U+00AD SOFT HYPHEN is invisible"),
    "variation selector": ("Book\ufe0fshop", "U+FE0F VARIATION SELECTOR-16 is invisible"),
    "tag": ("Book\U000e0041shop", "U+E0041 TAG LATIN CAPITAL LETTER A is invisible"),
    "Hangul filler": ("Book\u3164shop", "U+3164 HANGUL FILLER is invisible"),
    "no-break space": ("Book\u00a0shop", "U+00A0 NO-BREAK SPACE is a space other than"),
    "Persian digit": ("کتاب ۲۴", "U+06F2 EXTENDED ARABIC-INDIC DIGIT TWO is a digit other than 0-9"),
    "Arabic digit": ("کتاب ٢", "U+0662 ARABIC-INDIC DIGIT TWO is a digit other than 0-9"),
    "Arabic yeh": ("كتابي"[1:], "U+064A ARABIC LETTER YEH is a form of a letter that Persian writes"),
    "Arabic kaf": ("كتاب", "U+0643 ARABIC LETTER KAF is a form"),
    "heh with yeh": ("خانۀ ما", "U+06C0 ARABIC LETTER HEH WITH YEH ABOVE is a form"),
    "tatweel": ("کتــاب", "U+0640 ARABIC TATWEEL is a form"),
    "presentation form": ("ﮐتاب", "U+FB90 ARABIC LETTER KEHEH INITIAL FORM is a form"),
    "Cyrillic letter": ("B\u043eokshop", "U+043E CYRILLIC SMALL LETTER O is of no alphabet"),
    "Cyrillic from end to end": ("\u0440\u0430\u0443", "U+0440 CYRILLIC SMALL LETTER ER is of no alphabet"),
    "Greek letter": ("Bοokshop", "U+03BF GREEK SMALL LETTER OMICRON is of no alphabet"),
    "fullwidth letter": ("Ｂookshop", "U+FF22 FULLWIDTH LATIN CAPITAL LETTER B is of no alphabet"),
    "mathematical letter": ("𝐁ookshop", "U+1D401 MATHEMATICAL BOLD CAPITAL B is of no alphabet"),
    "dotless i": ("melı", "U+0131 LATIN SMALL LETTER DOTLESS I is of no alphabet"),
    "Urdu heh": ("شاہ", "U+06C1 ARABIC LETTER HEH GOAL is of no alphabet"),
    "private use": ("Book\ue000", "U+E000 is for private use"),
    "noncharacter": ("Book\ufdd0", "U+FDD0 is no character"),
    "noncharacter of a plane": ("Book\U0001ffff", "U+1FFFF is no character"),
    "half of a pair": ("Book\ud800", "U+D800 is half of a character"),
    "unassigned": ("Book\u0378", "U+0378 is of no alphabet"),
    "not NFC": ("\u0627\u0654", "not in Unicode normalisation form C"),
    "space before": (" Bookshop", "a space at an end"),
    "space behind": ("Bookshop ", "a space at an end"),
    "two spaces": ("Book  shop", "two in a row"),
    "two scripts in one word": ("شرکتExample", "U+0045 LATIN CAPITAL LETTER E is of another script"),
    "two scripts, the other way": ("Exampleشرکت", "U+0634 ARABIC LETTER SHEEN is of another script"),
    "non-joiner in a Latin word": ("Book\u200cshop", "U+200C ZERO WIDTH NON-JOINER stands where"),
    "non-joiner first": ("\u200cکتاب", "U+200C ZERO WIDTH NON-JOINER stands where"),
    "non-joiner last": ("کتاب\u200c", "U+200C ZERO WIDTH NON-JOINER stands where"),
    "non-joiner twice": ("کتاب\u200c\u200cخانه", "U+200C ZERO WIDTH NON-JOINER stands where"),
    "non-joiner before a space": ("می\u200c خواهم", "U+200C ZERO WIDTH NON-JOINER stands where"),
    "non-joiner after a space": ("می \u200cخواهم", "U+200C ZERO WIDTH NON-JOINER stands where"),
    "non-joiner that nobody sees": ("کار\u200cخانه", "U+200C ZERO WIDTH NON-JOINER stands where"),
    "vowel sign on a Latin letter": ("Bo\u064ek", "U+064E ARABIC FATHA stands on no Persian letter"),
    "vowel sign on nothing": ("\u064eکتاب", "U+064E ARABIC FATHA stands on no Persian letter"),
    "hamza on yeh": ("ی\u0654", "U+0654 ARABIC HAMZA ABOVE stands on no Persian letter"),
    "tower of vowel signs": ("ک\u064e\u064f\u0650", "there are more than 2 on one"),
}  # fmt: skip

TEMPLATES = [
    *(sentence for _characters, sentence in written_text._REASONS),
    *(said for module in (written_text, written_host) for said in vars(module).values()
      if isinstance(said, str) and " " in said and said[0] != "\n" and said != module.__doc__),
]  # fmt: skip


@pytest.mark.parametrize("text", HONEST)
def test_honest_names(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize(("text", "told"), DECEPTIVE.values(), ids=DECEPTIVE)
def test_what_reads_as_something_else_is_refused(text: str, told: str) -> None:
    with pytest.raises(TextError) as refused:
        check_text(text)
    assert told in str(refused.value)
    assert str(refused.value) == refused.value.text(Language.EN)


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_refusal_exists_in_persian_with_the_same_values(template: str) -> None:
    persian = of_package("cps").messages[template]
    assert placeholders(persian) == placeholders(template)


@given(st.text(max_size=20))
def test_what_is_written_as_names_are_is_nfc_of_one_alphabet_and_shows_every_character(text: str) -> None:
    if text_fault(text) is not None:
        return
    assert unicodedata.is_normalized("NFC", text)
    assert set(text) <= WRITTEN | {ZWNJ}
    assert text == text.strip()
    for word in text.replace(ZWNJ, "").split():
        letters = "".join(each if each.isalpha() else " " for each in word).split()
        assert all(set(each) <= LATIN or set(each) <= PERSIAN for each in letters)


@given(
    st.text(st.sampled_from(sorted(PERSIAN)), min_size=1, max_size=20).map(
        lambda each: unicodedata.normalize("NFC", each)
    )
)
def test_every_word_of_persian_letters_is_a_name(word: str) -> None:
    assert text_fault(word) is None


def test_no_two_letters_of_the_alphabet_are_one_under_compatibility() -> None:
    folded = [unicodedata.normalize("NFKC", each) for each in sorted(LATIN | PERSIAN)]
    assert len(set(folded)) == len(folded)
    assert all(unicodedata.normalize("NFKC", each) == each for each in LATIN | PERSIAN)
