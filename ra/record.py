"""What the RA did, in the audit journal: each transition exactly once, however often a step is retried.

A transition is committed to the database first and gets its journal entry right after, before the caller is answered.
If the process dies in between, the next start writes what is missing; an entry that was written but not noted in the
database is recognised by its key when the journal is replayed.
"""

from __future__ import annotations

import threading
from pathlib import Path

from audit import Entry, Journal, JsonValue
from ra.store import Store


class Record:
    """The RA's audit journal, and the transitions on their way into it."""

    def __init__(self, journal: Journal, store: Store, known: dict[str, int]) -> None:
        self._journal = journal
        self._store = store
        self._known = known
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, store: Store, *, extends: tuple[int, bytes] | None = None) -> Record:
        """Open (and thereby verify) the journal at `path`, and write what a dead process left unwritten.

        The journal must extend the tree `extends` (`audit.keeper`).

        Raises what `audit.Journal.open` raises.
        """
        known: dict[str, int] = {}

        def replay(entry: Entry) -> None:
            key = entry.entry.get("key")
            if isinstance(key, str):
                known[key] = entry.index

        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = cls(Journal.open(path, replay=replay, extends=extends), store, known)
        record.catch_up()
        return record

    @property
    def journal(self) -> Journal:
        """The journal itself, to have it signed."""
        return self._journal

    def catch_up(self) -> None:
        """Write every transition that is not in the journal yet, in order."""
        with self._lock:
            for transition in self._store.unjournaled():
                key = f"transition/{transition.seq}"
                if key not in self._known:
                    entry: dict[str, JsonValue] = {
                        "event": "ra.transition",
                        "key": key,
                        "application": transition.application_id,
                        "action": str(transition.action),
                        "before": None if transition.before is None else str(transition.before),
                        "after": str(transition.after),
                        "actor": transition.actor,
                        "detail": dict(transition.detail),
                    }
                    self._known[key] = self._journal.append(entry)
                self._store.journaled(transition.seq, self._known[key])

    def note(self, event: str, **fields: JsonValue) -> int:
        """Record an event that is no transition, such as a refusal; returns its number."""
        return self._journal.append({"event": event, **fields})

    def note_once(self, event: str, key: str, **fields: JsonValue) -> int:
        """Record an event that can be retried; a repeat of the key returns the number it already has."""
        with self._lock:
            if key not in self._known:
                self._known[key] = self.note(event, key=key, **fields)
            return self._known[key]

    def close(self) -> None:
        self._journal.close()
