"""The status of certificates on record: revoked, suspended, released again; and keys that are never certified again.

Every change is a row of `status_changes`, and takes the issuer's next epoch in the same transaction; `revocations` says
how it stands now, with the DER entry that lists carry. See `ca.tables`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, func, insert, select, update

from ca import tables
from ca.crl import ListedSerial, entry_der
from runtime.database import insert_new, put, reading

StatusState = Literal["revoked", "held", "released"]

_COLUMNS: Final = tuple(column for column in tables.revocations.c if column.name != "entry")


@dataclass(frozen=True, slots=True)
class StatusOrder:
    """A change of a certificate's status, as it is written; times are aware UTC, whole seconds."""

    issuer: str
    serial: str
    state: StatusState
    reason: str
    at: datetime
    ordered_by: str
    order: bytes | None = None
    invalidity_date: datetime | None = None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RevocationRecord:
    """The status of a serial that was ever revoked or held. `published`: a list covers the last change.

    `order` is the officer's CMS (DER); None if the serial was abandoned, or read back from a CRL.
    """

    issuer: str
    serial: str
    state: StatusState
    reason: str
    revoked_at: datetime
    invalidity_date: datetime | None
    order: bytes | None
    ordered_by: str
    due_at: datetime | None
    epoch: int
    published: bool


def next_epoch(db: Connection, issuer: str) -> int:
    """The issuer's next status epoch; its row stays locked until the transaction ends."""
    row = tables.issuers.c.issuer == issuer
    taken = (
        update(tables.issuers)
        .where(row)
        .values(status_epoch=tables.issuers.c.status_epoch + 1)
        .returning(tables.issuers.c.status_epoch)
    )
    epoch = db.execute(taken).scalar_one_or_none()
    if epoch is None:  # two who find no row both insert one: the second waits, and goes on from the first's
        insert_new(db, tables.issuers, issuer=issuer, crl_number=0, status_epoch=0)
        epoch = db.execute(taken).scalar_one()
    return int(epoch)


def write_status(db: Connection, order: StatusOrder) -> int:
    """Write a change within the caller's transaction and return its epoch; the caller has decided that it is lawful."""
    epoch = next_epoch(db, order.issuer)
    current = {
        "state": order.state,
        "reason": order.reason,
        "revoked_at": order.at,
        "invalidity_date": order.invalidity_date,
        "order": order.order,
        "ordered_by": order.ordered_by,
        "due_at": order.due_at,
        "epoch": epoch,
        "entry": entry_der(order.serial, order.at, order.reason, order.invalidity_date),
    }
    put(db, tables.revocations, issuer=order.issuer, serial=order.serial, **current)
    db.execute(
        insert(tables.status_changes).values(
            issuer=order.issuer,
            epoch=epoch,
            serial=order.serial,
            state=order.state,
            reason=order.reason,
            at=order.at,
            order=order.order,
            ordered_by=order.ordered_by,
            due_at=order.due_at,
        )
    )
    return epoch


class StatusStore:
    """Revocations of one certificate authority's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_revocation(self, order: StatusOrder, *, denylist_spki: str | None) -> bool:
        """Record a revocation, and its key as compromised if given; False if the serial is revoked already."""
        with self._engine.begin() as db:
            next_epoch(db, order.issuer)  # the lock: of two orders for one certificate the second sees the first
            if self._revoked(db, order.issuer, order.serial):
                return False
            write_status(db, order)
            if denylist_spki is not None:
                insert_new(
                    db,
                    tables.denylist,
                    spki_sha256=denylist_spki,
                    reason=order.reason,
                    listed_at=order.at,
                    listed_by=order.ordered_by,
                )
        return True

    @staticmethod
    def _revoked(db: Connection, issuer: str, serial: str) -> bool:
        row = tables.revocations.c
        query = select(row.state).where(row.issuer == issuer, row.serial == serial)
        return db.execute(query).scalar_one_or_none() == "revoked"

    def import_revocations(self, issuer: str, entries: Iterable[ListedSerial], *, source: str) -> None:
        """Take over the entries of a CRL; those on record already stay as they are. `source` says whence they come."""
        known, reserved = tables.revocations.c, tables.serials.c
        with self._engine.begin() as db:
            revoked = set(db.execute(select(known.serial).where(known.issuer == issuer)).scalars())
            serials = set(db.execute(select(reserved.serial).where(reserved.issuer == issuer)).scalars())
            for entry in entries:
                if entry.serial in revoked:
                    continue
                if entry.serial not in serials:
                    values = {"issuer": issuer, "serial": entry.serial, "reserved_at": entry.revoked_at}
                    db.execute(insert(tables.serials).values(**values))
                found = StatusOrder(
                    issuer=issuer,
                    serial=entry.serial,
                    state="held" if entry.reason == "certificateHold" else "revoked",
                    reason=entry.reason,
                    at=entry.revoked_at,
                    invalidity_date=entry.invalidity_date,
                    ordered_by=source,
                )
                write_status(db, found)

    def revocation(self, issuer: str, serial: str) -> RevocationRecord | None:
        """The status of this serial, if it was ever revoked or held."""
        row = tables.revocations.c
        query = select(*_COLUMNS, _covered(issuer)).where(row.issuer == issuer, row.serial == serial)
        with reading(self._engine) as db:
            found = db.execute(query).one_or_none()
        return None if found is None else _record(found)

    def revocations(self, issuer: str) -> list[RevocationRecord]:
        """All serials of an authority that were ever revoked or held, in the order of their last change."""
        row = tables.revocations.c
        query = select(*_COLUMNS, _covered(issuer)).where(row.issuer == issuer).order_by(row.epoch)
        with reading(self._engine) as db:
            return [_record(each) for each in db.execute(query).all()]

    def epoch(self, issuer: str) -> int:
        """How many changes of status there were."""
        query = select(tables.issuers.c.status_epoch).where(tables.issuers.c.issuer == issuer)
        with reading(self._engine) as db:
            return int(db.execute(query).scalar_one_or_none() or 0)


def _covered(issuer: str) -> Any:
    """Up to which epoch lists of an authority that everybody looks at cover its changes."""
    lists = tables.crls.c
    return (
        select(func.coalesce(func.max(lists.epoch), 0))
        .where(lists.issuer == issuer, lists.scope.in_(("full", "delta")))
        .scalar_subquery()
        .label("covered")
    )


def _record(row: Any) -> RevocationRecord:
    values = dict(row._mapping)
    covered = values.pop("covered")
    return RevocationRecord(**values, published=values["epoch"] <= covered)
