"""What the registration authority remembers of holders' requests (row 6), so that none is acted upon twice.

A row is written before anything is done for a request, and the answer before it is sent, as for registration messages
(`ra.registration_store`). Questions change nothing, and are forgotten when they are too old to be asked again; orders
and renewals stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    delete,
    select,
    update,
)

from pki.oids import CT_CERT_INQ_REQ
from ra.schema import UtcTime, applications, metadata
from runtime.database import insert_new, reading
from runtime.kept_buckets import count
from runtime.token_bucket import Rate

holder_requests: Final = Table(
    "holder_requests",
    metadata,
    Column("rrpid", String(40), primary_key=True),
    Column("digest", String(64), nullable=False),  # SHA-256 of the request's SignedData
    Column("kind", String(64), nullable=False),  # its content type, a dotted OID
    Column("signed", LargeBinary, nullable=False),  # the request itself
    Column("application_id", ForeignKey(applications.c.id), nullable=True),  # of a renewal, once there is one
    Column("received_at", UtcTime, nullable=False),
    Column("answer", LargeBinary, nullable=True),  # KwbpMessage, once there is nothing more to say
    Index("holder_requests_by_application", "application_id"),
    Index("holder_requests_by_age", "kind", "received_at"),
)

holder_budgets: Final = Table(
    "holder_budgets",
    metadata,
    Column("holder", String(64), primary_key=True),  # SHA-256 of kind of request and name of the holder
    Column("full_at", UtcTime, nullable=False),  # when nothing counts against the holder any more
)

_REMEMBERED: Final = timedelta(days=1)
"""How long a question is remembered: long after its time for being asked is over (K7)."""


@dataclass(frozen=True, slots=True)
class HolderRequest:
    """A request on record. `digest` is SHA-256 of `signed`; `answer` the last one, None while one is due."""

    rrpid: str
    digest: str
    kind: str
    signed: bytes
    application_id: str | None
    received_at: datetime
    answer: bytes | None = None


class HolderStore:
    """The two tables; each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, rrpid: str) -> HolderRequest | None:
        """The request with this RRPID (hexadecimal)."""
        return self._one(holder_requests.c.rrpid == rrpid)

    def of_application(self, application_id: str) -> HolderRequest | None:
        """The first RenewReq that asked for what an application is about."""
        return self._one(holder_requests.c.application_id == application_id)

    def add(self, request: HolderRequest) -> bool:
        """Put a request on record, and forget old questions; False if its RRPID is there already."""
        table = holder_requests
        values = {name: getattr(request, name) for name in HolderRequest.__slots__}
        old = (table.c.kind == CT_CERT_INQ_REQ.dotted_string, table.c.received_at <= request.received_at - _REMEMBERED)
        with self._engine.begin() as db:
            db.execute(delete(holder_requests).where(*old))
            return insert_new(db, table, **values)

    def belongs(self, rrpid: str, application_id: str) -> None:
        """Note which application a renewal is in."""
        table = holder_requests
        with self._engine.begin() as db:
            db.execute(update(table).where(table.c.rrpid == rrpid).values(application_id=application_id))

    def answered(self, rrpid: str, answer: bytes) -> bytes:
        """Keep the last answer; the one that is there already stays, and is returned."""
        table = holder_requests
        with self._engine.begin() as db:
            db.execute(update(table).where(table.c.rrpid == rrpid, table.c.answer.is_(None)).values(answer=answer))
            kept: bytes = db.execute(select(table.c.answer).where(table.c.rrpid == rrpid)).scalar_one()
            return kept

    def count(self, holder: str, rate: Rate, now: datetime) -> timedelta:
        """Count a request of a holder; how long to wait if there were too many."""
        with self._engine.begin() as db:
            return count(db, holder_budgets.c.holder, holder, rate, now)

    def _one(self, condition: ColumnElement[bool]) -> HolderRequest | None:
        names = HolderRequest.__slots__
        query = select(*(holder_requests.c[name] for name in names)).where(condition)
        with reading(self._engine) as db:
            row = db.execute(query.order_by(holder_requests.c.received_at).limit(1)).one_or_none()
        return None if row is None else HolderRequest(**dict(zip(names, row, strict=True)))
