"""Money is rial, whole, and never more than DE 4 can carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwbp.codes import ErrorCode
from kwbp.money import Money
from pki import der
from shetab.types import Rial
from tests.kwbp.forge import refused


@given(st.integers(0, 10**12 - 1))
def test_rial_round_trip(amount: int) -> None:
    money = Money.rial(amount)
    money.validate()
    assert der.decode(Money, der.encode(money)) == money
    assert money.to_rial() == Rial(amount)


@pytest.mark.parametrize(
    "money",
    [
        Money(currency=840, amount=1, exp=0),
        Money(currency=0, amount=1, exp=0),
        Money(currency=364, amount=1, exp=1),
        Money(currency=364, amount=1, exp=-2),
        Money(currency=364, amount=-1, exp=0),
        Money(currency=364, amount=10**12, exp=0),
    ],
    ids=repr,
)
def test_anything_else_is_refused(money: Money) -> None:
    with refused(ErrorCode.AMOUNT_MISMATCH, "W3"):
        money.validate("W3")


def test_same_value_in_another_exponent_is_another_statement() -> None:
    assert Money(currency=364, amount=10, exp=1) != Money.rial(100)


def test_money_compares_with_money_only() -> None:
    assert Money.rial(1) != 1
    assert len({Money.rial(1), Money.rial(1), Money.rial(2)}) == 2
