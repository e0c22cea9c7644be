"""Orders about certificates: they change no case, so what tells of them is the RA's journal, where each stands once.

The file is read on from where it was read to; how far, is noted in one transaction with the notices. A line without
its end is no entry yet.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Engine

from ra.notices.outbox import Outbox, move, position_of
from ra.notices.sources import of_entry
from ra.notices.tables import cursor
from runtime.database import insert_new, reading

_NAME: Final = "journal"
_AT_ONCE: Final = 1 << 20  # bytes


class _Line(msgspec.Struct):
    at: str
    entry: dict[str, object]
    index: int


_decoder: Final = msgspec.json.Decoder(_Line)


class JournalSource:
    """The journal at `path`; what it holds when this is first made is not told of."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        size = path.stat().st_size if path.exists() else 0
        with engine.begin() as db:
            insert_new(db, cursor, name=_NAME, position=size)

    def read(self, outbox: Outbox, now: datetime) -> int:
        """Write the notices of what was added; returns how many entries this was."""
        done = 0
        while lines := self._step(outbox, now):
            done += lines
        return done

    def _step(self, outbox: Outbox, now: datetime) -> int:
        with reading(self._engine) as db:
            position = db.execute(cursor.select().where(cursor.c.name == _NAME)).one().position
        if not self._path.exists() or self._path.stat().st_size <= position:
            return 0
        with self._engine.begin() as db, self._path.open("rb") as file:
            position = position_of(db, _NAME)
            file.seek(position)
            # A line is shorter than what is read at once, so that there is always a whole one.
            lines = [line for line in file.read(_AT_ONCE).splitlines(keepends=True) if line.endswith(b"\n")]
            for line in lines:
                entry = _decoder.decode(line)
                at = min(datetime.fromisoformat(entry.at).replace(microsecond=0), now)  # a clock may have been set
                for happening in of_entry(db, entry.index, at, entry.entry, outbox.rules):
                    outbox.tell(db, happening)
            move(db, _NAME, position + sum(map(len, lines)))
        return len(lines)
