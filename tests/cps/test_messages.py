"""Every refusal of the statement in Persian: the catalogue and the code say the same things."""

from __future__ import annotations

import pytest

from cps.packs import published, published_texts
from cps.rules import Rule
from cps.verdict import Findings
from runtime.language import Language, Term
from runtime.language_catalogue import of_package
from tests.support.persian import assert_catalogue_fits, assert_reads_as_persian
from tests.support.templates import said_in

CATALOGUE = of_package("cps")
ERRORS = frozenset({"StatementError", "DossierError", "EntitlementError", "IssuerError"})
"""What people are told who hand something in. A PackError is for whoever writes a pack, and quotes YAML."""


def test_every_sentence_of_the_code_is_in_the_catalogue_and_nothing_else() -> None:
    assert_catalogue_fits(CATALOGUE, said_in("cps", ERRORS))


@pytest.mark.parametrize(
    "text", [*CATALOGUE.messages.values(), *(t for k in CATALOGUE.terms.values() for t in k.values())]
)
def test_persian_is_written_as_persian(text: str) -> None:
    assert_reads_as_persian(text)


def test_a_finding_is_told_in_both_languages() -> None:
    found = Findings(published())
    found.add(Rule.DEC_ORDER, "step {step} comes first", 3, step=Term("step", "vet"))
    (finding,) = found.all()
    assert (finding.message, finding.text(Language.EN)) == ("step vet comes first", "step vet comes first")
    assert finding.text(Language.FA) == "نخست باید گام بررسی انجام شود"
    assert (str(finding), finding.decision) == ("CPS 4.2.2 DEC-ORDER: step vet comes first", 3)


def test_every_name_that_a_refusal_quotes_has_a_persian_one() -> None:
    pack = published()
    steps = {step.name for member in pack.classes.values() for step in member.steps}
    orders = {step.name for rule in pack.revocation.values() for step in rule.steps}
    others = {step.name for step in (*pack.denylist.steps, *pack.publication.steps)}
    assert {*pack.roles, "system"} == CATALOGUE.terms["role"].keys()
    assert steps | orders | others == CATALOGUE.terms["step"].keys()
    assert pack.classes.keys() == CATALOGUE.terms["class"].keys()


@pytest.mark.parametrize(
    ("kind", "group"), [("evidence", "evidence"), ("check", "checks"), ("check_reason", "check_reasons")]
)
def test_names_are_those_of_the_statement(kind: str, group: str) -> None:
    own = CATALOGUE.terms[kind]
    stated = published_texts().terms[group]
    assert {name: own.get(name) for name in stated if name != "otherwise"} == {
        name: words.said("fa") for name, words in stated.items() if name != "otherwise"
    }
