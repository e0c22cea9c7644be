"""What the registration authority remembers, as values: rows of its tables, and what one change writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from cps.dossier import Dossier, Evidence, Revision
from cps.model import MemberClass, Purpose
from ra.states import Action, State
from runtime.language import Message


@dataclass(frozen=True, slots=True)
class Application:
    """The row of an application; `revision` is the number of the current one, None while it is a draft.

    What the columns of clocks, holds and the due step mean stands in `ra.schema` and `ra.clocks`.
    """

    id: str
    member_class: MemberClass
    state: State
    version: int
    opened_by: str
    opened_at: datetime
    due_from: datetime
    due_at: datetime
    nonce_cca: bytes | None
    national_code: str | None
    subject_id: str | None
    organisation: str | None
    revision: int | None
    trouble: Message | None
    due_warned: int = 0
    decide_from: datetime | None = None
    decide_by: datetime | None = None
    decide_warned: int = 0
    judge_at: datetime | None = None
    accept_by: datetime | None = None
    next_at: datetime | None = None
    held_from: State | None = None
    held_since: datetime | None = None
    step: str | None = None
    waiting_for: str | None = None
    missing: int | None = None
    replaces: str | None = None
    pack_digest: str | None = None
    rejected_for: str | None = None

    @property
    def urgent_at(self) -> datetime:
        """By when something should be done about it: decided, or before it is submitted, submitted."""
        return self.decide_by or self.due_at


@dataclass(frozen=True, slots=True)
class Passage:
    """One transition that a change makes: what was done, the state it leads to, and what the journal says of it."""

    action: Action
    after: State
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition on record; `journal_index` is its number in the journal of its replica, None until it is there."""

    seq: int
    application_id: str
    action: Action
    before: State | None
    after: State
    actor: str
    at: datetime
    detail: dict[str, str]
    replica: str
    journal_index: int | None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An event that is no transition, on its way into the journal; `key` tells it from all others."""

    key: str
    event: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that transitions (by `seq`) and events (by `key`) have in the journal."""

    transitions: Mapping[int, int]
    entries: Mapping[str, int]


Write = Callable[[Sequence[Transition], Sequence[JournalEntry]], Numbers]
"""Writes transitions and events into the journal, those that are not there, and says where they stand."""


@dataclass(frozen=True, slots=True)
class ReceivedDecision:
    """A decision (CMS, DER) as it came in."""

    cms: bytes
    received_from: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class NewCertificate:
    """A certificate (DER) for one purpose of an application; `serial` in lower-case hexadecimal.

    `chain` are the CA certificates above it (DER), nearest first, without the root.
    """

    issuer: str
    serial: str
    purpose: Purpose
    der: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Certificate(NewCertificate):
    """A certificate on record."""

    application_id: str
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class OnFile:
    """What is on an application's file; `dossier` is None while it is a draft."""

    dossier: Dossier | None
    evidence: tuple[Evidence, ...]
    decisions: Sequence[ReceivedDecision]
    certificates: Sequence[Certificate]


@dataclass(frozen=True, slots=True)
class RevocationRecord:
    """A revocation that the CA took; `cms` is the officer's order (DER)."""

    issuer: str
    serial: str
    reason: str
    cms: bytes
    ordered_by: str
    received_from: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction writes beside the new state; `claims` replaces the keys that the application claims.

    `others` are the subject's other applications that the change rests on: if there is another one by now, or one of
    them has changed, it does not happen. `also` writes what other modules keep beside it, in the same transaction.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    revision: Revision | None = None
    csrs: Mapping[Purpose, bytes] = field(default_factory=dict)
    evidence: Sequence[tuple[Evidence, bytes]] = ()
    decision: bytes | None = None
    acceptance: bytes | None = None
    certificates: Sequence[NewCertificate] = ()
    claims: Collection[bytes] | None = None
    others: Collection[Application] | None = None
    also: Callable[[Connection], None] | None = None
