"""Tables of limits: how much of each rule is used, and by which key cards are told apart."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table

from gateway.schema import Instant, metadata

# One row a rule, subject and window; it is changed by compare-and-set against the rule's figures.
limit_counters: Final = Table(
    "limit_counters",
    metadata,
    Column("window", Instant, primary_key=True, doc="when it began"),
    Column("rule", String, primary_key=True),
    Column("subject", String, primary_key=True, doc="merchant id, or the card's digest"),
    Column("orders", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    sqlite_with_rowid=False,
)

# Gateways on one database must tell cards apart by the same key.
card_keys: Final = Table(
    "card_keys",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False, doc="of the key in the key service's registry"),
    Column("check_value", LargeBinary(8), nullable=False),
    Column("since", Instant, nullable=False),
)
