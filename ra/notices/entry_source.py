"""Orders about certificates: they change no case, so what tells of them is the entry that the RA's journal has of each.

Each entry is a row before it is in a journal (`ra.schema`, journal_entries), and the row says whether its notices are
written. So it does not matter whose journal it goes into, nor whether that replica is still there: any of them writes
the notices, in one transaction with the mark. There is no place that one replica could have read up to and another not.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, select, update

from ra.notices.outbox import Outbox
from ra.notices.sources import of_entry
from ra.notices.tables import cursor
from ra.schema import journal_entries
from runtime.database import insert_new, reading

_NAME: Final = "entries"
_AT_ONCE: Final = 100


class EntrySource:
    """The entries of a database; those that it holds when the first replica makes this are not told of."""

    def __init__(self, engine: Engine, now: datetime) -> None:
        self._engine = engine
        with engine.begin() as db:
            if insert_new(db, cursor, name=_NAME, position=0):
                db.execute(update(journal_entries).where(journal_entries.c.told_at.is_(None)).values(told_at=now))

    def read(self, outbox: Outbox, now: datetime) -> int:
        """Write the notices of what was added; returns how many entries this was."""
        done = 0
        while found := self._step(outbox, now):
            done += found
        return done

    def _step(self, outbox: Outbox, now: datetime) -> int:
        table = journal_entries
        query = select(table).where(table.c.told_at.is_(None)).order_by(table.c.seq).limit(_AT_ONCE)
        with reading(self._engine) as db:
            if db.execute(query.limit(1)).first() is None:
                return 0
        with self._engine.begin() as db:
            # Of two replicas the second waits here, and then finds them told.
            rows = db.execute(query.with_for_update()).all()
            for row in rows:
                at = min(row.at, now)  # a clock may have been set
                for happening in of_entry(db, row.key, row.event, at, json.loads(row.fields), outbox.rules):
                    outbox.tell(db, happening)
            told = [row.seq for row in rows]
            db.execute(update(table).where(table.c.seq.in_(told)).values(told_at=now))
        return len(rows)
