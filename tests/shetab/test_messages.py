"""What is wrong with a number is told in Persian, too."""

from __future__ import annotations

import ast

from runtime.language_catalogue import of_package
from tests.support.templates import ROOT


def test_every_rule_of_numbers_is_translated_and_none_besides() -> None:
    tree = ast.parse((ROOT / "shetab" / "iran.py").read_text())
    rules = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "ValueFormatError"
        and isinstance(node.args[1], ast.Constant)
    }
    assert of_package("shetab").messages.keys() == rules
