"""The tables of the outbox.

A notice's `id` is made of what it tells, to whom and by which channel: the same again is the same row, whoever finds
it and however often. The address is forgotten some time after the notice has reached its end (`Outbox.tidy`).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from ra.schema import UtcTime, metadata

notices: Final = Table(
    "notices",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("source", String(200), nullable=False),  # such as transition/17: the row or fact that it tells of
    Column("event", String(40), nullable=False),
    Column("channel", String(8), nullable=False),  # mail, webhook
    Column("recipient", String(254), nullable=False),  # an address, or the name of a webhook
    Column("language", String(2), nullable=False),
    Column("stream", String(64), nullable=True),  # those of one stream reach one recipient in their order
    Column("application_id", String(64), nullable=True),
    Column("fields", Text, nullable=False),  # a JSON object of text, each of a kind of pki.notice
    Column("at", UtcTime, nullable=False),
    Column("state", String(12), nullable=False),
    Column("next_at", UtcTime, nullable=False),  # not before
    Column("attempts", Integer, nullable=False),  # in all, counted before each
    Column("failures", Integer, nullable=False),  # since it was written or last asked for again
    Column("leased_until", UtcTime, nullable=True),
    Column("ended_at", UtcTime, nullable=True),
    Column("trouble", String(200), nullable=True),  # what went wrong last, in our words
    Index("notices_by_next", "state", "next_at"),
    Index("notices_by_stream", "stream", "state"),
)

cursor: Final = Table(
    "notice_cursor",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("position", BigInteger, nullable=False),  # seq of the last one told of; entries: 0
)

contacts: Final = Table(
    "notice_contacts",
    metadata,
    Column("application_id", ForeignKey("applications.id"), primary_key=True),
    Column("address", String(254), nullable=False),
    Column("language", String(2), nullable=False),
    Column("at", UtcTime, nullable=False),
)
