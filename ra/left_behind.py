"""What a replica left that was lost: stored, in nobody's journal yet, shown until somebody writes it.

A replica that starts again writes what it left, and that is all there is to do. While it does not, the others show what
waits (`/health/ready` is `degraded`). An operator has it taken over by another replica, in one of two ways:

    its journal is there    what stands in it is noted as it stands; the rest goes to the replica that takes over. The
                            lost one may come back: it finds nothing to do
    its journal is gone     all of it goes to the replica that takes over, and the lost one is given up: should it come
                            back after all, it does not start, because its journal may hold what another one does, too

So each transition has one entry, in the journal that its row names. No replica does this by itself, however long it has
waited: between the journal and the row that notes it a process can die, and then the journal alone knows.

A row goes to another replica under a lock that its own one holds while it writes (`Store.journal`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from prometheus_client import Gauge
from sqlalchemy import Connection, Engine, Table, func, select, update

from ra.access import OPERATOR, Actor
from ra.errors import ConflictError, NotAllowedError, UnknownError
from ra.record import Record
from ra.schema import journal_entries, replicas_given_up, transitions
from ra.store import Store
from runtime.database import insert_new, reading

PATIENCE: Final = timedelta(minutes=1)
"""From then on what is in no journal counts as left: between commit and journal there are milliseconds."""
MOST: Final = 10_000
"""Entries that are taken over at once; what is left then is taken over the next time."""
_LEFT: Final = Gauge("kwbp_ra_left_behind", "Transitions and events of other replicas that are in no journal yet")


@dataclass(frozen=True, slots=True)
class Left:
    """What a replica left: how much, since when, and the keys of the entries (`MOST` of them), oldest first."""

    replica: str
    count: int
    since: datetime
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A lost replica's journal: how many entries it has, the keys it was searched for, and the numbers of those in it.

    What it was not searched for is left for the next time: it may stand in the journal.
    """

    size: int
    searched: Collection[str]
    recorded: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TakenOver:
    """How many entries stood in the lost replica's journal, and how many another one writes."""

    noted: int
    written: int


class LeftBehind:
    """Looks after what other replicas left. Safe for threads."""

    def __init__(self, store: Store, record: Record, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._engine: Engine = store.engine
        self._record = record
        self._clock = clock
        self._found: tuple[Left, ...] = ()

    # what waits

    @property
    def is_degraded(self) -> bool:
        """Whether something waited at the last look."""
        return bool(self._found)

    @property
    def details(self) -> dict[str, object]:
        """What the health page says of the last look."""
        if not self._found:
            return {}
        found = [
            {"replica": each.replica, "count": each.count, "since": each.since.isoformat()} for each in self._found
        ]
        return {"left_behind": found}

    def look(self) -> None:
        """See what waits; each replica does, every few seconds."""
        found = tuple(self.left())
        self._found = found
        _LEFT.set(sum(each.count for each in found))

    def left(self, *, keys: bool = False) -> list[Left]:
        """What other replicas left more than `PATIENCE` ago, the oldest first; with the `keys` if asked for."""
        before = self._now - PATIENCE
        found: dict[str, Left] = {}
        with reading(self._engine) as db:
            for table in (transitions, journal_entries):
                query = select(table.c.replica, func.count(), func.min(table.c.at)).where(
                    table.c.journal_index.is_(None), table.c.replica != self._store.replica, table.c.at < before
                )
                for replica, count, since in db.execute(query.group_by(table.c.replica)):
                    other = found.get(replica, Left(replica, 0, since))
                    found[replica] = Left(replica, other.count + count, min(other.since, since))
            if keys:
                for replica, left in found.items():
                    rows = _rows(db, replica, before, lock=False)
                    found[replica] = Left(replica, left.count, left.since, tuple(rows))
        return sorted(found.values(), key=lambda each: (each.since, each.replica))

    # taking over

    def take_over(self, actor: Actor, replica: str, journal: Seen | None) -> TakenOver:
        """Write what `replica` left, but for what stands in its `journal`.

        None: its journal is gone, and the replica is given up. Raises NotAllowedError, UnknownError if it left nothing,
        ConflictError for this very replica, or for a copy of the journal that is older than what is known of it.
        """
        if actor.name != OPERATOR:
            raise NotAllowedError("what a replica left is taken over by the operator, not by {actor}", actor=actor.name)
        if replica == self._store.replica:
            raise ConflictError("this replica writes itself what it left")
        last = self._store.last_number(replica)
        if journal is not None and last is not None and last >= journal.size:
            raise ConflictError(
                "this is an older copy of the lost replica's journal: entry {number} is not in it", number=last
            )
        now = self._now
        with self._engine.begin() as db:
            rows = _rows(db, replica, now - PATIENCE, lock=True)
            if journal is not None:
                searched = frozenset(journal.searched)
                rows = {key: row for key, row in rows.items() if key in searched}
            if not rows:
                raise UnknownError("that replica left nothing that waits")
            known = {} if journal is None else journal.recorded
            for key, (table, seq) in rows.items():
                values: dict[str, Any] = (
                    {"journal_index": known[key]} if key in known else {"replica": self._store.replica}
                )
                db.execute(update(table).where(table.c.seq == seq).values(**values))
            if journal is None:
                insert_new(db, replicas_given_up, replica=replica, at=now, by=actor.name)
            done = TakenOver(sum(key in known for key in rows), sum(key not in known for key in rows))
            self._store.add_entry_in(
                db,
                f"taken-over/{hashlib.sha256(' '.join(rows).encode()).hexdigest()}",
                "ra.taken-over",
                {
                    "replica": replica,
                    "noted": done.noted,
                    "written": done.written,
                    "journal": "gone" if journal is None else "read",
                    "actor": actor.name,
                },
                now,
            )
        self._record.catch_up()
        self.look()
        return done

    @property
    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)


def _rows(db: Connection, replica: str, before: datetime, *, lock: bool) -> dict[str, tuple[Table, int]]:
    """What the replica left, by the key of the entry: the table and the number of the row."""
    found: dict[str, tuple[Table, int]] = {}
    for table in (transitions, journal_entries):
        query = select(table).where(table.c.journal_index.is_(None), table.c.replica == replica, table.c.at < before)
        query = query.order_by(table.c.seq).limit(MOST - len(found))
        for row in db.execute(query.with_for_update() if lock else query):
            key = f"transition/{row.seq}" if table is transitions else row.key
            found[key] = (table, row.seq)
    return found
