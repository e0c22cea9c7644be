"""What the merchant's book refuses is said in Persian too, and every name that people read has a Persian one."""

from __future__ import annotations

from kwbp.codes import BatchStatus, EntryKind
from runtime.language_catalogue import of_package
from storefront.merchant.money.routes import kind_name
from storefront.merchant.money.states import MoneyState, RequestState
from storefront.merchant.money.wishes import Operation
from tests.support.persian import assert_catalogue_fits
from tests.support.templates import said_in


def test_every_sentence_of_the_book_is_in_the_catalogue_and_nothing_else() -> None:
    assert_catalogue_fits(of_package("storefront.merchant.money"), said_in("storefront/merchant/money"))


def test_every_state_and_operation_has_a_persian_name() -> None:
    terms = of_package("cli").terms
    assert terms["money state"].keys() == set(MoneyState)
    assert terms["money request"].keys() == set(RequestState)
    assert terms["money operation"].keys() == set(Operation)
    assert terms["entry"].keys() == {kind_name(each) for each in EntryKind}
    assert terms["batch state"].keys() == {each.name.lower() for each in BatchStatus}
