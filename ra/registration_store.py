"""What the registration authority remembers of registration messages, so that none is acted upon twice.

A row is written before anything is done for a request, and the last answer before it is sent: the same request again
finds its application, or its answer, also in another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    select,
    update,
)

from ra.schema import UtcTime, applications, metadata
from runtime.database import insert_new, reading
from runtime.kept_buckets import count
from runtime.token_bucket import Rate

registrations = Table(
    "registrations",
    metadata,
    Column("rrpid", String(40), primary_key=True),
    Column("digest", String(64), nullable=False),  # SHA-256 of the request's SignedData
    Column("signed", LargeBinary, nullable=False),  # the request itself, for whoever vets the case
    Column("one_time_key", String(64), nullable=True, unique=True),
    Column("application_id", ForeignKey(applications.c.id), nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("answer", LargeBinary, nullable=True),  # KwbpMessage, once there is nothing more to say
    Index("registrations_by_application", "application_id"),
)

registration_cards = Table(
    "registration_cards",
    metadata,
    Column("card_ref", String(64), primary_key=True),
    Column("full_at", UtcTime, nullable=False),  # when nothing counts against the card any more
)


@dataclass(frozen=True, slots=True)
class Registration:
    """A request on record. `digest` is SHA-256 of `signed`; `answer` the last one, None while one is due."""

    rrpid: str
    digest: str
    signed: bytes
    one_time_key: str | None
    application_id: str
    received_at: datetime
    answer: bytes | None = None


class RegistrationStore:
    """The two tables; each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, rrpid: str) -> Registration | None:
        """The request with this RRPID (hexadecimal)."""
        return self._one(registrations.c.rrpid == rrpid)

    def of_application(self, application_id: str) -> Registration | None:
        """The request that an application came by."""
        return self._one(registrations.c.application_id == application_id)

    def knows_key(self, one_time_key: str) -> bool:
        """Whether the one-time key (SHA-256, hexadecimal) was used before."""
        return self._one(registrations.c.one_time_key == one_time_key) is not None

    def add(self, registration: Registration) -> bool:
        """Put a request on record; False if its RRPID or one-time key is there already."""
        values = {name: getattr(registration, name) for name in Registration.__slots__}
        with self._engine.begin() as db:
            return insert_new(db, registrations, **values)

    def answered(self, rrpid: str, answer: bytes) -> bytes:
        """Keep the last answer; the one that is there already stays, and is returned."""
        table = registrations
        with self._engine.begin() as db:
            db.execute(update(table).where(table.c.rrpid == rrpid, table.c.answer.is_(None)).values(answer=answer))
            kept: bytes = db.execute(select(table.c.answer).where(table.c.rrpid == rrpid)).scalar_one()
            return kept

    def count_card(self, card_ref: bytes, rate: Rate, now: datetime) -> timedelta:
        """Count a certificate for a card; how long to wait if there were too many."""
        with self._engine.begin() as db:
            return count(db, registration_cards.c.card_ref, card_ref.hex(), rate, now)

    def _one(self, condition: ColumnElement[bool]) -> Registration | None:
        names = Registration.__slots__
        query = select(*(registrations.c[name] for name in names)).where(condition)
        with reading(self._engine) as db:
            row = db.execute(query).one_or_none()
        return None if row is None else Registration(**dict(zip(names, row, strict=True)))
