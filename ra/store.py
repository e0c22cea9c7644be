"""The memory of the registration authority (SQLAlchemy).

Every method is one transaction and is on disk when it returns (`runtime.database`). A change of an application names
the version it was made on; if somebody was faster it raises ConflictError and nothing happened. Each state an
application passes through leaves a row in `transitions`, in the same transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Final, cast, get_args

from sqlalchemy import Connection, Engine, Row, bindparam, delete, func, insert, literal, select, union_all, update
from sqlalchemy.exc import IntegrityError

from cps.application import KnownKeys
from cps.dossier import Dossier, Evidence, Revision
from cps.model import MemberClass, Purpose
from ra import queue, schema
from ra.errors import ConflictError, EvidenceChangedError, UnknownError
from ra.openers import shown
from ra.queue import Queue, Statistics, Wanted
from ra.queue_order import Order
from ra.states import ENDED_WITHOUT, Action, State
from runtime.database import insert_new, noting, reading
from runtime.language import Message, Term
from runtime.language_record import from_record


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


_NOTHING_ELSE = Change()


class Store:
    """The database of one registration authority. Opening it brings it up to date; raises SchemaError.

    Replicas may share it; `replica` is the name of this one, the same after a restart (`ra.record`).
    """

    def __init__(self, engine: Engine, *, replica: str = "ra") -> None:
        from ra.database import bring_up_to_date  # here, because it knows the modules that know this one

        bring_up_to_date(engine)
        self._engine = engine
        self.replica: Final = replica
        self.queue: Final = Queue(engine)

    @property
    def engine(self) -> Engine:
        """The database, for what other modules keep in it."""
        return self._engine

    # applications

    def open(self, application: Application, *, also: Callable[[Connection], None] = lambda _db: None) -> Application:
        """Insert a new application with its first transition; `also` writes more in the same transaction."""
        with self._engine.begin() as db:
            cell = _cell(db, application)
            values = {**_columns(application), "cell": cell, "urgent_at": application.urgent_at}
            db.execute(insert(schema.applications).values(**values))
            passage = Passage(Action.OPEN, application.state)
            self._note(db, application.id, None, passage, application.opened_by, application.opened_at)
            also(db)
            queue.move(db, None, cell)
        return application

    def application(self, application_id: str) -> Application:
        """The application; raises UnknownError."""
        with reading(self._engine) as db:
            return _application(db, application_id)

    def applications_of(self, ids: Sequence[str]) -> list[Application]:
        """The applications with these ids, in their order; one that is not there is left out."""
        query = select(*_COLUMNS).where(schema.applications.c.id.in_(ids))
        with reading(self._engine) as db:
            found = {row.id: _row_to_application(row) for row in db.execute(query)}
        return [found[each] for each in ids if each in found]

    def statistics(self, now: datetime) -> Statistics:
        """The figures of the queue (`ra.queue`)."""
        return self.queue.statistics(now)

    def applications(
        self,
        *,
        states: Collection[State] = (),
        member_class: MemberClass | None = None,
        step: str | None = None,
        waiting_for: str | None = None,
        limit: int = 200,
    ) -> list[Application]:
        """Applications in one of the states (any, if none is named), of the class, at the step, waiting for exactly
        these roles.

        Newest first.
        """
        classes = () if member_class is None else (member_class,)
        roles = None if waiting_for is None else tuple(waiting_for.split())
        exactly = None if roles is None else lambda found, _class: tuple(found) == roles
        wanted = Wanted(states, classes, steps=() if step is None else (step,), held=exactly)
        found = self.queue.page(wanted, Order.NEWEST, limit=limit)
        return self.applications_of([identifier for identifier, _place in found])

    def due(self, now: datetime, *, limit: int = 1000) -> list[Application]:
        """Applications for which the clock has something to do, the longest overdue first."""
        table = schema.applications
        query = select(*_COLUMNS).where(table.c.next_at <= now).order_by(table.c.next_at).limit(limit)
        with reading(self._engine) as db:
            return [_row_to_application(row) for row in db.execute(query).all()]

    def under_other_packs(self, governing: Collection[bytes], states: Collection[State]) -> list[Application]:
        """Applications in one of the states whose revision is made under none of the packs with these digests."""
        table = schema.applications
        cells = schema.queue_cells
        query = select(*_COLUMNS).where(
            table.c.cell.in_(select(cells.c.id).where(cells.c.state.in_([str(state) for state in states]))),
            table.c.pack_digest.not_in([digest.hex() for digest in governing]),
        )
        with reading(self._engine) as db:
            return [_row_to_application(row) for row in db.execute(query).all()]

    def has_subject(self, identifiers: Collection[str]) -> bool:
        """Whether one of the texts identifies a subject of any class that an application was ever about."""
        table = schema.applications
        if not identifiers:
            return False
        query = select(table.c.id).where(
            table.c.member_class.in_(get_args(MemberClass)), table.c.subject_id.in_(identifiers)
        )
        with reading(self._engine) as db:
            return db.execute(query.limit(1)).first() is not None

    def same_subject(self, member_class: MemberClass, subject_id: str, *, but: str) -> list[Application]:
        """All other applications of a subject."""
        with reading(self._engine) as db:
            return _same_subject(db, member_class, subject_id, but)

    def change(
        self,
        application: Application,
        passages: Sequence[Passage],
        *,
        actor: str,
        now: datetime,
        change: Change = _NOTHING_ELSE,
    ) -> Application:
        """Take the application through `passages` and write `change`, if nobody changed it since it was read.

        Raises ConflictError: it was changed meanwhile, or so were others of its subject that the change rests on, or
        another application claimed one of its keys meanwhile.
        """
        after = passages[-1].after
        values = {**change.values, "version": application.version + 1}
        if change.revision is not None:
            values["revision"] = change.revision.number
        changed_to = replace(application, state=after, **values)
        table = schema.applications
        with self._engine.begin() as db:
            cells = _cell(db, application), _cell(db, changed_to)
            changed = db.execute(
                update(table)
                .where(table.c.id == application.id, table.c.version == application.version)
                .values(**values, state=str(after), cell=cells[1], urgent_at=changed_to.urgent_at)
            )
            if changed.rowcount != 1:
                raise _overtaken(db, application)
            if change.others is not None:
                _check_others(db, changed_to, change.others)
            _write(db, application.id, change, actor, now)
            if change.also is not None:
                change.also(db)
            if change.claims is not None or after in ENDED_WITHOUT:
                _claim(db, application.id, change.claims or ())
            before: State | None = application.state
            for passage in passages:
                self._note(db, application.id, before, passage, actor, now)
                before = passage.after
            queue.move(db, *cells)
            return _application(db, application.id)

    def overtaken(self, seen: Application) -> ConflictError:
        """The error that tells whoever came too late what was done to the application, and by whom."""
        with reading(self._engine) as db:
            return _overtaken(db, seen)

    # dossiers

    def dossier(self, application: Application, *, with_bodies_of: Collection[str]) -> Dossier:
        """The case as it stands; bodies travel for the kinds of evidence that a machine verifies."""
        with reading(self._engine) as db:
            pieces = _evidence(db, application.id, with_bodies_of)
            return _dossier(db, application, pieces, _decisions(db, application.id))

    def on_file(self, application: Application, *, with_bodies_of: Collection[str]) -> OnFile:
        """Everything on the application's file, as it stands at one instant; bodies as in `dossier`."""
        with reading(self._engine) as db:
            pieces, decisions = _evidence(db, application.id, with_bodies_of), _decisions(db, application.id)
            return OnFile(
                dossier=None if application.revision is None else _dossier(db, application, pieces, decisions),
                evidence=pieces,
                decisions=decisions,
                certificates=_certificates(db, application.id),
            )

    def revision(self, application: Application) -> Revision | None:
        """The current revision; None while the application is a draft."""
        if application.revision is None:
            return None
        with reading(self._engine) as db:
            return _revision(db, application)

    def evidence(self, application_id: str, *, with_bodies_of: Collection[str] = ()) -> tuple[Evidence, ...]:
        """The evidence on file, oldest first, with the bodies of these kinds alone."""
        with reading(self._engine) as db:
            return _evidence(db, application_id, with_bodies_of)

    def evidence_body(self, application_id: str, sha256: bytes) -> bytes:
        """A document on the application's file; raises UnknownError."""
        pieces, bodies = schema.evidence, schema.evidence_bodies
        query = (
            select(bodies.c.body)
            .join(pieces, pieces.c.sha256 == bodies.c.sha256)
            .where(pieces.c.application_id == application_id, bodies.c.sha256 == sha256.hex())
            .limit(1)
        )
        with reading(self._engine) as db:
            body = db.execute(query).scalar_one_or_none()
        if body is None:
            raise UnknownError("the application has no such document on file")
        return _unchanged(bytes(body), sha256)

    def evidence_size(self, application_id: str) -> int:
        """Bytes of all evidence on the application's file."""
        pieces, bodies = schema.evidence, schema.evidence_bodies
        query = (
            select(func.coalesce(func.sum(func.length(bodies.c.body)), 0))
            .join(pieces, pieces.c.sha256 == bodies.c.sha256)
            .where(pieces.c.application_id == application_id)
        )
        with reading(self._engine) as db:
            return int(db.execute(query).scalar_one())

    def decisions(self, application_id: str) -> list[ReceivedDecision]:
        """All decisions, in the order in which they came."""
        with reading(self._engine) as db:
            return _decisions(db, application_id)

    def acceptance(self, application_id: str) -> bytes | None:
        """The signed acceptance (CMS, DER) of a case's certificates, if there is one."""
        table = schema.acceptances
        with reading(self._engine) as db:
            return db.execute(select(table.c.cms).where(table.c.application_id == application_id)).scalar_one_or_none()

    # registers

    def known_keys(self, keys: Collection[bytes], *, but: str) -> KnownKeys:
        """Keys (SHA-256 of SPKI) that other applications claim or were certified for, and compromised ones."""
        values = {"keys": [key.hex() for key in keys], "but": but}
        found: tuple[set[bytes], set[bytes]] = (set(), set())
        with reading(self._engine) as db:
            for row in db.execute(_KNOWN_KEYS, values):
                found[row.denied].add(bytes.fromhex(row.spki_sha256))
        return KnownKeys(certified=frozenset(found[0]), denylisted=frozenset(found[1]))

    # certificates

    def certificates(self, application_id: str) -> list[Certificate]:
        """The certificates issued for an application, by purpose."""
        with reading(self._engine) as db:
            return _certificates(db, application_id)

    def certificates_with_serial(self, serial: str) -> list[Certificate]:
        """Certificates with this serial number (lower-case hexadecimal), whoever issued them."""
        table = schema.certificates
        with reading(self._engine) as db:
            rows = db.execute(select(table).where(table.c.serial == serial).order_by(table.c.issuer)).all()
        return [Certificate(**row._mapping) for row in rows]

    def add_revocation(self, record: RevocationRecord, *, denylisted: bytes | None) -> None:
        """Record a revocation, and its key as compromised if given; the same certificate again changes nothing."""
        with self._engine.begin() as db:
            insert_new(db, schema.revocations, **_columns(record))
            if denylisted is not None:
                insert_new(db, schema.denylist, spki_sha256=denylisted.hex(), at=record.at)

    def revocation(self, issuer: str, serial: str) -> RevocationRecord | None:
        """The revocation of a certificate, if the RA passed one on."""
        with reading(self._engine) as db:
            row = db.execute(_REVOCATION, {"issuer": issuer, "serial": serial}).one_or_none()
        return None if row is None else RevocationRecord(**row._mapping)

    # transitions and the journal

    def transitions(self, application_id: str) -> list[Transition]:
        """What happened to an application, oldest first."""
        table = schema.transitions
        query = select(table).where(table.c.application_id == application_id).order_by(table.c.seq)
        with reading(self._engine) as db:
            return [_row_to_transition(row) for row in db.execute(query).all()]

    def unjournaled(self) -> list[Transition]:
        """Transitions of this replica that have no number in its journal yet, oldest first."""
        with reading(self._engine) as db:
            return _unjournaled(db, self.replica)

    def unjournaled_entries(self) -> list[JournalEntry]:
        """Events of this replica that are not in its journal yet, oldest first."""
        with reading(self._engine) as db:
            return _unjournaled_entries(db, self.replica)

    def given_up_at(self) -> datetime | None:
        """When this replica was given up, and others wrote what it had left; None: it was not (`ra.left_behind`)."""
        table = schema.replicas_given_up
        with reading(self._engine) as db:
            return db.execute(select(table.c.at).where(table.c.replica == self.replica)).scalar_one_or_none()

    def last_transition(self) -> int:
        """The number of the last transition, of any replica; 0 if there is none."""
        with reading(self._engine) as db:
            return db.execute(select(func.max(schema.transitions.c.seq))).scalar_one_or_none() or 0

    def last_number(self, replica: str) -> int | None:
        """The highest number in its journal that is noted of a replica's last transitions; None if there are none."""
        table = schema.transitions
        noted = (table.c.replica == replica, table.c.journal_index.is_not(None))
        last = select(table.c.journal_index).where(*noted).order_by(table.c.seq.desc()).limit(100).subquery()
        with reading(self._engine) as db:
            return db.execute(select(func.max(last.c.journal_index))).scalar_one_or_none()

    def transitions_numbered(self, seqs: Sequence[int]) -> dict[int, Transition]:
        """Of the transitions with these numbers those that there are."""
        table = schema.transitions
        found: dict[int, Transition] = {}
        with reading(self._engine) as db:
            for first in range(0, len(seqs), _NUMBERS):
                query = select(table).where(table.c.seq.in_(seqs[first : first + _NUMBERS]))
                found |= {row.seq: _row_to_transition(row) for row in db.execute(query)}
        return found

    def entry_keys(self, keys: Collection[str]) -> set[str]:
        """Of these keys those that an event has."""
        table = schema.journal_entries
        with reading(self._engine) as db:
            return set(db.execute(select(table.c.key).where(table.c.key.in_(keys))).scalars())

    def journal(self, write: Write) -> None:
        """Have `write` put into the journal what is not in it, and note the numbers; nothing if there is nothing.

        On PostgreSQL, where replicas share the rows, nobody takes them over meanwhile (`ra.left_behind`).
        """
        with reading(self._engine) as db:
            transitions, entries = _unjournaled(db, self.replica), _unjournaled_entries(db, self.replica)
        if not transitions and not entries:
            return
        if self._engine.dialect.name != "postgresql":  # a transaction would keep all writers waiting for the journal
            numbers = write(transitions, entries)
            with noting(self._engine) as db:
                _note_numbers(db, numbers)
            return
        with noting(self._engine) as db:
            transitions = _unjournaled(db, self.replica, lock=True)
            entries = _unjournaled_entries(db, self.replica, lock=True)
            _note_numbers(db, write(transitions, entries))

    def add_entry_in(self, db: Connection, key: str, event: str, fields: Mapping[str, Any], now: datetime) -> bool:
        """Have this replica write an event into its journal, in the transaction of `db`; whether it was new.

        Who names a key first writes it.
        """
        text = json.dumps(dict(fields), ensure_ascii=False, sort_keys=True)
        return insert_new(db, schema.journal_entries, key=key, event=event, at=now, fields=text, replica=self.replica)

    def _note(
        self,
        db: Connection,
        application_id: str,
        before: State | None,
        passage: Passage,
        actor: str,
        now: datetime,
    ) -> None:
        db.execute(
            insert(schema.transitions),
            {
                "application_id": application_id,
                "action": str(passage.action),
                "before": None if before is None else str(before),
                "after": str(passage.after),
                "actor": actor,
                "at": now,
                "detail": json.dumps(dict(passage.detail), ensure_ascii=False, sort_keys=True),
                "replica": self.replica,
            },
        )


_NUMBERS: Final = 500  # asked for in one statement
_COLUMNS: Final = tuple(schema.applications.c[each.name] for each in fields(Application))
# Composing a statement costs more than running it: those of every request are composed once.
_ONE: Final = select(*_COLUMNS).where(schema.applications.c.id == bindparam("wanted"))
_REVISION: Final = select(schema.revisions.c.canonical).where(
    schema.revisions.c.application_id == bindparam("wanted"), schema.revisions.c.number == bindparam("number")
)
_REQUESTS: Final = select(schema.requests.c.purpose, schema.requests.c.der).where(
    schema.requests.c.application_id == bindparam("wanted"), schema.requests.c.number == bindparam("number")
)
_DECISIONS: Final = (
    select(schema.decisions.c.cms, schema.decisions.c.received_from, schema.decisions.c.received_at)
    .where(schema.decisions.c.application_id == bindparam("wanted"))
    .order_by(schema.decisions.c.id)
)
_EVIDENCE: Final = (
    select(schema.evidence)
    .where(schema.evidence.c.application_id == bindparam("wanted"))
    .order_by(schema.evidence.c.id)
)
_BODY: Final = select(schema.evidence_bodies.c.body).where(schema.evidence_bodies.c.sha256 == bindparam("wanted"))
_CERTIFICATES: Final = (
    select(schema.certificates)
    .where(schema.certificates.c.application_id == bindparam("wanted"))
    .order_by(schema.certificates.c.purpose)
)
_REVOCATION: Final = select(schema.revocations).where(
    schema.revocations.c.issuer == bindparam("issuer"), schema.revocations.c.serial == bindparam("serial")
)
_KNOWN_KEYS: Final = union_all(
    select(schema.key_claims.c.spki_sha256, literal(0).label("denied")).where(
        schema.key_claims.c.spki_sha256.in_(bindparam("keys", expanding=True)),
        schema.key_claims.c.application_id != bindparam("but"),
    ),
    select(schema.denylist.c.spki_sha256, literal(1)).where(
        schema.denylist.c.spki_sha256.in_(bindparam("keys", expanding=True))
    ),
)
_UNJOURNALED: Final = (
    select(schema.transitions)
    .where(schema.transitions.c.journal_index.is_(None), schema.transitions.c.replica == bindparam("replica"))
    .order_by(schema.transitions.c.seq)
)
_UNJOURNALED_ENTRIES: Final = (
    select(schema.journal_entries.c.key, schema.journal_entries.c.event, schema.journal_entries.c.fields)
    .where(schema.journal_entries.c.journal_index.is_(None), schema.journal_entries.c.replica == bindparam("replica"))
    .order_by(schema.journal_entries.c.seq)
)
_NOTING: Final = {
    key: update(key.table).where(key == bindparam("of")).values(journal_index=bindparam("number"))
    for key in (schema.transitions.c.seq, schema.journal_entries.c.key)
}


def _application(db: Connection, application_id: str) -> Application:
    row = db.execute(_ONE, {"wanted": application_id}).one_or_none()
    if row is None:
        raise UnknownError("there is no such application")
    return _row_to_application(row)


def _overtaken(db: Connection, seen: Application) -> ConflictError:
    """The error that tells whoever came too late what happened meanwhile."""
    table = schema.transitions
    last = db.execute(
        select(table.c.action, table.c.actor, table.c.after)
        .where(table.c.application_id == seen.id)
        .order_by(table.c.seq.desc())
        .limit(1)
    ).one_or_none()
    if last is None:
        raise UnknownError("there is no such application")
    return ConflictError(
        "application {application} was changed meanwhile: {actor} did {action}, it is {state} now; read it again",
        application=seen.id,
        actor=shown(last.actor),
        action=Term("action", last.action),
        state=Term("state", last.after),
    )


def _same_subject(db: Connection, member_class: MemberClass, subject_id: str | None, but: str) -> list[Application]:
    table = schema.applications
    query = select(*_COLUMNS).where(
        table.c.member_class == member_class, table.c.subject_id == subject_id, table.c.id != but
    )
    return [_row_to_application(row) for row in db.execute(query).all()]


def _check_others(db: Connection, application: Application, seen: Collection[Application]) -> None:
    now = _same_subject(db, application.member_class, application.subject_id, application.id)
    if {(each.id, each.version) for each in now} != {(each.id, each.version) for each in seen}:
        raise ConflictError("another application of the same subject was changed meanwhile: try again")


def _row_to_application(row: Row[Any]) -> Application:
    held_from = None if row.held_from is None else State(row.held_from)
    trouble = None if row.trouble is None else from_record(row.trouble)
    values = dict(zip(row._fields, row, strict=True))
    return Application(**{**values, "state": State(row.state), "held_from": held_from, "trouble": trouble})


def _row_to_transition(row: Row[Any]) -> Transition:
    return Transition(
        **{
            **row._mapping,
            "action": Action(row.action),
            "before": None if row.before is None else State(row.before),
            "after": State(row.after),
            "detail": json.loads(row.detail),
        }
    )


def _columns(record: Any) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {name: str(value) if isinstance(value, State) else value for name, value in values.items()}


def _revision(db: Connection, application: Application) -> Revision:
    values = {"wanted": application.id, "number": application.revision}
    canonical = None if application.revision is None else db.execute(_REVISION, values).scalar_one_or_none()
    if canonical is None:
        raise UnknownError("the application has not been submitted yet")
    return Revision.model_validate_json(canonical)


def _evidence(db: Connection, application_id: str, with_bodies_of: Collection[str]) -> tuple[Evidence, ...]:
    """All pieces, after each body was compared with its digest; one body at a time is in memory."""
    rows = db.execute(_EVIDENCE, {"wanted": application_id}).all()
    found = []
    for row in rows:
        body, sha256 = _body(db, row.sha256), bytes.fromhex(row.sha256)
        found.append(
            Evidence(
                kind=row.kind,
                sha256=sha256,
                source=row.source,
                collected_by=row.collected_by,
                collected_at=row.collected_at,
                expires_at=row.expires_at,
                body=body if row.kind in with_bodies_of else None,
            )
        )
    return tuple(found)


def _body(db: Connection, sha256: str) -> bytes:
    body = db.execute(_BODY, {"wanted": sha256}).scalar_one()
    return _unchanged(bytes(body), bytes.fromhex(sha256))


def _unchanged(body: bytes, sha256: bytes) -> bytes:
    if hashlib.sha256(body).digest() != sha256:
        raise EvidenceChangedError("a document in the database is not the one that was put on file")
    return body


def _decisions(db: Connection, application_id: str) -> list[ReceivedDecision]:
    return [ReceivedDecision(**row._mapping) for row in db.execute(_DECISIONS, {"wanted": application_id}).all()]


def _certificates(db: Connection, application_id: str) -> list[Certificate]:
    return [Certificate(**row._mapping) for row in db.execute(_CERTIFICATES, {"wanted": application_id}).all()]


def _dossier(
    db: Connection, application: Application, pieces: tuple[Evidence, ...], decisions: Sequence[ReceivedDecision]
) -> Dossier:
    revision = _revision(db, application)
    csrs = db.execute(_REQUESTS, {"wanted": application.id, "number": revision.number}).all()
    return Dossier(
        revision=revision,
        csrs={cast(Purpose, row.purpose): row.der for row in csrs},
        evidence=pieces,
        decisions=tuple(received.cms for received in decisions),
    )


def _write(db: Connection, application_id: str, change: Change, actor: str, now: datetime) -> None:
    if change.revision is not None:
        revision = change.revision
        db.execute(
            insert(schema.revisions).values(
                application_id=application_id,
                number=revision.number,
                digest=revision.digest.hex(),
                canonical=revision.canonical(),
                written_at=now,
            )
        )
        for purpose, der in change.csrs.items():
            db.execute(
                insert(schema.requests).values(
                    application_id=application_id, number=revision.number, purpose=purpose, der=der
                )
            )
    for piece, body in change.evidence:
        insert_new(db, schema.evidence_bodies, sha256=piece.sha256.hex(), body=body)
        db.execute(
            insert(schema.evidence).values(
                application_id=application_id,
                kind=piece.kind,
                sha256=piece.sha256.hex(),
                source=piece.source,
                collected_by=piece.collected_by,
                collected_at=piece.collected_at,
                expires_at=piece.expires_at,
            )
        )
    if change.decision is not None:
        db.execute(
            insert(schema.decisions).values(
                application_id=application_id,
                sha256=hashlib.sha256(change.decision).hexdigest(),
                cms=change.decision,
                received_from=actor,
                received_at=now,
            )
        )
    if change.acceptance is not None:
        db.execute(
            insert(schema.acceptances).values(application_id=application_id, cms=change.acceptance, received_at=now)
        )
    for issued in change.certificates:
        values = {name: getattr(issued, name) for name in NewCertificate.__dataclass_fields__}
        db.execute(insert(schema.certificates).values(**values, application_id=application_id, stored_at=now))


def _claim(db: Connection, application_id: str, claims: Collection[bytes]) -> None:
    table = schema.key_claims
    db.execute(delete(table).where(table.c.application_id == application_id))
    for spki_sha256 in claims:
        try:
            with db.begin_nested():
                db.execute(insert(table).values(spki_sha256=spki_sha256.hex(), application_id=application_id))
        except IntegrityError:
            raise ConflictError("another application claimed one of the keys meanwhile") from None


def _unjournaled(db: Connection, replica: str, *, lock: bool = False) -> list[Transition]:
    query = _UNJOURNALED.with_for_update() if lock else _UNJOURNALED
    return [_row_to_transition(row) for row in db.execute(query, {"replica": replica}).all()]


def _unjournaled_entries(db: Connection, replica: str, *, lock: bool = False) -> list[JournalEntry]:
    query = _UNJOURNALED_ENTRIES.with_for_update() if lock else _UNJOURNALED_ENTRIES
    rows = db.execute(query, {"replica": replica}).all()
    return [JournalEntry(row.key, row.event, json.loads(row.fields)) for row in rows]


def _note_numbers(db: Connection, numbers: Numbers) -> None:
    """Note where things stand in the journal; should it be lost, the journal itself tells it again."""
    by_key: tuple[tuple[Any, Mapping[Any, int]], ...] = (
        (schema.transitions.c.seq, numbers.transitions),
        (schema.journal_entries.c.key, numbers.entries),
    )
    for key, found in by_key:
        if found:
            db.execute(_NOTING[key], [{"of": of, "number": number} for of, number in found.items()])


def _cell(db: Connection, application: Application) -> int:
    """The cell of the queue that a case is in."""
    at = application
    return queue.cell_of(db, str(at.state), at.member_class, at.step, at.waiting_for)
