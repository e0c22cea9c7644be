"""The tables of the registration authority's database.

    queue_cells ── applications ──┬── revisions ── requests        evidence_bodies
                                  ├── acceptances
                                  ├── evidence                      revocations
                                  ├── decisions                     denylist
                                  ├── key_claims                    journal_entries
                                  ├── certificates
                                  └── transitions

Revisions, requests, evidence, decisions, certificates and revocations are only ever inserted; triggers refuse anything
else. A transition is written in the same transaction as the change it tells of, and gets its number in the audit
journal afterwards (`ra.record`): the journal of the replica that made it, which the row names. What is no transition
and must be in a journal once is written into `journal_entries` first, and goes the same way. What a replica that was
lost had still to write another one may take over (`ra.left_behind`).

What the queue shows of a case besides its times (state, class, due step, roles) is its cell. Cells are few, and each
counts its cases: so a page of the queue is a short range of an index in each cell that is asked for, and totals are
sums of a few rows (`ra.queue`).

Other modules have tables of their own on the same metadata; `ra.database` knows all. A database is made by
`ra/migrations`, not from here: whoever changes a table runs `scripts/migration ra`, which writes the change into the
first revision until there is a release, and a test fails until that is done.
"""

from __future__ import annotations

import base64
from typing import Final

from sqlalchemy import (
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from runtime.append_only import append_only
from runtime.columns import UtcTime as UtcTime  # for the tables of other modules
from runtime.columns import name_type


class DerList(TypeDecorator[tuple[bytes, ...]]):
    """DER objects, stored as base64 with a blank between."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[bytes, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else " ".join(base64.b64encode(der).decode() for der in value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[bytes, ...] | None:
        return None if value is None else tuple(base64.b64decode(text) for text in value.split())


metadata: Final = MetaData()

queue_cells: Final = Table(
    "queue_cells",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("state", String(24), nullable=False),
    Column("member_class", String(16), nullable=False),
    Column("step", String(64), nullable=False),  # empty: none is due
    Column("waiting_for", String(200), nullable=False),  # roles with a blank between; empty: nobody
    Column("cases", Integer, nullable=False),
    UniqueConstraint("state", "member_class", "step", "waiting_for"),
)

applications: Final = Table(
    "applications",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("member_class", String(16), nullable=False),
    Column("state", String(24), nullable=False),
    Column("version", Integer, nullable=False),  # optimistic lock: every change adds one
    Column("opened_by", String(80), nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("due_from", UtcTime, nullable=False),  # the clock of the request: it lapses at due_at
    Column("due_at", UtcTime, nullable=False),
    Column("due_warned", Integer, nullable=False),  # how many of the pack's warning marks were told
    Column("decide_from", UtcTime, nullable=True),  # the clock of deciding: it should be decided by decide_by
    Column("decide_by", UtcTime, nullable=True),
    Column("decide_warned", Integer, nullable=False),
    Column("judge_at", UtcTime, nullable=True),  # when time alone may change the judgement
    Column("accept_by", UtcTime, nullable=True),
    Column("next_at", UtcTime, nullable=True),  # the first instant at which the clock has something to do
    Column("held_from", String(24), nullable=True),  # state to come back to
    Column("held_since", UtcTime, nullable=True),
    Column("step", String(64), nullable=True),  # the step that is due, as last judged
    Column("waiting_for", String(200), nullable=True),  # roles that may decide it, blanks between
    Column("missing", Integer, nullable=True),  # how many decisions it still needs
    Column("replaces", String(64), nullable=True),  # of a re-key: the case whose keys are replaced
    Column("pack_digest", String(64), nullable=True),  # of the statement that the current revision is made under
    Column("nonce_cca", LargeBinary, nullable=True),
    Column("national_code", String(10), nullable=True),
    Column("subject_id", name_type(64), nullable=True),  # merchant id, gateway id, person id or commitment
    Column("organisation", name_type(64), nullable=True),
    Column("revision", Integer, nullable=True),  # number of the current one
    Column("trouble", Text, nullable=True),  # why the CA did not issue, for people
    Column("rejected_for", String(40), nullable=True),  # the code of the reason for which an officer rejected it
    Column("cell", ForeignKey("queue_cells.id"), nullable=False),
    Column("urgent_at", UtcTime, nullable=False),  # decide_by; due_at of what was never submitted
    Index("applications_by_subject", "member_class", "subject_id"),
    Index("applications_by_next", "next_at"),
    Index("applications_by_rejection", "rejected_for", "member_class"),
    # The queue, cell by cell. The middle column is what pages are sorted by; what follows saves reading the row.
    Index("queue_by_urgency", "cell", "urgent_at", "id"),
    Index("queue_by_age", "cell", "opened_at", "id", "urgent_at"),
    Index("queue_by_subject", "cell", "subject_id", "id"),
    Index("queue_by_organisation", "cell", "organisation", "id", "subject_id"),
)

revisions: Final = Table(
    "revisions",
    metadata,
    Column("application_id", ForeignKey("applications.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("canonical", LargeBinary, nullable=False),
    Column("written_at", UtcTime, nullable=False),
)

requests: Final = Table(
    "requests",
    metadata,
    Column("application_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("purpose", String(16), primary_key=True),
    Column("der", LargeBinary, nullable=False),
    ForeignKeyConstraint(["application_id", "number"], ["revisions.application_id", "revisions.number"]),
)

evidence: Final = Table(
    "evidence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("application_id", ForeignKey("applications.id"), nullable=False, index=True),
    Column("kind", String(30), nullable=False),
    Column("sha256", ForeignKey("evidence_bodies.sha256"), nullable=False),
    Column("source", String(128), nullable=False),
    Column("collected_by", String(80), nullable=False),
    Column("collected_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=True),
)

evidence_bodies: Final = Table(
    "evidence_bodies",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

decisions: Final = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("application_id", ForeignKey("applications.id"), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("cms", LargeBinary, nullable=False),
    Column("received_from", String(80), nullable=False),
    Column("received_at", UtcTime, nullable=False),
    UniqueConstraint("application_id", "sha256"),
)

acceptances: Final = Table(
    "acceptances",
    metadata,
    Column("application_id", ForeignKey("applications.id"), primary_key=True),
    Column("cms", LargeBinary, nullable=False),
    Column("received_at", UtcTime, nullable=False),
)

key_claims: Final = Table(
    "key_claims",
    metadata,
    Column("spki_sha256", String(64), primary_key=True),
    Column("application_id", ForeignKey("applications.id"), nullable=False, index=True),
)

certificates: Final = Table(
    "certificates",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),  # lower-case hexadecimal, no leading zeros
    Column("application_id", ForeignKey("applications.id"), nullable=False, index=True),
    Column("purpose", String(16), nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("chain", DerList, nullable=False),  # the CA certificates above it, nearest first, without the root
    Column("stored_at", UtcTime, nullable=False),
    Index("certificates_by_serial", "serial"),
)

transitions: Final = Table(
    "transitions",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("application_id", ForeignKey("applications.id"), nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("before", String(24), nullable=True),
    Column("after", String(24), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("detail", Text, nullable=False),  # a JSON object of text
    Column("replica", String(64), nullable=False),  # who made it, and writes it into their journal
    Column("journal_index", Integer, nullable=True),
    # What a replica has still to write is few among all that ever happened.
    Index(
        "transitions_to_journal",
        "replica",
        "seq",
        sqlite_where=text("journal_index IS NULL"),
        postgresql_where=text("journal_index IS NULL"),
    ),
)

journal_entries: Final = Table(
    "journal_entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("key", String(200), nullable=False, unique=True),
    Column("event", String(40), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("fields", Text, nullable=False),  # a JSON object
    Column("replica", String(64), nullable=False),
    Column("journal_index", Integer, nullable=True),
    Column("told_at", UtcTime, nullable=True),  # when its notices were written (`ra.notices.entry_source`)
    Index(
        "entries_to_journal",
        "replica",
        "seq",
        sqlite_where=text("journal_index IS NULL"),
        postgresql_where=text("journal_index IS NULL"),
    ),
    Index(
        "entries_to_tell",
        "seq",
        sqlite_where=text("told_at IS NULL"),
        postgresql_where=text("told_at IS NULL"),
    ),
)

replicas_given_up: Final = Table(
    "replicas_given_up",
    metadata,
    Column("replica", String(64), primary_key=True),  # its journal is lost: it does not come back under this name
    Column("at", UtcTime, nullable=False),
    Column("by", String(80), nullable=False),
)

revocations: Final = Table(
    "revocations",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("reason", String(32), nullable=False),
    Column("cms", LargeBinary, nullable=False),
    Column("ordered_by", String(64), nullable=False),
    Column("received_from", String(80), nullable=False),
    Column("at", UtcTime, nullable=False),
)

denylist: Final = Table(
    "denylist",
    metadata,
    Column("spki_sha256", String(64), primary_key=True),
    Column("at", UtcTime, nullable=False),
)

APPEND_ONLY: Final = (
    revisions,
    requests,
    evidence,
    evidence_bodies,
    decisions,
    acceptances,
    certificates,
    revocations,
    denylist,
)

for _table in APPEND_ONLY:
    append_only(_table)
