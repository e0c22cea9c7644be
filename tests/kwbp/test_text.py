"""Threat 41: text that shows one thing and says another is refused; honest Persian and English are not."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwbp.text import text_fault

HONEST = [
    "Pen",
    "کتاب",
    "می‌خواهم",
    "قیمت: 1500000 ریال",
    "café",
    "Ørsted & Söhne (2 ×) — 50 %",
    "خانهٔ ما",
    "بَرادَر",
    "日本語",
    "250000 ﷼",
    "",
]

DECEPTIVE = {
    "right-to-left override": "Pen \u202efdp.exe",
    "left-to-right mark": "a\u200eb",
    "arabic letter mark": "a\u061cb",
    "isolate": "\u2066a\u2069",
    "zero width space": "a\u200bb",
    "zero width joiner": "a\u200db",
    "byte order mark": "\ufeffa",
    "soft hyphen": "a\u00adb",
    "non-joiner at the end": "کتاب\u200c",
    "non-joiner at the start": "\u200cکتاب",
    "non-joiner twice": "می\u200c\u200cخواهم",
    "non-joiner before a space": "می\u200c خواهم",
    "non-joiner between digits and letters": "1\u200cم",
    "arabic yeh": "كتابي"[4:],
    "arabic kaf": "كتاب",
    "alef maksura": "موسى",
    "persian digit": "۱۰",
    "arabic digit": "١٠",
    "superscript digit": "10²",
    "circled digit": "①",
    "presentation form": "ﻛﺘﺎب",
    "fullwidth digit": "１０",
    "mathematical digit": "𝟏",
    "not NFC": "cafe\u0301",
    "no-break space": "a\u00a0b",
    "ideographic space": "a\u3000b",
    "line separator": "a\u2028b",
    "escape": "a\x1b[31mb",
    "delete": "a\x7fb",
    "C1 control": "ب\u0085",
    "private use": "a\ue000",
    "unassigned": "a\u0378",
    "lone surrogate": "a\ud800",
    "hangul filler": "a\u3164b",
    "halfwidth hangul filler": "a\uffa0",
    "variation selector": "a\ufe0f",
    "variation selector supplement": "a\U000e0100",
    "combining grapheme joiner": "a\u034fb",
    "braille blank": "a\u2800b",
    "tower of marks": "ا" + "\u064b" * 5,
    "leading space": " a",
    "trailing space": "a ",
    "double space": "a  b",
    "line feed": "a\nb",
    "tab": "a\tb",
}


@pytest.mark.parametrize("text", HONEST)
def test_honest_text(text: str) -> None:
    assert text_fault(text) is None


@pytest.mark.parametrize("name", DECEPTIVE)
def test_deceptive_text(name: str) -> None:
    assert text_fault(DECEPTIVE[name]) is not None


def test_lines_where_lines_are_meant() -> None:
    assert text_fault("one\ntwo", multiline=True) is None
    assert text_fault("یک\nدو", multiline=True) is None


@pytest.mark.parametrize("text", ["one\n\ntwo", "one\n", "\none", "one\r\ntwo", "one \ntwo", "یک\n\u202eدو"])
def test_lines_that_are_not_clean(text: str) -> None:
    assert text_fault(text, multiline=True) is not None


@given(st.text())
def test_whatever_passes_is_what_it_looks_like(text: str) -> None:
    if text_fault(text) is None:
        assert unicodedata.normalize("NFC", text) == text
        assert all(unicodedata.bidirectional(c) not in {"LRE", "RLE", "LRO", "RLO", "PDF"} for c in text)
        assert all(c.isascii() or not c.isdecimal() for c in text)
        assert text == text.strip()


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_ascii_without_odd_spaces_always_passes(text: str) -> None:
    tidy = " ".join(text.split())
    assert text_fault(tidy) is None
