"""What the RA did, in the audit journal: each transition exactly once, however often a step is retried.

A transition is committed to the database first and gets its journal entry right after, before the caller is answered.
If the process dies in between, the next start writes what is missing; an entry that was written but not noted in the
database is recognised by its key when the journal is replayed.

Replicas share a database, and each has a journal of its own. A transition names the replica that made it, and that one
alone writes it: what a replica left is written when it starts again, by nobody else, because only its own journal tells
whether it is written already. `Store.left_by_others` tells what waits for a replica that does not come back.
"""

from __future__ import annotations

import threading
from pathlib import Path

from audit import Entry, Journal, JsonValue
from ra.store import Store, Transition


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
        """Write every transition and event of this replica that is not in its journal yet, in order, together."""
        with self._lock:
            transitions, events = self._store.unjournaled(), self._store.unjournaled_entries()
            written: dict[str, dict[str, JsonValue]] = {_key(each): _told(each) for each in transitions}
            written |= {each.key: {"event": each.event, "key": each.key, **each.fields} for each in events}
            new = {key: self._journal.buffer(told) for key, told in written.items() if key not in self._known}
            if new:
                self._journal.flush()
                self._known |= new
            self._store.journaled({each.seq: self._known[_key(each)] for each in transitions})
            self._store.journaled_entries({each.key: self._known[each.key] for each in events})

    def note(self, event: str, **fields: JsonValue) -> int:
        """Record an event that is no transition, such as a refusal; returns its number."""
        return self._journal.append({"event": event, **fields})

    def note_once(self, event: str, key: str, **fields: JsonValue) -> None:
        """Record an event that can be retried, by any replica: the first one to name the key writes it."""
        self._store.add_entry(key, event, fields)
        self.catch_up()

    def close(self) -> None:
        self._journal.close()


def _key(transition: Transition) -> str:
    return f"transition/{transition.seq}"


def _told(transition: Transition) -> dict[str, JsonValue]:
    return {
        "event": "ra.transition",
        "key": _key(transition),
        "application": transition.application_id,
        "action": str(transition.action),
        "before": None if transition.before is None else str(transition.before),
        "after": str(transition.after),
        "actor": transition.actor,
        "detail": dict(transition.detail),
    }
