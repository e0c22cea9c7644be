"""The witness (c2sp.org/tlog-witness): remembers how far each log had come, and never lets it go back or aside.

For each log it trusts it keeps the newest checkpoint that it cosigned, and cosigns another only if that one extends it.
A log that was cut, replaced by an older copy or rewritten, with every file beside it, is found by whoever asks here:
therefore the witness runs as another user, better on another machine, and shares no key and no disk with the logs.

The race that must not be (spelled out by the specification): A, of size N, is checked; B, of size N + K, is checked;
B is stored and answered; A is stored over it and answered, and K entries may be taken back. So reading the newest,
checking against it and storing are one transaction that holds the database's write lock, and the answer leaves after
the commit. A witness that dies between commit and answer has the new checkpoint: the log asks again, and is told.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ed25519

from audit.checkpoint import Checkpoint, TreeHead, split_request
from audit.errors import NoteError
from audit.merkle import EMPTY_ROOT, verify_consistency
from audit.note import Note, VerifierKey, cosign

SIZE: Final = "text/x.tlog.size"
TEXT: Final = "text/plain; charset=utf-8"

_KEPT: Final = 100  # refused checkpoints that are kept as evidence, a log and a kind
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS latest (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,
                                   note BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS misbehaviour (origin TEXT, size INTEGER, root BLOB, request BLOB NOT NULL,
                                         PRIMARY KEY (origin, size, root)) STRICT;
CREATE TABLE IF NOT EXISTS unproven (origin TEXT, size INTEGER, root BLOB, request BLOB NOT NULL,
                                     PRIMARY KEY (origin, size, root)) STRICT;
"""
_KEEP_PROVEN: Final = """
INSERT OR IGNORE INTO misbehaviour SELECT ?, ?, ?, ? WHERE (SELECT count(*) FROM misbehaviour WHERE origin = ?) < ?
"""
_KEEP_UNPROVEN: Final = """
INSERT OR IGNORE INTO unproven SELECT ?, ?, ?, ? WHERE (SELECT count(*) FROM unproven WHERE origin = ?) < ?
"""


class _ConflictError(Exception):
    """The request rests on another size than the newest, or on another tree of that size."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _ProofError(Exception):
    """The checkpoint does not extend the newest."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the witness says: HTTP status, content type, body."""

    status: int
    body: bytes
    content_type: str = TEXT


class WitnessStore:
    """The newest checkpoint of each log, in a SQLite file; safe for threads and for processes.

    `keep` returns once its change would survive the loss of power.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._connection.executescript(_TABLES)

    def latest(self, origin: str) -> bytes | None:
        """The newest note of a log."""
        with self._lock:
            row = self._connection.execute("SELECT note FROM latest WHERE origin = ?", (origin,)).fetchone()
        return None if row is None else bytes(row[0])

    def keep(self, checkpoint: Checkpoint, note: bytes, check: Callable[[TreeHead], None]) -> None:
        """Replace the newest checkpoint of a log by `checkpoint`, unless `check`, given the newest, raises."""
        with self._lock, self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT size, root FROM latest WHERE origin = ?", (checkpoint.origin,)).fetchone()
            check(TreeHead(0, EMPTY_ROOT) if row is None else TreeHead(row[0], bytes(row[1])))
            connection.execute(
                "INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?)",
                (checkpoint.origin, checkpoint.size, checkpoint.root, note),
            )

    def keep_misbehaviour(self, checkpoint: Checkpoint, request: bytes, *, proven: bool) -> None:
        """Keep a request whose checkpoint a log signed and perhaps should not have.

        `proven`: another tree of the same size was cosigned, which is proof against the log. Otherwise only the
        consistency proof does not hold, and that anybody can bring about with an honest checkpoint: such requests are
        kept apart, so that many of them leave room for the proof.
        """
        with self._lock, self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                _KEEP_PROVEN if proven else _KEEP_UNPROVEN,
                (checkpoint.origin, checkpoint.size, checkpoint.root, request, checkpoint.origin, _KEPT),
            )

    def misbehaviour(self, origin: str) -> list[bytes]:
        """The requests that were kept against a log, proofs first."""
        with self._lock:
            rows = [
                *self._connection.execute("SELECT request FROM misbehaviour WHERE origin = ?", (origin,)),
                *self._connection.execute("SELECT request FROM unproven WHERE origin = ?", (origin,)),
            ]
        return [bytes(row[0]) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Witness:
    """A witness called `name` with its key; safe for threads. `clock` gives POSIX seconds."""

    def __init__(
        self,
        name: str,
        key: ed25519.Ed25519PrivateKey,
        logs: Iterable[VerifierKey],
        store: WitnessStore,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._name = name
        self._key = key
        self._store = store
        self._clock = clock
        keys: defaultdict[str, list[VerifierKey]] = defaultdict(list)
        for log in logs:
            keys[log.name].append(log)
        self._logs: Mapping[str, list[VerifierKey]] = dict(keys)
        self._by_hash = {origin_hash(origin): origin for origin in keys}

    @property
    def verifier(self) -> VerifierKey:
        """The key by which its cosignatures are verified."""
        return VerifierKey.witness(self._name, self._key.public_key())

    @property
    def logs(self) -> tuple[str, ...]:
        """The origins of the logs it trusts."""
        return tuple(self._logs)

    def add_checkpoint(self, request: bytes) -> Answer:
        """Answer an `add-checkpoint` request: 200 with a cosignature line; 400 not a request; 404 unknown origin; 403
        signed by no trusted key; 409 with the newest size; 422 the consistency proof does not hold."""
        try:
            old, proof, below = split_request(request)
            note = Note.parse(below)
            checkpoint = Checkpoint.parse(note.text)
        except NoteError as error:
            return _refusal(400, error.detail)
        trusted = self._logs.get(checkpoint.origin)
        if trusted is None:
            return _refusal(404, "this witness does not know the log")
        try:
            signers = [key for key in trusted if note.signed_by(key)]
            for key in signers:
                note.verify(key)
        except NoteError as error:
            return _refusal(403, error.detail)
        if not signers:
            return _refusal(403, "no trusted key of the log signed the checkpoint")
        if old > checkpoint.size:
            return _refusal(400, "the old size is larger than the new one")
        time = 0

        def check(newest: TreeHead) -> None:
            nonlocal time
            _check_extends(newest, old, proof, checkpoint)
            time = self._clock()  # while nobody can store a newer one: at that time this is the newest

        try:
            self._store.keep(checkpoint, note.keep(signers).encode(), check)
        except _ConflictError as conflict:
            if conflict.size == old:  # another tree of the same size
                self._store.keep_misbehaviour(checkpoint, request, proven=True)
            return Answer(409, f"{conflict.size}\n".encode(), SIZE)
        except _ProofError:
            self._store.keep_misbehaviour(checkpoint, request, proven=False)
            return _refusal(422, "the consistency proof does not hold")
        return Answer(200, cosign(note.text, self._name, self._key, time).encode().encode())

    def latest(self, origin_sha256: str) -> Answer:
        """The newest checkpoint of a log (`origin_hash`), cosigned now, so that nobody can give an older answer out."""
        origin = self._by_hash.get(origin_sha256)
        time = self._clock()  # before it is read: at that time there was no newer one
        stored = self._store.latest(origin) if origin is not None else None
        if stored is None:
            return _refusal(404, "there is no checkpoint of this log")
        note = Note.parse(stored)
        return Answer(200, note.with_signatures(cosign(note.text, self._name, self._key, time)).encode())


def origin_hash(origin: str) -> str:
    """A log in a path: lower-case SHA-256 of its origin, as in c2sp.org/tlog-mirror."""
    return hashlib.sha256(origin.encode()).hexdigest()


def _check_extends(newest: TreeHead, old: int, proof: tuple[bytes, ...], checkpoint: Checkpoint) -> None:
    if old != newest.size:
        raise _ConflictError(newest.size)
    if checkpoint.size == newest.size and checkpoint.root != newest.root:
        raise _ConflictError(newest.size)
    if not verify_consistency(newest.size, checkpoint.size, newest.root, checkpoint.root, proof):
        raise _ProofError


def _refusal(status: int, sentence: str) -> Answer:
    return Answer(status, f"{sentence}\n".encode())
