"""The tables of the certificate authority's database.

    serials ──┬── intents ──── certificates ──── revocations ──── status_changes
    dossiers ─┘      │                                │
                certified_keys    denylist    rsa_moduli     issuers ──── crls    bcis    ocsp_responses

A serial is reserved before anything is prepared under it; an intent is what is about to be signed, made durable before
the token is called; it ends in exactly one certificate or is abandoned. Nothing is ever deleted but the claim on a key
whose intent was abandoned, and answers that were signed ahead.

Every change of a certificate's status takes the next `status_epoch` of its issuer, in the transaction that makes it: a
list that covers epoch 7 covers every change up to the seventh. So whether a revocation is published is a comparison,
and what a delta lists is a range. The row in `issuers` is also the lock under which replicas take CRL numbers.

A database is made by `ca/migrations`, not from here: whoever changes a table runs `scripts/migration ca`, which
writes the change into the first revision until there is a release, and a test fails until that is done.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

from runtime.columns import UtcTime

metadata: Final = MetaData()

issuers: Final = Table(
    "issuers",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("crl_number", BigInteger, nullable=False),  # the highest taken, of any scope (RFC 5280 5.2.3)
    Column("status_epoch", BigInteger, nullable=False),  # how many status changes there were
)

serials: Final = Table(
    "serials",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),  # lower-case hexadecimal, no leading zeros
    Column("reserved_at", UtcTime, nullable=False),
)

dossiers: Final = Table(
    "dossiers",
    metadata,
    Column("revision_digest", String(64), primary_key=True),  # SHA-256 of the revision's canonical form, hexadecimal
    Column("application_id", String(64), nullable=False, index=True),
    Column("member_class", String(16), nullable=False),
    Column("cps_digest", String(64), nullable=False),
    Column("dossier", LargeBinary, nullable=False),  # JSON, with the decisions that the issuance rested on
    Column("received_at", UtcTime, nullable=False),
)

intents: Final = Table(
    "intents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision_digest", ForeignKey("dossiers.revision_digest"), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("issuer", String(64), nullable=False),
    Column("serial", String(40), nullable=False),
    Column("tbs", LargeBinary, nullable=False),
    Column("tbs_sha256", String(64), nullable=False),
    Column("spki_sha256", String(64), nullable=False),
    Column("lints", String, nullable=False),  # the codes of the rules it kept, separated by spaces
    Column("approvals", String, nullable=False),  # JSON: who approved which step, when
    Column("state", String(16), nullable=False),
    Column("reason", String),
    Column("intended_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    # Who works on an intent, and until when nobody else may: replicas resume what others left, not what they do. An
    # intent that has ended keeps its lease until the audit journal has it.
    Column("lease_owner", String(64)),
    Column("lease_until", UtcTime),
    ForeignKeyConstraint(["issuer", "serial"], ["serials.issuer", "serials.serial"]),
    CheckConstraint("state IN ('open', 'issued', 'abandoned')", name="intent_state"),
    Index("one_intent_a_serial", "issuer", "serial", unique=True),
    # Two requests for the same application at the same moment: the second finds the first one's intent.
    Index(
        "one_intent_a_purpose",
        "revision_digest",
        "purpose",
        unique=True,
        sqlite_where=text("state <> 'abandoned'"),
        postgresql_where=text("state <> 'abandoned'"),
    ),
    # What is left to finish, or to write into the audit journal, is few among all that was ever intended.
    Index(
        "leased_intents",
        "id",
        sqlite_where=text("lease_until IS NOT NULL"),
        postgresql_where=text("lease_until IS NOT NULL"),
    ),
)

certificates: Final = Table(
    "certificates",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("intent_id", ForeignKey("intents.id"), unique=True),  # none: made by a ceremony
    Column("profile", String(64), nullable=False),
    Column("subject", String, nullable=False),  # RFC 4514
    Column("identity", String, index=True),  # the urn:kwbp: URI, or a cardholder's commitment
    Column("sha256", String(64), nullable=False, unique=True),
    Column("spki_sha256", String(64), nullable=False, index=True),
    Column("not_before", UtcTime, nullable=False),
    Column("not_after", UtcTime, nullable=False, index=True),
    Column("stored_at", UtcTime, nullable=False),
    Column("der", LargeBinary, nullable=False),
    ForeignKeyConstraint(["issuer", "serial"], ["serials.issuer", "serials.serial"]),
    Index("certificates_of_a_serial", "serial"),
    Index("certificates_in_order", "stored_at", "issuer", "serial"),  # for pages, the newest first
)

certified_keys: Final = Table(
    "certified_keys",
    metadata,
    Column("spki_sha256", String(64), primary_key=True),
    Column("issuer", String(64), nullable=False),
    Column("serial", String(40), nullable=False),
    ForeignKeyConstraint(["issuer", "serial"], ["serials.issuer", "serials.serial"]),
)

rsa_moduli: Final = Table(
    "rsa_moduli",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("spki_sha256", String(64), nullable=False, unique=True),
    Column("modulus", LargeBinary, nullable=False),  # big-endian
)

denylist: Final = Table(
    "denylist",
    metadata,
    Column("spki_sha256", String(64), primary_key=True),
    Column("reason", String, nullable=False),
    Column("listed_at", UtcTime, nullable=False),
    Column("listed_by", String),
)

revocations: Final = Table(
    "revocations",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("state", String(8), nullable=False),  # revoked; held: suspended; released: neither any more
    Column("reason", String(32), nullable=False),  # a CRLReason of RFC 5280 5.3.1
    Column("revoked_at", UtcTime, nullable=False),
    Column("invalidity_date", UtcTime),
    Column("order", LargeBinary),  # the officer's CMS; none: an abandoned serial, or one read back from a CRL
    Column("ordered_by", String, nullable=False),
    Column("due_at", UtcTime),  # by when the CPS wants it published
    Column("epoch", BigInteger, nullable=False),  # of the issuer, when this row last changed
    Column("entry", LargeBinary, nullable=False),  # DER of its entry in a CRL, so that lists are made by joining
    ForeignKeyConstraint(["issuer", "serial"], ["serials.issuer", "serials.serial"]),
    CheckConstraint("state IN ('revoked', 'held', 'released')", name="revocation_state"),
    Index("revocations_in_order", "issuer", "epoch"),
    # Lists are written in the order of serial numbers, from this index alone.
    Index("revocations_as_listed", "issuer", text("length(serial)"), "serial", "state", "entry"),
    # Suspensions end: they are looked for on a clock, few among all that was ever revoked.
    Index(
        "suspensions",
        "revoked_at",
        sqlite_where=text("state = 'held'"),
        postgresql_where=text("state = 'held'"),
    ),
)

status_changes: Final = Table(
    "status_changes",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("serial", String(40), nullable=False),
    Column("state", String(8), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("at", UtcTime, nullable=False),  # it was made; the date on lists is that of `revocations`
    Column("order", LargeBinary),
    Column("ordered_by", String, nullable=False),
    Column("due_at", UtcTime),
    Column("published_at", UtcTime),  # the first list that covers it was out
    ForeignKeyConstraint(["issuer", "serial"], ["serials.issuer", "serials.serial"]),
    Index("changes_of_a_serial", "issuer", "serial"),
    # What a list that comes out publishes is few among all that an issuer ever changed.
    Index(
        "changes_to_cover",
        "issuer",
        "epoch",
        sqlite_where=text("published_at IS NULL"),
        postgresql_where=text("published_at IS NULL"),
    ),
    Index(
        "changes_to_publish",
        "due_at",
        sqlite_where=text("published_at IS NULL"),
        postgresql_where=text("published_at IS NULL"),
    ),
)

crls: Final = Table(
    "crls",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("scope", String(16), nullable=False),  # full; delta; partition-<n>: one shard of the serials
    Column("base_number", BigInteger),  # delta: the full list it continues (RFC 5280 5.2.4)
    Column("epoch", BigInteger, nullable=False),  # every status change up to this one is covered
    Column("entries", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("this_update", UtcTime, nullable=False),
    Column("next_update", UtcTime, nullable=False),
    Column("der", LargeBinary, nullable=False),  # empty: a large one, which is in crl_parts
    Index("crls_of_a_scope", "issuer", "scope", "number"),
)

crl_parts: Final = Table(
    "crl_parts",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("der", LargeBinary, nullable=False),
)

bcis: Final = Table(
    "bcis",
    metadata,
    Column("number", BigInteger, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("this_update", UtcTime, nullable=False),
    Column("next_update", UtcTime, nullable=False),
    Column("der", LargeBinary, nullable=False),
)

self_audits: Final = Table(
    "self_audits",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of the report, as the audit journal has it
    Column("until", UtcTime, nullable=False, index=True),  # the end of the period that was looked at
    Column("sampled", Integer, nullable=False),
    Column("findings", Integer, nullable=False),
    Column("report", LargeBinary, nullable=False),  # JSON
    Column("signed", LargeBinary),  # SignedData over a `pki.self_audit.SelfAudit`; none until the key could be asked
)

renewals: Final = Table(
    "renewals",
    metadata,
    Column("key", String(64), primary_key=True),  # of a responder in the token, which gets its next certificate
    Column("issuer", String(64), nullable=False),
    Column("serial", String(40), nullable=False),
    Column("tbs", LargeBinary, nullable=False),
    Column("intended_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["issuer", "serial"], ["serials.issuer", "serials.serial"]),
)

ocsp_responses: Final = Table(
    "ocsp_responses",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("epoch", BigInteger, nullable=False),  # of the issuer, when the status was read
    Column("this_update", UtcTime, nullable=False),
    Column("next_update", UtcTime, nullable=False),
    Column("der", LargeBinary, nullable=False),  # OCSPResponse
    Index("ocsp_by_end", "next_update"),
)
