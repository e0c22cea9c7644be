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
        "denylist",
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("spki_sha256"),
        info={"append_only": True},
    )
    op.create_table(
        "evidence_bodies",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
        info={"append_only": True},
    )
    op.create_table(
        "holder_budgets",
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("full_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("holder"),
    )
    op.create_table(
        "journal_entries",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("replica", sa.String(length=64), nullable=False),
        sa.Column("journal_index", sa.Integer(), nullable=True),
        sa.Column("told_at", sa.String(length=27), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("key"),
    )
    op.create_index(
        "entries_to_journal",
        "journal_entries",
        ["replica", "seq"],
        unique=False,
        sqlite_where=sa.text("journal_index IS NULL"),
        postgresql_where=sa.text("journal_index IS NULL"),
    )
    op.create_index(
        "entries_to_tell",
        "journal_entries",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("told_at IS NULL"),
        postgresql_where=sa.text("told_at IS NULL"),
    )
    op.create_table(
        "notice_cursor",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "notices",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("recipient", sa.String(length=254), nullable=False),
        sa.Column("language", sa.String(length=2), nullable=False),
        sa.Column("stream", sa.String(length=64), nullable=True),
        sa.Column("application_id", sa.String(length=64), nullable=True),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("next_at", sa.String(length=27), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("leased_until", sa.String(length=27), nullable=True),
        sa.Column("ended_at", sa.String(length=27), nullable=True),
        sa.Column("trouble", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("notices_by_next", "notices", ["state", "next_at"], unique=False)
    op.create_index("notices_by_stream", "notices", ["stream", "state"], unique=False)
    op.create_table(
        "officer_persons",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("organisation", sa.String(length=64), nullable=False),
        sa.Column("known_since", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "orders_under_way",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("cms", sa.LargeBinary(), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("ordered_by", sa.String(length=80), nullable=False),
        sa.Column("received_from", sa.String(length=80), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("denylist", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index("orders_by_time", "orders_under_way", ["received_at"], unique=False)
    op.create_table(
        "person_codes",
        sa.Column("blinded", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("blinded"),
    )
    op.create_index(op.f("ix_person_codes_person_id"), "person_codes", ["person_id"], unique=False)
    op.create_table(
        "phone_numbers",
        sa.Column("phone", sa.String(length=11), nullable=False),
        sa.Column("asked_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("phone"),
    )
    op.create_table(
        "phone_sends",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("phone", sa.String(length=11), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("phone_sends_by_phone", "phone_sends", ["phone", "at"], unique=False)
    op.create_table(
        "queue_cells",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("member_class", sa.String(length=16), nullable=False),
        sa.Column("step", sa.String(length=64), nullable=False),
        sa.Column("waiting_for", sa.String(length=200), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("state", "member_class", "step", "waiting_for"),
    )
    op.create_table(
        "registration_cards",
        sa.Column("card_ref", sa.String(length=64), nullable=False),
        sa.Column("full_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("card_ref"),
    )
    op.create_table(
        "replicas_given_up",
        sa.Column("replica", sa.String(length=64), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("replica"),
    )
    op.create_table(
        "request_nonces",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("good_until", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "nonce"),
    )
    op.create_index("request_nonces_by_end", "request_nonces", ["good_until"], unique=False)
    op.create_table(
        "reviews",
        sa.Column("order_sha256", sa.String(length=64), nullable=False),
        sa.Column("issuer_key_id", sa.String(length=128), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=True),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("ordered_by", sa.String(length=80), nullable=False),
        sa.Column("order_cms", sa.LargeBinary(), nullable=False),
        sa.Column("due_at", sa.String(length=27), nullable=False),
        sa.Column("cms", sa.LargeBinary(), nullable=True),
        sa.Column("judgement", sa.String(length=16), nullable=True),
        sa.Column("reviewed_by", sa.String(length=80), nullable=True),
        sa.Column("reviewed_at", sa.String(length=27), nullable=True),
        sa.PrimaryKeyConstraint("order_sha256"),
    )
    op.create_index("reviews_open", "reviews", ["reviewed_at", "due_at"], unique=False)
    op.create_table(
        "revocations",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("cms", sa.LargeBinary(), nullable=False),
        sa.Column("ordered_by", sa.String(length=64), nullable=False),
        sa.Column("received_from", sa.String(length=80), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "serial"),
        info={"append_only": True},
    )
    op.create_table(
        "applications",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("member_class", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("opened_by", sa.String(length=80), nullable=False),
        sa.Column("opened_at", sa.String(length=27), nullable=False),
        sa.Column("due_from", sa.String(length=27), nullable=False),
        sa.Column("due_at", sa.String(length=27), nullable=False),
        sa.Column("due_warned", sa.Integer(), nullable=False),
        sa.Column("decide_from", sa.String(length=27), nullable=True),
        sa.Column("decide_by", sa.String(length=27), nullable=True),
        sa.Column("decide_warned", sa.Integer(), nullable=False),
        sa.Column("judge_at", sa.String(length=27), nullable=True),
        sa.Column("accept_by", sa.String(length=27), nullable=True),
        sa.Column("next_at", sa.String(length=27), nullable=True),
        sa.Column("held_from", sa.String(length=24), nullable=True),
        sa.Column("held_since", sa.String(length=27), nullable=True),
        sa.Column("step", sa.String(length=64), nullable=True),
        sa.Column("waiting_for", sa.String(length=200), nullable=True),
        sa.Column("missing", sa.Integer(), nullable=True),
        sa.Column("replaces", sa.String(length=64), nullable=True),
        sa.Column("pack_digest", sa.String(length=64), nullable=True),
        sa.Column("nonce_cca", sa.LargeBinary(), nullable=True),
        sa.Column("national_code", sa.String(length=10), nullable=True),
        sa.Column(
            "subject_id",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=True,
        ),
        sa.Column(
            "organisation",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=True,
        ),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("rejected_for", sa.String(length=40), nullable=True),
        sa.Column("cell", sa.Integer(), nullable=False),
        sa.Column("urgent_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["cell"],
            ["queue_cells.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("applications_by_next", "applications", ["next_at"], unique=False)
    op.create_index("applications_by_rejection", "applications", ["rejected_for", "member_class"], unique=False)
    op.create_index("applications_by_subject", "applications", ["member_class", "subject_id"], unique=False)
    op.create_index("queue_by_age", "applications", ["cell", "opened_at", "id", "urgent_at"], unique=False)
    op.create_index("queue_by_organisation", "applications", ["cell", "organisation", "id", "subject_id"], unique=False)
    op.create_index("queue_by_subject", "applications", ["cell", "subject_id", "id"], unique=False)
    op.create_index("queue_by_urgency", "applications", ["cell", "urgent_at", "id"], unique=False)
    op.create_table(
        "officer_accounts",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("opened_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["officer_persons.id"],
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(op.f("ix_officer_accounts_person_id"), "officer_accounts", ["person_id"], unique=False)
    op.create_table(
        "officer_credentials",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("not_before", sa.String(length=27), nullable=False),
        sa.Column("not_after", sa.String(length=27), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["officer_persons.id"],
        ),
        sa.PrimaryKeyConstraint("issuer", "serial"),
    )
    op.create_index(op.f("ix_officer_credentials_person_id"), "officer_credentials", ["person_id"], unique=False)
    op.create_index(op.f("ix_officer_credentials_sha256"), "officer_credentials", ["sha256"], unique=False)
    op.create_table(
        "officer_grants",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=256), nullable=True),
        sa.Column("not_before", sa.String(length=27), nullable=False),
        sa.Column("not_after", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["officer_persons.id"],
        ),
        sa.PrimaryKeyConstraint("issuer", "serial", "place"),
    )
    op.create_index(op.f("ix_officer_grants_person_id"), "officer_grants", ["person_id"], unique=False)
    op.create_table(
        "acceptances",
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("cms", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("application_id"),
        info={"append_only": True},
    )
    op.create_table(
        "certificates",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("stored_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("issuer", "serial"),
        info={"append_only": True},
    )
    op.create_index("certificates_by_serial", "certificates", ["serial"], unique=False)
    op.create_index(op.f("ix_certificates_application_id"), "certificates", ["application_id"], unique=False)
    op.create_table(
        "checks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("revision_digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("question_sha256", sa.String(length=64), nullable=False),
        sa.Column("salt", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("next_at", sa.String(length=27), nullable=False),
        sa.Column("gives_up_at", sa.String(length=27), nullable=False),
        sa.Column("trouble", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("answered_at", sa.String(length=27), nullable=True),
        sa.Column("answer_sha256", sa.String(length=64), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=True),
        sa.Column("handed_over_at", sa.String(length=27), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("checks_due", "checks", ["state", "next_at"], unique=False)
    op.create_index("checks_not_handed_over", "checks", ["handed_over_at", "state"], unique=False)
    op.create_index("checks_of_application", "checks", ["application_id", "revision"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("cms", sa.LargeBinary(), nullable=False),
        sa.Column("received_from", sa.String(length=80), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("application_id", "sha256"),
        info={"append_only": True},
    )
    op.create_table(
        "est_codes",
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("code_sha256", sa.String(length=64), nullable=False),
        sa.Column("tries_left", sa.Integer(), nullable=False),
        sa.Column("good_until", sa.String(length=27), nullable=False),
        sa.Column("prepared_by", sa.String(length=80), nullable=False),
        sa.Column("person", sa.String(length=80), nullable=False),
        sa.Column("organisation", sa.String(length=200), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("national_code", sa.String(length=10), nullable=True),
        sa.Column("after_revision", sa.Integer(), nullable=False),
        sa.Column("csr_sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("application_id"),
    )
    op.create_table(
        "est_renewals",
        sa.Column("certificate_sha256", sa.String(length=64), nullable=False),
        sa.Column("csr_sha256", sa.String(length=64), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("after_revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("certificate_sha256"),
    )
    op.create_table(
        "evidence",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("collected_by", sa.String(length=80), nullable=False),
        sa.Column("collected_at", sa.String(length=27), nullable=False),
        sa.Column("expires_at", sa.String(length=27), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.ForeignKeyConstraint(
            ["sha256"],
            ["evidence_bodies.sha256"],
        ),
        sa.PrimaryKeyConstraint("id"),
        info={"append_only": True},
    )
    op.create_index(op.f("ix_evidence_application_id"), "evidence", ["application_id"], unique=False)
    op.create_table(
        "holder_requests",
        sa.Column("rrpid", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=True),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("rrpid"),
    )
    op.create_index("holder_requests_by_age", "holder_requests", ["kind", "received_at"], unique=False)
    op.create_index("holder_requests_by_application", "holder_requests", ["application_id"], unique=False)
    op.create_table(
        "key_claims",
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("spki_sha256"),
    )
    op.create_index(op.f("ix_key_claims_application_id"), "key_claims", ["application_id"], unique=False)
    op.create_table(
        "notice_contacts",
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=254), nullable=False),
        sa.Column("language", sa.String(length=2), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("application_id"),
    )
    op.create_table(
        "phones",
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("phone", sa.String(length=11), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("tries_left", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.String(length=27), nullable=False),
        sa.Column("expires_at", sa.String(length=27), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.String(length=27), nullable=False),
        sa.Column("confirmed_at", sa.String(length=27), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("application_id"),
    )
    op.create_index("phones_sending", "phones", ["state", "next_at"], unique=False)
    op.create_table(
        "registrations",
        sa.Column("rrpid", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("one_time_key", sa.String(length=64), nullable=True),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("rrpid"),
        sa.UniqueConstraint("one_time_key"),
    )
    op.create_index("registrations_by_application", "registrations", ["application_id"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("canonical", sa.LargeBinary(), nullable=False),
        sa.Column("written_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("application_id", "number"),
        sa.UniqueConstraint("digest"),
        info={"append_only": True},
    )
    op.create_table(
        "transitions",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("before", sa.String(length=24), nullable=True),
        sa.Column("after", sa.String(length=24), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("replica", sa.String(length=64), nullable=False),
        sa.Column("journal_index", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["applications.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(op.f("ix_transitions_application_id"), "transitions", ["application_id"], unique=False)
    op.create_index(
        "transitions_to_journal",
        "transitions",
        ["replica", "seq"],
        unique=False,
        sqlite_where=sa.text("journal_index IS NULL"),
        postgresql_where=sa.text("journal_index IS NULL"),
    )
    op.create_table(
        "requests",
        sa.Column("application_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id", "number"],
            ["revisions.application_id", "revisions.number"],
        ),
        sa.PrimaryKeyConstraint("application_id", "number", "purpose"),
        info={"append_only": True},
    )
    dialect = op.get_bind().dialect.name
    if dialect == "sqlite":
        op.execute(
            "CREATE TRIGGER denylist_no_update BEFORE UPDATE ON denylist BEGIN SELECT "
            "RAISE(ABORT, 'denylist is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER denylist_no_delete BEFORE DELETE ON denylist BEGIN SELECT "
            "RAISE(ABORT, 'denylist is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER evidence_bodies_no_update BEFORE UPDATE ON evidence_bodies BEGIN "
            "SELECT RAISE(ABORT, 'evidence_bodies is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER evidence_bodies_no_delete BEFORE DELETE ON evidence_bodies BEGIN "
            "SELECT RAISE(ABORT, 'evidence_bodies is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER revocations_no_update BEFORE UPDATE ON revocations BEGIN SELECT "
            "RAISE(ABORT, 'revocations is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER revocations_no_delete BEFORE DELETE ON revocations BEGIN SELECT "
            "RAISE(ABORT, 'revocations is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER acceptances_no_update BEFORE UPDATE ON acceptances BEGIN SELECT "
            "RAISE(ABORT, 'acceptances is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER acceptances_no_delete BEFORE DELETE ON acceptances BEGIN SELECT "
            "RAISE(ABORT, 'acceptances is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER certificates_no_update BEFORE UPDATE ON certificates BEGIN SELECT"
            " RAISE(ABORT, 'certificates is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER certificates_no_delete BEFORE DELETE ON certificates BEGIN SELECT"
            " RAISE(ABORT, 'certificates is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions BEGIN SELECT "
            "RAISE(ABORT, 'decisions is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions BEGIN SELECT "
            "RAISE(ABORT, 'decisions is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER evidence_no_update BEFORE UPDATE ON evidence BEGIN SELECT "
            "RAISE(ABORT, 'evidence is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER evidence_no_delete BEFORE DELETE ON evidence BEGIN SELECT "
            "RAISE(ABORT, 'evidence is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER revisions_no_update BEFORE UPDATE ON revisions BEGIN SELECT "
            "RAISE(ABORT, 'revisions is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER revisions_no_delete BEFORE DELETE ON revisions BEGIN SELECT "
            "RAISE(ABORT, 'revisions is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER requests_no_update BEFORE UPDATE ON requests BEGIN SELECT "
            "RAISE(ABORT, 'requests is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER requests_no_delete BEFORE DELETE ON requests BEGIN SELECT "
            "RAISE(ABORT, 'requests is append-only'); END"
        )
    if dialect == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = "
            "'integrity_constraint_violation'; END $$"
        )
        op.execute(
            "CREATE TRIGGER denylist_no_update BEFORE UPDATE ON denylist FOR EACH STATEMENT "
            "EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER denylist_no_delete BEFORE DELETE ON denylist FOR EACH STATEMENT "
            "EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER denylist_no_truncate BEFORE TRUNCATE ON denylist FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER evidence_bodies_no_update BEFORE UPDATE ON evidence_bodies FOR "
            "EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER evidence_bodies_no_delete BEFORE DELETE ON evidence_bodies FOR "
            "EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER evidence_bodies_no_truncate BEFORE TRUNCATE ON evidence_bodies "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER revocations_no_update BEFORE UPDATE ON revocations FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER revocations_no_delete BEFORE DELETE ON revocations FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER revocations_no_truncate BEFORE TRUNCATE ON revocations FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER acceptances_no_update BEFORE UPDATE ON acceptances FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER acceptances_no_delete BEFORE DELETE ON acceptances FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER acceptances_no_truncate BEFORE TRUNCATE ON acceptances FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER certificates_no_update BEFORE UPDATE ON certificates FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER certificates_no_delete BEFORE DELETE ON certificates FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER certificates_no_truncate BEFORE TRUNCATE ON certificates FOR EACH"
            " STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions FOR EACH STATEMENT"
            " EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions FOR EACH STATEMENT"
            " EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER decisions_no_truncate BEFORE TRUNCATE ON decisions FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER evidence_no_update BEFORE UPDATE ON evidence FOR EACH STATEMENT "
            "EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER evidence_no_delete BEFORE DELETE ON evidence FOR EACH STATEMENT "
            "EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER evidence_no_truncate BEFORE TRUNCATE ON evidence FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER revisions_no_update BEFORE UPDATE ON revisions FOR EACH STATEMENT"
            " EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER revisions_no_delete BEFORE DELETE ON revisions FOR EACH STATEMENT"
            " EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER revisions_no_truncate BEFORE TRUNCATE ON revisions FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER requests_no_update BEFORE UPDATE ON requests FOR EACH STATEMENT "
            "EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER requests_no_delete BEFORE DELETE ON requests FOR EACH STATEMENT "
            "EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER requests_no_truncate BEFORE TRUNCATE ON requests FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
