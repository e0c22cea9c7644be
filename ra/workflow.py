"""The one choke point: every way in ends here, and nothing else changes the state of an application.

Each method checks who is calling (`ra.access`), whether the action exists in the state (`ra.states`), and what the CPS
says (`cps.decide`); then one transaction takes the application along, with one row for each transition; then the
journal gets its entries; then the caller is answered. A case that becomes approved goes on to the CA at once. What was
interrupted is finished by `resume`: the CA gives the same certificates for the same revision.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509

from cps.decide import KnownKeys, Verdict, decide, decide_revocation
from cps.decision import Choice, Decision, Kind, build_decision
from cps.decision import Revocation as RevocationOrder
from cps.dossier import Author, CardholderSubject, CpsPin, Dossier, Evidence, Revision
from cps.errors import StatementError
from cps.model import SYSTEM as SYSTEM_STEP
from cps.model import MemberClass, Pack
from cps.revocation import RevocationVerdict, Target
from cps.rules import Rule
from cps.verdict import Finding
from pki.errors import PkiError
from pki.extensions import authority_key_id, extensions_of
from pki.keys import spki_sha256
from pki.oids import CT_DECISION
from pki.path import Trust
from ra.access import CLOCK, SYSTEM, Act, Actor, require
from ra.authority import CertificateAuthority
from ra.errors import ConflictError, InvalidSubmissionError, RefusedError, WrongStateError
from ra.issued import UnfitAnswerError, check_answer
from ra.record import Record
from ra.screening import Facts, screen
from ra.statement import read_decision
from ra.states import DECIDABLE, OPEN, Action, State, allowed, leads
from ra.store import Application, Change, Passage, RevocationRecord, Store
from ra.submission import Submission, understand
from runtime.logging import get_logger
from runtime.problems import Problem

Sign = Callable[[x509.ObjectIdentifier, bytes], bytes]
"""Signs content (DER) of a content type with the RA's own key; returns CMS SignedData (DER)."""

_NONCE: Final = 32  # bytes
_ID: Final = 16  # bytes: an anonymous applicant's application is reached by its id alone
_MOST_EVIDENCE: Final = 32  # pieces of one case; an applicant may add, and each is read whenever the case is judged
_LARGEST_FORM: Final = 16_384  # bytes of a signed form, which travels with the case; one with its chain is under 8 kB
_EVENTS: Final = {Kind.REVOKE: "ra.revoked", Kind.SUSPEND: "ra.suspended", Kind.RELEASE: "ra.released"}
_NOT_NOW: Final = 500  # HTTP: from here on the CA did not refuse, it could not
_log: Final = get_logger("ra.workflow")


@dataclass(frozen=True, slots=True)
class NewEvidence:
    """A piece of evidence as it comes in."""

    kind: str
    body: bytes
    source: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """An order that the CA took; `state` is how the certificate stands now."""

    verdict: RevocationVerdict
    state: Literal["revoked", "held", "released"]
    record: RevocationRecord
    crl_number: int | None


class Workflow:
    """The registration authority at work; safe to call from any number of threads."""

    def __init__(
        self,
        *,
        store: Store,
        record: Record,
        pack: Pack,
        authority: CertificateAuthority,
        trust: Callable[[datetime], Trust],
        sign: Sign,
        rng: Callable[[int], bytes],
        clock: Callable[[], datetime],
    ) -> None:
        """`trust(now)` are roots, CAs and CRLs in force; `sign` is the RA's key; `rng(n)` gives n random bytes."""
        self.store: Final = store
        self.pack: Final = pack
        self.authority: Final = authority
        self.trust: Final = trust
        self._record = record
        self._sign = sign
        self._rng = rng
        self._clock = clock
        self._travelling = frozenset(
            rule.kind for member in pack.classes.values() for rule in member.evidence if rule.form != "document"
        )

    @property
    def now(self) -> datetime:
        """The RA's time, in whole seconds as signed statements have it."""
        return self._clock().replace(microsecond=0)

    # applicants

    def open(self, actor: Actor, member_class: MemberClass) -> Application:
        """Open a draft. A cardholder's gets the nonce that the commitment to the card is made with."""
        require(actor, Act.OPEN)
        self._record.catch_up()
        now = self.now
        application = self.store.open(
            Application(
                id=self._rng(_ID).hex(),
                member_class=member_class,
                state=State.DRAFT,
                version=1,
                opened_by=actor.name,
                opened_at=now,
                due_at=now + self._lasts(member_class),
                nonce_cca=self._rng(_NONCE) if member_class == "cardholder" else None,
                national_code=None,
                subject_id=None,
                organisation=None,
                revision=None,
                trouble=None,
            )
        )
        self._record.catch_up()
        return application

    def submit(
        self, actor: Actor, application_id: str, submission: Submission, *, version: int | None = None
    ) -> Application:
        """Submit a draft: pins the CPS, checks proof of possession, screens, and goes as far as it goes without people.

        Raises InvalidSubmissionError (nothing changed), WrongStateError, ConflictError, NotAllowedError.
        """
        return self._revise(actor, application_id, Action.SUBMIT, submission, version)

    def amend(
        self, actor: Actor, application_id: str, submission: Submission, *, version: int | None = None
    ) -> Application:
        """Write a new revision of a returned or waiting case: every decision so far falls away. Raises as `submit`."""
        return self._revise(actor, application_id, Action.AMEND, submission, version)

    def withdraw(self, actor: Actor, application_id: str, reason: str) -> Application:
        """End an open application on its opener's word."""
        application = self._take(actor, Act.EDIT, application_id, Action.WITHDRAW)
        return self._pass(application, actor, Passage(Action.WITHDRAW, State.WITHDRAWN, {"reason": reason}))

    # evidence and decisions

    def add_evidence(self, actor: Actor, application_id: str, new: NewEvidence) -> Application:
        """Put evidence on file. Earlier decisions fall away, because they were made over other evidence."""
        act = Act.ATTEST if new.kind in self._travelling else Act.VOUCH
        application = self._take(actor, act, application_id, Action.RECORD)
        if new.kind in self._travelling and len(new.body) > _LARGEST_FORM:
            raise InvalidSubmissionError(f"a signed form has at most {_LARGEST_FORM} bytes", clause="CPS 4.2.1")
        if len(self.store.evidence(application.id)) >= _MOST_EVIDENCE:
            raise InvalidSubmissionError(f"a case has at most {_MOST_EVIDENCE} pieces of evidence", clause="CPS 4.2.1")
        try:
            piece = Evidence(
                kind=new.kind,
                sha256=hashlib.sha256(new.body).digest(),
                source=new.source,
                collected_by=actor.author.person,
                collected_at=self.now,
                expires_at=new.expires_at,
                body=new.body if new.kind in self._travelling else None,
            )
        except ValueError:
            raise InvalidSubmissionError("a field of the evidence is not as it should be", clause="CPS 4.2.1") from None
        after = application.state
        if after in DECIDABLE:
            dossier = self.dossier(application)
            dossier = dossier.model_copy(update={"evidence": (*dossier.evidence, piece)})
            after = self._decidable_state(self.judge(dossier))
        detail = {"kind": piece.kind, "sha256": piece.sha256.hex()}
        change = Change(evidence=(piece, new.body))
        application = self._pass(application, actor, Passage(Action.RECORD, after, detail), change)
        return self._advance(application)

    def decide(self, actor: Actor, application_id: str, signed: bytes) -> Application:
        """Take an officer's decision (CMS, DER). The same decision again changes nothing.

        Raises RefusedError naming the clause for a decision that does not count: it is not put on file, but in the
        journal. What counts is the signature; `actor` is who handed it in.
        """
        application = self._load(application_id)
        require(actor, Act.REVIEW)
        if any(received.cms == signed for received in self.store.decisions(application.id)):
            return application
        self._must(application, Action.DECIDE)
        dossier = self.dossier(application)
        verdict = self.judge(dossier.with_decision(signed))
        self._refuse_broken_case(application, verdict)
        objections = [each for each in verdict.about(len(dossier.decisions)) if each.code is not Rule.DEC_REJECTED]
        if objections:
            self._note_refusal(actor, application, objections, signed)
            raise RefusedError(objections)
        return self._advance(self._accept(application, actor, signed, verdict))

    def issue(self, actor: Actor, application_id: str) -> Application:
        """Ask the CA again for an approved case that it has not certified yet."""
        application = self._load(application_id)
        require(actor, Act.REVIEW)
        if application.state is not State.ISSUING:
            self._must(application, Action.ISSUE)
        return self._finish(application)

    def revoke(self, actor: Actor, statement: bytes) -> Revoked:
        """Pass an officer's order on to the CA. Raises RefusedError naming the clause, Problem if the CA refuses."""
        require(actor, Act.REVIEW)
        self._record.catch_up()
        now = self.now
        verdict = decide_revocation([statement], self.pack, trust=self.trust(now), now=now, find=self._target)
        digest = hashlib.sha256(statement).hexdigest()
        if not verdict.approved or verdict.order is None:
            self._record.note(
                "ra.refused",
                action="revoke",
                actor=actor.name,
                rules=[str(each.code) for each in verdict.findings],
                statement_sha256=digest,
            )
            raise RefusedError(verdict.findings)
        answer = self.authority.revoke(statement)
        record = RevocationRecord(
            issuer=answer.issuer,
            serial=answer.serial,
            reason=answer.reason,
            cms=statement,
            ordered_by=answer.ordered_by,
            received_from=actor.name,
            at=now,
        )
        kind = verdict.order.kind
        if kind is Kind.REVOKE:
            self.store.add_revocation(record, denylisted=self._key_of(record) if verdict.denylist_key else None)
        # A certificate is revoked once; it may be suspended and released again and again.
        once = "" if kind is Kind.REVOKE else f"/{digest}"
        self._record.note_once(
            _EVENTS[kind],
            f"revocation/{record.issuer}/{record.serial}{once}",
            issuer=record.issuer,
            serial=record.serial,
            reason=record.reason,
            ordered_by=record.ordered_by,
            actor=actor.name,
            statement_sha256=digest,
        )
        return Revoked(verdict, answer.state, record, answer.crl_number)

    # clock

    def sweep(self) -> int:
        """End the applications whose time is over; returns how many."""
        overdue = self.store.overdue(self.now, OPEN)
        for application in overdue:
            with contextlib.suppress(ConflictError):  # somebody was faster; the next round looks again
                self._expire(application)
        return len(overdue)

    def resume(self) -> int:
        """Finish what was interrupted on the way to the CA; returns how many cases were certified.

        A case that the CA refused stays approved, with the reason on file, until somebody asks again (`issue`).
        """
        self._record.catch_up()
        finished = 0
        for application in self.store.applications(states={State.ISSUING}, limit=10_000):
            try:
                finished += self._finish(application).state is State.ISSUED
            except Exception as error:  # a case that cannot be finished must not keep the others waiting
                _log.error("not-finished", application=application.id, error=type(error).__name__)
        return finished

    # reading

    def get(self, actor: Actor, application_id: str) -> Application:
        """The application, if the actor may read it."""
        application = self._load(application_id)
        require(actor, Act.READ, application)
        return application

    def dossier(self, application: Application) -> Dossier:
        """The case as it stands; raises UnknownError while it is a draft."""
        return self.store.dossier(application, with_bodies_of=self._travelling)

    def judge(self, dossier: Dossier) -> Verdict:
        """What the CPS says of a case now, with the keys that this RA knows."""
        now = self.now
        return decide(dossier, self.pack, trust=self.trust(now), now=now, known_keys=self._known_keys(dossier.revision))

    # inside

    def _lasts(self, member_class: MemberClass) -> timedelta:
        return self.pack.classes[member_class].sla.request_expires

    def _load(self, application_id: str) -> Application:
        self._record.catch_up()
        application = self.store.application(application_id)
        if application.state in OPEN and self.now >= application.due_at:
            return self._expire(application)
        return application

    def _take(self, actor: Actor, act: Act, application_id: str, action: Action) -> Application:
        application = self._load(application_id)
        require(actor, act, application)
        self._must(application, action)
        return application

    @staticmethod
    def _must(application: Application, action: Action) -> None:
        if not allowed(action, application.state):
            raise WrongStateError(f"there is no {action} for an application that is {application.state}")

    def _expire(self, application: Application) -> Application:
        return self._pass(application, CLOCK, Passage(Action.EXPIRE, State.EXPIRED))

    def _pass(
        self, application: Application, actor: Actor, passage: Passage, change: Change | None = None
    ) -> Application:
        return self._pass_all(application, actor, [passage], change or Change())

    def _pass_all(self, application: Application, actor: Actor, passages: list[Passage], change: Change) -> Application:
        state = application.state
        for passage in passages:
            if not leads(passage.action, state, passage.after):
                raise AssertionError(f"{passage.action} does not lead from {state} to {passage.after}")
            state = passage.after
        changed = self.store.change(application, passages, actor=actor.name, now=self.now, change=change)
        self._record.catch_up()
        return changed

    def _revise(
        self, actor: Actor, application_id: str, action: Action, submission: Submission, version: int | None
    ) -> Application:
        application = self._take(actor, Act.EDIT, application_id, action)
        if version is not None and version != application.version:
            raise ConflictError(f"application {application.id} was changed meanwhile: read it again")
        now = self.now
        content = understand(submission, application.member_class, self.pack, rng=self._rng)
        others = self.store.same_subject(application.member_class, content.subject_id, but=application.id)
        held: frozenset[str] = frozenset()
        if application.member_class == "officer":
            held = self.store.roles_of(content.subject_id, but=application.id)
        screening = screen(content, Facts(tuple(others), held), self.pack, now=now)
        before = self.store.revision(application)
        revision = Revision(
            application_id=application.id,
            number=1 if before is None else before.number + 1,
            authors=_authors(before, actor.author),
            subject=content.subject,
            csrs=content.digests,
            signals=screening.signals,
            cps=CpsPin.of(self.pack),
        )
        dossier = Dossier(
            revision=revision, csrs=dict(content.csrs), evidence=self.store.evidence(application.id), decisions=()
        )
        verdict = self.judge(dossier)
        findings = screening.findings + verdict.broken
        after = _refused_state(findings) if findings else State.VETTING
        trouble = "; ".join(map(str, findings)) or None
        values = {
            "national_code": content.national_code or application.national_code,
            "subject_id": content.subject_id,
            "organisation": content.organisation,
            "due_at": now + self._lasts(application.member_class),
            "trouble": trouble,
        }
        claims = [] if findings else [entry.spki_sha256 for entry in revision.csrs]
        passages = [
            Passage(action, State.SCREENING, {"revision": str(revision.number), "digest": revision.digest.hex()}),
            Passage(Action.SCREEN, after, {"findings": trouble or ""}),
        ]
        change = Change(values=values, revision=revision, csrs=content.csrs, claims=claims, others=others)
        return self._advance(self._pass_all(application, actor, passages, change))

    def _known_keys(self, revision: Revision) -> KnownKeys:
        return self.store.known_keys([entry.spki_sha256 for entry in revision.csrs], but=revision.application_id)

    def _decidable_state(self, verdict: Verdict) -> State:
        """Where a case that is not refused stands: before, in or after the first step that applies to it."""
        if verdict.approved:
            return State.APPROVED
        return State.AWAITING_APPROVAL if verdict.approvals else State.VETTING

    def _refuse_broken_case(self, application: Application, verdict: Verdict) -> None:
        """Send a case back in which a rule broke while it waited; raises RefusedError if one did."""
        if verdict.broken:
            self._send_back(application, verdict.broken)
            raise RefusedError(verdict.broken)

    def _send_back(self, application: Application, findings: tuple[Finding, ...]) -> Application:
        trouble = "; ".join(map(str, findings))
        passage = Passage(Action.RETURN, _refused_state(findings), {"findings": trouble})
        return self._pass(application, SYSTEM, passage, Change(values={"trouble": trouble}))

    def _accept(self, application: Application, actor: Actor, signed: bytes, verdict: Verdict) -> Application:
        statement = read_decision(signed)
        rejected = statement.decision.choice is Choice.REJECT
        after = State.REJECTED if rejected else self._decidable_state(verdict)
        detail = {
            "step": statement.decision.step,
            "choice": statement.decision.choice.name.lower(),
            "person": statement.person,
            "revision_digest": statement.decision.revision_digest.hex(),
            "evidence_digest": statement.decision.evidence_digest.hex(),
            "decision_sha256": hashlib.sha256(signed).hexdigest(),
        }
        return self._pass(application, actor, Passage(Action.DECIDE, after, detail), Change(decision=signed))

    def _note_refusal(self, actor: Actor, application: Application, objections: list[Finding], signed: bytes) -> None:
        try:
            person = read_decision(signed).person
        except (PkiError, StatementError):
            person = ""
        self._record.note(
            "ra.refused",
            action="decide",
            application=application.id,
            actor=actor.name,
            person=person,
            rules=[str(each.code) for each in objections],
            decision_sha256=hashlib.sha256(signed).hexdigest(),
        )

    # on the way to the CA

    def _advance(self, application: Application) -> Application:
        """Go as far as the case goes without people: the system's own step, then the CA."""
        if application.state in DECIDABLE:
            dossier = self.dossier(application)
            verdict = self.judge(dossier)
            step = verdict.next_step
            lacking = any(each.decision is None for each in verdict.findings)
            if step is not None and step.by == (SYSTEM_STEP,) and not lacking:
                application = self._decide_by_system(application, dossier, step.name)
        if application.state is State.APPROVED:
            return self._finish(application)
        return application

    def _decide_by_system(self, application: Application, dossier: Dossier, step: str) -> Application:
        now = self.now
        lasts = next(
            each.expires for each in self.pack.classes[application.member_class].steps if each.name == step
        ) or timedelta(days=1)
        content = build_decision(
            Decision(
                application_id=application.id,
                revision_digest=dossier.revision.digest,
                evidence_digest=dossier.evidence_digest,
                step=step,
                choice=Choice.APPROVE,
                reason=f"risk {self.pack.risk_of(dossier.revision.signals)}",
                date=now,
                expires=now + lasts,
            )
        )
        try:
            signed = self._sign(CT_DECISION, content)
        except Problem as problem:
            _log.warning("system-step-not-signed", application=application.id, problem=problem.type)
            return application
        verdict = self.judge(dossier.with_decision(signed))
        objections = verdict.about(len(dossier.decisions))
        if objections:
            raise RefusedError(objections)
        return self._accept(application, SYSTEM, signed, verdict)

    def _finish(self, application: Application) -> Application:
        """Have an approved case certified; a case that is approved no longer goes back.

        Two may be at it (a caller and the clock): the CA gives both the same certificates, and one of them stores them.
        """
        dossier = self.dossier(application)
        if application.state is State.APPROVED:
            verdict = self.judge(dossier)
            if not verdict.approved:
                return self._no_longer_approved(application, verdict)
            application = self._pass(application, SYSTEM, Passage(Action.ISSUE, State.ISSUING))
        try:
            issued = check_answer(self.authority.issue(dossier), dossier, trust=self.trust(self.now), now=self.now)
        except (Problem, UnfitAnswerError) as error:
            _log.warning("not-issued", application=application.id, reason=str(error))
            if isinstance(error, Problem) and error.status >= _NOT_NOW:
                return application  # the CA may have done it: `resume` asks again, for the same certificates
            passage = Passage(Action.FAIL, State.APPROVED, {"reason": str(error)})
            change = Change(values={"trouble": str(error)})
        else:
            detail = {str(each.purpose): f"{each.issuer}/{each.serial}" for each in issued}
            passage = Passage(Action.STORE, State.ISSUED, detail)
            change = Change(values={"trouble": None}, certificates=issued)
        try:
            return self._pass(application, SYSTEM, passage, change)
        except ConflictError:
            return self.store.application(application.id)

    def _no_longer_approved(self, application: Application, verdict: Verdict) -> Application:
        if verdict.broken:
            return self._send_back(application, verdict.broken)
        trouble = "; ".join(map(str, verdict.findings))
        passage = Passage(Action.RETURN, self._decidable_state(verdict), {"findings": trouble})
        return self._advance(self._pass(application, SYSTEM, passage, Change(values={"trouble": trouble})))

    def _target(self, order: RevocationOrder) -> Target | None:
        """The certificate that an order is about, if the RA handed it out."""
        for issued in self.store.certificates_with_serial(f"{order.serial:x}"):
            certificate = x509.load_der_x509_certificate(issued.der)
            if authority_key_id(extensions_of(certificate)) == order.issuer_key_id:
                revision = self.store.revision(self.store.application(issued.application_id))
                subject = None if revision is None else revision.subject
                return Target(certificate, subject.bin if isinstance(subject, CardholderSubject) else None)
        return None

    def _key_of(self, record: RevocationRecord) -> bytes | None:
        return next(
            (
                spki_sha256(x509.load_der_x509_certificate(issued.der).public_key())
                for issued in self.store.certificates_with_serial(record.serial)
                if issued.issuer == record.issuer
            ),
            None,
        )


def _authors(before: Revision | None, author: Author) -> tuple[Author, ...]:
    """All who wrote any revision of the case, the writer of this one last."""
    earlier = () if before is None else before.authors
    return (*(each for each in earlier if each != author), author)


def _refused_state(findings: tuple[Finding, ...]) -> State:
    """A compromised key ends the application; everything else can be amended."""
    return State.REJECTED if any(each.code is Rule.KEY_DENYLISTED for each in findings) else State.RETURNED
