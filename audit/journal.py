"""The writer: every append is on the disk before it returns, and appends that meet share one sync.

Group commit without a thread of its own: an append chains its line into a buffer (short lock), then wants the flush
lock. Whoever gets it writes *everything* buffered and syncs once; those who waited find their line already durable
and return. An idle journal therefore costs one `fdatasync` an append and no thread switch; a busy one costs a share.

The head beside the log (`<name>.head`) is rewritten after each sync, without a sync of its own: it can be older than
the log, after a power cut, but never ahead of it. So a log shorter than its head was cut by someone.

After a failed write nobody knows what is on the disk: the journal refuses everything until it is opened, and thereby
verified, anew. Services that record before they act stop acting.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from audit.entry import Entry, JsonValue, encode, timestamp
from audit.errors import BrokenJournalError, JournalFailedError, JournalLockedError
from audit.verify import Head, Verification, head_path, verify


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """An open journal: `append` from any number of threads. Make one with `Journal.open`."""

    def __init__(
        self, path: Path, log: int, head: int, start: Head, clock: Callable[[], datetime], sync: Callable[[int], None]
    ) -> None:
        self.path = path
        self._log = log
        self._head_file = head
        self._clock = clock
        self._sync = sync
        self._chain_lock = threading.Lock()  # guards _next, _prev, _buffer
        self._flush_lock = threading.Lock()  # guards _durable and the files
        self._next = start.count
        self._prev = start.hash
        self._buffer: list[bytes] = []
        self._durable = start
        self._failed: str | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], datetime] = _utc_now,
        sync: Callable[[int], None] = os.fdatasync,
        replay: Callable[[Entry], None] | None = None,
    ) -> Journal:
        """Opens the journal for writing, making it (mode 0600) where there is none.

        The whole file is verified first, against the head beside it. An unfinished last line, which a killed writer
        leaves and nobody was ever told of, is removed and noted as an entry `{"event": "journal.torn-tail", …}`.

        `clock` gives aware times. `sync` puts a file descriptor's data on the disk. `replay` is given every entry that
        is there, in order, so that whoever keeps state by the journal has it before the first append.

        Raises BrokenJournalError for a log that is not whole, JournalLockedError while another process (or another
        Journal) has it open.
        """
        beside = head_path(path)
        if not path.exists() and beside.exists():
            raise BrokenJournalError(0, "journal-missing", "its head is there, the log is not")
        log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _lock(log, path)
            if os.fstat(log).st_size and not beside.exists():
                raise BrokenJournalError(0, "head-missing", "the log is there, its head is not")
            found = verify(path, replay=replay)
            if found.torn:
                os.ftruncate(log, found.length)
            head = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except BaseException:
            os.close(log)
            raise
        journal = cls(path, log, head, found.head, clock, sync)
        try:
            journal._note_head(found.head)
            os.fsync(log)
            os.fsync(head)
            _sync_directory(path.parent)
            if found.torn:
                # only its size and digest: an unfinished line is no entry, its text has no business in one
                digest = hashlib.sha256(found.torn).hexdigest()
                journal.append({"event": "journal.torn-tail", "bytes": len(found.torn), "sha256": digest})
        except BaseException:
            journal.close()
            raise
        return journal

    @staticmethod
    def verify(path: Path, *, witnessed: Head | None = None) -> Verification:
        """See `audit.verify.verify`; needs no open journal and writes nothing."""
        return verify(path, witnessed=witnessed)

    @property
    def usable(self) -> bool:
        """Whether entries can be appended: no write has failed and it is not closed."""
        return self._failed is None

    @property
    def head(self) -> Head:
        """The last durable state."""
        return self._durable

    def append(self, entry: Mapping[str, JsonValue]) -> int:
        """Records `entry` and returns its number (from 0) once it is on the disk.

        Raises EntryError for what cannot be recorded (nothing is written), JournalFailedError when it could not be
        made durable: whoever gets that must not do what they wanted to record.
        """
        with self._chain_lock:
            self._check_usable()
            index = self._next
            line, digest = encode(index, timestamp(self._clock()), entry, self._prev)
            self._buffer.append(line + b"\n")
            self._next = index + 1
            self._prev = digest
        with self._flush_lock:
            if self._durable.count <= index:
                self._flush()
        return index

    def _flush(self) -> None:
        """Writes and syncs all that is buffered; the caller holds the flush lock."""
        with self._chain_lock:
            self._check_usable()
            lines, self._buffer = self._buffer, []
            reached = Head(self._next, self._prev)
        try:
            _write_all(self._log, b"".join(lines))
            self._sync(self._log)
            self._note_head(reached)
        except OSError as error:
            self._failed = f"could not record: {error.strerror}"
            raise JournalFailedError(self._failed) from error
        self._durable = reached

    def _note_head(self, head: Head) -> None:
        os.pwrite(self._head_file, head.encode(), 0)

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise JournalFailedError(self._failed)

    def close(self) -> None:
        """Syncs the head and lets go of the files; appends after this raise JournalFailedError. May be called twice."""
        with self._flush_lock, self._chain_lock:
            if self._log < 0:
                return
            self._failed = self._failed or "the journal is closed"
            os.fsync(self._head_file)
            os.close(self._head_file)
            os.close(self._log)
            self._log = self._head_file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(log: int, path: Path) -> None:
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalLockedError(f"{path.name} is open for writing elsewhere") from error


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_directory(directory: Path) -> None:
    """Makes the names of freshly made files durable."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
