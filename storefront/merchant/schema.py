"""The tables of the merchant's order book (`storefront.merchant.store`)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table

metadata: Final = MetaData()

orders: Final = Table(
    "orders",
    metadata,
    Column("xid", LargeBinary(20), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("rrpid", LargeBinary(20), nullable=False, unique=True),
    Column("h_request", LargeBinary(32), nullable=False),
    Column("h_purchase", LargeBinary(32)),
    Column("purchase_rrpid", LargeBinary(20), unique=True),
    Column("amount", BigInteger, nullable=False),
    Column("rrn", String(12)),
    Column("auth_code", Integer),
    Column("created_at", String(20), nullable=False),
    Column("changed_at", String(20), nullable=False),
)

documents: Final = Table(
    "documents",
    metadata,
    Column("xid", LargeBinary(20), ForeignKey("orders.xid"), primary_key=True),
    Column("kind", String(24), primary_key=True),
    Column("der", LargeBinary, nullable=False),
    Column("stored_at", String(20), nullable=False),
)

crls: Final = Table(
    "crls",
    metadata,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("der", LargeBinary, nullable=False),
)

order_crls: Final = Table(
    "order_crls",
    metadata,
    Column("xid", LargeBinary(20), ForeignKey("orders.xid"), primary_key=True),
    Column("sha256", LargeBinary(32), ForeignKey("crls.sha256"), primary_key=True),
)

proofs: Final = Table(
    "proofs",
    metadata,
    Column("xid", LargeBinary(20), ForeignKey("orders.xid"), primary_key=True),
    Column("name", String(80), primary_key=True),  # storefront.merchant.proof
    Column("der", LargeBinary, nullable=False),
    Column("stored_at", String(20), nullable=False),
)
