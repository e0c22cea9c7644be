"""What the responder needs of the database: how serials stand, and answers that were signed ahead.

An answer was made at an epoch of its issuer (`ca.tables`). It counts as long as its serial did not change after that:
so one revocation makes one answer void, at once and in every process, and not those of a million other certificates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, or_, select, tuple_

from ca import tables
from ca.ocsp_answer import CertificateStatus
from runtime.database import put_many, reading

_AT_ONCE: Final = 1000  # answers deleted together
_UNKNOWN: Final = CertificateStatus("unknown")
_GOOD: Final = CertificateStatus("good")


@dataclass(frozen=True, slots=True)
class OcspRecord:
    """An OCSPResponse (DER) about one serial, with a CertID by SHA-1 and no nonce; `epoch` is when it was true."""

    issuer: str
    serial: str
    epoch: int
    this_update: datetime
    next_update: datetime
    der: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """How serials of one issuer stood in one snapshot, at `epoch`; `signed`: answers that still hold, by serial."""

    epoch: int
    statuses: Mapping[str, CertificateStatus]
    signed: Mapping[str, OcspRecord]


class OcspStore:
    """The responder's part of one certificate authority's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def epochs(self) -> dict[str, int]:
        """The status epoch of every issuer that ever had a change."""
        query = select(tables.issuers.c.issuer, tables.issuers.c.status_epoch)
        with reading(self._engine) as db:
            return {row.issuer: row.status_epoch for row in db.execute(query)}

    def changed(self, issuer: str, after: int) -> list[str]:
        """The serials whose status changed after this epoch."""
        row = tables.revocations.c
        query = select(row.serial).where(row.issuer == issuer, row.epoch > after)
        with reading(self._engine) as db:
            return list(db.execute(query).scalars())

    def standing(self, issuer: str, serials: Iterable[str], now: datetime) -> Standing:
        """How these serials stand, and what was signed about them that holds at `now` and beyond.

        What begins later was signed by a clock that was fast, and nobody would believe it.
        """
        wanted = set(serials)
        with reading(self._engine) as db:
            epoch = _epoch(db, issuer)
            changes: dict[str, int] = {}
            statuses = _issued(db, issuer, wanted)
            row = tables.revocations.c
            revoked = select(row.serial, row.state, row.reason, row.revoked_at, row.epoch)
            for found in db.execute(revoked.where(row.issuer == issuer, row.serial.in_(wanted))):
                changes[found.serial] = found.epoch
                if found.state != "released":
                    # Also a serial without a certificate: one that was abandoned when the token may have signed it.
                    reason = "certificateHold" if found.state == "held" else found.reason
                    statuses[found.serial] = CertificateStatus("revoked", found.revoked_at, reason)
            kept = tables.ocsp_responses.c
            query = select(tables.ocsp_responses).where(
                kept.issuer == issuer, kept.serial.in_(wanted), kept.this_update <= now, kept.next_update > now
            )
            signed = {
                found.serial: OcspRecord(**found._mapping)
                for found in db.execute(query)
                if found.epoch >= changes.get(found.serial, 0)
            }
        return Standing(epoch, {serial: statuses.get(serial, _UNKNOWN) for serial in wanted}, signed)

    def keep(self, records: Sequence[OcspRecord]) -> None:
        """Keep signed answers, in place of older ones."""
        if not records:
            return
        with self._engine.begin() as db:
            rows = [{name: getattr(record, name) for name in record.__slots__} for record in records]
            put_many(db, tables.ocsp_responses, rows)

    def due(self, issuer: str, now: datetime, *, before: datetime, limit: int, after: str = "") -> list[str]:
        """Serials of unexpired certificates without an answer that holds and lasts beyond `before`, at most `limit`.

        In the order of their text, from the one that follows `after`.
        """
        certificate, kept, change = tables.certificates.c, tables.ocsp_responses.c, tables.revocations.c
        query = (
            select(certificate.serial)
            .select_from(
                tables.certificates.outerjoin(
                    tables.ocsp_responses, (kept.issuer == certificate.issuer) & (kept.serial == certificate.serial)
                ).outerjoin(
                    tables.revocations, (change.issuer == certificate.issuer) & (change.serial == certificate.serial)
                )
            )
            .where(
                certificate.issuer == issuer,
                certificate.serial > after,
                certificate.not_after > now,
                or_(
                    kept.serial.is_(None),
                    kept.next_update <= before,
                    kept.this_update > now,
                    change.epoch > kept.epoch,
                ),
            )
            .order_by(certificate.serial)
            .limit(limit)
        )
        with reading(self._engine) as db:
            return list(db.execute(query).scalars())

    def forget_ended(self, now: datetime) -> int:
        """Delete answers that ended; returns how many. In portions, between which others may write."""
        row, forgotten = tables.ocsp_responses.c, 0
        key = tuple_(row.issuer, row.serial)
        while True:
            with reading(self._engine) as db:  # as nearly always there are none: the write lock is for those who write
                ended = select(row.issuer, row.serial).where(row.next_update <= now).limit(_AT_ONCE)
                found = [tuple(each) for each in db.execute(ended)]
            if not found:
                return forgotten
            with self._engine.begin() as db:  # unless signed anew meanwhile
                gone = delete(tables.ocsp_responses).where(key.in_(found), row.next_update <= now)
                forgotten += db.execute(gone).rowcount


def _epoch(db: Connection, issuer: str) -> int:
    query = select(tables.issuers.c.status_epoch).where(tables.issuers.c.issuer == issuer)
    return int(db.execute(query).scalar_one_or_none() or 0)


def _issued(db: Connection, issuer: str, serials: set[str]) -> dict[str, CertificateStatus]:
    row: Any = tables.certificates.c
    query = select(row.serial).where(row.issuer == issuer, row.serial.in_(serials))
    return dict.fromkeys(db.execute(query).scalars(), _GOOD)
