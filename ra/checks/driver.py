"""Asks registers about a case until they answer or their time is over, and hands what came of it to the case.

What is to be asked is written in the transaction that writes the revision (`begin`), and asked right after it (`go`)
and by a durable schedule (`work`). Before each try the row says that it is made and when the next one would be, so a
process that dies leaves nothing that is not tried again; a register recognises the repeat by its key. What it answered
is written before anything follows from it: the RA signs it, the journal notes it, and when all checks of the revision
have ended the case goes on (`Workflow.screened`, which takes a revision along once).

Each register has threads and a breaker of its own: one that is dead keeps nobody waiting but those who ask it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from sqlalchemy import Connection

from audit import JsonValue
from cps.check_model import CheckKind, CodeCheck, RegisterCheck
from cps.check_statement import CheckStatement, question_about, question_digest
from cps.checks import Outcome, Status, checks_of, conclude
from cps.dossier import Evidence, OfficerSubject, Revision
from cps.model import EvidenceRule, Pack
from pki.oids import CT_CHECK_ANSWER
from ra.access import SYSTEM, Act, Actor, require
from ra.checks.breaker import Breaker
from ra.checks.connector import Answer, Connector, NoAnswerError, Question
from ra.checks.phone import Phone, PhoneCodes
from ra.checks.store import Check, CheckStore
from ra.desk import Desk
from ra.errors import ConflictError, WrongStateError
from ra.intake import Screened
from ra.records import Application
from ra.states import State
from ra.submission import Content
from ra.workflow import Workflow
from runtime.durable import Schedule
from runtime.language import Term
from runtime.logging import get_logger
from runtime.problems import Problem

_AT_ONCE: Final = 2  # questions to one register
_EVERY: Final = "10,25,40,55 * * * * *"  # aside of the RA's other schedules
_LOOK: Final = timedelta(seconds=10)  # between two looks for a code, beside the look right after it was typed in
_ENOUGH: Final = 12.0  # seconds that a submission waits for registers; the rest comes by the clock
_BEFORE_OFFICERS: Final = frozenset({State.DRAFT, State.RETURNED, State.SCREENING})
_CONCLUSIONS: Final[Mapping[str, Status]] = {"confirmed": "confirmed", "contradicted": "contradicted"}
_log: Final = get_logger("ra.checks")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked about a revision."""

    checks: tuple[Check, ...]


class Checks:
    """The screener (`ra.intake.Screener`) that asks registers of others. Close it at the end."""

    def __init__(
        self,
        store: CheckStore,
        connectors: Mapping[CheckKind, Connector],
        *,
        phones: PhoneCodes,
        sign: Callable[[x509.ObjectIdentifier, bytes], bytes],
        rng: Callable[[int], bytes],
        clock: Callable[[], datetime],
        patience: float = _ENOUGH,
    ) -> None:
        """`sign` is the RA's own key. A register without a connector never answers, and is silent after its time.

        `patience` is how long a submission waits for answers, in seconds.
        """
        self.store: Final = store
        self.phones: Final = phones
        self._connectors = connectors
        self._sign = sign
        self._rng = rng
        self._clock = clock
        self._patience = patience
        self._breakers = {kind: Breaker(clock) for kind in connectors}
        self._threads = {kind: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"check-{kind}") for kind in connectors}
        self._workflow: Workflow | None = None

    def attach(self, workflow: Workflow) -> None:
        """Name the workflow whose cases these are; before anything is asked."""
        self._workflow = workflow

    @property
    def _cases(self) -> Workflow:
        if self._workflow is None:
            raise RuntimeError("the workflow is attached before anything is asked")
        return self._workflow

    @property
    def _desk(self) -> Desk:
        return self._cases.desk

    def close(self) -> None:
        """Wait for what is being asked, and ask nothing more."""
        for threads in self._threads.values():
            threads.shutdown(wait=True, cancel_futures=True)
        for connector in self._connectors.values():
            connector.close()
        self.phones.close()

    # ra.intake.Screener

    def plan(self, application: Application, content: Content, revision: Revision, pack: Pack) -> Plan | None:
        """What is to be asked about a revision; None if its class has no checks."""
        code = content.national_code or application.national_code
        earlier = {check.kind: check.salt for check in self.store.of(application.id)}
        planned = []
        for kind, rule in checks_of(pack, revision.member_class).items():
            fields = self._fields(kind, revision, code)
            # What could be guessed from its digest has a salt, the same for all revisions of a case.
            open_question = question_about(revision, kind) is not None
            salt = "" if open_question else earlier.get(kind) or self._rng(16).hex()
            planned.append(self._planned(application.id, revision, kind, rule, fields, salt))
        return Plan(tuple(planned)) if planned else None

    def begin(self, db: Connection, plan: Plan) -> None:
        """Write the plan down."""
        self.store.add(db, plan.checks)

    def go(self, application_id: str) -> None:
        """Ask what can be asked now, and let the case go on if that was all. Never raises."""
        try:
            now = self._now
            due = [check for check in self.store.of(application_id) if check.state == "due" and check.next_at <= now]
            self._ask_all(due, timeout=self._patience)
            self._hand_over_all(only=application_id)
        except Exception as error:  # the schedule takes it up: the case is safe, and its opener is answered
            _log.error("not-asked", application=application_id, error=type(error).__name__)

    # the applicant's phone

    def give_phone(self, actor: Actor, application_id: str, number: str) -> Phone:
        """Take the number of an applicant's phone and send it a code (`ra.checks.phone`).

        Before the case is submitted; while it is screened, only the same number again. Raises NotAllowedError, too.
        """
        application = self._applicants(actor, application_id)
        if application.state is State.SCREENING and not self.phones.is_same(application_id, number):
            raise WrongStateError("another number is given when the application is amended")
        return self.phones.give(application_id, number)

    def confirm_phone(self, actor: Actor, application_id: str, code: str) -> Phone:
        """Take the code that was typed in; a case that waited for it goes on."""
        self._applicants(actor, application_id)
        try:
            return self.phones.confirm(application_id, code)
        finally:  # wrong for the last time is an end, too
            self._look_again(application_id)

    def _applicants(self, actor: Actor, application_id: str) -> Application:
        """The application, if the actor may write to it, and while a phone means something to it."""
        application = self._desk.load(application_id)
        require(actor, Act.EDIT, application)
        if application.state not in _BEFORE_OFFICERS:
            raise WrongStateError(
                "a phone is confirmed before officers decide, not for an application that is {state}",
                state=Term("state", application.state),
            )
        rule = self._desk.pack.checks.get("phone_code")
        if rule is None or application.member_class not in rule.classes:
            raise WrongStateError("a {kind} needs no phone", kind=Term("class", application.member_class))
        return application

    def _look_again(self, application_id: str) -> None:
        waiting = [check for check in self.store.of(application_id) if check.state == "due"]
        for check in waiting:
            if check.kind not in self._threads:
                self._look(check)
        self._hand_over_all(only=application_id)

    # the clock

    @property
    def schedule(self) -> Schedule:
        """`work`, four times a minute."""
        return Schedule("checks", _EVERY, self.work)

    def work(self) -> None:
        """Ask everything that is due, have messages sent that were not, hand over what has ended."""
        self._give_up()
        self.phones.deliver_due()
        self._ask_all(self.store.due(self._now), timeout=None)
        self._hand_over_all()

    def _give_up(self) -> None:
        now = self._now
        for check in self.store.due(now):
            if now >= check.gives_up_at:
                self._end(check, now)

    # asking

    def _ask_all(self, due: Iterable[Check], *, timeout: float | None) -> None:
        futures: list[Future[None]] = []
        for check in due:
            threads = self._threads.get(check.kind)
            futures.append(threads.submit(self._ask, check)) if threads is not None else self._look(check)
        done, _late = wait(futures, timeout)
        for future in done:
            if (error := future.exception()) is not None:
                _log.error("check-failed", error=type(error).__name__)

    def _ask(self, check: Check) -> None:
        """One try."""
        now = self._now
        if now >= check.gives_up_at:
            self._end(check, now)
            return
        rule, question = self._question(check)
        if question is None:  # the case went on without us
            self._end(check, now)
            return
        breaker = self._breakers[check.kind]
        if not breaker.allows():
            later = max(breaker.reopens_at or now, now)
            self.store.change(check, next_at=min(later, check.gives_up_at), trouble=check.trouble or "not-answering")
            return
        next_at = min(now + rule.timeout + rule.pause_after(check.attempts + 1), check.gives_up_at)
        claimed = self.store.change(check, attempts=check.attempts + 1, next_at=next_at)
        if claimed is None:
            return
        connector = self._connectors[check.kind]
        try:
            answer = connector.ask(question, timeout=rule.timeout.total_seconds())
        except NoAnswerError as error:
            breaker.failed()
            _log.warning("no-answer", check=check.id, kind=check.kind, tries=claimed.attempts, reason=error.reason)
            self.store.change(claimed, trouble=error.reason)
            return
        breaker.answered()
        self._answered(claimed, answer, connector.source)

    def _answered(self, check: Check, answer: Answer, source: str) -> None:
        taken = self.store.change(
            check,
            state="answered",
            status=answer.status,
            reason=answer.reason[:40],
            source=source,
            answered_at=self._now,
            answer_sha256=hashlib.sha256(answer.body).hexdigest(),
            trouble="",
        )
        if taken is None:  # somebody else had an answer to the same question first, and that one counts
            _log.warning("answered-twice", check=check.id, kind=check.kind)

    def _look(self, check: Check) -> None:
        """A check that asks no register: whether the code was typed in, or its time is over."""
        now = self._now
        outcome = self.phones.outcome(check.application_id) if self._is_about_the_phone(check) else None
        if outcome is not None:
            self._answered(check, outcome, "the applicant's phone")
        elif now >= check.gives_up_at:
            self._end(check, now)
        else:
            self.store.change(check, next_at=min(now + _LOOK, check.gives_up_at))

    def _is_about_the_phone(self, check: Check) -> bool:
        """Whether the number that a check asks about is the one that is given now: a code to another proves nothing."""
        phone = self.phones.number(check.application_id) if check.kind == "phone_code" else None
        if phone is None:
            return False
        asked = question_digest(check.application_id, "phone_code", {"phone": phone}, salt=check.salt)
        return asked.hex() == check.question_sha256

    def _end(self, check: Check, now: datetime) -> None:
        """Nobody answered in time."""
        if self.store.change(check, state="gave_up", next_at=now) is not None:
            _log.warning("gave-up", check=check.id, kind=check.kind, tries=check.attempts, reason=check.trouble)

    # handing over

    def _hand_over_all(self, only: str | None = None) -> None:
        for application_id, number in self.store.to_hand_over(only):
            try:
                self._hand_over(application_id, number)
            except ConflictError:
                pass  # somebody was faster; the next round looks again
            except Problem as problem:  # the token or the CA is away
                _log.warning("not-handed-over", application=application_id, problem=problem.type)
            except Exception as error:  # a case that cannot go on must not keep the others waiting
                _log.error("not-handed-over", application=application_id, error=type(error).__name__)

    def _hand_over(self, application_id: str, number: int) -> None:
        application = self._desk.load(application_id)
        if application.state is State.SCREENING and application.revision == number:
            revision = self._desk.store.revision(application)
            assert revision is not None  # a case in screening was submitted
            pack = self._desk.pack_of(revision)
            ended = [self._signed(check) for check in self.store.of(application_id, number)]
            self._note(ended)
            concluded = conclude(pack, revision.member_class, self._outcomes(application_id, ended))
            back = concluded.disposition in {"return", "reject"}
            self._cases.screened(
                application_id,
                number,
                Screened(
                    signals=concluded.signals,
                    findings=concluded.findings if back else (),
                    evidence=tuple(self._evidence(check, revision, pack) for check in ended if check.statement),
                    hold=concluded.findings if concluded.disposition == "hold" else (),
                    rejected=concluded.disposition == "reject",
                ),
            )
        self.store.handed_over(application_id, number, self._now)

    def _signed(self, check: Check) -> Check:
        """The check with the RA's statement of its answer, if there was one."""
        if check.status not in _CONCLUSIONS or check.statement is not None:
            return check
        assert check.answered_at is not None  # written together with the status
        content = CheckStatement(
            application_id=check.application_id,
            kind=check.kind,
            question_sha256=bytes.fromhex(check.question_sha256),
            answer="confirmed" if check.status == "confirmed" else "contradicted",
            reason=check.reason,
            source=check.source,
            answer_sha256=bytes.fromhex(check.answer_sha256),
            date=check.answered_at,
        ).to_der()
        changed = self.store.change(check, statement=self._sign(CT_CHECK_ANSWER, content))
        if changed is None:
            raise ConflictError("the answer was signed meanwhile")
        return changed

    def _note(self, ended: Iterable[Check]) -> None:
        told: dict[str, dict[str, JsonValue]] = {
            f"check/{check.id}": {
                "application": check.application_id,
                "revision_digest": check.revision_digest,
                "kind": check.kind,
                "question_sha256": check.question_sha256,
                "state": check.state,
                "answer": check.status,
                "reason": check.reason,
                "source": check.source,
                "tries": check.attempts,
                "answer_sha256": check.answer_sha256,
            }
            for check in ended
        }
        self._desk.record.note_each_once("ra.check", told, self._now)

    def _outcomes(self, application_id: str, ended: Iterable[Check]) -> dict[CheckKind, Outcome]:
        every = self.store.of(application_id)
        outcomes: dict[CheckKind, Outcome] = {}
        for check in ended:
            status: Status = "not_asked" if check.state == "not_asked" else _CONCLUSIONS.get(check.status, "unanswered")
            told = {
                other.status
                for other in every
                if (other.kind, other.question_sha256) == (check.kind, check.question_sha256) and other.statement
            }
            outcomes[check.kind] = Outcome(status, check.reason, differs=len(told) > 1)
        return outcomes

    def _evidence(self, check: Check, revision: Revision, pack: Pack) -> tuple[Evidence, bytes]:
        assert check.statement is not None  # asked for by the caller
        assert check.answered_at is not None  # written together with the status
        kind = pack.checks[check.kind].evidence
        travels = any(rule.kind == kind and rule.form != "document" for rule in _asked(pack, revision))
        piece = Evidence(
            kind=kind,
            sha256=hashlib.sha256(check.statement).digest(),
            source=check.source,
            collected_by=SYSTEM.name,
            collected_at=check.answered_at,
            body=check.statement if travels else None,
        )
        return piece, check.statement

    # questions

    @property
    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)

    def _planned(
        self,
        application_id: str,
        revision: Revision,
        kind: CheckKind,
        rule: RegisterCheck | CodeCheck,
        fields: Mapping[str, str] | None,
        salt: str,
    ) -> Check:
        now = self._now
        key = f"{application_id}/{revision.number}/{kind}".encode()
        return Check(
            id=hashlib.sha256(key).hexdigest()[:32],
            application_id=application_id,
            revision=revision.number,
            revision_digest=revision.digest.hex(),
            kind=kind,
            question_sha256=question_digest(application_id, kind, fields or {}, salt=salt).hex(),
            salt=salt,
            state="not_asked" if fields is None else "due",
            version=1,
            attempts=0,
            created_at=now,
            next_at=now,
            gives_up_at=now + rule.patience,
            trouble="",
            status="",
            reason="",
            source="",
            answered_at=None,
            answer_sha256="",
            statement=None,
            handed_over_at=None,
        )

    def _question(self, check: Check) -> tuple[RegisterCheck | CodeCheck, Question | None]:
        """The rule of a check, and what is asked; None if the case has another revision by now."""
        application = self._desk.store.application(check.application_id)
        revision = self._desk.store.revision(application)
        assert revision is not None  # it has a check
        rule = checks_of(self._desk.pack_of(revision), revision.member_class)[check.kind]
        fields = self._fields(check.kind, revision, application.national_code)
        if application.state is not State.SCREENING or application.revision != check.revision or fields is None:
            return rule, None
        return rule, Question(check.kind, check.id, fields)

    def _fields(self, kind: CheckKind, revision: Revision, code: str | None) -> dict[str, str] | None:
        """What is asked; None if there is nothing to ask with."""
        if kind == "phone_code":
            phone = self.phones.number(revision.application_id)
            return None if phone is None else {"phone": phone}
        if kind == "national_code":
            subject = revision.subject
            if not isinstance(subject, OfficerSubject) or code is None:
                return None
            rule = self._desk.pack_of(revision).classes[subject.member_class].subject
            return {"national_code": code, "name": rule.common_name(subject)}
        return question_about(revision, kind)


def _asked(pack: Pack, revision: Revision) -> Iterable[EvidenceRule]:
    return pack.classes[revision.member_class].evidence
