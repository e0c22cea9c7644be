"""What the wallet says when it cannot do what was asked: the Persian catalogue and the code say the same things."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.language_catalogue import of_package
from storefront import errors
from storefront.errors import WalletError
from tests.support.persian import assert_catalogue_fits, assert_reads_as_persian
from tests.support.templates import ROOT, said_in

ERRORS = frozenset(
    name for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, WalletError)
)


def test_every_sentence_of_the_wallet_is_in_the_catalogue_and_nothing_else() -> None:
    assert_catalogue_fits(of_package("storefront.wallet"), said_in("storefront/wallet", ERRORS))


@pytest.mark.parametrize("template", of_package("storefront.wallet").messages.values())
def test_it_is_persian_as_it_is_written(template: str) -> None:
    assert_reads_as_persian(template)


def test_each_reason_not_to_believe_a_root_has_its_words() -> None:
    """The slugs as `pki.rollover` raises them."""
    raised = re.findall(r'RolloverError\(\s*"([a-z_]+)"', (Path(ROOT) / "pki" / "rollover.py").read_text())
    assert set(of_package("storefront.wallet").terms["root"]) == set(raised)
