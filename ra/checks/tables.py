"""Identity checks in the RA's database: what was asked, how often, and what came of it.

A check is one kind of question about one revision of a case. Its id is the key that the register sees. What is asked
is not here (the revision has it), only its digest; nor is the answer, only its digest and the statement that the RA
signed over both. Of a one-time code there is nothing here: it is computed from `nonce` and a key outside the database.

    due ──► answered | gave_up                not_asked: there was nothing to ask with
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from ra.schema import UtcTime, metadata

checks: Final = Table(
    "checks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("application_id", ForeignKey("applications.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("revision_digest", String(64), nullable=False),
    Column("kind", String(30), nullable=False),
    Column("question_sha256", String(64), nullable=False),
    Column("salt", String(32), nullable=False),
    Column("state", String(12), nullable=False),
    Column("version", Integer, nullable=False),  # optimistic lock: every change adds one
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("next_at", UtcTime, nullable=False),
    Column("gives_up_at", UtcTime, nullable=False),
    Column("trouble", String(40), nullable=False),  # why there was no answer the last time, in a word
    Column("status", String(16), nullable=False),  # confirmed, contradicted, unknown; empty without an answer
    Column("reason", String(40), nullable=False),
    Column("source", String(128), nullable=False),
    Column("answered_at", UtcTime, nullable=True),
    Column("answer_sha256", String(64), nullable=False),
    Column("statement", LargeBinary, nullable=True),  # CMS SignedData, DER
    Column("handed_over_at", UtcTime, nullable=True),  # from then on the case knows
    Index("checks_of_application", "application_id", "revision"),
    Index("checks_due", "state", "next_at"),
    Index("checks_not_handed_over", "handed_over_at", "state"),
)

phones: Final = Table(
    "phones",
    metadata,
    Column("application_id", ForeignKey("applications.id"), primary_key=True),
    Column("phone", String(11), nullable=False),
    Column("state", String(12), nullable=False),  # sending, sent, confirmed, spent
    Column("version", Integer, nullable=False),
    Column("sends", Integer, nullable=False),
    Column("nonce", String(32), nullable=False),  # of the code that was sent last
    Column("tries_left", Integer, nullable=False),
    Column("asked_at", UtcTime, nullable=False),  # when the last code was asked for
    Column("expires_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False),  # to have the last message sent
    Column("next_at", UtcTime, nullable=False),
    Column("confirmed_at", UtcTime, nullable=True),
    Index("phones_sending", "state", "next_at"),
)

phone_numbers: Final = Table(
    "phone_numbers",
    metadata,
    Column("phone", String(11), primary_key=True),  # whoever has the row counts what is sent to it, one after the other
    Column("asked_at", UtcTime, nullable=False),
)

phone_sends: Final = Table(
    "phone_sends",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("phone", String(11), nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("phone_sends_by_phone", "phone", "at"),
)
