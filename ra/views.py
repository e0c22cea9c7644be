"""What callers are shown: applications, dossiers, and the story of a certificate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.client import StoryAnswer
from cps.dossier import Dossier, Evidence, evidence_digest, rule_of
from cps.verdict import Finding, NextStep, Verdict
from pki.extensions import extensions_of, subject_key_id
from pki.path import Trust
from pki.roles import Role, role_of
from ra.access import Act, Actor, require
from ra.errors import UnknownError
from ra.statement import Statement, read_decision
from ra.states import DECIDABLE
from ra.store import Application, Certificate, ReceivedDecision, RevocationRecord, Transition
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
    PolicyView,
    RevocationView,
    RuleView,
    StatementView,
    StoryView,
    TransitionView,
)
from ra.workflow import Workflow
from runtime.problems import Problem
from runtime.reader import reader

_NOT_FOUND: Final = 404


def summary(application: Application) -> ApplicationSummary:
    """An application in a list, with the step that was due when it was last judged; the clock judges it in time."""
    step = None
    if application.step is not None and application.waiting_for is not None and application.missing is not None:
        by = tuple(application.waiting_for.split())
        step = NextStepView(name=application.step, by=by, missing=application.missing)
    return ApplicationSummary(**_head(application), next_step=step)


def show(workflow: Workflow, application: Application) -> ApplicationView:
    """An application with everything on its file, and what the CPS says of it now."""
    store = workflow.store
    revision = store.revision(application)
    verdict: Verdict | None = None
    if application.state in DECIDABLE:
        verdict = workflow.judge(workflow.dossier(application))
    counting = {approval.decision for approval in verdict.approvals} if verdict is not None else set()
    evidence = store.evidence(application.id)
    return ApplicationView(
        **_head(application),
        next_step=_next_step(verdict.next_step if verdict is not None else None),
        revision=revision,
        revision_digest=None if revision is None else revision.digest,
        evidence_digest=evidence_digest(evidence),
        risk=None if revision is None else workflow.desk.pack_of(revision).risk_of(revision.signals),
        findings=_findings(verdict.findings if verdict is not None else ()),
        evidence=_evidence(evidence),
        decisions=tuple(
            _decision(received, index in counting) for index, received in enumerate(store.decisions(application.id))
        ),
        certificates=tuple(_certificate(workflow, issued) for issued in store.certificates(application.id)),
        nonce=_nonce(application, workflow.trust(workflow.now)),
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
        findings=_findings(verdict.findings),
    )


def story(workflow: Workflow, actor: Actor, serial: str) -> StoryView:
    """The story of the certificate with this serial number (hexadecimal), from our records and the CA's.

    Raises UnknownError if neither knows it, Problem if the CA does not answer.
    """
    require(actor, Act.REVIEW)
    known = workflow.store.certificates_with_serial(serial)
    if not known:
        return _story_of_the_ca(workflow, serial)
    issued = known[0]
    application = workflow.store.application(issued.application_id)
    case = workflow.dossier(application)
    revision = case.revision
    pack = workflow.desk.statements().find(revision.cps) or workflow.pack
    member, risk = rule_of(revision, pack), pack.risk_of(revision.signals)
    return StoryView(
        serial=serial,
        issuer=issued.issuer,
        certificate=_certificate(workflow, issued),
        application=ApplicationSummary(**_head(application), next_step=None),
        revision=revision,
        revision_digest=revision.digest,
        policy=PolicyView(
            id=revision.cps.id,
            version=revision.cps.version,
            digest=revision.cps.digest,
            uri=pack.cps.uri,
            section=member.section,
        ),
        risk=risk,
        rules=tuple(
            RuleView(step=step.name, by=step.by, count=step.count, excluded=step.excluded)
            for step in member.steps
            if step.applies(risk=risk)
        ),
        evidence=_evidence(case.evidence),
        decisions=tuple(_statement(received, case) for received in workflow.store.decisions(application.id)),
        transitions=tuple(_transition(each) for each in workflow.store.transitions(application.id)),
        ca=_record_of_the_ca(workflow, issued.issuer, serial),
    )


def _story_of_the_ca(workflow: Workflow, serial: str) -> StoryView:
    found = workflow.authority.search(serial=serial)
    if not found:
        raise UnknownError("no certificate of ours has this serial number")
    return StoryView(serial=serial, issuer=found[0].issuer, ca=_record_of_the_ca(workflow, found[0].issuer, serial))


def _record_of_the_ca(workflow: Workflow, issuer: str, serial: str) -> StoryAnswer | None:
    try:
        return workflow.authority.look_up(issuer, serial)
    except Problem as problem:
        if problem.status == _NOT_FOUND:
            return None
        raise


def _head(application: Application) -> dict[str, Any]:
    return {
        "id": application.id,
        "member_class": application.member_class,
        "replaces": application.replaces,
        "state": application.state,
        "version": application.version,
        "subject_id": application.subject_id,
        "organisation": application.organisation,
        "opened_by": application.opened_by,
        "opened_at": application.opened_at,
        "due_at": application.due_at,
        "decide_by": application.decide_by,
        "accept_by": application.accept_by,
        "held_since": application.held_since,
    }


def _next_step(step: NextStep | None) -> NextStepView | None:
    return None if step is None else NextStepView(name=step.name, by=step.by, missing=step.missing)


def _findings(findings: Iterable[Finding]) -> tuple[FindingView, ...]:
    return tuple(
        FindingView(code=str(each.code), clause=each.clause, message=each.text(reader()), decision=each.decision)
        for each in findings
    )


def _evidence(evidence: Iterable[Evidence]) -> tuple[EvidenceView, ...]:
    return tuple(EvidenceView(**piece.model_dump(exclude={"body"})) for piece in evidence)


def _decision_fields(received: ReceivedDecision, statement: Statement) -> dict[str, Any]:
    decision = statement.decision
    return {
        "step": decision.step,
        "choice": decision.choice.name.lower(),
        "person": statement.person,
        "organisation": statement.organisation,
        "roles": statement.roles,
        "reason": decision.reason,
        "signed_at": statement.signed_at,
        "expires": decision.expires,
        "revision_digest": decision.revision_digest,
        "evidence_digest": decision.evidence_digest,
        "sha256": hashlib.sha256(received.cms).digest(),
        "received_from": received.received_from,
        "received_at": received.received_at,
    }


def _decision(received: ReceivedDecision, counts: bool) -> DecisionView:
    return DecisionView.model_validate({**_decision_fields(received, read_decision(received.cms)), "counts": counts})


def _statement(received: ReceivedDecision, case: Dossier) -> StatementView:
    statement = read_decision(received.cms)
    over = (statement.decision.revision_digest, statement.decision.evidence_digest)
    return StatementView.model_validate(
        {
            **_decision_fields(received, statement),
            "counts": over == (case.revision.digest, case.evidence_digest),
            "signature_verifies": statement.verifies,
            "signer_certificate_sha256": statement.signed.signer.fingerprint(hashes.SHA256()),
            "cms": received.cms,
        }
    )


def _certificate(workflow: Workflow, issued: Certificate) -> CertificateView:
    certificate = x509.load_der_x509_certificate(issued.der)
    return CertificateView(
        purpose=issued.purpose,
        issuer=issued.issuer,
        serial=issued.serial,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        certificate=issued.der,
        chain=issued.chain,
        revocation=_revocation(workflow.store.revocation(issued.issuer, issued.serial)),
    )


def _revocation(record: RevocationRecord | None) -> RevocationView | None:
    if record is None:
        return None
    return RevocationView(reason=record.reason, ordered_by=record.ordered_by, at=record.at, statement=record.cms)


def _transition(transition: Transition) -> TransitionView:
    return TransitionView(
        action=str(transition.action),
        before=transition.before,
        after=transition.after,
        actor=transition.actor,
        at=transition.at,
        detail=transition.detail,
        journal_index=transition.journal_index,
    )


def _nonce(application: Application, trust: Trust) -> NonceView | None:
    if application.nonce_cca is None:
        return None
    issuer = next(each for each in trust.intermediates if role_of(each) is Role.CARDHOLDER_CA)
    key_id = subject_key_id(extensions_of(issuer))
    assert key_id is not None  # every CA of ours has a subjectKeyIdentifier
    return NonceView(nonce_cca=application.nonce_cca, ca_key_id=key_id)
