"""What callers are shown of applications: one in a list, one with its whole file, the case as an officer signs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from cryptography import x509

from cps.dossier import Evidence, evidence_digest
from cps.verdict import Finding, NextStep, Verdict
from pki.extensions import extensions_of, subject_key_id
from pki.path import Trust
from pki.roles import Role, role_of
from ra.openers import shown
from ra.records import Application, Certificate, ReceivedDecision, RevocationRecord
from ra.statement import Statement, read_decision
from ra.states import DECIDABLE
from ra.waiting import waits_for
from ra.wire import (
    ApplicationSummary,
    ApplicationView,
    CertificateView,
    DecisionView,
    DossierView,
    EvidenceView,
    FindingView,
    NextStepView,
    NonceView,
    RevocationView,
)
from ra.workflow import Workflow
from runtime.reader import reader

_NOT_FOUND: Final = 404


def summary(application: Application) -> ApplicationSummary:
    """An application in a list, with what it waited for when it was last judged; the clock judges it in time."""
    step = None
    if application.step is not None and application.waiting_for is not None and application.missing is not None:
        by = tuple(application.waiting_for.split())
        step = NextStepView(name=application.step, by=by, missing=application.missing)
    return ApplicationSummary(**_head(application), next_step=step)


def show(workflow: Workflow, application: Application) -> ApplicationView:
    """An application with everything on its file, and what the CPS says of it now."""
    judged = application.state in DECIDABLE
    bodies = workflow.desk.travelling(application.member_class) if judged else ()
    on_file = workflow.store.on_file(application, with_bodies_of=bodies)
    case = on_file.dossier
    revision = None if case is None else case.revision
    verdict: Verdict | None = None
    if judged and case is not None:
        verdict = workflow.judge(case)
    counting = {approval.decision for approval in verdict.approvals} if verdict is not None else set()
    pieces = on_file.evidence
    return ApplicationView(
        **_head(application),
        next_step=_next_step(waits_for(verdict) if verdict is not None else None),
        revision=revision,
        revision_digest=None if revision is None else revision.digest,
        evidence_digest=evidence_digest(pieces),
        risk=None if revision is None else workflow.desk.pack_of(revision).risk_of(revision.signals),
        findings=findings(verdict.findings if verdict is not None else ()),
        evidence=evidence(pieces),
        decisions=tuple(_decision(received, index in counting) for index, received in enumerate(on_file.decisions)),
        certificates=tuple(certificate(workflow, issued) for issued in on_file.certificates),
        nonce=None if application.nonce_cca is None else _nonce(application.nonce_cca, workflow.trust(workflow.now)),
        national_code=application.national_code,
        trouble=None if application.trouble is None else application.trouble.text(reader()),
    )


def dossier(workflow: Workflow, application: Application) -> DossierView:
    """The case as an officer judges and signs it."""
    case = workflow.dossier(application)
    verdict = workflow.judge(case)
    return DossierView(
        dossier=case,
        revision_digest=case.revision.digest,
        evidence_digest=case.evidence_digest,
        next_step=_next_step(verdict.next_step),
        findings=findings(verdict.findings),
    )


def _head(application: Application) -> dict[str, Any]:
    return {
        "id": application.id,
        "member_class": application.member_class,
        "replaces": application.replaces,
        "state": application.state,
        "version": application.version,
        "subject_id": application.subject_id,
        "organisation": application.organisation,
        "opened_by": shown(application.opened_by),
        "opened_at": application.opened_at,
        "due_at": application.due_at,
        "decide_by": application.decide_by,
        "accept_by": application.accept_by,
        "held_since": application.held_since,
    }


def _next_step(step: NextStep | None) -> NextStepView | None:
    return None if step is None else NextStepView(name=step.name, by=step.by, missing=step.missing)


def findings(found: Iterable[Finding]) -> tuple[FindingView, ...]:
    return tuple(
        FindingView(code=str(each.code), clause=each.clause, message=each.text(reader()), decision=each.decision)
        for each in found
    )


def evidence(pieces: Iterable[Evidence]) -> tuple[EvidenceView, ...]:
    return tuple(EvidenceView(**piece.model_dump(exclude={"body"})) for piece in pieces)


def decision_fields(received: ReceivedDecision, statement: Statement) -> dict[str, Any]:
    decision = statement.decision
    return {
        "step": decision.step,
        "choice": decision.choice.name.lower(),
        "person": statement.person,
        "organisation": statement.organisation,
        "roles": statement.roles,
        "reason": decision.reason,
        "code": decision.code,
        "signed_at": statement.signed_at,
        "expires": decision.expires,
        "revision_digest": decision.revision_digest,
        "evidence_digest": decision.evidence_digest,
        "sha256": hashlib.sha256(received.cms).digest(),
        "received_from": received.received_from,
        "received_at": received.received_at,
    }


def _decision(received: ReceivedDecision, counts: bool) -> DecisionView:
    return DecisionView.model_validate({**decision_fields(received, read_decision(received.cms)), "counts": counts})


def certificate(workflow: Workflow, issued: Certificate) -> CertificateView:
    read = x509.load_der_x509_certificate(issued.der)
    return CertificateView(
        purpose=issued.purpose,
        issuer=issued.issuer,
        serial=issued.serial,
        not_before=read.not_valid_before_utc,
        not_after=read.not_valid_after_utc,
        certificate=issued.der,
        chain=issued.chain,
        revocation=_revocation(workflow.store.revocation(issued.issuer, issued.serial)),
    )


def _revocation(record: RevocationRecord | None) -> RevocationView | None:
    if record is None:
        return None
    return RevocationView(reason=record.reason, ordered_by=record.ordered_by, at=record.at, statement=record.cms)


def _nonce(nonce: bytes, trust: Trust) -> NonceView:
    issuer = next(each for each in trust.intermediates if role_of(each) is Role.CARDHOLDER_CA)
    key_id = subject_key_id(extensions_of(issuer))
    assert key_id is not None  # every CA of ours has a subjectKeyIdentifier
    return NonceView(nonce_cca=nonce, ca_key_id=key_id)
