"""The status of certificates on record: revoked, suspended, released again.

Every change is a row of `status_changes`, and takes the issuer's next epoch in the same transaction; `revocations` says
how it stands now, with the DER entry that lists carry. Whether a change is lawful is decided by `cps.status` under the
lock of the issuer's row, so of two conflicting orders the second sees the first. See `ca.tables`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from cryptography import x509
from sqlalchemy import Connection, Engine, func, insert, select, update

from ca import tables
from ca.crl import REMOVE_FROM_CRL, ListedSerial, entry_der
from ca.denylist import Denylist, deny
from cps.model import HOLD, OrderReason
from cps.rules import Rule
from cps.status import Objection, Standing, State, change
from pki.cms_signed import parse_signed_data
from pki.oids import CT_REVOCATION
from runtime.database import insert_new, put, reading
from runtime.language import Message

StatusState = Literal["revoked", "held", "released"]

_COLUMNS: Final = tuple(column for column in tables.revocations.c if column.name != "entry")
_LISTS: Final = ("full", "delta")  # everybody looks at


@dataclass(frozen=True, slots=True)
class StatusOrder:
    """A change of a certificate's status, as it is written; times are aware UTC, whole seconds.

    `at` is the revocationDate on lists. It is also when the change was made, unless `changed_at` says otherwise: who
    revokes what is held keeps the date of the suspension.
    """

    issuer: str
    serial: str
    state: StatusState
    reason: str
    at: datetime
    ordered_by: str
    order: bytes | None = None
    invalidity_date: datetime | None = None
    due_at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RevocationRecord:
    """The status of a serial that was ever revoked or held. `published`: a list covers the last change.

    `order` is the signed order (CMS, DER); None if nobody signed one: an abandoned serial, the end of a suspension, an
    entry read back from a CRL. `revoked_at` is the date on lists, of a released certificate the release.
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

    @property
    def standing(self) -> Standing:
        return Standing(State(self.state), self.reason, self.revoked_at)


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One change of the status of a serial: what was ordered, by whom, and when the first list that has it was out."""

    issuer: str
    epoch: int
    serial: str
    state: StatusState
    reason: str
    at: datetime
    order: bytes | None
    ordered_by: str
    due_at: datetime | None
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class CoveringList:
    """The first list that shows a change to everybody: its number and scope (full or delta)."""

    number: int
    scope: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order that was found lawful in itself: by whom, for what, by when it must be published."""

    issuer: str
    serial: str
    reason: OrderReason
    ordered_at: datetime
    ordered_by: str
    order: bytes | None
    invalidity_date: datetime | None
    due_at: datetime | None


def next_epoch(db: Connection, issuer: str) -> int:
    """The issuer's next status epoch; its row stays locked until the transaction ends."""
    return _epoch(db, issuer, 1)


def _epoch(db: Connection, issuer: str, step: int) -> int:
    row = tables.issuers.c.issuer == issuer
    taken = (
        update(tables.issuers)
        .where(row)
        .values(status_epoch=tables.issuers.c.status_epoch + step)
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
        # Of a released serial only deltas have an entry, which takes it off the list before (RFC 5280 5.3.1).
        "entry": entry_der(order.serial, order.at, REMOVE_FROM_CRL)
        if order.state == "released"
        else entry_der(order.serial, order.at, order.reason, order.invalidity_date),
    }
    put(db, tables.revocations, issuer=order.issuer, serial=order.serial, **current)
    db.execute(
        insert(tables.status_changes).values(
            issuer=order.issuer,
            epoch=epoch,
            serial=order.serial,
            state=order.state,
            reason=order.reason,
            at=order.changed_at or order.at,
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
        self.denylist: Final = Denylist(engine)

    def apply(
        self,
        wanted: Wanted,
        now: datetime,
        *,
        denylist_spki: str | None = None,
        only_if: Standing | None = None,
    ) -> RevocationRecord | Objection:
        """Carry out an order at `now` (whole seconds), its key denied if given; what stands in the way is returned.

        The same order again, in whatever wrapping, changes nothing and gives the status as it is. `only_if`: nothing is
        done unless the certificate stands like this when it has the lock.
        """
        with self._engine.begin() as db:
            _epoch(db, wanted.issuer, 0)  # the lock
            row = tables.revocations.c
            query = select(*_COLUMNS, _covered(wanted.issuer)).where(
                row.issuer == wanted.issuer, row.serial == wanted.serial
            )
            found = db.execute(query).one_or_none()
            record = None if found is None else _record(found)
            if record is not None and wanted.order is not None and _done(db, wanted, wanted.order):
                return record
            standing = None if record is None else record.standing
            if only_if is not None and standing != only_if:
                return Objection(Rule.REV_STATE, Message("its status changed meanwhile"))
            result = change(standing, wanted.reason, ordered_at=wanted.ordered_at, now=now)
            if isinstance(result, Objection):
                return result
            write_status(
                db,
                StatusOrder(
                    issuer=wanted.issuer,
                    serial=wanted.serial,
                    state=result.state.value,
                    reason=result.reason,
                    at=result.since,
                    ordered_by=wanted.ordered_by,
                    order=wanted.order,
                    invalidity_date=wanted.invalidity_date,
                    due_at=wanted.due_at,
                    changed_at=now,
                ),
            )
            if denylist_spki is not None:
                deny(db, denylist_spki, reason=wanted.reason, at=now, by=wanted.ordered_by)
            return _record(db.execute(query).one())

    def import_revocations(self, issuer: str, entries: Iterable[ListedSerial], *, source: str) -> None:
        """Take over the entries of a CRL that is newer than the database; `source` says whence they come.

        What is revoked on record stays as it is; what the list has as revoked is revoked, also if it is only held here.
        """
        known, reserved = tables.revocations.c, tables.serials.c
        with self._engine.begin() as db:
            _epoch(db, issuer, 0)
            rows = db.execute(select(known.serial, known.state).where(known.issuer == issuer)).all()
            states: dict[str, str] = {row.serial: row.state for row in rows}
            serials = set(db.execute(select(reserved.serial).where(reserved.issuer == issuer)).scalars())
            for entry in entries:
                state: StatusState = "held" if entry.reason == HOLD else "revoked"
                if states.get(entry.serial) in {"revoked", state}:
                    continue
                if entry.serial not in serials:
                    values = {"issuer": issuer, "serial": entry.serial, "reserved_at": entry.revoked_at}
                    db.execute(insert(tables.serials).values(**values))
                found = StatusOrder(
                    issuer=issuer,
                    serial=entry.serial,
                    state=state,
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

    def held_since(self, latest: datetime) -> list[RevocationRecord]:
        """All certificates that have been suspended since `latest` or longer, the longest first."""
        row = tables.revocations.c
        query = (
            select(*_COLUMNS)
            .where(row.state == State.HELD.value, row.revoked_at <= latest)
            .order_by(row.revoked_at, row.issuer, row.serial)
        )
        with reading(self._engine) as db:
            found = db.execute(query).all()
        return [RevocationRecord(**each._mapping, published=True) for each in found]

    def history(self, issuer: str, serial: str) -> list[StatusChange]:
        """All changes of the status of this serial, the first one first."""
        row = tables.status_changes.c
        query = select(tables.status_changes).where(row.issuer == issuer, row.serial == serial).order_by(row.epoch)
        with reading(self._engine) as db:
            return [StatusChange(**each._mapping) for each in db.execute(query).all()]

    def unpublished(self, *, limit: int = 1000) -> list[StatusChange]:
        """Changes that must be published and that no list covers yet, the most urgent first."""
        row = tables.status_changes.c
        query = (
            select(tables.status_changes)
            .where(row.published_at.is_(None), row.due_at.is_not(None))
            .order_by(row.due_at, row.issuer, row.epoch)
            .limit(limit)
        )
        with reading(self._engine) as db:
            return [StatusChange(**each._mapping) for each in db.execute(query).all()]

    def overdue(self, now: datetime, *, limit: int = 1000) -> list[StatusChange]:
        """Changes that should have been published by `now` and are not (CPS 4.9.5), the most urgent first."""
        return [each for each in self.unpublished(limit=limit) if each.due_at is not None and each.due_at <= now]

    def covered_by(self, issuer: str, epoch: int) -> CoveringList | None:
        """The first list that covers the change of this epoch."""
        lists = tables.crls.c
        query = (
            select(lists.number, lists.scope)
            .where(lists.issuer == issuer, lists.scope.in_(_LISTS), lists.epoch >= epoch)
            .order_by(lists.number)
            .limit(1)
        )
        with reading(self._engine) as db:
            found = db.execute(query).one_or_none()
        return None if found is None else CoveringList(found.number, found.scope)


def _done(db: Connection, wanted: Wanted, order: bytes) -> bool:
    """Whether the order was carried out before, perhaps in another wrapping.

    Around what is signed there are certificates, and for ECDSA a second signature, that anybody can exchange: an order
    is the same if the same signer signed the same statement.
    """
    row = tables.status_changes.c
    query = select(row.order).where(row.issuer == wanted.issuer, row.serial == wanted.serial, row.order.is_not(None))
    before = db.execute(query).scalars().all()
    return order in before or _signed(order) in map(_signed, before)


def _signed(order: bytes) -> tuple[bytes, x509.Certificate]:
    """What was signed, and by whom; the order was judged before."""
    signed = parse_signed_data(order, content_type=CT_REVOCATION)
    return signed.content, signed.signer


def _covered(issuer: str) -> Any:
    """Up to which epoch lists of an authority that everybody looks at cover its changes."""
    lists = tables.crls.c
    return (
        select(func.coalesce(func.max(lists.epoch), 0))
        .where(lists.issuer == issuer, lists.scope.in_(_LISTS))
        .scalar_subquery()
        .label("covered")
    )


def _record(row: Any) -> RevocationRecord:
    values = dict(row._mapping)
    covered = values.pop("covered")
    return RevocationRecord(**values, published=values["epoch"] <= covered)
