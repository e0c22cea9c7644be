"""The tables of the simulated registers."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, Text

metadata: Final = MetaData()

people: Final = Table(
    "people",
    metadata,
    Column("national_code", String(10), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("status", String(30), nullable=False),
)

companies: Final = Table(
    "companies",
    metadata,
    Column("company_id", String(11), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("folded", String(200), nullable=False, index=True),  # as `shetab.names` compares
    Column("status", String(30), nullable=False),
)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("iban", String(26), primary_key=True),
    Column("owners", Text, nullable=False),  # JSON, a list of names
    Column("status", String(30), nullable=False),
)

answers: Final = Table(
    "answers",
    metadata,
    Column("key", String(64), primary_key=True),  # of the question: a repeat is answered as the first time
    Column("question_sha256", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("asked", Integer, nullable=False),  # how often
)

messages: Final = Table(
    "messages",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("recipient", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("asked", Integer, nullable=False),
)
