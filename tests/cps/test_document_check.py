"""What a statement must have before a document is made of it: each check fails when its one thing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cps.annex import ApprovalFacts
from cps.document import Edition
from cps.document_check import problems
from cps.rfc3647 import outline
from tests.support.statements import published_edition, with_pack, with_passage, with_rules

RULES = dict(published_edition().texts.rules)


def said(edition: Edition) -> list[str]:
    return [str(problem) for problem in problems(edition)]


def test_the_published_statement_has_no_problem() -> None:
    assert said(published_edition()) == []


def test_no_heading_may_be_left_unanswered() -> None:
    """Without any text, the headings are left that rules or the pack's word `procedural` answer."""
    found = published_edition()
    silent = replace(found, texts=replace(found.texts, passages={}))
    missing = {each.at for each in problems(silent) if each.text.startswith("neither a provision, nor procedural")}
    ends = {each.number for each in outline().values() if not each.has_parts}
    by_rules = {number for number in ends if silent.rules_of(number)}
    assert missing == {each for each in ends - by_rules if each[0] != "9" and each[:4] != "5.1." and each != "5.3.2"}
    assert {"4.9.5", "1.1", "8.6"} <= missing
    assert {"4.2.2", "5.2.4"} <= by_rules


def without_profile_section() -> Edition:
    found = published_edition()
    profiles = dict(found.annex.profiles)
    profiles["root"] = replace(profiles["root"], section="7.9/root")
    return replace(found, annex=replace(found.annex, profiles=profiles))


def without_term() -> Edition:
    found = published_edition()
    return replace(found, texts=replace(found.texts, terms={**found.texts.terms, "roles": {}}))


def with_operation_of_nobody() -> Edition:
    found = published_edition()
    operations = {**found.annex.operations, "destroy": ApprovalFacts(("security_officer", "key_master"), 2)}
    return replace(found, annex=replace(found.annex, operations=operations))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(
            lambda: with_passage("4.9.17", en="A.", fa="الف."), "4.9.17: RFC 3647 has no such heading", id="no-heading"
        ),
        pytest.param(
            lambda: with_passage("9.1.1", kind="no stipulation", en="But.", fa="ولی."),
            "9.1.1: no stipulation, and yet something stands there",
            id="no-stipulation-with-prose",
        ),
        pytest.param(
            lambda: with_passage("5.2.2", kind="no stipulation"),
            "5.2.2: no stipulation, and yet something stands there",
            id="no-stipulation-with-rules",
        ),
        pytest.param(lambda: with_passage("4.9.4"), "4.9.4: a provision that says nothing", id="empty-provision"),
        pytest.param(
            lambda: with_passage("4.9.4", en=["A.", "B."], fa="الف."),
            "4.9.4: 2 paragraphs in English, 1 in Persian",
            id="paragraph-untranslated",
        ),
        pytest.param(
            lambda: with_passage("4.9.4", en="{suspension.longest}", fa="سی روز"),
            "4.9.4: the languages quote different things: suspension.longest",
            id="value-in-one-language",
        ),
        pytest.param(
            lambda: with_passage("4.9.4", en="{#4.9} {#4.9}", fa="{#4.9}"),
            "4.9.4: the languages quote different things: one of them twice",
            id="link-twice-in-one-language",
        ),
        pytest.param(
            lambda: with_passage("4.9.4", en="{a.b}", fa="{a.b}"), "4.9.4: there is no value a.b", id="unknown-value"
        ),
        pytest.param(
            lambda: with_passage("4.9.4", en="{#4.99}", fa="{#4.99}"),
            "4.9.4: there is neither a heading nor a rule 4.99",
            id="link-to-nowhere",
        ),
        pytest.param(
            lambda: with_passage("4.9.4", en="a {", fa="الف {"), "4.9.4: a stray { in “a {”", id="stray-brace"
        ),
        pytest.param(
            lambda: with_passage("4.9.4", en="A key.", fa="كليد."),
            "4.9.4: the Arabic letter ك instead of the Persian ک",
            id="arabic-kaf",
        ),
        pytest.param(
            lambda: with_rules({**RULES, "SOD-OWN": "هيچ"}),
            "SOD-OWN: the Arabic letter ي instead of the Persian ی",
            id="arabic-yeh-in-a-rule",
        ),
        pytest.param(
            lambda: with_rules({name: text for name, text in RULES.items() if name != "SOD-OWN"}),
            "SOD-OWN: the rule has no Persian sentence",
            id="rule-untranslated",
        ),
        pytest.param(lambda: with_rules({**RULES, "SOD-X": "متن"}), "SOD-X: there is no such rule", id="unknown-rule"),
        pytest.param(
            lambda: with_pack(('section: "4.9.16"', 'section: "4.9.17"')),
            "suspension: RFC 3647 has no heading 4.9.17",
            id="suspension-nowhere",
        ),
        pytest.param(
            lambda: with_pack(('section: "4.2/merchant"', 'section: "4.22/merchant"')),
            "classes.merchant: RFC 3647 has no heading 4.22",
            id="class-nowhere",
        ),
        pytest.param(without_profile_section, "profiles.root: RFC 3647 has no heading 7.9", id="profile-nowhere"),
        pytest.param(
            lambda: with_passage("4.2.2", en="A.", fa="الف."),
            "table steps: no heading shows it, so a part of the rules would be hidden",
            id="rules-hidden",
        ),
        pytest.param(
            with_operation_of_nobody,
            "operation destroy: the pack does not have the roles that approve it: key_master",
            id="operation-of-no-role",
        ),
        pytest.param(without_term, "5.2.1: there are no words for roles.applicant", id="role-without-words"),
    ],
)
def test_one_thing_wrong_is_named(made: Callable[[], Edition], expected: str) -> None:
    assert expected in said(made())


def test_a_new_role_needs_words_before_the_document_can_be_made() -> None:
    edition = with_pack(("ca_operator, auditor]\n", "ca_operator, auditor, clerk]\n"))
    assert "5.2.1: there are no words for roles.clerk" in said(edition)
