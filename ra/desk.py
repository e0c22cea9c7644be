"""What every part of the registration authority's work has in common: the case at hand, its judgement, its passage.

`Desk.take` checks who is calling (`ra.access`) and whether the action exists in the state (`ra.states`); `Desk.judge`
asks the CPS (`cps.decide`); `Desk.pass_all` takes the case along: one transaction with one row for each transition,
then the journal. Nothing else changes the state of an application.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509

from cps.decide import KnownKeys, Verdict, decide
from cps.dossier import Dossier, Revision
from cps.model import MemberClass, Pack
from cps.register import PackRegister
from cps.rules import Rule
from cps.verdict import Finding, NextStep
from pki.path import Trust
from ra import clocks
from ra.access import CLOCK, Act, Actor, require
from ra.authority import CertificateAuthority
from ra.errors import WrongStateError
from ra.one_look import OneLook
from ra.openers import shown
from ra.persons import Persons
from ra.record import Record
from ra.records import Application, Change, Passage
from ra.states import DECIDABLE, OPEN, Action, State, allowed, leads
from ra.store import Store
from ra.waiting import waits_for
from runtime.language import Listed, Message, Term
from runtime.language_record import to_record

Sign = Callable[[x509.ObjectIdentifier, bytes], bytes]
"""Signs content (DER) of a content type with the RA's own key; returns CMS SignedData (DER)."""


class Desk:
    """The cases of one registration authority; safe to use from any number of threads."""

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
    ) -> None:
        """`trust(now)` are roots, CAs and CRLs in force; `sign` is the RA's key; `rng(n)` gives n random bytes.

        `blinding` is the key under which officers' national codes are compared (`ra.persons`). `own_hosts` are those of
        services, which are no member's (`ra.own_hosts`).
        """
        self.store: Final = store
        self.persons: Final = Persons(store.engine, key=blinding)
        self.record: Final = record
        self.statements: Final = statements
        self.authority: Final = authority
        self.trust: Final = OneLook(trust)
        self.sign: Final = sign
        self.own_hosts: Final = own_hosts
        self.rng: Final = rng
        self._clock = clock

    @property
    def now(self) -> datetime:
        """The RA's time, in whole seconds as signed statements have it."""
        return self._clock().replace(microsecond=0)

    @property
    def pack(self) -> Pack:
        """The statement in force now."""
        return self.statements().in_force(self.now)

    def pack_of(self, revision: Revision) -> Pack:
        """The statement that a case with this revision is judged by now."""
        return self.statements().governing(revision.cps, self.now)

    def travelling(self, member_class: MemberClass) -> frozenset[str]:
        """The kinds of evidence that a machine verifies, and whose bodies therefore travel with the case."""
        member = self.pack.classes[member_class]
        return frozenset(
            each.kind for each in (*member.evidence, *member.for_rekey.evidence) if each.form != "document"
        )

    # reading

    def load(self, application_id: str) -> Application:
        """The application; one whose time is over ends first."""
        self.record.settle()
        application = self.store.application(application_id)
        if application.state in OPEN and self.now >= application.due_at:
            return self.expire(application)
        return application

    def take(
        self, actor: Actor, act: Act, application_id: str, action: Action, version: int | None = None
    ) -> Application:
        """The application, if `actor` may do this act and the action exists in its state.

        `version` is what the caller read, if it must not have changed since. Raises NotAllowedError, WrongStateError,
        ConflictError.
        """
        application = self.load(application_id)
        require(actor, act, application)
        self.must(application, action)
        self.unchanged(application, version)
        return application

    def unchanged(self, application: Application, version: int | None) -> None:
        """Raises ConflictError, which tells what was done, if the caller read another version; None: any will do."""
        if version is not None and version != application.version:
            raise self.store.overtaken(application)

    def must(self, application: Application, action: Action) -> None:
        """Raises WrongStateError unless the action exists in the application's state; it tells who brought it there."""
        if not allowed(action, application.state):
            raise WrongStateError(
                "there is no {action} for an application that is {state}: {done}",
                action=Term("action", action),
                state=Term("state", application.state),
                done=self.done_last(application),
            )

    def done_last(self, application: Application) -> Message:
        """What was done to the application last, and by whom."""
        last = self.store.transitions(application.id)[-1]
        return Message("{actor} did {action}", actor=shown(last.actor), action=Term("action", last.action))

    def dossier(self, application: Application) -> Dossier:
        """The case as it stands; raises UnknownError while it is a draft."""
        return self.store.dossier(application, with_bodies_of=self.travelling(application.member_class))

    def judge(self, dossier: Dossier) -> Verdict:
        """What the CPS says of a case now, with the keys that this RA knows."""
        revision, now = dossier.revision, self.now
        known = self.store.known_keys([entry.spki_sha256 for entry in revision.csrs], but=revision.application_id)
        return self._decide(dossier, known, now)

    def _decide(self, dossier: Dossier, known: KnownKeys, now: datetime) -> Verdict:
        return decide(dossier, self.pack_of(dossier.revision), trust=self.trust(now), now=now, known_keys=known)

    # passing

    def expire(self, application: Application) -> Application:
        """End an application whose time is over."""
        return self.pass_on(application, CLOCK, Passage(Action.EXPIRE, State.EXPIRED))

    def pass_on(
        self,
        application: Application,
        actor: Actor,
        passage: Passage,
        change: Change | None = None,
        *,
        verdict: Verdict | None = None,
    ) -> Application:
        """`pass_all` of one passage."""
        return self.pass_all(application, actor, [passage], change or Change(), verdict=verdict)

    def pass_all(
        self,
        application: Application,
        actor: Actor,
        passages: Sequence[Passage],
        change: Change,
        *,
        verdict: Verdict | None = None,
    ) -> Application:
        """Take a case through `passages` and write `change`, if nobody changed it since it was read.

        `verdict` is the judgement that led here; a case that ends up where people decide must have one, because the
        queue shows the step that is due. Raises ConflictError.
        """
        state = application.state
        for passage in passages:
            if not leads(passage.action, state, passage.after):
                raise AssertionError(f"{passage.action} does not lead from {state} to {passage.after}")
            state = passage.after
        values: dict[str, Any] = {**change.values}
        if verdict is not None or state not in DECIDABLE:
            values |= _waiting(waits_for(verdict) if verdict is not None and state in DECIDABLE else None)
            values["judge_at"] = verdict.holds_until if verdict is not None and state in DECIDABLE else None
        values["next_at"] = clocks.next_at(replace(application, state=state, **values), self.pack)
        changed = self.store.change(
            application, passages, actor=actor.name, now=self.now, change=replace(change, values=values)
        )
        self.record.catch_up()
        return changed


def _waiting(step: NextStep | None) -> dict[str, Any]:
    """The columns that say what a case waits for."""
    if step is None:
        return {"step": None, "waiting_for": None, "missing": None}
    return {"step": step.name, "waiting_for": " ".join(step.by), "missing": step.missing}


def decidable_state(verdict: Verdict) -> State:
    """Where a case that is not refused stands: before, in or after the first step that applies to it."""
    if verdict.approved:
        return State.APPROVED
    return State.AWAITING_APPROVAL if verdict.approvals else State.VETTING


def refused_state(findings: Collection[Finding]) -> State:
    """A compromised key ends the application; everything else can be amended."""
    return State.REJECTED if any(each.code is Rule.KEY_DENYLISTED for each in findings) else State.RETURNED


def told(findings: Collection[Finding]) -> str:
    """Findings in one line, for the journal."""
    return "; ".join(map(str, findings))


def trouble_of(findings: Collection[Finding]) -> str | None:
    """Findings as the trouble of an application, kept so that each reader is told in their language."""
    lines = tuple(
        Message("{clause} {code}: {finding}", clause=each.clause, code=str(each.code), finding=each.told)
        for each in findings
    )
    return to_record(Message("{findings}", findings=Listed(lines, "also"))) if lines else None


def trouble_for(reason: str) -> str:
    """What a person wrote, as the trouble of an application."""
    return to_record(Message("{reason}", reason=reason))
