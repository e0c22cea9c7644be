"""Every refusal of the payment gateway in Persian: the catalogue and the code say the same things."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gateway import errors
from runtime.language import Language, ToldError
from runtime.language_catalogue import of_package
from runtime.problems import Problem
from tests.support.persian import assert_catalogue_fits, assert_reads_as_persian
from tests.support.templates import ROOT, said_in

CATALOGUE = of_package("gateway")
ERRORS = frozenset(
    name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, ToldError)
) - {"ToldError", "OrderCommandError"} | {"BankAnswerError", "ImportRefusedError", "Told"}
"""Of the gateway's errors those that a person is told of; what OrderCommandError tells is a message of its own."""
SENTENCES = {"Problem": 2, "_away": 3, "_refused": 0}
"""Who is given a sentence as it is, and as which argument."""
TOLD = {"detail", "text", "told", "said", "objection", "error"}
"""Names that hold a message, or a sentence that stands where the function is called."""


def test_every_sentence_of_the_code_is_in_the_catalogue_and_nothing_else() -> None:
    said = said_in("gateway", ERRORS, at=SENTENCES)
    assert_catalogue_fits(CATALOGUE, [each for each in said if not each.template.isdigit()])  # an MTI is no sentence


@pytest.mark.parametrize("path", sorted((ROOT / "gateway").rglob("*.py")), ids=lambda path: path.name)
def test_no_problem_is_told_in_words_that_no_catalogue_can_have(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SENTENCES:
            told = node.args[SENTENCES[node.func.id]]
            fits = (
                isinstance(told, ast.Constant)
                or (
                    isinstance(told, ast.Call)
                    and isinstance(told.func, ast.Name)
                    and told.func.id in {"Message", "Told"}
                )
                or (isinstance(told, ast.Attribute) and told.attr == "told")
                or (isinstance(told, ast.Name) and told.id in TOLD)
            )
            assert fits, f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(told)}"


@pytest.mark.parametrize("text", CATALOGUE.messages.values())
def test_it_reads_as_persian(text: str) -> None:
    assert_reads_as_persian(text)


def test_a_sentence_without_values_is_told_in_the_language_of_its_reader() -> None:
    problem = Problem(404, "unknown-xid", "there is no order of this XID for this merchant")
    told = problem.document(Language.FA)
    assert problem.spoken(Language.FA) is Language.FA
    assert told["detail"] == CATALOGUE.messages["there is no order of this XID for this merchant"]
    assert told["type"] == problem.document()["type"]
    assert problem.detail == "there is no order of this XID for this merchant"
