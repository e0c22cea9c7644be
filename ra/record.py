"""What the RA did, in the audit journal: each transition exactly once, however often a step is retried.

A transition is committed to the database first and gets its journal entry right after, before the caller is answered.
If the process dies in between, the next start writes what is missing; an entry that was written but not noted in the
database is recognised by its key when the journal is replayed.

Replicas share a database, and each has a journal of its own. A transition names the replica that made it, and that one
alone writes it: what a replica left is written when it starts again, because its own journal tells whether it is
written already. What a replica left that does not come back is taken over by an act of the operator (`ra.left_behind`).

Journal and database belong together, and are compared when the journal is opened. A database that lacks what the
journal records is an older copy, or another one: its next transitions would have numbers that the journal knows, and
would never be written. So it is refused (`ra.errors.ApartError`), until somebody accepts it (`accept_database`): the
acceptance is an entry, and tells which numbers are given out anew.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from audit import Entry, Journal, JsonValue
from ra.errors import ApartError
from ra.records import JournalEntry, Numbers, Transition
from ra.store import Store

ACCEPTED: Final = "ra.database-accepted"
_TRANSITION: Final = "transition/"
_COMPARED: Final = 200
"""Entries from the end of the journal. An older copy of a database lacks the last; threads write out of order."""


class _Replay:
    """What the journal holds, entry by entry: the number of each key, and what its last entries tell.

    `compared`: how many transitions of the end are kept for a comparison; None: all.
    """

    def __init__(self, compared: int | None = _COMPARED) -> None:
        self.known: dict[str, int] = {}
        self.transitions: deque[tuple[int, bytes]] = deque(maxlen=compared)
        self.keys: deque[str] = deque(maxlen=_COMPARED)

    def __call__(self, entry: Entry) -> None:
        if entry.entry.get("event") == ACCEPTED:
            self._accept(entry.entry)
        key = entry.entry.get("key")
        if not isinstance(key, str):
            return
        self.known[key] = entry.index
        if key.startswith(_TRANSITION):
            self.transitions.append((_seq(key), _what(entry.entry)))
        else:
            self.keys.append(key)

    def _accept(self, entry: Mapping[str, Any]) -> None:
        """From here on transitions of a higher number are others than those before."""
        last = int(entry["transitions_up_to"])
        self.known = {
            key: number for key, number in self.known.items() if not key.startswith(_TRANSITION) or _seq(key) <= last
        }
        self.transitions.clear()
        self.keys.clear()


class Record:
    """The RA's audit journal, and the transitions on their way into it."""

    def __init__(self, journal: Journal, store: Store, known: dict[str, int]) -> None:
        self._journal = journal
        self._store = store
        self._known = known
        self._lock = threading.Lock()
        self._behind = False

    @classmethod
    def open(cls, path: Path, store: Store, *, extends: tuple[int, bytes] | None = None) -> Record:
        """Open (and thereby verify) the journal at `path`, and write what a dead process left unwritten.

        The journal must extend the tree `extends` (`audit.keeper`).

        Raises what `audit.Journal.open` raises, and ApartError if journal and database do not belong together, or the
        replica was given up.
        """
        if (since := store.given_up_at()) is not None:
            raise ApartError(
                "this replica was given up on {date}: another one wrote what it had left. Keep its journal for the "
                "auditor; what serves from now on is a new replica, with a journal and a name of its own",
                date=f"{since:%Y-%m-%dT%H:%M:%SZ}",
            )
        replay = _Replay()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        journal = Journal.open(path, replay=replay, extends=extends)
        try:
            _compare(replay, journal.size, store)
            record = cls(journal, store, replay.known)
            record.catch_up()
        except BaseException:
            journal.close()
            raise
        return record

    @property
    def journal(self) -> Journal:
        """The journal itself, to have it signed."""
        return self._journal

    def catch_up(self) -> None:
        """Write every transition and event of this replica that is not in its journal yet, in order, together."""
        with self._lock:
            try:
                self._store.journal(self._write)
            except BaseException:
                self._behind = True
                raise
            self._behind = False

    def settle(self) -> None:
        """Catch up if that failed last; else whoever changed something last has, or is about to, before they answer.

        For whoever is about to read a case. Nothing is done upon what could not be recorded.
        """
        if self._behind:
            self.catch_up()

    def note(self, event: str, **fields: JsonValue) -> int:
        """Record an event that is no transition, such as a refusal; returns its number."""
        return self._journal.append({"event": event, **fields})

    def note_once(self, event: str, key: str, now: datetime, **fields: JsonValue) -> None:
        """Record an event that can be retried, by any replica: the first one to name the key writes it."""
        self.note_each_once(event, {key: fields}, now)

    def note_each_once(self, event: str, told: Mapping[str, Mapping[str, JsonValue]], now: datetime) -> None:
        """`note_once` of several, by key: they are recorded together."""
        with self._store.engine.begin() as db:
            for key, fields in told.items():
                self._store.add_entry_in(db, key, event, fields, now)
        self.catch_up()

    def close(self) -> None:
        self._journal.close()

    def _write(self, transitions: Sequence[Transition], events: Sequence[JournalEntry]) -> Numbers:
        written: dict[str, dict[str, JsonValue]] = {_key(each): _told(each) for each in transitions}
        written |= {each.key: {"event": each.event, "key": each.key, **each.fields} for each in events}
        new = {key: self._journal.buffer(told) for key, told in written.items() if key not in self._known}
        if new:
            self._journal.flush()
            self._known |= new
        return Numbers(
            {each.seq: self._known[_key(each)] for each in transitions},
            {each.key: self._known[each.key] for each in events},
        )


def accept_database(path: Path, store: Store, *, by: str, reason: str) -> int:
    """Have the journal at `path` go on with the database of `store`, which lacks what it records; nobody has it open.

    Returns how many transitions the journal records and the database has not. Raises what `audit.Journal.open` raises.
    """
    replay = _Replay(None)
    with Journal.open(path, replay=replay) as journal:
        missing, _keys = _missing(replay, store)
        # Another replica may have gone on already, and given the numbers of what is missing to other transitions.
        last = min([store.last_transition(), *(seq - 1 for seq in missing)])
        journal.append({"event": ACCEPTED, "transitions_up_to": last, "by": by, "reason": reason})
    return len(missing)


def _compare(replay: _Replay, size: int, store: Store) -> None:
    """Raises ApartError unless the database has what the journal told last, and the journal what the database noted."""
    transitions, keys = _missing(replay, store)
    missing = [*(f"{_TRANSITION}{seq}" for seq in transitions), *keys]
    if missing:
        raise ApartError(
            "the database lacks {entry}, which the audit journal of this service records: it is an older copy, or "
            "another database. Put the newest one back; if it is lost for good, see {command}",
            entry=missing[0],
            command="'kwbp ra accept-database --help'",
        )
    noted = store.last_number(store.replica)
    if noted is not None and noted >= size:
        raise ApartError(
            "the audit journal of this service lacks entry {number}, which the database knows of: it is an older copy, "
            "or another journal. Put the newest one back; if it is lost for good, see {command}",
            number=noted,
            command="'kwbp ra left-behind --help'",
        )


def _missing(replay: _Replay, store: Store) -> tuple[list[int], list[str]]:
    """Of what the journal told last, the transitions and the events that the database lacks."""
    numbered = store.transitions_numbered([seq for seq, _said in replay.transitions])
    there = {seq: _what(_told(transition)) for seq, transition in numbered.items()}
    keys = store.entry_keys(list(replay.keys))
    return (
        [seq for seq, said in replay.transitions if there.get(seq) != said],
        [key for key in replay.keys if key not in keys],
    )


def _seq(key: str) -> int:
    return int(key.removeprefix(_TRANSITION))


def _what(told: Mapping[str, JsonValue]) -> bytes:
    """What tells a transition from another one of the same number."""
    names = ("application", "action", "before", "after", "actor")
    return hashlib.sha256(json.dumps([told.get(name) for name in names]).encode()).digest()


def _key(transition: Transition) -> str:
    return f"{_TRANSITION}{transition.seq}"


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
