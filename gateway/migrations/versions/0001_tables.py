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
        "advices",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", "business_day", "part"),
    )
    op.create_table(
        "batch_requests",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("rrpid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("counted_until", sa.BigInteger(), nullable=False),
        sa.Column("totals", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("merchant_id", "rrpid"),
    )
    op.create_table(
        "batches",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("merchant_id", "batch_id"),
    )
    op.create_table(
        "card_keys",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("check_value", sa.LargeBinary(length=8), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "charged_fees",
        sa.Column("h_answer", sa.LargeBinary(length=32), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("h_answer"),
        info={"append_only": True},
    )
    op.create_index("charged_fees_by_day", "charged_fees", ["merchant_id", "business_day"], unique=False)
    op.create_table(
        "corrections",
        sa.Column("difference", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("excess", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("difference", "part"),
        info={"append_only": True},
    )
    op.create_table(
        "differences",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("terminal_id", sa.String(), nullable=False),
        sa.Column("stan", sa.String(length=6), nullable=False),
        sa.Column("rrn", sa.String(length=12), nullable=False),
        sa.Column("movement", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("own_amount", sa.BigInteger(), nullable=True),
        sa.Column("their_amount", sa.BigInteger(), nullable=True),
        sa.Column("own_day", sa.String(), nullable=True),
        sa.Column("their_day", sa.String(), nullable=True),
        sa.Column("excess", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("list_number", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("differences_by_day", "differences", ["merchant_id", "business_day"], unique=False)
    op.create_index("differences_by_state", "differences", ["state"], unique=False)
    op.create_index(
        "one_difference_a_movement",
        "differences",
        ["route", "business_day", "merchant_id", "terminal_id", "stan", "rrn", "movement", "kind"],
        unique=True,
    )
    op.create_table(
        "entries",
        sa.Column("h_answer", sa.LargeBinary(length=32), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.BigInteger(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("settled_day", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("h_answer"),
    )
    op.create_index("entries_by_date", "entries", ["merchant_id", "date"], unique=False)
    op.create_index("entries_by_day", "entries", ["merchant_id", "business_day"], unique=False)
    op.create_index("entries_by_settled_day", "entries", ["merchant_id", "settled_day"], unique=False)
    op.create_table(
        "finished_days",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("gross", sa.BigInteger(), nullable=False),
        sa.Column("fees", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", "business_day"),
        info={"append_only": True},
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "ledger_lines",
        sa.Column("cause_kind", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("posted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cause_kind", "cause", "account"),
        info={"append_only": True},
    )
    op.create_index("ledger_lines_by_account", "ledger_lines", ["account", "business_day"], unique=False)
    op.create_table(
        "limit_counters",
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("window", "rule", "subject"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "merchants",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("terminal_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("mcc", sa.String(length=4), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("order_limit", sa.BigInteger(), nullable=True),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id"),
        sa.UniqueConstraint("terminal_id"),
    )
    op.create_table(
        "network_lists",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("imported_at", sa.BigInteger(), nullable=False),
        sa.Column("imported_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("route", "digest"),
        info={"append_only": True},
    )
    op.create_index("network_lists_by_day", "network_lists", ["route", "business_day"], unique=False)
    op.create_table(
        "network_payments",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("net", sa.BigInteger(), nullable=False),
        sa.Column("booked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", "business_day", "route", "part"),
        info={"append_only": True},
    )
    op.create_table(
        "officer_statements",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("credential", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("credential", "nonce"),
        info={"append_only": True},
    )
    op.create_index("officer_statements_of_person", "officer_statements", ["person", "taken_at"], unique=False)
    op.create_table(
        "order_steps",
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("what", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("received_at", "xid", "merchant_id", "kind", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "payment_files",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.String(length=35), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("message_id"),
        info={"append_only": True},
    )
    op.create_table(
        "payouts",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(length=35), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("gross", sa.BigInteger(), nullable=False),
        sa.Column("fees", sa.BigInteger(), nullable=False),
        sa.Column("brought_forward", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("carried_forward", sa.BigInteger(), nullable=False),
        sa.Column("iban", sa.String(length=26), nullable=True),
        sa.Column("beneficiary", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("file", sa.Integer(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_by", sa.String(), nullable=True),
        sa.Column("paid_at", sa.BigInteger(), nullable=True),
        sa.Column("returned_at", sa.BigInteger(), nullable=True),
        sa.Column("answered_by", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("merchant_id", "business_day", "attempt"),
        sa.UniqueConstraint("reference"),
    )
    op.create_index("payouts_by_state", "payouts", ["state"], unique=False)
    op.create_table(
        "public_objects",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "reconciliations",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("over_at", sa.BigInteger(), nullable=True),
        sa.Column("compared_at", sa.BigInteger(), nullable=True),
        sa.Column("rc", sa.String(length=2), nullable=True),
        sa.Column("settled", sa.String(length=1), nullable=True),
        sa.Column("own", sa.JSON(), nullable=True),
        sa.Column("theirs", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("merchant_id", "business_day", "route"),
    )
    op.create_table(
        "registry_version",
        sa.Column("registry", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("registry"),
    )
    op.create_table(
        "resolutions",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("reversal", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("stated_by", sa.String(), nullable=False),
        sa.Column("stated_at", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_by", sa.String(), nullable=True),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("merchant_id", "xid", "kind", "reversal"),
    )
    op.create_table(
        "settlings",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("rrpid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("content_type", sa.String(), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("leaves", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("runner", sa.String(), nullable=True),
        sa.Column("stan", sa.String(length=6), nullable=False),
        sa.Column("rrn", sa.String(length=12), nullable=False),
        sa.Column("mti", sa.String(length=4), nullable=True),
        sa.Column("sent_fields", sa.JSON(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("auth_code", sa.Integer(), nullable=True),
        sa.Column("rc", sa.String(length=2), nullable=True),
        sa.Column("approval", sa.String(length=6), nullable=True),
        sa.Column("settle_date", sa.String(length=4), nullable=True),
        sa.Column("date", sa.BigInteger(), nullable=True),
        sa.Column("open_answer", sa.LargeBinary(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("h_answer", sa.LargeBinary(length=32), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("merchant_id", "xid", "rrpid"),
    )
    op.create_index(
        "one_open_request",
        "settlings",
        ["merchant_id", "xid"],
        unique=True,
        sqlite_where=sa.text("state != 'ANSWERED'"),
        postgresql_where=sa.text("state != 'ANSWERED'"),
    )
    op.create_index("settlings_by_state", "settlings", ["state", "next_at"], unique=False)
    op.create_table(
        "statements",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("said_at", sa.BigInteger(), nullable=False),
        sa.Column("inq_res", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", "xid", "status"),
    )
    op.create_table(
        "trace_numbers",
        sa.Column("acquirer", sa.String(), nullable=False),
        sa.Column("business_day", sa.String(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("acquirer"),
    )
    op.create_table(
        "unclaimed_answers",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("mti", sa.String(length=4), nullable=False),
        sa.Column("acquirer", sa.String(), nullable=True),
        sa.Column("stan", sa.String(length=6), nullable=True),
        sa.Column("rrn", sa.String(length=12), nullable=True),
        sa.Column("terminal_id", sa.String(), nullable=True),
        sa.Column("rc", sa.String(length=2), nullable=True),
        sa.Column("merchant_id", sa.String(), nullable=True),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "merchant_accounts",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("iban", sa.String(length=26), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"],
            ["merchants.merchant_id"],
        ),
        sa.PrimaryKeyConstraint("merchant_id"),
    )
    op.create_table(
        "orders",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("runner", sa.String(), nullable=True),
        sa.Column("runner_until", sa.BigInteger(), nullable=True),
        sa.Column("request_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("rrpid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("terminal_id", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("invoice", sa.LargeBinary(), nullable=False),
        sa.Column("dual_signature", sa.LargeBinary(), nullable=False),
        sa.Column("pan_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("masked_pan", sa.String(), nullable=True),
        sa.Column("acquirer", sa.String(), nullable=True),
        sa.Column("business_day", sa.String(), nullable=True),
        sa.Column("stan", sa.String(length=6), nullable=True),
        sa.Column("rrn", sa.String(length=12), nullable=True),
        sa.Column("route", sa.String(), nullable=True),
        sa.Column("sent_fields", sa.JSON(), nullable=True),
        sa.Column("approved", sa.Boolean(), nullable=True),
        sa.Column("rc", sa.String(length=2), nullable=True),
        sa.Column("approval", sa.String(length=6), nullable=True),
        sa.Column("settle_date", sa.String(length=4), nullable=True),
        sa.Column("late_rc", sa.String(length=2), nullable=True),
        sa.Column("late_approved", sa.Boolean(), nullable=True),
        sa.Column("late_approval", sa.String(length=6), nullable=True),
        sa.Column("late_at", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("auth_code", sa.Integer(), nullable=True),
        sa.Column("ack_by", sa.BigInteger(), nullable=True),
        sa.Column("ack_boot", sa.String(), nullable=True),
        sa.Column("ack_until", sa.BigInteger(), nullable=True),
        sa.Column("auth_ack", sa.LargeBinary(), nullable=True),
        sa.Column("reversal_reason", sa.String(), nullable=True),
        sa.Column("reversal_stan", sa.String(length=6), nullable=True),
        sa.Column("reversal_attempts", sa.Integer(), nullable=False),
        sa.Column("reversal_next_at", sa.BigInteger(), nullable=True),
        sa.Column("reversal_rc", sa.String(length=2), nullable=True),
        sa.Column("reversal_found_original", sa.Boolean(), nullable=True),
        sa.Column("reversal_number", sa.Integer(), nullable=False),
        sa.Column("reversal_queued_at", sa.BigInteger(), nullable=True),
        sa.Column("reversal_until", sa.BigInteger(), nullable=True),
        sa.Column("lapses_at", sa.BigInteger(), nullable=True),
        sa.Column("card_id", sa.LargeBinary(length=16), nullable=True),
        sa.Column("counted", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"],
            ["merchants.merchant_id"],
        ),
        sa.PrimaryKeyConstraint("merchant_id", "xid", "kind"),
        sa.UniqueConstraint("acquirer", "business_day", "stan"),
        sa.UniqueConstraint("acquirer", "rrn"),
    )
    op.create_index(
        "holds_by_end",
        "orders",
        ["lapses_at"],
        unique=False,
        sqlite_where=sa.text("lapses_at IS NOT NULL"),
        postgresql_where=sa.text("lapses_at IS NOT NULL"),
    )
    op.create_index("orders_by_ack", "orders", ["state", "ack_by"], unique=False)
    op.create_index("orders_by_change", "orders", ["state", "changed_at"], unique=False)
    op.create_index("orders_by_lapse", "orders", ["state", "lapses_at"], unique=False)
    op.create_index("orders_by_reversal", "orders", ["state", "reversal_next_at"], unique=False)
    op.create_index("orders_by_time", "orders", ["received_at"], unique=False)
    op.create_index(
        "reversals_by_card",
        "orders",
        ["card_id"],
        unique=False,
        sqlite_where=sa.text("state = 'REV_QUEUED'"),
        postgresql_where=sa.text("state = 'REV_QUEUED'"),
    )
    op.create_table(
        "password_requests",
        sa.Column("merchant_id", sa.String(), nullable=False),
        sa.Column("h_otp_req", sa.LargeBinary(length=32), nullable=False),
        sa.Column("rrpid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("xid", sa.LargeBinary(length=20), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["merchant_id"],
            ["merchants.merchant_id"],
        ),
        sa.PrimaryKeyConstraint("merchant_id", "h_otp_req"),
        sa.UniqueConstraint("merchant_id", "rrpid"),
    )
    op.create_index(op.f("ix_password_requests_asked_at"), "password_requests", ["asked_at"], unique=False)
    dialect = op.get_bind().dialect.name
    if dialect == "sqlite":
        op.execute(
            "CREATE TRIGGER charged_fees_no_update BEFORE UPDATE ON charged_fees BEGIN SELECT"
            " RAISE(ABORT, 'charged_fees is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER charged_fees_no_delete BEFORE DELETE ON charged_fees BEGIN SELECT"
            " RAISE(ABORT, 'charged_fees is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER corrections_no_update BEFORE UPDATE ON corrections BEGIN SELECT "
            "RAISE(ABORT, 'corrections is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER corrections_no_delete BEFORE DELETE ON corrections BEGIN SELECT "
            "RAISE(ABORT, 'corrections is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER finished_days_no_update BEFORE UPDATE ON finished_days BEGIN "
            "SELECT RAISE(ABORT, 'finished_days is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER finished_days_no_delete BEFORE DELETE ON finished_days BEGIN "
            "SELECT RAISE(ABORT, 'finished_days is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER ledger_lines_no_update BEFORE UPDATE ON ledger_lines BEGIN SELECT"
            " RAISE(ABORT, 'ledger_lines is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER ledger_lines_no_delete BEFORE DELETE ON ledger_lines BEGIN SELECT"
            " RAISE(ABORT, 'ledger_lines is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER network_lists_no_update BEFORE UPDATE ON network_lists BEGIN "
            "SELECT RAISE(ABORT, 'network_lists is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER network_lists_no_delete BEFORE DELETE ON network_lists BEGIN "
            "SELECT RAISE(ABORT, 'network_lists is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER network_payments_no_update BEFORE UPDATE ON network_payments "
            "BEGIN SELECT RAISE(ABORT, 'network_payments is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER network_payments_no_delete BEFORE DELETE ON network_payments "
            "BEGIN SELECT RAISE(ABORT, 'network_payments is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER officer_statements_no_update BEFORE UPDATE ON officer_statements "
            "BEGIN SELECT RAISE(ABORT, 'officer_statements is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER officer_statements_no_delete BEFORE DELETE ON officer_statements "
            "BEGIN SELECT RAISE(ABORT, 'officer_statements is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER payment_files_no_update BEFORE UPDATE ON payment_files BEGIN "
            "SELECT RAISE(ABORT, 'payment_files is append-only'); END"
        )
        op.execute(
            "CREATE TRIGGER payment_files_no_delete BEFORE DELETE ON payment_files BEGIN "
            "SELECT RAISE(ABORT, 'payment_files is append-only'); END"
        )
    if dialect == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = "
            "'integrity_constraint_violation'; END $$"
        )
        op.execute(
            "CREATE TRIGGER charged_fees_no_update BEFORE UPDATE ON charged_fees FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER charged_fees_no_delete BEFORE DELETE ON charged_fees FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER charged_fees_no_truncate BEFORE TRUNCATE ON charged_fees FOR EACH"
            " STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER corrections_no_update BEFORE UPDATE ON corrections FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER corrections_no_delete BEFORE DELETE ON corrections FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER corrections_no_truncate BEFORE TRUNCATE ON corrections FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER finished_days_no_update BEFORE UPDATE ON finished_days FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER finished_days_no_delete BEFORE DELETE ON finished_days FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER finished_days_no_truncate BEFORE TRUNCATE ON finished_days FOR "
            "EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER ledger_lines_no_update BEFORE UPDATE ON ledger_lines FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER ledger_lines_no_delete BEFORE DELETE ON ledger_lines FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER ledger_lines_no_truncate BEFORE TRUNCATE ON ledger_lines FOR EACH"
            " STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER network_lists_no_update BEFORE UPDATE ON network_lists FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER network_lists_no_delete BEFORE DELETE ON network_lists FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER network_lists_no_truncate BEFORE TRUNCATE ON network_lists FOR "
            "EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER network_payments_no_update BEFORE UPDATE ON network_payments FOR "
            "EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER network_payments_no_delete BEFORE DELETE ON network_payments FOR "
            "EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER network_payments_no_truncate BEFORE TRUNCATE ON network_payments "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER officer_statements_no_update BEFORE UPDATE ON officer_statements "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER officer_statements_no_delete BEFORE DELETE ON officer_statements "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER officer_statements_no_truncate BEFORE TRUNCATE ON "
            "officer_statements FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER payment_files_no_update BEFORE UPDATE ON payment_files FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER payment_files_no_delete BEFORE DELETE ON payment_files FOR EACH "
            "STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER payment_files_no_truncate BEFORE TRUNCATE ON payment_files FOR "
            "EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
