"""The story of a case, certified or not, and of a certificate: from the RA's records and the CA's."""

from __future__ import annotations

from typing import Any, Final

from cryptography.hazmat.primitives import hashes

from ca.client import StoryAnswer
from cps.dossier import Revision, evidence_digest, rule_of
from cps.model import Pack
from ra import views
from ra.access import Act, Actor, require
from ra.errors import UnknownError
from ra.openers import shown
from ra.records import Application, ReceivedDecision, Transition
from ra.statement import read_decision
from ra.states import DECIDABLE, Action
from ra.story_wire import AcceptanceView, PolicyView, RuleView, StatementView, StoryView
from ra.wire import ApplicationSummary, TransitionView
from ra.workflow import Workflow
from runtime.problems import Problem
from runtime.reader import reader

_NOT_FOUND: Final = 404
_LONGEST_CHAIN: Final = 100  # re-keys that a story follows back


def of_certificate(workflow: Workflow, actor: Actor, serial: str) -> StoryView:
    """The story of the certificate with this serial number (hexadecimal).

    Raises UnknownError if neither the RA nor the CA knows it, Problem if the CA does not answer.
    """
    require(actor, Act.REVIEW)
    known = workflow.store.certificates_with_serial(serial)
    if not known:
        return _of_the_ca_alone(workflow, serial)
    issued = known[0]
    told = _of_case(workflow, workflow.store.application(issued.application_id))
    certificate = next(each for each in told.certificates if (each.issuer, each.serial) == (issued.issuer, serial))
    asked = {"serial": serial, "issuer": issued.issuer, "certificate": certificate, "ca": told.records.get(serial)}
    return told.model_copy(update=asked)


def of_application(workflow: Workflow, actor: Actor, application_id: str) -> StoryView:
    """The story of a case, also of one that never came to a certificate. Raises as `of_certificate`."""
    require(actor, Act.REVIEW)
    return _of_case(workflow, workflow.get(actor, application_id))


def _of_case(workflow: Workflow, application: Application) -> StoryView:
    store = workflow.store
    revision, pieces = store.revision(application), store.evidence(application.id)
    over = None if revision is None else (revision.digest, evidence_digest(pieces))
    certificates = store.certificates(application.id)
    found = ((each.serial, _record_of_the_ca(workflow, each.issuer, each.serial)) for each in certificates)
    transitions = store.transitions(application.id)
    verdict = workflow.judge(workflow.dossier(application)) if application.state in DECIDABLE else None
    return StoryView(
        application=views.summary(application),
        trouble=None if application.trouble is None else application.trouble.text(reader()),
        findings=views.findings(() if verdict is None else verdict.findings),
        evidence=views.evidence(pieces),
        decisions=tuple(_statement(received, over) for received in store.decisions(application.id)),
        transitions=tuple(map(_transition, transitions)),
        certificates=tuple(views.certificate(workflow, each) for each in certificates),
        records={serial: record for serial, record in found if record is not None},
        acceptance=_acceptance(workflow, application, transitions),
        replaced=_replaced(workflow, application),
        replaced_by=_replaced_by(workflow, application),
        **({} if revision is None else _rules(workflow, revision)),
    )


def _rules(workflow: Workflow, revision: Revision) -> dict[str, Any]:
    """What the statement that governed asked of the case; a version that is not here tells nothing of itself."""
    register = workflow.desk.statements()
    pack: Pack = register.find(revision.cps) or workflow.pack
    member, risk = rule_of(revision, pack), pack.risk_of(revision.signals)
    steps = [step for step in member.steps if step.applies(risk=risk)]
    return {
        "revision": revision,
        "revision_digest": revision.digest,
        "policy": PolicyView(
            id=revision.cps.id,
            version=revision.cps.version,
            digest=revision.cps.digest,
            uri=pack.cps.uri,
            section=member.section,
        ),
        "risk": risk,
        "rules": tuple(
            RuleView(step=step.name, by=step.by, count=step.count, excluded=step.excluded) for step in steps
        ),
    }


def _of_the_ca_alone(workflow: Workflow, serial: str) -> StoryView:
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


def _statement(received: ReceivedDecision, over: tuple[bytes, bytes] | None) -> StatementView:
    statement = read_decision(received.cms)
    decided = (statement.decision.revision_digest, statement.decision.evidence_digest)
    return StatementView.model_validate(
        {
            **views.decision_fields(received, statement),
            "counts": decided == over,
            "signature_verifies": statement.verifies,
            "signer_certificate_sha256": statement.signed.signer.fingerprint(hashes.SHA256()),
            "cms": received.cms,
        }
    )


def _transition(transition: Transition) -> TransitionView:
    return TransitionView(
        action=str(transition.action),
        before=transition.before,
        after=transition.after,
        actor=shown(transition.actor),
        at=transition.at,
        detail=transition.detail,
        journal_index=transition.journal_index,
    )


def _acceptance(workflow: Workflow, application: Application, transitions: list[Transition]) -> AcceptanceView | None:
    accepted = next((each for each in transitions if each.action is Action.ACCEPT), None)
    if accepted is None:
        return None
    return AcceptanceView(by=shown(accepted.actor), at=accepted.at, signed=workflow.store.acceptance(application.id))


def _replaced(workflow: Workflow, application: Application) -> tuple[ApplicationSummary, ...]:
    chain: list[ApplicationSummary] = []
    while application.replaces is not None and len(chain) < _LONGEST_CHAIN:
        application = workflow.store.application(application.replaces)
        chain.append(views.summary(application))
    return tuple(chain)


def _replaced_by(workflow: Workflow, application: Application) -> tuple[ApplicationSummary, ...]:
    """Re-keys of the case: they have its subject, by which there is an index."""
    if application.subject_id is None:
        return ()
    same = workflow.store.same_subject(application.member_class, application.subject_id, but=application.id)
    later = sorted((each for each in same if each.replaces == application.id), key=lambda each: each.opened_at)
    return tuple(map(views.summary, later))
