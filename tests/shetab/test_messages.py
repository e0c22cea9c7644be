"""What is wrong with a number, or with a list of the network, is told in Persian, too."""

from __future__ import annotations

import ast

from runtime.language_catalogue import of_package
from tests.support.persian import assert_catalogue_fits
from tests.support.templates import ROOT, Said, said_in


def test_every_rule_of_numbers_and_lists_is_translated_and_none_besides() -> None:
    tree = ast.parse((ROOT / "shetab" / "iran.py").read_text())
    rules = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "ValueFormatError"
        and isinstance(node.args[1], ast.Constant)
    }
    lists = [said for said in said_in("shetab", frozenset({"SettlementListError"})) if "settlement_list" in said.place]
    assert_catalogue_fits(of_package("shetab"), [*lists, *(Said(rule, frozenset(), "iran.py") for rule in rules)])
