"""Tables of the life of orders: one row a step, and what persons stated about orders that nobody else could decide.

`order_steps` is written at its right edge alone: its key begins with when the order was received, so that a step costs
the same at the millionth order as at the first. No column holds card data.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, Column, Index, Integer, LargeBinary, String, Table, UniqueConstraint

from gateway.schema import Instant, metadata
from runtime.append_only import append_only

order_steps: Final = Table(
    "order_steps",
    metadata,
    Column("received_at", Instant, primary_key=True, doc="of the order"),
    Column("xid", LargeBinary(20), primary_key=True),
    Column("merchant_id", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("number", Integer, primary_key=True, doc="from 1, in the order in which they were made"),
    Column("at", Instant, nullable=False),
    Column("state", String, nullable=False, doc="of the order after the step"),
    Column("what", JSON(none_as_null=True), doc="what else is known of it: response code, attempt, who, why"),
    sqlite_with_rowid=False,
)

# What officers signed to act here (`gateway.operating.officer_acts`), each used once and kept as evidence.
officer_statements: Final = Table(
    "officer_statements",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("credential", String(64), nullable=False, doc="SHA-256 of the officer's certificate, hexadecimal"),
    Column("nonce", String(32), nullable=False, doc="hexadecimal"),
    Column("person", String, nullable=False),
    Column("method", String, nullable=False),
    Column("target", String, nullable=False, doc="path and query"),
    Column("body", LargeBinary, doc="what was asked; none if it is long: `target` says where it is kept then"),
    Column("statement", LargeBinary, nullable=False, doc="CMS SignedData (DER)"),
    Column("taken_at", Instant, nullable=False),
    UniqueConstraint("credential", "nonce"),
    Index("officer_statements_of_person", "person", "taken_at"),
)
append_only(officer_statements)

# The outcome of an order in REV_FAILED, as one person stated it and another confirmed it.
resolutions: Final = Table(
    "resolutions",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("xid", LargeBinary(20), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("reversal", Integer, primary_key=True, doc="number of the order's reversal that failed"),
    Column("outcome", String, nullable=False, doc="REVERSED or DEBITED"),
    Column("reason", String, nullable=False),
    Column("stated_by", String, nullable=False),
    Column("stated_at", Instant, nullable=False),
    Column("confirmed_by", String, doc="another person; none while it waits for one"),
    Column("confirmed_at", Instant),
)
