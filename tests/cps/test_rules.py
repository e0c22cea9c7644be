"""Every rule has a test that breaks it: a rule that nobody breaks may as well not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cps.rules import Rule

TESTS = Path(__file__).parents[1]
ALL = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py") if path != Path(__file__))


@pytest.mark.parametrize("rule", Rule)
def test_some_test_names_the_rule(rule: Rule) -> None:
    assert f"Rule.{rule.name}" in ALL or f"{rule.value}" in ALL
