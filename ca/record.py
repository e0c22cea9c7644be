"""What the CA did, in the audit journal: each event of each thing exactly once, however often a step is retried."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from audit import Entry, Journal, JsonValue


class Record:
    """The CA's audit journal. An event has a key, such as `issued` of intent 7; the same event is written once."""

    def __init__(self, journal: Journal, known: dict[str, dict[str, int]]) -> None:
        """`known` has the number of each event that the journal holds, by key and event."""
        self._journal = journal
        self._known = known
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, extends: tuple[int, bytes] | None = None) -> Record:
        """Open (and thereby verify) the journal at `path`, which must extend the tree `extends` (`audit.keeper`).

        Raises what `audit.Journal.open` raises.
        """
        known: dict[str, dict[str, int]] = {}

        def replay(entry: Entry) -> None:
            event, key = entry.entry.get("event"), entry.entry.get("key")
            if isinstance(event, str) and isinstance(key, str):
                known.setdefault(key, {})[event] = entry.index

        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(Journal.open(path, replay=replay, extends=extends), known)

    @property
    def journal(self) -> Journal:
        """The journal itself, to have it signed."""
        return self._journal

    def note(self, event: str, key: str, **fields: JsonValue) -> int:
        """Record an event durably and return its number; a repeat returns the number it already has."""
        return self.note_many(event, {key: fields})[0]

    def note_many(self, event: str, noted: Mapping[str, Mapping[str, JsonValue]]) -> list[int]:
        """Record the same event of many things (by key, with its fields), durably and together; their numbers."""
        with self._lock:
            new = {
                key: self._journal.buffer({"event": event, "key": key, **fields})
                for key, fields in noted.items()
                if event not in self._known.get(key, ())
            }
            if new:
                self._journal.flush()
            for key, number in new.items():  # known once it is on the disk
                self._known.setdefault(key, {})[event] = number
            return [self._known[key][event] for key in noted]

    def has(self, event: str, key: str) -> bool:
        """Whether this event of this thing is recorded."""
        with self._lock:
            return event in self._known.get(key, ())

    def numbers_of(self, key: str) -> dict[str, int]:
        """The events recorded under a key, with their numbers."""
        with self._lock:
            return dict(self._known.get(key, {}))

    def close(self) -> None:
        self._journal.close()


def instant(moment: datetime) -> str:
    """A time as it stands in entries and answers: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
