"""Tables of what the gateway keeps as proof (`gateway.disclosures`)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Integer, LargeBinary, String, Table

from gateway.schema import Instant, metadata

public_objects: Final = Table(
    "public_objects",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True, doc="SHA-256 of `der`"),
    Column("kind", String, nullable=False, doc="crl or certificate"),
    Column("der", LargeBinary, nullable=False),
    Column("first_seen", Instant, nullable=False),
)

statements: Final = Table(
    "statements",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("xid", LargeBinary(20), primary_key=True),
    Column("status", Integer, primary_key=True, doc="PurchaseStatus"),
    Column("said_at", Instant, nullable=False),
    Column("inq_res", LargeBinary, nullable=False, doc="signed by the gateway (DER)"),
)
