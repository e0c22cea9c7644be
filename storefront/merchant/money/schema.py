"""The tables of the money after the authorisation, beside those of the order book (`storefront.merchant.store`)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table

from storefront.merchant.schema import orders

metadata: Final = MetaData()

requests: Final = Table(
    "money_requests",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("wish", String(80), nullable=False, unique=True),  # the name under which a person asked
    Column("asked", String(400), nullable=False),  # what was asked for, canonical: one name is one wish
    Column("rrpid", LargeBinary(20), nullable=False, unique=True),
    Column("content_type", String(80), nullable=False),
    Column("xid", LargeBinary(20), ForeignKey(orders.c.xid), index=True),  # absent: about a batch
    Column("open_about", LargeBinary(20), unique=True),  # while it is open: XID or BATCHES; at most one each
    Column("state", String(16), nullable=False, index=True),
    Column("der", LargeBinary, nullable=False),  # SignedData, as it is sent each time
    Column("answer", LargeBinary),  # SignedData of the gateway's last word: its answer, or its Error
    Column("h_answer", LargeBinary(32), unique=True),
    Column("code", String(40)),  # protocol name of the AuthCode or ErrorCode
    Column("clause", String(8)),  # the check that refused
    Column("created_at", String(20), nullable=False),
    Column("changed_at", String(20), nullable=False),
)
"""What was asked of the gateway. A row is committed before its bytes are sent for the first time."""

purchases: Final = Table(
    "money_purchases",
    metadata,
    Column("xid", LargeBinary(20), ForeignKey(orders.c.xid), primary_key=True),
    Column("sale", Boolean, nullable=False),
)
"""The paid orders whose beginning is in the entries: a sale is one, an authorisation alone is none."""

entries: Final = Table(
    "money_entries",
    metadata,
    Column("h_answer", LargeBinary(32), primary_key=True),
    Column("xid", LargeBinary(20), ForeignKey(orders.c.xid), nullable=False, index=True),
    Column("kind", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("date", String(20), nullable=False, index=True),
    Column("business_day", String(10), nullable=False, index=True),
)
"""Every movement of money by the answer that approved it (`kwbp.settling.Entry`), and the day that advises it."""

batches: Final = Table(
    "money_batches",
    metadata,
    Column("batch_id", Integer, primary_key=True, autoincrement=False),
    Column("begins", String(20)),
    Column("until", String(20)),  # absent while it is open
)

advices: Final = Table(
    "money_advices",
    metadata,
    Column("business_date", String(8), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("parts", Integer, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("stored_at", String(20), nullable=False),
)
