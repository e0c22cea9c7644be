"""How cases come in: opened, submitted, amended, screened, and judged anew when another statement governs.

A submission is written as a revision in SCREENING and looked at by machines: registers of our own at once
(`ra.screening`), those of others as long as they take (`Screener`). When all have answered, the case goes to the
officers, or back. What the system itself finds out (signals, another statement) makes a revision of its own, written
by the same authors: whatever was decided before falls away with the old digest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol

from cryptography import x509
from sqlalchemy import Connection

from cps.dossier import Author, CpsPin, Dossier, Evidence, OfficerSubject, Revision, Subject
from cps.model import MemberClass, Pack, Purpose
from cps.rekey import too_old
from cps.rekey_statement import oldest_check
from cps.rules import Rule
from cps.verdict import Finding
from pki.der import sha256
from ra.access import SYSTEM, Act, Actor, require
from ra.desk import Desk, decidable_state, refused_state, told, trouble_of
from ra.errors import InvalidSubmissionError
from ra.issuing import Issuing
from ra.notices.contacts import Contact
from ra.notices.contacts import put as put_contact
from ra.own_hosts import check_hosts
from ra.records import Application, Change, Passage
from ra.request_contents import another_member_named
from ra.screening import Facts, screen
from ra.states import CERTIFIED, DECIDABLE, Action, State
from ra.submission import Content, Submission, understand
from runtime.language import Term

_REKEY: Final = "CPS 4.7"
_NONCE: Final = 32  # bytes
_ID: Final = 16  # bytes
_REEVALUATED: Final = DECIDABLE | {State.APPROVED, State.ISSUE_FAILED}


@dataclass(frozen=True, slots=True)
class Screened:
    """What registers of others said of a revision: observations to weigh, objections, and their answers as evidence.

    `hold` is why a person must look at the case before it goes on (a register stayed silent). `rejected`:
    the findings end the case, and no amendment mends them.
    """

    signals: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    evidence: tuple[tuple[Evidence, bytes], ...] = ()
    hold: tuple[Finding, ...] = ()
    rejected: bool = False


class Screener(Protocol):
    """Asks registers of others about a revision; what it has begun it brings to an end by `Intake.screened`."""

    def plan(self, application: Application, content: Content, revision: Revision, pack: Pack) -> object | None:
        """What is to be asked, for `begin`; None if nothing is."""
        ...

    def begin(self, db: Connection, plan: Any) -> None:
        """Write down what is to be asked, in the transaction that writes the revision."""
        ...

    def go(self, application_id: str) -> None:
        """Ask now what can be asked at once; called when the revision is on disk. Never raises."""
        ...


class NoRegisters:
    """A screener that asks nobody."""

    def plan(self, application: Application, content: Content, revision: Revision, pack: Pack) -> None:
        return None

    def begin(self, db: Connection, plan: Any) -> None:
        """Nothing was planned."""

    def go(self, application_id: str) -> None:
        """Nothing was begun."""


@dataclass(frozen=True, slots=True)
class _Replaced:
    """The case whose keys a re-key replaces, with its certificates by purpose (SHA-256)."""

    revision: Revision
    issued: Mapping[Purpose, bytes]

    def certificates_for(self, purposes: Collection[Purpose]) -> dict[Purpose, bytes]:
        """What `Revision.replaces` says; a purpose that was never certified is not there, and decide() refuses it."""
        return {each: self.issued[each] for each in sorted(purposes) if each in self.issued}


class Intake:
    """The way in; see the module."""

    def __init__(self, desk: Desk, issuing: Issuing, screener: Screener) -> None:
        self._desk = desk
        self._issuing = issuing
        self._screener = screener

    def open(
        self,
        actor: Actor,
        member_class: MemberClass,
        *,
        contact: Contact | None = None,
        replaces: str | None = None,
        by_holder: bool = False,
        also: Callable[[Connection, str], None] = lambda _db, _application_id: None,
    ) -> Application:
        """Open a draft. A cardholder's gets the nonce that the commitment to the card is made with.

        `contact` is where the applicant is written to, if they want to be (`ra.notices`). `replaces` makes it a re-key
        of that application (CPS 4.7), for whoever opened that one, or `by_holder`: the caller has proven a key of it.
        `also` writes what other modules keep of the application with this id, in the same transaction. Raises
        NotAllowedError, UnknownError, InvalidSubmissionError.
        """
        require(actor, Act.OPEN)
        desk = self._desk
        desk.record.catch_up()
        if replaces is not None:
            old = desk.load(replaces)
            if not by_holder:
                require(actor, Act.EDIT, old)
            self._check_replaced(old, member_class)
        now = desk.now
        due_at = now + self._lasts(member_class)
        application_id = desk.rng(_ID).hex()

        def beside(db: Connection) -> None:
            if contact is not None:
                put_contact(db, application_id, contact, now)
            also(db, application_id)

        application = desk.store.open(
            Application(
                id=application_id,
                member_class=member_class,
                state=State.DRAFT,
                version=1,
                opened_by=actor.name,
                opened_at=now,
                due_from=now,
                due_at=due_at,
                next_at=due_at,
                nonce_cca=desk.rng(_NONCE) if member_class == "cardholder" else None,
                national_code=None,
                subject_id=None,
                organisation=None,
                revision=None,
                trouble=None,
                replaces=replaces,
            ),
            also=beside,
        )
        desk.record.catch_up()
        return application

    def revise(
        self, actor: Actor, application_id: str, action: Action, submission: Submission, version: int | None
    ) -> Application:
        """Submit or amend: pins the CPS, checks proof of possession, screens.

        Raises InvalidSubmissionError (nothing changed), WrongStateError, ConflictError, NotAllowedError.
        """
        desk, now = self._desk, self._desk.now
        act = Act.EDIT if action is Action.SUBMIT else Act.AMEND
        application = desk.take(actor, act, application_id, action, version)
        pack = desk.pack
        replaced = None if application.replaces is None else self._replaced(application.replaces)
        if replaced is not None:
            if submission.subject:
                raise InvalidSubmissionError("a re-key takes over the subject of the replaced case", clause=_REKEY)
            submission = replace(submission, subject=_fields(replaced.revision.subject))
        content = understand(submission, application.member_class, pack, rng=desk.rng)
        if desk.store.has_subject(content.named - {content.subject_id}):
            raise another_member_named(pack)
        check_hosts(content.subject, desk.own_hosts, pack)
        others = desk.store.same_subject(application.member_class, content.subject_id, but=application.id)
        code = content.national_code or application.national_code
        screening = screen(content, self._facts(application, content, code, others), pack, now=now)
        claim: Callable[[Connection], None] | None = None
        if isinstance(content.subject, OfficerSubject) and not screening.findings:
            claim = partial(
                desk.persons.claim,
                national_code=code,
                person_id=content.subject_id,
                application_id=application.id,
            )
        before = desk.store.revision(application)
        revision = Revision(
            application_id=application.id,
            number=1 if before is None else before.number + 1,
            authors=_authors(before, actor.author),
            subject=content.subject,
            csrs=content.digests,
            signals=screening.signals,
            cps=CpsPin.of(pack),
            replaces=None if replaced is None else replaced.certificates_for(content.csrs),
        )
        values: dict[str, Any] = {
            "national_code": code,
            "subject_id": content.subject_id,
            "organisation": content.organisation,
            "due_from": now,
            "due_at": now + self._lasts(application.member_class),
            "due_warned": 0,
            "decide_from": now,
            "decide_by": now + pack.classes[application.member_class].sla.decide,
            "decide_warned": 0,
        }
        return self._screen(
            application,
            actor,
            action,
            revision,
            content.csrs,
            values,
            screening.findings,
            others,
            content=content,
            also=claim,
        )

    def screened(self, application_id: str, number: int, screened: Screened) -> Application:
        """Go on with a case whose revision `number` the registers of others have answered about.

        Does nothing if the case is not in screening with that revision any more.
        """
        desk = self._desk
        application = desk.load(application_id)
        if application.state is not State.SCREENING or application.revision != number:
            return application
        case = desk.dossier(application)
        revision, change = case.revision, Change(evidence=screened.evidence)
        signals = (*revision.signals, *(each for each in screened.signals if each not in revision.signals))
        if signals != revision.signals:
            revision = revision.model_copy(update={"number": number + 1, "signals": signals})
            change = Change(evidence=screened.evidence, revision=revision, csrs=case.csrs)
        pieces = (*case.evidence, *(piece for piece, _body in screened.evidence))
        case = case.model_copy(update={"revision": revision, "evidence": pieces})
        return self._leave_screening(
            application, [], case, screened.findings, change, hold=screened.hold, rejected=screened.rejected
        )

    def reevaluate(self, application: Application) -> Application:
        """Judge an open case by the statement in force: a revision under it, by the same authors (CPS 9.12.1)."""
        desk = self._desk
        before = desk.store.revision(application)
        assert before is not None  # only a submitted case is decidable
        revision = before.model_copy(update={"number": before.number + 1, "cps": CpsPin.of(desk.pack)})
        csrs = desk.dossier(application).csrs
        return self._screen(application, SYSTEM, Action.REEVALUATE, revision, csrs, {}, (), None)

    def reevaluate_all(self) -> int:
        """Judge anew all open cases whose statement governs no longer; returns how many."""
        desk = self._desk
        register, now = desk.statements(), desk.now
        current = register.in_force(now)
        done = 0
        for application in desk.store.under_other_packs([current.digest], _REEVALUATED):
            revision = desk.store.revision(application)
            if revision is not None and register.governing(revision.cps, now).digest != revision.cps.digest:
                self.reevaluate(application)
                done += 1
        return done

    # inside

    def _facts(
        self, application: Application, content: Content, code: str | None, others: Sequence[Application]
    ) -> Facts:
        """What our own registers know of the subject, and of an officer as a person."""
        subject = content.subject
        if not isinstance(subject, OfficerSubject):
            return Facts(tuple(others))
        persons, person = self._desk.persons, subject.person_id
        return Facts(
            tuple(others),
            held=persons.held(person, but=application.id, now=self._desk.now),
            other_person=persons.other_person(code, person, but=application.id),
            other_code=persons.other_code(code, person),
        )

    def _check_replaced(self, old: Application, member_class: MemberClass) -> None:
        """Whether keys of a case can be replaced: it is certified, of this class, and the class knows re-keys; and
        registers were asked about its holder not too long ago, as `cps.decide` will find again.
        """
        pack = self._desk.pack
        rule = pack.classes[member_class].rekey
        if old.member_class != member_class or rule is None:
            raise InvalidSubmissionError(
                "members of the class {member_class} apply anew for each certificate",
                clause=_REKEY,
                member_class=Term("class", member_class),
            )
        if old.state not in CERTIFIED:
            raise InvalidSubmissionError(
                "the application that is replaced is {state}: it has no certificates in force",
                clause=_REKEY,
                state=Term("state", old.state),
            )
        issued = self._desk.store.certificates(old.id)
        checked_at = oldest_check(x509.load_der_x509_certificate(each.der) for each in issued)
        if checked_at is not None and self._desk.now > checked_at + rule.max_chain_age:
            told = too_old(checked_at + rule.max_chain_age)
            raise InvalidSubmissionError(told, clause=pack.clause(Rule.REKEY_AGE))

    def _replaced(self, application_id: str) -> _Replaced:
        store = self._desk.store
        old = store.application(application_id)
        self._check_replaced(old, old.member_class)
        revision = store.revision(old)
        assert revision is not None  # it is certified
        issued = {each.purpose: sha256(each.der) for each in store.certificates(old.id)}
        return _Replaced(revision, issued)

    def _lasts(self, member_class: MemberClass) -> timedelta:
        return self._desk.pack.classes[member_class].sla.request_expires

    def _screen(
        self,
        application: Application,
        actor: Actor,
        action: Action,
        revision: Revision,
        csrs: Mapping[Purpose, bytes],
        values: dict[str, Any],
        findings: tuple[Finding, ...],
        others: list[Application] | None,
        *,
        content: Content | None = None,
        also: Callable[[Connection], None] | None = None,
    ) -> Application:
        """Write a revision into SCREENING, and go on if no register of others is to be asked."""
        desk = self._desk
        into = Passage(action, State.SCREENING, {"revision": str(revision.number), "digest": revision.digest.hex()})
        evidence = desk.store.evidence(application.id, with_bodies_of=desk.travelling(application.member_class))
        case = Dossier(revision=revision, csrs=dict(csrs), evidence=evidence, decisions=())
        broken = findings + desk.judge(case).broken
        change = Change(
            values={**values, "pack_digest": revision.cps.digest.hex(), "trouble": None},
            revision=revision,
            csrs=csrs,
            others=others,
            also=also,
        )
        asks = content is not None and revision.replaces is None and not broken
        plan = None if not asks or content is None else self._screener.plan(application, content, revision, desk.pack)
        if plan is None:
            return self._leave_screening(application, [into], case, findings, change, actor=actor)
        claims = [entry.spki_sha256 for entry in revision.csrs]

        def begin(db: Connection) -> None:
            if also is not None:
                also(db)
            self._screener.begin(db, plan)

        change = replace(change, claims=claims, also=begin)
        desk.pass_all(application, actor, [into], change)
        self._screener.go(application.id)
        return desk.load(application.id)

    def _leave_screening(
        self,
        application: Application,
        passages: Sequence[Passage],
        case: Dossier,
        findings: tuple[Finding, ...],
        change: Change,
        *,
        actor: Actor = SYSTEM,
        hold: tuple[Finding, ...] = (),
        rejected: bool = False,
    ) -> Application:
        desk = self._desk
        verdict = desk.judge(case)
        findings += verdict.broken
        after = refused_state(findings) if findings else decidable_state(verdict)
        if rejected and findings:
            after = State.REJECTED
        values = {**change.values, "trouble": trouble_of(findings or hold)}
        if hold and not findings:
            values |= {"held_from": State.VETTING, "held_since": desk.now}
            after = State.ON_HOLD
        claims = [] if findings else [entry.spki_sha256 for entry in case.revision.csrs]
        left = Passage(Action.SCREEN, after, {"findings": told(findings), **({"hold": told(hold)} if hold else {})})
        change = replace(change, values=values, claims=claims)
        return self._issuing.advance(desk.pass_all(application, actor, [*passages, left], change, verdict=verdict))


def _fields(subject: Subject) -> dict[str, Any]:
    """A subject as an applicant writes it."""
    return subject.model_dump(mode="json", by_alias=True, exclude_none=True)


def _authors(before: Revision | None, author: Author) -> tuple[Author, ...]:
    """All who wrote any revision of the case, the writer of this one last."""
    earlier = () if before is None else before.authors
    return (*(each for each in earlier if each != author), author)
