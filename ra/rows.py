"""The tables of the registration authority row by row: what `ra.store` reads and writes inside its transactions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import Connection, Row, bindparam, delete, insert, literal, select, union_all, update
from sqlalchemy.exc import IntegrityError

from cps.dossier import Dossier, Evidence, Revision
from cps.model import MemberClass, Purpose
from ra import queue, schema
from ra.errors import ConflictError, EvidenceChangedError, UnknownError
from ra.openers import shown
from ra.records import (
    Application,
    Certificate,
    Change,
    JournalEntry,
    NewCertificate,
    Numbers,
    ReceivedDecision,
    Transition,
)
from ra.states import Action, State
from runtime.database import insert_new
from runtime.language import Term
from runtime.language_record import from_record

_NOTHING_ELSE = Change()

NUMBERS: Final = 500  # asked for in one statement
COLUMNS: Final = tuple(schema.applications.c[each.name] for each in fields(Application))
# Composing a statement costs more than running it: those of every request are composed once.
_ONE: Final = select(*COLUMNS).where(schema.applications.c.id == bindparam("wanted"))
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
REVOCATION: Final = select(schema.revocations).where(
    schema.revocations.c.issuer == bindparam("issuer"), schema.revocations.c.serial == bindparam("serial")
)
KNOWN_KEYS: Final = union_all(
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


def application_of(db: Connection, application_id: str) -> Application:
    """The row of an application; raises UnknownError."""
    row = db.execute(_ONE, {"wanted": application_id}).one_or_none()
    if row is None:
        raise UnknownError("there is no such application")
    return to_application(row)


def overtaken_by(db: Connection, seen: Application) -> ConflictError:
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


def applications_of_subject(
    db: Connection, member_class: MemberClass, subject_id: str | None, but: str
) -> list[Application]:
    """Every application of a subject but one."""
    table = schema.applications
    query = select(*COLUMNS).where(
        table.c.member_class == member_class, table.c.subject_id == subject_id, table.c.id != but
    )
    return [to_application(row) for row in db.execute(query).all()]


def check_others(db: Connection, application: Application, seen: Collection[Application]) -> None:
    """Raise ConflictError unless the subject's other applications are those that were seen, unchanged."""
    now = applications_of_subject(db, application.member_class, application.subject_id, application.id)
    if {(each.id, each.version) for each in now} != {(each.id, each.version) for each in seen}:
        raise ConflictError("another application of the same subject was changed meanwhile: try again")


def to_application(row: Row[Any]) -> Application:
    """A row as a value."""
    held_from = None if row.held_from is None else State(row.held_from)
    trouble = None if row.trouble is None else from_record(row.trouble)
    values = dict(zip(row._fields, row, strict=True))
    return Application(**{**values, "state": State(row.state), "held_from": held_from, "trouble": trouble})


def to_transition(row: Row[Any]) -> Transition:
    """A row as a value."""
    return Transition(
        **{
            **row._mapping,
            "action": Action(row.action),
            "before": None if row.before is None else State(row.before),
            "after": State(row.after),
            "detail": json.loads(row.detail),
        }
    )


def columns_of(record: Any) -> dict[str, Any]:
    """The values of a record by the names of their columns."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {name: str(value) if isinstance(value, State) else value for name, value in values.items()}


def revision_of(db: Connection, application: Application) -> Revision:
    """The current revision; raises UnknownError for a draft."""
    values = {"wanted": application.id, "number": application.revision}
    canonical = None if application.revision is None else db.execute(_REVISION, values).scalar_one_or_none()
    if canonical is None:
        raise UnknownError("the application has not been submitted yet")
    return Revision.model_validate_json(canonical)


def evidence_of(db: Connection, application_id: str, with_bodies_of: Collection[str]) -> tuple[Evidence, ...]:
    """All pieces, after each body was compared with its digest; one body at a time is in memory."""
    rows = db.execute(_EVIDENCE, {"wanted": application_id}).all()
    found = []
    for row in rows:
        body, sha256 = body_of(db, row.sha256), bytes.fromhex(row.sha256)
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


def body_of(db: Connection, sha256: str) -> bytes:
    """A document by its SHA-256 (hexadecimal), compared with it."""
    body = db.execute(_BODY, {"wanted": sha256}).scalar_one()
    return unchanged(bytes(body), bytes.fromhex(sha256))


def unchanged(body: bytes, sha256: bytes) -> bytes:
    """The document itself; raises EvidenceChangedError if it is another one."""
    if hashlib.sha256(body).digest() != sha256:
        raise EvidenceChangedError("a document in the database is not the one that was put on file")
    return body


def decisions_of(db: Connection, application_id: str) -> list[ReceivedDecision]:
    """Every decision that came in, the oldest first."""
    return [ReceivedDecision(**row._mapping) for row in db.execute(_DECISIONS, {"wanted": application_id}).all()]


def certificates_of(db: Connection, application_id: str) -> list[Certificate]:
    """Every certificate of an application, the oldest first."""
    return [Certificate(**row._mapping) for row in db.execute(_CERTIFICATES, {"wanted": application_id}).all()]


def dossier_of(
    db: Connection, application: Application, pieces: tuple[Evidence, ...], decisions: Sequence[ReceivedDecision]
) -> Dossier:
    """What is decided upon."""
    revision = revision_of(db, application)
    csrs = db.execute(_REQUESTS, {"wanted": application.id, "number": revision.number}).all()
    return Dossier(
        revision=revision,
        csrs={cast(Purpose, row.purpose): row.der for row in csrs},
        evidence=pieces,
        decisions=tuple(received.cms for received in decisions),
    )


def write_change(db: Connection, application_id: str, change: Change, actor: str, now: datetime) -> None:
    """Write what a change brings beside the new state."""
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


def claim(db: Connection, application_id: str, claims: Collection[bytes]) -> None:
    """Replace the keys that an application claims; raises ConflictError if another one has one of them."""
    table = schema.key_claims
    db.execute(delete(table).where(table.c.application_id == application_id))
    for spki_sha256 in claims:
        try:
            with db.begin_nested():
                db.execute(insert(table).values(spki_sha256=spki_sha256.hex(), application_id=application_id))
        except IntegrityError:
            raise ConflictError("another application claimed one of the keys meanwhile") from None


def unjournaled(db: Connection, replica: str, *, lock: bool = False) -> list[Transition]:
    """Transitions that are not in the journal of a replica yet."""
    query = _UNJOURNALED.with_for_update() if lock else _UNJOURNALED
    return [to_transition(row) for row in db.execute(query, {"replica": replica}).all()]


def unjournaled_entries(db: Connection, replica: str, *, lock: bool = False) -> list[JournalEntry]:
    """Events that are not in the journal of a replica yet."""
    query = _UNJOURNALED_ENTRIES.with_for_update() if lock else _UNJOURNALED_ENTRIES
    rows = db.execute(query, {"replica": replica}).all()
    return [JournalEntry(row.key, row.event, json.loads(row.fields)) for row in rows]


def note_numbers(db: Connection, numbers: Numbers) -> None:
    """Note where things stand in the journal; should it be lost, the journal itself tells it again."""
    by_key: tuple[tuple[Any, Mapping[Any, int]], ...] = (
        (schema.transitions.c.seq, numbers.transitions),
        (schema.journal_entries.c.key, numbers.entries),
    )
    for key, found in by_key:
        if found:
            db.execute(_NOTING[key], [{"of": of, "number": number} for of, number in found.items()])


def cell_of(db: Connection, application: Application) -> int:
    """The cell of the queue that a case is in."""
    at = application
    return queue.cell_of(db, str(at.state), at.member_class, at.step, at.waiting_for)
