"""The lists an authority has signed, and whose number is next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, func, insert, select, update

from ca import tables
from ca.crl import next_number
from ca.errors import StoreError
from runtime.database import insert_new, reading

FULL: Final = "full"
DELTA: Final = "delta"
_AT_ONCE: Final = 5_000  # entries read together


@dataclass(frozen=True, slots=True)
class CrlRecord:
    """A CRL (DER): `scope` is full, delta or partition-<n>; it covers every status change up to `epoch`."""

    issuer: str
    number: int
    sha256: str
    this_update: datetime
    next_update: datetime
    der: bytes
    epoch: int
    entries: int
    scope: str = FULL
    base_number: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A CRL number that nobody else has, and the epoch that a list of this number covers at least."""

    number: int
    epoch: int


class CrlStore:
    """The lists of one certificate authority's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take_number(self, issuer: str, now: datetime) -> Taken:
        """Take the next number, for good: replicas never take the same, and of two the higher covers as much or more.

        What is listed under it is read afterwards.
        """
        row = tables.issuers.c.issuer == issuer
        with self._engine.begin() as db:
            # An update first: it locks the row, where a look would not.
            touched = update(tables.issuers).where(row).values(crl_number=tables.issuers.c.crl_number)
            if db.execute(touched).rowcount == 0:  # of two who insert it the second waits, and goes on from the first's
                insert_new(db, tables.issuers, issuer=issuer, crl_number=0, status_epoch=0)
                db.execute(touched)
            last, epoch = db.execute(
                select(tables.issuers.c.crl_number, tables.issuers.c.status_epoch).where(row)
            ).one()
            number = next_number(last or None, now)
            db.execute(update(tables.issuers).where(row).values(crl_number=number))
        return Taken(number, epoch)

    def latest(self, issuer: str, scope: str = FULL) -> CrlRecord | None:
        """The stored CRL of this scope with the highest number."""
        found = tables.crls.c
        query = (
            select(tables.crls)
            .where(found.issuer == issuer, found.scope == scope)
            .order_by(found.number.desc())
            .limit(1)
        )
        with reading(self._engine) as db:
            row = db.execute(query).one_or_none()
        return None if row is None else CrlRecord(**row._mapping)

    def add(self, record: CrlRecord) -> None:
        """Store a CRL; StoreError unless its number is the highest of its scope."""
        found, row = tables.crls.c, tables.issuers.c.issuer == record.issuer
        with self._engine.begin() as db:
            db.execute(update(tables.issuers).where(row).values(crl_number=tables.issuers.c.crl_number))  # the lock
            highest = db.execute(
                select(func.max(found.number)).where(found.issuer == record.issuer, found.scope == record.scope)
            ).scalar_one()
            if highest is not None and highest >= record.number:
                raise StoreError(f"CRL number {record.number} does not follow {highest}", clause="RFC 5280 5.2.3")
            db.execute(insert(tables.crls).values(**_columns(record)))
            taken = update(tables.issuers).where(row, tables.issuers.c.crl_number < record.number)
            db.execute(taken.values(crl_number=record.number))  # one that a ceremony made
            changes = tables.status_changes.c
            db.execute(
                update(tables.status_changes)
                .where(changes.issuer == record.issuer, changes.epoch <= record.epoch, changes.published_at.is_(None))
                .values(published_at=record.this_update)
            )

    def covered(self, issuer: str) -> int:
        """Every change of status up to this epoch is covered by a full or delta list."""
        found = tables.crls.c
        query = select(func.max(found.epoch)).where(found.issuer == issuer, found.scope.in_((FULL, DELTA)))
        with reading(self._engine) as db:
            return int(db.execute(query).scalar_one() or 0)

    def entries(self, issuer: str) -> Iterator[bytes]:
        """The DER entries of a full list, in the order in which they were last changed, read in one snapshot."""
        row = tables.revocations.c
        query = (
            select(row.entry).where(row.issuer == issuer, row.state != "released").order_by(row.epoch)
        ).execution_options(yield_per=_AT_ONCE)
        with reading(self._engine) as db:
            yield from db.execute(query).scalars()


def _columns(record: Any) -> dict[str, Any]:
    return {field: getattr(record, field) for field in record.__slots__}
