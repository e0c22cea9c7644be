"""From an approved case to accepted certificates: the system's own step, the CA, acceptance.

A case that becomes approved goes on to the CA at once. What was interrupted is finished by `resume`: the CA gives the
same certificates for the same revision, so a case has them once however often it is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from cryptography import x509
from sqlalchemy import Connection

from cps.acceptance import check_acceptance
from cps.decide import Verdict
from cps.decision import Choice, Decision, build_decision
from cps.dossier import Dossier, rule_of
from cps.errors import StatementError
from cps.model import SYSTEM as SYSTEM_STEP
from cps.rules import Rule
from pki.oids import CT_DECISION
from ra.access import SYSTEM, Act, Actor, require
from ra.authority import is_refusal
from ra.desk import Desk, decidable_state, refused_state, told, trouble_of
from ra.errors import ConflictError, IdentityNeededError, InvalidSubmissionError, RefusedError
from ra.holding import holder_of
from ra.issued import UnfitAnswerError, check_answer
from ra.openers import is_nameless
from ra.records import Application, Change, NewCertificate, Passage
from ra.statement import read_decision
from ra.states import DECIDABLE, Action, State
from ra.waiting import EVIDENCE
from runtime.language import Message
from runtime.language_record import to_record
from runtime.logging import get_logger
from runtime.problems import Problem

_UNDER_WAY: Final = frozenset({State.APPROVED, State.ISSUING})
_AT_ONCE: Final = 1000  # cases of one round
_ACCEPTANCE: Final = "CPS 4.4.1"
_log: Final = get_logger("ra.issuing")


class Issuing:
    """The way out; see the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def advance(self, application: Application) -> Application:
        """Go as far as the case goes without people: the system's own step, then the CA."""
        desk = self._desk
        by_system = application.waiting_for == SYSTEM_STEP or application.step == EVIDENCE  # as it was judged last
        if application.state in DECIDABLE and by_system:
            dossier = desk.dossier(application)
            verdict = desk.judge(dossier)
            step = verdict.next_step
            if step is not None and step.by == (SYSTEM_STEP,) and not verdict.lacking:
                application = self._decide_by_system(application, dossier, step.name)
        if application.state is State.APPROVED:
            return self._finish(application)
        return application

    def issue(self, actor: Actor, application_id: str) -> Application:
        """Ask the CA again for a case that it has not certified yet."""
        application = self._desk.load(application_id)
        require(actor, Act.REVIEW)
        if application.state is not State.ISSUING:
            self._desk.must(application, Action.ISSUE)
        return self._finish(application)

    def accept(self, actor: Actor, application_id: str, signed: bytes | None = None) -> Application:
        """Accept the certificates of a case; once more changes nothing.

        `signed` is an acceptance (CMS over AcceptanceTBS, DER) by a certified key. Without one only whoever opened the
        case with an identity of their own can accept. Raises NotAllowedError, InvalidSubmissionError, WrongStateError.
        """
        desk = self._desk
        application = desk.load(application_id)
        require(actor, Act.ACCEPT, application)
        if application.state is not State.ACTIVE:
            desk.must(application, Action.ACCEPT)
        detail = {}
        if signed is not None:
            certificates = [
                x509.load_der_x509_certificate(each.der) for each in desk.store.certificates(application.id)
            ]
            try:
                check_acceptance(signed, application.id, certificates)
            except StatementError as error:
                raise InvalidSubmissionError(error.told, clause=_ACCEPTANCE) from None
            detail["acceptance_sha256"] = hashlib.sha256(signed).hexdigest()
        elif is_nameless(actor.name):
            raise IdentityNeededError("without a client certificate an acceptance is signed with the certified key")
        if application.state is State.ACTIVE:
            return application
        change = Change(values={"accept_by": None}, acceptance=signed)
        return desk.pass_on(application, actor, Passage(Action.ACCEPT, State.ACTIVE, detail), change)

    def accept_by_use(self, certificate: x509.Certificate) -> Application:
        """Accept the case of a certificate whose key was used in TLS with this authority just now (CPS 4.4.1).

        Once more changes nothing. Raises NotAllowedError if the certificate is not ours or not in force (`ra.holding`).
        """
        holder = holder_of(self._desk, certificate)
        if holder.application.state is State.ACTIVE:
            return holder.application
        passage = Passage(Action.ACCEPT, State.ACTIVE, {"used": f"{certificate.serial_number:x}"})
        try:
            return self._desk.pass_on(holder.application, holder.actor, passage, Change(values={"accept_by": None}))
        except ConflictError:  # used twice at once, or revoked meanwhile
            return self._desk.store.application(holder.application.id)

    def resume(self) -> int:
        """Finish what was interrupted on the way to the CA, the system's own step too; returns how many were certified.

        A case that the CA refused stays as it is, with the reason on file, until somebody asks again (`issue`).
        """
        desk = self._desk
        desk.record.catch_up()
        finished = 0
        waiting = desk.store.applications(states=DECIDABLE, waiting_for=SYSTEM_STEP, limit=_AT_ONCE)
        waiting += desk.store.applications(states=DECIDABLE, step=EVIDENCE, limit=_AT_ONCE)
        for application in waiting + desk.store.applications(states=_UNDER_WAY, limit=_AT_ONCE):
            try:
                on_the_way = application.state in _UNDER_WAY
                after = self._finish(application) if on_the_way else self.advance(application)
                finished += after.state is State.ISSUED
            except Exception as error:  # a case that cannot be finished must not keep the others waiting
                _log.error("not-finished", application=application.id, error=type(error).__name__)
        return finished

    def take_decision(self, application: Application, actor: Actor, signed: bytes, verdict: Verdict) -> Application:
        """Put a decision on file that counts by `verdict`, and take the case where it leads."""
        statement = read_decision(signed)
        rejected = statement.decision.choice is Choice.REJECT
        after = State.REJECTED if rejected else decidable_state(verdict)
        detail = {
            "step": statement.decision.step,
            "choice": statement.decision.choice.name.lower(),
            **({} if statement.decision.code is None else {"code": statement.decision.code}),
            "person": statement.person,
            "revision_digest": statement.decision.revision_digest.hex(),
            "evidence_digest": statement.decision.evidence_digest.hex(),
            "decision_sha256": hashlib.sha256(signed).hexdigest(),
        }
        passage = Passage(Action.DECIDE, after, detail)
        change = Change(values={"rejected_for": statement.decision.code}, decision=signed)
        return self._desk.pass_on(application, actor, passage, change, verdict=verdict)

    def _decide_by_system(self, application: Application, dossier: Dossier, step: str) -> Application:
        desk = self._desk
        now, pack = desk.now, desk.pack_of(dossier.revision)
        lasts = next(each.expires for each in rule_of(dossier.revision, pack).steps if each.name == step) or timedelta(
            days=1
        )
        content = build_decision(
            Decision(
                application_id=application.id,
                revision_digest=dossier.revision.digest,
                evidence_digest=dossier.evidence_digest,
                step=step,
                choice=Choice.APPROVE,
                reason=f"risk {pack.risk_of(dossier.revision.signals)}",
                date=now,
                expires=now + lasts,
            )
        )
        try:
            signed = desk.sign(CT_DECISION, content)
        except Problem as problem:
            _log.warning("system-step-not-signed", application=application.id, problem=problem.type)
            return application
        verdict = desk.judge(dossier.with_decision(signed))
        objections = verdict.about(len(dossier.decisions))
        if objections:
            raise RefusedError(objections)
        return self.take_decision(application, SYSTEM, signed, verdict)

    def _finish(self, application: Application) -> Application:
        """Have an approved case certified.

        Two may be at it (a caller and the clock): the CA gives both the same certificates, and one of them stores them.
        """
        desk = self._desk
        dossier = desk.dossier(application)
        if application.state is not State.ISSUING:
            verdict = desk.judge(dossier)
            if not verdict.approved:
                return self._no_longer_approved(application, verdict)
            application = desk.pass_on(application, SYSTEM, Passage(Action.ISSUE, State.ISSUING))
        try:
            issued = check_answer(desk.authority.issue(dossier), dossier, trust=desk.trust(desk.now), now=desk.now)
        except (Problem, UnfitAnswerError) as error:
            _log.warning("not-issued", application=application.id, reason=str(error))
            if isinstance(error, Problem) and not is_refusal(error):
                return application  # the CA may have done it: `resume` asks again, for the same certificates
            passage = Passage(Action.FAIL, State.ISSUE_FAILED, {"reason": str(error)})
            change = Change(values={"trouble": to_record(_trouble(error))})
        else:
            detail = {str(each.purpose): f"{each.issuer}/{each.serial}" for each in issued}
            passage = Passage(Action.STORE, State.ISSUED, detail)
            within = desk.pack_of(dossier.revision).acceptance.within
            values = {"trouble": None, "accept_by": desk.now + within}
            also = partial(self._register, dossier, issued) if application.member_class == "officer" else None
            change = Change(values=values, certificates=issued, also=also)
        try:
            return desk.pass_on(application, SYSTEM, passage, change)
        except ConflictError:
            return desk.store.application(application.id)

    def _register(self, dossier: Dossier, issued: Sequence[NewCertificate], db: Connection) -> None:
        """Write an officer's certificates into the register of persons, in the transaction that stores them."""
        application_id = dossier.revision.application_id
        self._desk.persons.record(db, issued, application_id=application_id, now=self._desk.now)

    def _no_longer_approved(self, application: Application, verdict: Verdict) -> Application:
        desk = self._desk
        if verdict.broken and all(each.code is Rule.PACK_PIN for each in verdict.broken):
            return application  # the clock judges it by the statement that governs now (`ra.intake`)
        findings = verdict.broken or verdict.findings
        after = refused_state(verdict.broken) if verdict.broken else decidable_state(verdict)
        passage = Passage(Action.RETURN, after, {"findings": told(findings)})
        change = Change(values={"trouble": trouble_of(findings)})
        changed = desk.pass_on(application, SYSTEM, passage, change, verdict=verdict)
        return changed if verdict.broken else self.advance(changed)


def _trouble(error: Problem | UnfitAnswerError) -> Message:
    """Why the CA did not issue, as the trouble of the application."""
    if isinstance(error, Problem) and error.clause:
        return Message("{reason} ({clause})", reason=error.told, clause=error.clause)
    return Message("{reason}", reason=error.told)
