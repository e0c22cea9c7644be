"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bcis",
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("this_update", sa.String(length=27), nullable=False),
        sa.Column("next_update", sa.String(length=27), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "crl_parts",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "number", "part"),
    )
    op.create_table(
        "crls",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("base_number", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("this_update", sa.String(length=27), nullable=False),
        sa.Column("next_update", sa.String(length=27), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "number"),
    )
    op.create_index("crls_of_a_scope", "crls", ["issuer", "scope", "number"], unique=False)
    op.create_table(
        "denylist",
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("listed_at", sa.String(length=27), nullable=False),
        sa.Column("listed_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("spki_sha256"),
    )
    op.create_table(
        "dossiers",
        sa.Column("revision_digest", sa.String(length=64), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("member_class", sa.String(length=16), nullable=False),
        sa.Column("cps_digest", sa.String(length=64), nullable=False),
        sa.Column("dossier", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("revision_digest"),
    )
    op.create_index(op.f("ix_dossiers_application_id"), "dossiers", ["application_id"], unique=False)
    op.create_table(
        "issuers",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("crl_number", sa.BigInteger(), nullable=False),
        sa.Column("status_epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer"),
    )
    op.create_table(
        "ocsp_responses",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("this_update", sa.String(length=27), nullable=False),
        sa.Column("next_update", sa.String(length=27), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "serial"),
    )
    op.create_index("ocsp_by_end", "ocsp_responses", ["next_update"], unique=False)
    op.create_table(
        "rsa_moduli",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("modulus", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("spki_sha256"),
    )
    op.create_table(
        "self_audits",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("until", sa.String(length=27), nullable=False),
        sa.Column("sampled", sa.Integer(), nullable=False),
        sa.Column("findings", sa.Integer(), nullable=False),
        sa.Column("report", sa.LargeBinary(), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index(op.f("ix_self_audits_until"), "self_audits", ["until"], unique=False)
    op.create_table(
        "serials",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("reserved_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "serial"),
    )
    op.create_table(
        "certified_keys",
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["issuer", "serial"],
            ["serials.issuer", "serials.serial"],
        ),
        sa.PrimaryKeyConstraint("spki_sha256"),
    )
    op.create_table(
        "intents",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision_digest", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("tbs", sa.LargeBinary(), nullable=False),
        sa.Column("tbs_sha256", sa.String(length=64), nullable=False),
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("lints", sa.String(), nullable=False),
        sa.Column("approvals", sa.String(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("intended_at", sa.String(length=27), nullable=False),
        sa.Column("ended_at", sa.String(length=27), nullable=True),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.String(length=27), nullable=True),
        sa.CheckConstraint("state IN ('open', 'issued', 'abandoned')", name="intent_state"),
        sa.ForeignKeyConstraint(
            ["issuer", "serial"],
            ["serials.issuer", "serials.serial"],
        ),
        sa.ForeignKeyConstraint(
            ["revision_digest"],
            ["dossiers.revision_digest"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "leased_intents",
        "intents",
        ["id"],
        unique=False,
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index(
        "one_intent_a_purpose",
        "intents",
        ["revision_digest", "purpose"],
        unique=True,
        sqlite_where=sa.text("state <> 'abandoned'"),
        postgresql_where=sa.text("state <> 'abandoned'"),
    )
    op.create_index("one_intent_a_serial", "intents", ["issuer", "serial"], unique=True)
    op.create_table(
        "renewals",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("tbs", sa.LargeBinary(), nullable=False),
        sa.Column("intended_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["issuer", "serial"],
            ["serials.issuer", "serials.serial"],
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "revocations",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("revoked_at", sa.String(length=27), nullable=False),
        sa.Column("invalidity_date", sa.String(length=27), nullable=True),
        sa.Column("order", sa.LargeBinary(), nullable=True),
        sa.Column("ordered_by", sa.String(), nullable=False),
        sa.Column("due_at", sa.String(length=27), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("state IN ('revoked', 'held', 'released')", name="revocation_state"),
        sa.ForeignKeyConstraint(
            ["issuer", "serial"],
            ["serials.issuer", "serials.serial"],
        ),
        sa.PrimaryKeyConstraint("issuer", "serial"),
    )
    op.create_index(
        "revocations_as_listed",
        "revocations",
        ["issuer", sa.literal_column("length(serial)"), "serial", "state", "entry"],
        unique=False,
    )
    op.create_index("revocations_in_order", "revocations", ["issuer", "epoch"], unique=False)
    op.create_index(
        "suspensions",
        "revocations",
        ["revoked_at"],
        unique=False,
        sqlite_where=sa.text("state = 'held'"),
        postgresql_where=sa.text("state = 'held'"),
    )
    op.create_table(
        "status_changes",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("order", sa.LargeBinary(), nullable=True),
        sa.Column("ordered_by", sa.String(), nullable=False),
        sa.Column("due_at", sa.String(length=27), nullable=True),
        sa.Column("published_at", sa.String(length=27), nullable=True),
        sa.ForeignKeyConstraint(
            ["issuer", "serial"],
            ["serials.issuer", "serials.serial"],
        ),
        sa.PrimaryKeyConstraint("issuer", "epoch"),
    )
    op.create_index("changes_of_a_serial", "status_changes", ["issuer", "serial"], unique=False)
    op.create_index(
        "changes_to_cover",
        "status_changes",
        ["issuer", "epoch"],
        unique=False,
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_index(
        "changes_to_publish",
        "status_changes",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_table(
        "certificates",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("intent_id", sa.Integer(), nullable=True),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("not_before", sa.String(length=27), nullable=False),
        sa.Column("not_after", sa.String(length=27), nullable=False),
        sa.Column("stored_at", sa.String(length=27), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["intent_id"],
            ["intents.id"],
        ),
        sa.ForeignKeyConstraint(
            ["issuer", "serial"],
            ["serials.issuer", "serials.serial"],
        ),
        sa.PrimaryKeyConstraint("issuer", "serial"),
        sa.UniqueConstraint("intent_id"),
        sa.UniqueConstraint("sha256"),
    )
    op.create_index("certificates_in_order", "certificates", ["stored_at", "issuer", "serial"], unique=False)
    op.create_index("certificates_of_a_serial", "certificates", ["serial"], unique=False)
    op.create_index(op.f("ix_certificates_identity"), "certificates", ["identity"], unique=False)
    op.create_index(op.f("ix_certificates_not_after"), "certificates", ["not_after"], unique=False)
    op.create_index(op.f("ix_certificates_spki_sha256"), "certificates", ["spki_sha256"], unique=False)
