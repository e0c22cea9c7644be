"""The lists an authority has signed, and whose number is next.

What a list says is read in one snapshot together with the epoch that it covers (`reading`), in the order of serial
numbers, so that it is written from the front to the end and never held. A list over `INLINE` bytes is kept in parts.

Old lists stay: their rows for ever, and the bytes of small ones. The bytes of a large one are dropped `KEPT` after its
nextUpdate: every change of status is in `status_changes` for ever, its digest in its row and in the log, and evidence
of a purchase carries the lists that it rests on.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from ca import tables
from ca.crl import next_number
from ca.crl_kinds import DELTA, FULL, KEPT
from ca.database_faults import unavailable
from ca.errors import StoreError
from runtime.database import insert_new, reading

_PARTITION: Final = "partition-"
_ORDER: Final = {FULL: 0, DELTA: 1}
INLINE: Final = 1024 * 1024
"""Bytes of a list that is one value in the database."""
PART: Final = 1024 * 1024
_UNFINISHED: Final = timedelta(days=1)
_AT_ONCE: Final = 10_000  # entries read together
_DIGITS: Final = 16

# Made once: an authority that starts or follows its replicas asks for each of them by the dozen.
_OF: Final = (tables.crls.c.issuer == bindparam("of"), tables.crls.c.scope == bindparam("kind"))
_LATEST: Final = select(tables.crls).where(*_OF).order_by(tables.crls.c.number.desc()).limit(1)
_HIGHEST: Final = select(func.max(tables.crls.c.number)).where(*_OF)
_COVERED: Final = select(func.max(tables.crls.c.epoch)).where(_OF[0], tables.crls.c.scope.in_((FULL, DELTA)))


def partition(number: int) -> str:
    """The scope of a partition."""
    return f"{_PARTITION}{number}"


def partition_number(scope: str) -> int:
    """Which partition a scope is."""
    return int(scope.removeprefix(_PARTITION))


@dataclass(frozen=True, slots=True)
class CrlRecord:
    """A CRL: `scope` is full, delta or partition-<n>; it covers every status change up to `epoch`.

    `der` is empty for a large one: `CrlStore.parts` has its bytes.
    """

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


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list says, in the snapshot that is open: `size` bytes of entries, whose serials ascend."""

    epoch: int
    entries: int
    size: int
    chunks: Iterator[bytes]


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

    # -- what a list says ----------------------------------------------------------------------------------------------

    def full(self, issuer: str) -> AbstractContextManager[Listing]:
        """Context: the `Listing` of a full list."""
        return self._listing(issuer, tables.revocations.c.state != "released")

    def delta(self, issuer: str, base_epoch: int) -> AbstractContextManager[Listing]:
        """Context: the `Listing` of what changed since a full list covered `base_epoch`.

        What was released since is taken off (removeFromCRL), also where the base did not have it yet: a delta in
        between may have had it.
        """
        return self._listing(issuer, tables.revocations.c.epoch > base_epoch)

    def partition(self, issuer: str, number: int, partitions: int) -> AbstractContextManager[Listing]:
        """Context: the `Listing` of one of so many partitions (`ca.crl.shard`)."""
        return self._listing(issuer, tables.revocations.c.state != "released", _in_partition(number, partitions))

    def listed(self, issuer: str) -> int:
        """How many entries a full list has now."""
        row = tables.revocations.c
        query = select(func.count()).where(row.issuer == issuer, row.state != "released")
        with reading(self._engine) as db:
            return int(db.execute(query).scalar_one())

    def changed_in(self, issuer: str, epoch: int, number: int, partitions: int) -> bool:
        """Whether the status of any serial of a partition changed after `epoch`."""
        row = tables.revocations.c
        found = exists().where(row.issuer == issuer, row.epoch > epoch, _in_partition(number, partitions))
        with reading(self._engine) as db:
            return bool(db.execute(select(found)).scalar_one())

    @contextmanager
    def _listing(self, issuer: str, *which: ColumnElement[bool]) -> Iterator[Listing]:
        row = tables.revocations.c
        wanted = (row.issuer == issuer, *which)
        with reading(self._engine) as db:
            epoch = db.execute(
                select(tables.issuers.c.status_epoch).where(tables.issuers.c.issuer == issuer)
            ).scalar_one_or_none()
            totals = select(func.count(), func.coalesce(func.sum(func.length(row.entry)), 0)).where(*wanted)
            entries, size = db.execute(totals).one()
            ordered = select(row.entry).where(*wanted).order_by(func.length(row.serial), row.serial)
            yield Listing(int(epoch or 0), int(entries), int(size), _chunks(db, ordered))

    # -- lists ---------------------------------------------------------------------------------------------------------

    def latest(self, issuer: str, scope: str = FULL) -> CrlRecord | None:
        """The stored CRL of this scope with the highest number."""
        with reading(self._engine) as db:
            row = db.execute(_LATEST, {"of": issuer, "kind": scope}).one_or_none()
        return None if row is None else CrlRecord(**row._mapping)

    def in_force(self, issuer: str) -> list[CrlRecord]:
        """The newest list of each scope, the full one first, without their bytes; no delta that the full one has."""
        found = tables.crls.c
        newest = (
            select(found.scope, func.max(found.number).label("number"))
            .where(found.issuer == issuer)
            .group_by(found.scope)
        ).subquery()
        columns = [each for each in found if each.name != "der"]
        query = select(*columns).join(
            newest, (found.issuer == issuer) & (found.scope == newest.c.scope) & (found.number == newest.c.number)
        )
        with reading(self._engine) as db:
            lists = [CrlRecord(**row._mapping, der=b"") for row in db.execute(query).all()]
        full = next((each.number for each in lists if each.scope == FULL), 0)
        lists = [each for each in lists if each.scope != DELTA or each.number > full]
        return sorted(lists, key=lambda each: (_ORDER.get(each.scope, len(_ORDER)), len(each.scope), each.scope))

    def full_at(self, issuer: str, moment: datetime) -> CrlRecord | None:
        """The full list that was in force at `moment`: the last one whose thisUpdate had come."""
        found = tables.crls.c
        query = (
            select(tables.crls)
            .where(found.issuer == issuer, found.scope == FULL, found.this_update <= moment)
            .order_by(found.number.desc())
            .limit(1)
        )
        with reading(self._engine) as db:
            row = db.execute(query).one_or_none()
        return None if row is None else CrlRecord(**row._mapping)

    def numbers(self, issuer: str, scopes: Iterable[str]) -> dict[str, int]:
        """The highest number of a stored CRL of each scope that has one."""
        numbers = {}
        with reading(self._engine) as db:
            for scope in scopes:  # one look into the index each, however many there ever were
                number = db.execute(_HIGHEST, {"of": issuer, "kind": scope}).scalar_one()
                if number is not None:
                    numbers[scope] = int(number)
        return numbers

    def parts(self, record: CrlRecord) -> Iterator[bytes]:
        """The bytes of a list; StoreError if they were dropped."""
        if record.der:
            yield record.der
            return
        row = tables.crl_parts.c
        size = 0
        for number in range(1 << 30):
            query = select(row.der).where(row.issuer == record.issuer, row.number == record.number, row.part == number)
            with reading(self._engine) as db:
                der = db.execute(query).scalar_one_or_none()
            if der is None:
                break
            size += len(der)
            yield der
        if not size:
            raise StoreError(f"the bytes of CRL {record.number} of {record.issuer} are not kept any more")

    def add(self, record: CrlRecord, path: Path) -> CrlRecord:
        """Store a CRL with its bytes from the file `path`; StoreError unless its number is the highest of its scope.

        Returns the record as it is stored: with its bytes, unless they are too many for one value.
        """
        record = self._with_bytes(record, path)
        row = tables.issuers.c.issuer == record.issuer
        with self._engine.begin() as db:
            db.execute(update(tables.issuers).where(row).values(crl_number=tables.issuers.c.crl_number))  # the lock
            highest = db.execute(_HIGHEST, {"of": record.issuer, "kind": record.scope}).scalar_one()
            if highest is not None and highest >= record.number:
                raise StoreError(f"CRL number {record.number} does not follow {highest}", clause="RFC 5280 5.2.3")
            db.execute(insert(tables.crls).values(**_columns(record)))
            taken = update(tables.issuers).where(row, tables.issuers.c.crl_number < record.number)
            db.execute(taken.values(crl_number=record.number))  # one that a ceremony made
        return record

    def note_published(self, record: CrlRecord, at: datetime) -> None:
        """Keep that this list is out since `at`, for the changes that no list covered before."""
        if record.scope.startswith(_PARTITION):  # which is not what everybody looks at
            return
        row = tables.status_changes.c
        covered = (row.issuer == record.issuer, row.epoch <= record.epoch, row.published_at.is_(None))
        with reading(self._engine) as db:  # as nearly always: the write lock is for those who write
            if not db.execute(select(exists().where(*covered))).scalar_one():
                return
        with self._engine.begin() as db:
            db.execute(update(tables.status_changes).where(*covered).values(published_at=at))

    def _with_bytes(self, record: CrlRecord, path: Path) -> CrlRecord:
        """The record with its bytes, or without them if they are now in parts: nothing looks there before the row."""
        if path.stat().st_size <= INLINE:
            return replace(record, der=path.read_bytes())
        key = {"issuer": record.issuer, "number": record.number}
        with path.open("rb") as file:
            for number, der in enumerate(iter(lambda: file.read(PART), b"")):
                with self._engine.begin() as db:  # a write each: others wait for no more than one part
                    insert_new(db, tables.crl_parts, **key, part=number, der=der)
        return record

    def forget(self, now: datetime) -> int:
        """Drop the bytes of large lists that ended long ago, or were never finished; returns of how many parts."""
        lists, row = tables.crls.c, tables.crl_parts.c
        old = tuple_(row.issuer, row.number).in_(
            select(lists.issuer, lists.number).where(lists.next_update < now - KEPT)
        )
        finished = exists().where(lists.issuer == row.issuer, lists.number == row.number)
        # A number is a time (`ca.crl`): nobody is at work any more on a list of yesterday.
        left = and_(row.number < int((now - _UNFINISHED).timestamp()), ~finished)
        gone = or_(old, left)
        with reading(self._engine) as db:  # as nearly always: the write lock is for those who write
            if not db.execute(select(exists().where(gone))).scalar_one():
                return 0
        with self._engine.begin() as db:
            return db.execute(delete(tables.crl_parts).where(gone)).rowcount

    def covered(self, issuer: str) -> int:
        """Every change of status up to this epoch is covered by a full or delta list."""
        with reading(self._engine) as db:
            return int(db.execute(_COVERED, {"of": issuer}).scalar_one() or 0)


def _in_partition(number: int, partitions: int) -> ColumnElement[bool]:
    serial = tables.revocations.c.serial
    digits = [f"{digit:x}" for digit in range(number, _DIGITS, partitions)]
    return func.substr(serial, func.length(serial), 1).in_(digits)


def _chunks(db: Connection, query: Select[tuple[bytes]]) -> Iterator[bytes]:
    """The blobs that `query` finds, joined, many at a time: with a cursor that fetches as it goes.

    Straight from the driver: what SQLAlchemy does for each row would take longer than all the rest. Raises
    StoreUnavailableError if the database fails meanwhile.
    """
    text = str(query.compile(dialect=db.dialect, compile_kwargs={"literal_binds": True}))
    driver: Any = db.connection.driver_connection
    # PostgreSQL: a cursor with a name stays in the server, and octets come as octets.
    options = {} if db.dialect.name == "sqlite" else {"name": "entries", "binary": True}
    try:
        with closing(driver.cursor(**options)) as cursor:
            cursor.execute(text)
            while rows := cursor.fetchmany(_AT_ONCE):
                yield b"".join(map(operator.itemgetter(0), rows))
    except db.dialect.loaded_dbapi.Error as error:
        raise unavailable(error) from None


def _columns(record: Any) -> dict[str, Any]:
    return {field: getattr(record, field) for field in record.__slots__}
