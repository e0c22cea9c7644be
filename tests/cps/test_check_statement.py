"""The RA's statement of what a register answered, and whether it counts as evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cps.check_model import CheckKind
from cps.check_statement import CheckStatement, CheckStatementTBS, question_about, question_digest
from cps.decide import Finding, decide
from cps.dossier import Dossier, Evidence
from cps.model import Pack
from cps.rules import Rule
from pki import der
from pki.errors import DerError
from pki.path import Trust
from tests.support.cps_cases import DAY, MERCHANT, MINUTE, Office, evidence
from tests.support.pki_factory import NOW

STATEMENT = CheckStatement(
    application_id="case-1",
    kind="iban_owner",
    question_sha256=b"\x01" * 32,
    answer="contradicted",
    reason="name_differs",
    source="the bank",
    answer_sha256=b"\x02" * 32,
    date=NOW,
)


def test_a_statement_is_read_as_it_was_written() -> None:
    assert CheckStatement.from_der(STATEMENT.to_der()) == STATEMENT
    confirmed = replace(STATEMENT, answer="confirmed", reason="")
    assert CheckStatement.from_der(confirmed.to_der()) == confirmed


@pytest.mark.parametrize(("field", "value", "reason"), [("version", 2, "version"), ("answer", "perhaps", "answer")])
def test_another_version_or_answer_is_refused(field: str, value: Any, reason: str) -> None:
    read: Any = der.decode(CheckStatementTBS, STATEMENT.to_der(), limit=4096)
    fields = {name: getattr(read, name) for name in CheckStatementTBS.__annotations__}
    with pytest.raises(DerError) as refused:
        CheckStatement.from_der(der.encode(CheckStatementTBS(**{**fields, field: value})))
    assert refused.value.reason == reason


def test_the_question_is_what_the_revision_says(office: Office) -> None:
    revision = office.merchant_case().revision
    assert question_about(revision, "company_register") == {"name": "Bookshop Co"}
    assert question_about(revision, "iban_owner") == {"iban": MERCHANT.iban, "name": "Bookshop Co"}
    assert question_about(revision, "phone_code") is None
    known = office.merchant_case(subject=MERCHANT.model_copy(update={"company_id": "10380284790"})).revision
    assert question_about(known, "company_register") == {"name": "Bookshop Co", "company_id": "10380284790"}
    assert question_about(office.officer_case().revision, "national_code") is None


def test_the_digest_of_a_question_is_of_the_case_the_kind_the_fields_and_the_salt() -> None:
    fields = {"name": "Bookshop Co"}
    digests = {
        question_digest("case-1", "company_register", fields),
        question_digest("case-2", "company_register", fields),
        question_digest("case-1", "iban_owner", fields),
        question_digest("case-1", "company_register", {"name": "Another Co"}),
        question_digest("case-1", "company_register", fields, salt="00"),
    }
    assert len(digests) == 5


# As evidence


def _judge(office: Office, trust: Trust, dossier: Dossier, pack: Pack | None = None) -> tuple[Finding, ...]:
    return decide(dossier, pack or office.pack, trust=trust, now=NOW).findings


def _with(office: Office, kind: CheckKind, *answers: Evidence, **revision: Any) -> Dossier:
    """A merchant's case with these pieces in place of the answer of one register."""
    dossier = office.merchant_case(**revision)
    kept = tuple(piece for piece in dossier.evidence if piece.kind != kind)
    return dossier.model_copy(update={"evidence": (*kept, *answers)})


def _answer(office: Office, **changes: Any) -> Evidence:
    return office.answered(office.merchant_case().revision, "iban_owner", **changes)


def test_a_confirmation_signed_by_the_ra_counts(office: Office, trust: Trust) -> None:
    assert _judge(office, trust, _with(office, "iban_owner", _answer(office))) == ()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"application_id": "case-2"}, Rule.EVID_INVALID, id="of-another-case"),
        pytest.param({"question_sha256": b"\x00" * 32}, Rule.EVID_INVALID, id="of-another-account"),
        pytest.param({"kind": "company_register"}, Rule.EVID_INVALID, id="of-another-register"),
        pytest.param({"answer": "contradicted", "reason": "closed"}, Rule.CHECK_CONTRADICTED, id="contradicted"),
        pytest.param({"answer": "contradicted"}, Rule.CHECK_CONTRADICTED, id="contradicted-without-a-reason"),
        pytest.param({"date": NOW - 31 * DAY}, Rule.EVID_AGE, id="too-old"),
        pytest.param({"date": NOW + 3 * MINUTE}, Rule.EVID_AGE, id="from-the-future"),
    ],
)
def test_another_answer_does_not_count(office: Office, trust: Trust, changes: dict[str, Any], rule: Rule) -> None:
    body = office.answer(office.merchant_case().revision, "iban_owner", **changes)
    (finding,) = _judge(office, trust, _with(office, "iban_owner", evidence("iban_owner", body=body)))
    assert finding.code is rule


def test_nobody_else_signs_for_the_ra(office: Office, trust: Trust) -> None:
    for other in (office.bank, office.vetter):
        (finding,) = _judge(office, trust, _with(office, "iban_owner", _answer(office, by=other)))
        assert finding.code is Rule.EVID_INVALID


def test_a_row_without_a_signed_answer_confirms_nothing(office: Office, trust: Trust) -> None:
    (finding,) = _judge(office, trust, _with(office, "iban_owner", evidence("iban_owner")))
    assert (finding.code, finding.message) == (Rule.EVID_INVALID, "iban_owner: not in the dossier")


def test_of_two_answers_the_newest_counts(office: Office, trust: Trust) -> None:
    earlier = NOW - timedelta(hours=1)
    contradicted = {"answer": "contradicted", "reason": "not_found"}
    mended = _with(office, "iban_owner", _answer(office), _answer(office, date=earlier, **contradicted))
    assert _judge(office, trust, mended) == ()
    spoiled = _with(office, "iban_owner", _answer(office, date=earlier), _answer(office, **contradicted))
    assert [each.code for each in _judge(office, trust, spoiled)] == [Rule.CHECK_CONTRADICTED]
    at_once = _with(office, "iban_owner", _answer(office, **contradicted), _answer(office))
    assert [each.code for each in _judge(office, trust, at_once)] == [Rule.CHECK_CONTRADICTED]


SILENT = {"signals": ("iban_owner_unanswered",)}


def test_a_document_stands_in_for_a_register_that_stayed_silent(office: Office, trust: Trust) -> None:
    letter = evidence("iban_document")
    assert _judge(office, trust, _with(office, "iban_owner", letter, **SILENT)) == ()
    old = evidence("iban_document", at=NOW - 31 * DAY)
    assert [each.code for each in _judge(office, trust, _with(office, "iban_owner", old, **SILENT))] == [Rule.EVID_AGE]


def test_without_silence_a_document_stands_in_for_nothing(office: Office, trust: Trust) -> None:
    (finding,) = _judge(office, trust, _with(office, "iban_owner", evidence("iban_document")))
    assert (finding.code, finding.message) == (
        Rule.EVID_MISSING,
        "iban_owner: no answer of the register on file",
    )


def test_after_silence_the_document_is_asked_for(office: Office, trust: Trust) -> None:
    (finding,) = _judge(office, trust, _with(office, "iban_owner", **SILENT))
    assert finding.code is Rule.EVID_MISSING
    assert "iban_document is needed" in finding.message


def test_no_document_stands_in_for_a_contradiction(office: Office, trust: Trust) -> None:
    answer = office.answered(
        office.merchant_case(**SILENT).revision, "iban_owner", answer="contradicted", reason="closed"
    )
    dossier = _with(office, "iban_owner", answer, evidence("iban_document"), **SILENT)
    assert [each.code for each in _judge(office, trust, dossier)] == [Rule.CHECK_CONTRADICTED]


def test_a_class_whose_revision_holds_no_question_gets_no_answer(office: Office, trust: Trust) -> None:
    """A pack may ask for the answer of the population register, but nobody could tell whom it is about."""
    officer = office.pack.classes["officer"]
    rule = office.pack.classes["merchant"].evidence[2].model_copy(update={"kind": "national_code", "instead": None})
    classes = {**office.pack.classes, "officer": officer.model_copy(update={"evidence": (rule,)})}
    pack = office.pack.model_copy(update={"classes": classes})
    (finding,) = _judge(office, trust, office.officer_case(), pack)
    assert finding.code is Rule.EVID_INVALID


def test_a_document_that_stands_in_ends_when_it_is_too_old(office: Office, trust: Trust) -> None:
    letter = evidence("iban_document", expires_at=NOW + DAY)
    verdict = decide(_with(office, "iban_owner", letter, **SILENT), office.pack, trust=trust, now=NOW)
    assert verdict.holds_until == NOW + DAY
