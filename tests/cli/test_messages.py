"""What commands answer in Persian: the catalogue and the code say the same things."""

from __future__ import annotations

from runtime.language_catalogue import of_package
from tests.support.persian import assert_catalogue_fits
from tests.support.templates import said_in


def test_every_sentence_of_the_code_is_in_the_catalogue_and_nothing_else() -> None:
    assert_catalogue_fits(of_package("cli"), said_in("cli"))
