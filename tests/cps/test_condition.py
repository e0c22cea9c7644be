"""The tiny grammar of `when:`."""

from __future__ import annotations

import pytest

from cps.condition import Condition


@pytest.mark.parametrize(
    ("text", "true_of", "false_of"),
    [
        ("risk < 40", 39, 40),
        ("risk <= 40", 40, 41),
        ("risk > 40", 41, 40),
        ("risk >= 40", 40, 39),
        ("risk == 40", 40, 41),
        ("risk != 40", 41, 40),
    ],
)
def test_a_condition_compares_risk_with_a_number(text: str, true_of: int, false_of: int) -> None:
    condition = Condition.parse(text)
    assert condition.holds(risk=true_of)
    assert not condition.holds(risk=false_of)
    assert str(condition) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "risk",
        "risk<40",
        "risk < 040",
        "risk < -1",
        "risk < 40 and risk > 2",
        "amount < 40",
        "risk = 40",
        "__import__('os')",
        "risk < 40\n",
    ],
)
def test_nothing_else_is_a_condition(text: str) -> None:
    with pytest.raises(ValueError, match="a condition reads"):
        Condition.parse(text)
