"""What the judge of evidence says in Persian: the catalogue and the code say the same things."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.language import Language
from runtime.language_catalogue import of_package
from storefront.evidence.claims import MEANINGS, Claim
from storefront.evidence.moments import moment, rial
from storefront.evidence.statements import About
from tests.support.persian import assert_catalogue_fits
from tests.support.templates import said_in


def test_every_sentence_of_the_judge_is_in_the_catalogue_and_nothing_else() -> None:
    assert_catalogue_fits(of_package("storefront.evidence"), said_in("storefront/evidence"))


def test_every_claim_says_what_it_means() -> None:
    assert MEANINGS.keys() == set(Claim)
    for meaning in MEANINGS.values():
        assert meaning.text(Language.FA) != meaning.text(Language.EN)


def test_a_moment_is_utc_in_english_and_jalali_in_iran_in_persian() -> None:
    at = datetime(2026, 3, 20, 21, 0, 0, tzinfo=UTC)
    assert moment(at).en == "2026-03-20 21:00:00 UTC"
    assert moment(at).fa == "۱۴۰۵/۰۱/۰۱ ساعت ۰۰:۳۰:۰۰ به وقت ایران"
    assert "1500-01-01" in moment(datetime(1500, 1, 1, tzinfo=UTC)).fa


def test_an_amount_has_persian_digits_for_persian_readers() -> None:
    assert (rial(3_250_000).en, rial(3_250_000).fa) == ("3,250,000 rial", "۳٬۲۵۰٬۰۰۰ ریال")


@pytest.mark.parametrize("guide", ["evidence.md", "evidence.fa.md"])
def test_the_guide_explains_every_claim_and_statement_and_no_other(guide: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / guide).read_text()
    rows = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert {claim.value for claim in Claim} <= rows
    assert {about.value for about in About} <= rows
    assert {row for row in rows if "-" in row and "." not in row} <= {claim.value for claim in Claim}
