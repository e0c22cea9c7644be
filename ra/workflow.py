"""The one choke point: every way in ends here, and nothing else changes the state of an application.

| work                                                  | done by       |
| ----------------------------------------------------- | ------------- |
| open, submit, amend; screening; another statement     | `ra.intake`   |
| evidence, decisions, hold and release, return         | `ra.deciding` |
| the system's step, the CA, acceptance                 | `ra.issuing`  |
| revoke, suspend, release                              | `ra.revoking` |
| what lost replicas left to be recorded                | `ra.left_behind` |
| what all of them share                                | `ra.desk`     |

Each act checks who is calling (`ra.access`), whether the action exists in the state (`ra.states`), and what the CPS
says (`cps.decide`); then one transaction takes the application along, with one row for each transition; then the
journal gets its entries; then the caller is answered. What the clock does (`tick`) goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from cryptography import x509
from sqlalchemy import Connection

from cps.decide import Verdict
from cps.dossier import Dossier
from cps.model import MemberClass, Pack
from cps.register import PackRegister
from pki.path import Trust
from ra import clocks, text_input
from ra.access import CLOCK, Act, Actor, require
from ra.authority import CertificateAuthority
from ra.deciding import Deciding, NewEvidence
from ra.desk import Desk, Sign
from ra.errors import ConflictError
from ra.intake import Intake, NoRegisters, Screened, Screener
from ra.issuing import Issuing
from ra.left_behind import LeftBehind
from ra.notices.contacts import Contact
from ra.record import Record
from ra.records import Application, Change, Passage
from ra.request_nonces import RequestNonces
from ra.reviews import Reviews
from ra.revoking import Revoked, Revoking
from ra.states import DECIDABLE, OPEN, Action, State
from ra.store import Store
from ra.submission import Submission
from runtime.logging import get_logger

__all__ = ["NewEvidence", "NoRegisters", "Revoked", "Screened", "Screener", "Sign", "Workflow"]

_log: Final = get_logger("ra.workflow")


class Workflow:
    """The registration authority at work; safe to call from any number of threads."""

    def __init__(
        self,
        *,
        store: Store,
        record: Record,
        statements: Callable[[], PackRegister],
        authority: CertificateAuthority,
        trust: Callable[[datetime], Trust],
        sign: Sign,
        rng: Callable[[int], bytes],
        clock: Callable[[], datetime],
        blinding: bytes | None = None,
        own_hosts: Mapping[str, str] = MappingProxyType({}),
        screener: Screener | None = None,
    ) -> None:
        """As `ra.desk.Desk`; `screener` asks registers of others about what is submitted."""
        self.desk: Final = Desk(
            store=store,
            record=record,
            statements=statements,
            authority=authority,
            trust=trust,
            sign=sign,
            rng=rng,
            clock=clock,
            blinding=blinding,
            own_hosts=own_hosts,
        )
        self.store: Final = store
        self.persons: Final = self.desk.persons
        self.request_nonces: Final = RequestNonces(store.engine)
        self.authority: Final = authority
        self.trust: Final = self.desk.trust
        self._issuing = Issuing(self.desk)
        self._intake = Intake(self.desk, self._issuing, screener or NoRegisters())
        self._deciding = Deciding(self.desk, self._intake, self._issuing)
        self._revoking = Revoking(self.desk)
        self.left_behind: Final = LeftBehind(store, record, clock)

    @property
    def now(self) -> datetime:
        """The RA's time, in whole seconds as signed statements have it."""
        return self.desk.now

    @property
    def pack(self) -> Pack:
        """The statement in force now."""
        return self.desk.pack

    # applicants

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
        """Open a draft, also of a re-key (`ra.intake`)."""
        return self._intake.open(
            actor, member_class, contact=contact, replaces=replaces, by_holder=by_holder, also=also
        )

    def submit(
        self, actor: Actor, application_id: str, submission: Submission, *, version: int | None = None
    ) -> Application:
        """Submit a draft: pins the CPS, checks proof of possession, screens, and goes as far as it goes without people.

        Raises InvalidSubmissionError (nothing changed), WrongStateError, ConflictError, NotAllowedError.
        """
        return self._intake.revise(actor, application_id, Action.SUBMIT, submission, version)

    def amend(
        self, actor: Actor, application_id: str, submission: Submission, *, version: int | None = None
    ) -> Application:
        """Write a new revision of a returned or waiting case: every decision so far falls away. Raises as `submit`."""
        return self._intake.revise(actor, application_id, Action.AMEND, submission, version)

    def withdraw(self, actor: Actor, application_id: str, reason: str, *, version: int | None = None) -> Application:
        """End an open application on its opener's word."""
        application = self.desk.take(actor, Act.EDIT, application_id, Action.WITHDRAW, version)
        reason = text_input.text("reason", reason, clause="CPS 4.2")
        return self.desk.pass_on(application, actor, Passage(Action.WITHDRAW, State.WITHDRAWN, {"reason": reason}))

    def accept(self, actor: Actor, application_id: str, signed: bytes | None = None) -> Application:
        """Accept the certificates of a case (`ra.issuing`)."""
        return self._issuing.accept(actor, application_id, signed)

    def accept_by_use(self, certificate: x509.Certificate) -> Application:
        """Accept the case of a certificate whose key was used in TLS with this authority (`ra.issuing`)."""
        return self._issuing.accept_by_use(certificate)

    # officers

    def expect_evidence(self, actor: Actor, application_id: str, kind: str) -> bool:
        """Raise as `add_evidence` would before it looks at the evidence; whether the kind is a signed form."""
        return self._deciding.expect_evidence(actor, application_id, kind)[1]

    def add_evidence(
        self, actor: Actor, application_id: str, new: NewEvidence, *, version: int | None = None
    ) -> Application:
        """Put evidence on file (`ra.deciding`)."""
        return self._deciding.add_evidence(actor, application_id, new, version=version)

    def decide(self, actor: Actor, application_id: str, signed: bytes) -> Application:
        """Take an officer's decision (`ra.deciding`)."""
        return self._deciding.decide(actor, application_id, signed)

    def hold(self, actor: Actor, application_id: str, reason: str, *, version: int | None = None) -> Application:
        """Stop a case for the time being (`ra.deciding`)."""
        return self._deciding.hold(actor, application_id, reason, version=version)

    def release(self, actor: Actor, application_id: str, reason: str, *, version: int | None = None) -> Application:
        """Let a held case go on (`ra.deciding`)."""
        return self._deciding.release(actor, application_id, reason, version=version)

    def send_back(self, actor: Actor, application_id: str, reason: str, *, version: int | None = None) -> Application:
        """Return a case to its applicant (`ra.deciding`)."""
        return self._deciding.send_back(actor, application_id, reason, version=version)

    def issue(self, actor: Actor, application_id: str) -> Application:
        """Ask the CA again for a case that it has not certified yet (`ra.issuing`)."""
        return self._issuing.issue(actor, application_id)

    def revoke(self, actor: Actor, statement: bytes) -> Revoked:
        """Pass an order about a certificate on to the CA (`ra.revoking`)."""
        return self._revoking.revoke(actor, statement)

    def revoke_own(self, holder: Actor, statement: bytes) -> Revoked:
        """Pass an order on to the CA that the certificate's own key signed (`ra.revoking`)."""
        return self._revoking.revoke_own(holder, statement)

    @property
    def reviews(self) -> Reviews:
        """Orders that one officer gave alone, to be looked at by another (`ra.reviews`)."""
        return self._revoking.reviews

    # registers of others, clock

    def screened(self, application_id: str, number: int, screened: Screened) -> Application:
        """Go on with a case that the registers of others have answered about (`ra.intake`)."""
        return self._intake.screened(application_id, number, screened)

    def sweep(self) -> int:
        """Do what is due by now: reminders, expiry, judgement anew, what nobody accepted; returns how many cases."""
        self._revoking.resume()
        due = self.store.due(self.now)
        for application in due:
            try:
                self._tick(application)
            except ConflictError:
                pass  # somebody was faster; the next round looks again
            except Exception as error:  # a case that cannot go on must not keep the others waiting
                _log.error("not-ticked", application=application.id, error=type(error).__name__)
        self._revoking.reviews.sweep()
        self.request_nonces.forget(self.now)
        return len(due) + self._intake.reevaluate_all()

    def resume(self) -> int:
        """Finish what was interrupted on the way to the CA; returns how many cases were certified."""
        return self._issuing.resume()

    def _tick(self, application: Application) -> None:
        desk, now = self.desk, self.now
        if application.state in OPEN and now >= application.due_at:
            desk.expire(application)
        elif application.state is State.ISSUED and application.accept_by is not None and now >= application.accept_by:
            self._revoking.lapse(application)
        elif application.state in DECIDABLE and application.judge_at is not None and now >= application.judge_at:
            self._deciding.judge_again(application)
        elif (reminder := clocks.reminder(application, desk.pack, now)) is not None:
            detail = {"clock": reminder.clock, "share": str(reminder.share), "ends": reminder.ends.isoformat()}
            passage = Passage(Action.WARN, application.state, detail)
            desk.pass_on(application, CLOCK, passage, Change(values={reminder.column: reminder.told}))

    # reading

    def get(self, actor: Actor, application_id: str) -> Application:
        """The application, if the actor may read it."""
        application = self.desk.load(application_id)
        require(actor, Act.READ, application)
        return application

    def dossier(self, application: Application) -> Dossier:
        """The case as it stands; raises UnknownError while it is a draft."""
        return self.desk.dossier(application)

    def judge(self, dossier: Dossier) -> Verdict:
        """What the CPS says of a case now, with the keys that this RA knows."""
        return self.desk.judge(dossier)
