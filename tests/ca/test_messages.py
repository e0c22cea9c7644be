"""What the CA answers in Persian: the catalogue and the code say the same things; findings keep both languages."""

from __future__ import annotations

from datetime import UTC, datetime

from ca.authorisation import require_approved
from ca.errors import Finding, NotApprovedError
from ca.refusals import problem_of
from cps.packs import published
from cps.rules import Rule
from cps.verdict import Findings, NextStep, Status, Verdict
from runtime.language import Language
from runtime.language_catalogue import of_package
from tests.support.persian import assert_catalogue_fits
from tests.support.templates import said_in


def test_every_sentence_of_the_code_is_in_the_catalogue_and_nothing_else() -> None:
    assert_catalogue_fits(of_package("ca"), said_in("ca"))


def test_a_case_that_is_not_approved_is_refused_in_the_language_of_the_reader() -> None:
    found = Findings(published())
    found.add(Rule.DEC_EXPIRED, "the decision lapsed at {time}", time=datetime(2026, 3, 21, tzinfo=UTC))
    verdict = Verdict(
        status=Status.PENDING,
        next_step=NextStep("approve", ("approving_officer",), 1),
        findings=found.all(),
        approvals=(),
        risk=0,
        not_after=None,
    )
    try:
        require_approved(verdict)
    except NotApprovedError as error:
        problem = problem_of(error)
    english, persian = problem.document(), problem.document(Language.FA)
    assert str(problem.detail) == (
        "the case is pending: DEC-EXPIRED (CPS 4.2.2): the decision lapsed at 2026-03-21T00:00:00+00:00; "
        "STEP-DUE (CPS 4.2.2): step approve misses 1 decision(s) by approving_officer"
    )
    assert english["findings"][1]["message"] == "step approve misses 1 decision(s) by approving_officer"
    assert persian["findings"][1]["message"] == "گام تأیید هنوز ۱ تصمیم از مسئول تأیید کم دارد"
    assert str(persian["detail"]).startswith("وضعیت پرونده «در انتظار» است: ")
    assert [each["code"] for each in persian["findings"]] == [each["code"] for each in english["findings"]]


def test_a_finding_that_has_one_language_is_told_in_it() -> None:
    assert str(Finding("serial", "RFC 5280 4.1.2.2", "too long")) == "serial (RFC 5280 4.1.2.2): too long"
