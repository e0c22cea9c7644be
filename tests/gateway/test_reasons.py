"""Every act for which a person gives a reason takes the same: a line that says something."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.acquirer.routes import DecisionBody
from gateway.operating.routes import OutcomeStated, ReversalAsked

SAYING = ["call", "void at the bank, letter 31", "نامهٔ ۳۱ بانک", " by phone ", "x" * 400]
SILENT = ["", "no", "   ", "first\nsecond", "void\x00", "x" * 401]


def taken(reason: str) -> set[bool]:
    """Whether the acts take it."""
    found = set()
    for body, told in (
        (DecisionBody, {"decision": "EXPLAINED"}),
        (OutcomeStated, {"outcome": "reversed"}),
        (ReversalAsked, {}),
    ):
        try:
            body.model_validate({**told, "reason": reason})
        except ValidationError as refused:
            found.add({each["loc"] for each in refused.errors()} != {("reason",)})
        else:
            found.add(True)
    return found


@pytest.mark.parametrize("reason", SAYING)
def test_a_line_that_says_something_is_taken(reason: str) -> None:
    assert taken(reason) == {True}


@pytest.mark.parametrize("reason", SILENT)
def test_blanks_several_lines_and_what_is_too_short_or_long_are_refused(reason: str) -> None:
    assert taken(reason) == {False}
