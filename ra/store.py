"""The memory of the registration authority (SQLAlchemy).

Every method is one transaction and is on disk when it returns (`runtime.database`). A change of an application names
the version it was made on; if somebody was faster it raises ConflictError and nothing happened. Each state an
application passes through leaves a row in `transitions`, in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, get_args

from sqlalchemy import Connection, Engine, func, insert, select, update

from cps.application import KnownKeys
from cps.dossier import Dossier, Evidence, Revision
from cps.model import MemberClass
from ra import queue, schema
from ra.errors import ConflictError, UnknownError
from ra.queue import Queue, Statistics, Wanted
from ra.queue_order import Order
from ra.records import (
    Application,
    Certificate,
    Change,
    JournalEntry,
    OnFile,
    Passage,
    ReceivedDecision,
    RevocationRecord,
    Transition,
    Write,
)
from ra.rows import (
    COLUMNS,
    KNOWN_KEYS,
    NUMBERS,
    REVOCATION,
    application_of,
    applications_of_subject,
    cell_of,
    certificates_of,
    check_others,
    claim,
    columns_of,
    decisions_of,
    dossier_of,
    evidence_of,
    note_numbers,
    overtaken_by,
    revision_of,
    to_application,
    to_transition,
    unchanged,
    unjournaled,
    unjournaled_entries,
    write_change,
)
from ra.states import ENDED_WITHOUT, Action, State
from runtime.database import insert_new, noting, reading

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
            cell = cell_of(db, application)
            values = {**columns_of(application), "cell": cell, "urgent_at": application.urgent_at}
            db.execute(insert(schema.applications).values(**values))
            passage = Passage(Action.OPEN, application.state)
            self._note(db, application.id, None, passage, application.opened_by, application.opened_at)
            also(db)
            queue.move(db, None, cell)
        return application

    def application(self, application_id: str) -> Application:
        """The application; raises UnknownError."""
        with reading(self._engine) as db:
            return application_of(db, application_id)

    def applications_of(self, ids: Sequence[str]) -> list[Application]:
        """The applications with these ids, in their order; one that is not there is left out."""
        query = select(*COLUMNS).where(schema.applications.c.id.in_(ids))
        with reading(self._engine) as db:
            found = {row.id: to_application(row) for row in db.execute(query)}
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
        query = select(*COLUMNS).where(table.c.next_at <= now).order_by(table.c.next_at).limit(limit)
        with reading(self._engine) as db:
            return [to_application(row) for row in db.execute(query).all()]

    def under_other_packs(self, governing: Collection[bytes], states: Collection[State]) -> list[Application]:
        """Applications in one of the states whose revision is made under none of the packs with these digests."""
        table = schema.applications
        cells = schema.queue_cells
        query = select(*COLUMNS).where(
            table.c.cell.in_(select(cells.c.id).where(cells.c.state.in_([str(state) for state in states]))),
            table.c.pack_digest.not_in([digest.hex() for digest in governing]),
        )
        with reading(self._engine) as db:
            return [to_application(row) for row in db.execute(query).all()]

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
            return applications_of_subject(db, member_class, subject_id, but)

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
            cells = cell_of(db, application), cell_of(db, changed_to)
            changed = db.execute(
                update(table)
                .where(table.c.id == application.id, table.c.version == application.version)
                .values(**values, state=str(after), cell=cells[1], urgent_at=changed_to.urgent_at)
            )
            if changed.rowcount != 1:
                raise overtaken_by(db, application)
            if change.others is not None:
                check_others(db, changed_to, change.others)
            write_change(db, application.id, change, actor, now)
            if change.also is not None:
                change.also(db)
            if change.claims is not None or after in ENDED_WITHOUT:
                claim(db, application.id, change.claims or ())
            before: State | None = application.state
            for passage in passages:
                self._note(db, application.id, before, passage, actor, now)
                before = passage.after
            queue.move(db, *cells)
            return application_of(db, application.id)

    def overtaken(self, seen: Application) -> ConflictError:
        """The error that tells whoever came too late what was done to the application, and by whom."""
        with reading(self._engine) as db:
            return overtaken_by(db, seen)

    # dossiers

    def dossier(self, application: Application, *, with_bodies_of: Collection[str]) -> Dossier:
        """The case as it stands; bodies travel for the kinds of evidence that a machine verifies."""
        with reading(self._engine) as db:
            pieces = evidence_of(db, application.id, with_bodies_of)
            return dossier_of(db, application, pieces, decisions_of(db, application.id))

    def on_file(self, application: Application, *, with_bodies_of: Collection[str]) -> OnFile:
        """Everything on the application's file, as it stands at one instant; bodies as in `dossier`."""
        with reading(self._engine) as db:
            pieces, decisions = evidence_of(db, application.id, with_bodies_of), decisions_of(db, application.id)
            return OnFile(
                dossier=None if application.revision is None else dossier_of(db, application, pieces, decisions),
                evidence=pieces,
                decisions=decisions,
                certificates=certificates_of(db, application.id),
            )

    def revision(self, application: Application) -> Revision | None:
        """The current revision; None while the application is a draft."""
        if application.revision is None:
            return None
        with reading(self._engine) as db:
            return revision_of(db, application)

    def evidence(self, application_id: str, *, with_bodies_of: Collection[str] = ()) -> tuple[Evidence, ...]:
        """The evidence on file, oldest first, with the bodies of these kinds alone."""
        with reading(self._engine) as db:
            return evidence_of(db, application_id, with_bodies_of)

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
        return unchanged(bytes(body), sha256)

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
            return decisions_of(db, application_id)

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
            for row in db.execute(KNOWN_KEYS, values):
                found[row.denied].add(bytes.fromhex(row.spki_sha256))
        return KnownKeys(certified=frozenset(found[0]), denylisted=frozenset(found[1]))

    # certificates

    def certificates(self, application_id: str) -> list[Certificate]:
        """The certificates issued for an application, by purpose."""
        with reading(self._engine) as db:
            return certificates_of(db, application_id)

    def certificates_with_serial(self, serial: str) -> list[Certificate]:
        """Certificates with this serial number (lower-case hexadecimal), whoever issued them."""
        table = schema.certificates
        with reading(self._engine) as db:
            rows = db.execute(select(table).where(table.c.serial == serial).order_by(table.c.issuer)).all()
        return [Certificate(**row._mapping) for row in rows]

    def add_revocation(self, record: RevocationRecord, *, denylisted: bytes | None) -> None:
        """Record a revocation, and its key as compromised if given; the same certificate again changes nothing."""
        with self._engine.begin() as db:
            insert_new(db, schema.revocations, **columns_of(record))
            if denylisted is not None:
                insert_new(db, schema.denylist, spki_sha256=denylisted.hex(), at=record.at)

    def revocation(self, issuer: str, serial: str) -> RevocationRecord | None:
        """The revocation of a certificate, if the RA passed one on."""
        with reading(self._engine) as db:
            row = db.execute(REVOCATION, {"issuer": issuer, "serial": serial}).one_or_none()
        return None if row is None else RevocationRecord(**row._mapping)

    # transitions and the journal

    def transitions(self, application_id: str) -> list[Transition]:
        """What happened to an application, oldest first."""
        table = schema.transitions
        query = select(table).where(table.c.application_id == application_id).order_by(table.c.seq)
        with reading(self._engine) as db:
            return [to_transition(row) for row in db.execute(query).all()]

    def unjournaled(self) -> list[Transition]:
        """Transitions of this replica that have no number in its journal yet, oldest first."""
        with reading(self._engine) as db:
            return unjournaled(db, self.replica)

    def unjournaled_entries(self) -> list[JournalEntry]:
        """Events of this replica that are not in its journal yet, oldest first."""
        with reading(self._engine) as db:
            return unjournaled_entries(db, self.replica)

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
            for first in range(0, len(seqs), NUMBERS):
                query = select(table).where(table.c.seq.in_(seqs[first : first + NUMBERS]))
                found |= {row.seq: to_transition(row) for row in db.execute(query)}
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
            transitions, entries = unjournaled(db, self.replica), unjournaled_entries(db, self.replica)
        if not transitions and not entries:
            return
        if self._engine.dialect.name != "postgresql":  # a transaction would keep all writers waiting for the journal
            numbers = write(transitions, entries)
            with noting(self._engine) as db:
                note_numbers(db, numbers)
            return
        with noting(self._engine) as db:
            transitions = unjournaled(db, self.replica, lock=True)
            entries = unjournaled_entries(db, self.replica, lock=True)
            note_numbers(db, write(transitions, entries))

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
