"""Keys that are never certified again: of compromised certificates, and those that two officers denied (CPS 4.9.12)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from ca import tables
from runtime.database import insert_new, reading


def deny(db: Connection, spki_sha256: str, *, reason: str, at: datetime, by: str) -> bool:
    """Put a key (SHA-256 of its SPKI, hexadecimal) on the denylist for good; False if it is there already."""
    return insert_new(db, tables.denylist, spki_sha256=spki_sha256, reason=reason, listed_at=at, listed_by=by)


@dataclass(frozen=True, slots=True)
class DeniedKey:
    """A key on the denylist: SHA-256 of its SPKI (hexadecimal), why, since when, by whose order."""

    spki_sha256: str
    reason: str
    listed_at: datetime
    listed_by: str | None


class Denylist:
    """The denylist of one certificate authority's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, spki_sha256: str, *, reason: str, at: datetime, by: str) -> tuple[DeniedKey, bool]:
        """Deny a key for good; the entry, and whether it is new. One that is there stays as it is."""
        with self._engine.begin() as db:
            fresh = deny(db, spki_sha256, reason=reason, at=at, by=by)
            query = select(tables.denylist).where(tables.denylist.c.spki_sha256 == spki_sha256)
            return DeniedKey(**db.execute(query).one()._mapping), fresh

    def find(self, spki_sha256: str) -> DeniedKey | None:
        """The entry of a key, if it is denied."""
        query = select(tables.denylist).where(tables.denylist.c.spki_sha256 == spki_sha256)
        with reading(self._engine) as db:
            row = db.execute(query).one_or_none()
        return None if row is None else DeniedKey(**row._mapping)

    def keys(self, *, after: str = "", limit: int = 100) -> list[DeniedKey]:
        """Denied keys in the order of their digests, those greater than `after`."""
        query = (
            select(tables.denylist)
            .where(tables.denylist.c.spki_sha256 > after)
            .order_by(tables.denylist.c.spki_sha256)
            .limit(limit)
        )
        with reading(self._engine) as db:
            return [DeniedKey(**row._mapping) for row in db.execute(query).all()]
