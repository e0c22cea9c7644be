"""The writer: every entry is on the disk before anybody is told so, and entries that meet share one sync.

    NAME.jsonl    the log: one canonical JSON line an entry, one write and one fdatasync for all that is waiting
    NAME.head     what of it is on the disk: size and root of its Merkle tree, and the size of the last checkpoint
    NAME.log/     the same as a tiled log (`audit.tiles`), and the last signed checkpoint: derived, never waited for

One append-only file is the truth, because that is one sync a group, and because people read it with jq. Each line is a
leaf of a Merkle tree (RFC 6962), so that a checkpoint of two lines commits the writer to all of it, and a proof that
an entry is in it takes a few hashes.

Group commit: an entry is put into a buffer (short lock). Whoever gets the flush lock then writes *everything* buffered
and syncs once; those who waited find their entry already durable. `append` does so itself: an idle journal costs one
`fdatasync` an append and no thread switch. `submit` leaves it to a thread of the journal and returns at once. Tiles are
written by another thread, one step for every 256 entries.

The head is rewritten after each sync, without a sync of its own: it can be older than the log, after a power cut, but
never ahead of it. So a log that does not extend its head was cut or altered by someone.

After a failed write nobody knows what is on the disk: the journal refuses everything until it is opened, and thereby
verified, anew. Services that record before they act stop acting.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from audit import merkle
from audit.entry import Entry, JsonValue, encode, line, timestamp
from audit.errors import AuditError, BrokenJournalError, JournalFailedError, JournalLockedError
from audit.merkle import leaf_hash
from audit.replay import Noted, Replayed, replay
from audit.tiles import Follower, sync_directory
from audit.verify import (
    TILE,
    HeadRecord,
    TreeHead,
    Verification,
    head_path,
    parse_checkpoint,
    read_checkpoint,
    read_cosigned,
    read_head,
    verify,
)

Done: TypeAlias = Callable[[int | AuditError], None]
"""Is told the number of a durable entry, or why it is none; called from a thread of the journal, must not raise."""

_CLOSED: Final = "the journal is closed"
_log: Final = logging.getLogger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """An open journal: `append` and `submit` from any number of threads. Make one with `Journal.open`."""

    def __init__(
        self,
        path: Path,
        files: tuple[int, int],
        found: Replayed,
        follower: Follower,
        published: int,
        clock: Callable[[], datetime],
        sync: Callable[[int], None],
    ) -> None:
        self.path = path
        self._file, self._head_file = files
        self._clock = clock
        self._sync = sync
        self._buffer_lock = threading.Lock()  # guards _taken, _buffer, _failed
        self._flush_lock = threading.Lock()  # guards _tree, _length, _durable, _published and the files
        self._tiles_lock = threading.Lock()  # guards _follower; taken before the flush lock, never after
        self._taken = found.tree.size  # entries that a flush took out of the buffer, now or before
        self._buffer: list[tuple[bytes, Done | None]] = []
        self._tree = found.tree
        self._length = found.length
        self._durable = TreeHead(found.tree.size, found.tree.root())
        self._published = published
        self._follower = follower
        self._failed: str | None = None
        self._answers: deque[tuple[Done, int | AuditError]] = deque()
        self._flusher = _Worker("journal-flush", self._flush_submitted)
        self._tiler = _Worker("journal-tiles", self._write_tiles)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], datetime] = _utc_now,
        sync: Callable[[int], None] = os.fdatasync,
        replay: Callable[[Entry], None] | None = None,
        extends: tuple[int, bytes] | None = None,
    ) -> Journal:
        """Open the journal NAME.jsonl for writing, making it (mode 0600) where there is none.

        The whole file is verified first: against its head, its checkpoint, its tiles, and against `extends`, the size
        and root of a tree that somebody else, such as a witness, has of it. Missing tiles are written again. An
        unfinished last line, which a killed writer leaves and nobody was ever told of, is removed and noted as an entry
        `{"event": "journal.torn-tail", …}`.

        `clock` gives aware times. `sync` puts a file descriptor's data on the disk. `replay` is given every entry that
        is there, in order, so that whoever keeps state by the journal has it before the first append.

        Raises BrokenJournalError for a log that is not whole or does not extend what was noted of it,
        JournalLockedError while another process (or another Journal) has it open.
        """
        beside = head_path(path)
        if not path.exists() and beside.exists():
            raise BrokenJournalError(0, "journal-missing", "its head is there, the log is not")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _lock(file, path)
            if os.fstat(file).st_size and not beside.exists():
                raise BrokenJournalError(0, "head-missing", "the log is there, its head is not")
            follower = Follower(path)
            published, found = _read(path, follower, extends, replay)
            if found.torn:
                os.ftruncate(file, found.length)
            head = _open_head(beside, HeadRecord(TreeHead(found.tree.size, found.tree.root()), published))
        except BaseException:
            os.close(file)
            raise
        journal = cls(path, (file, head), found, follower, published, clock, sync)
        try:
            journal._note_head(journal._durable)
            os.fsync(file)
            os.fsync(head)
            sync_directory(path.parent)
            if found.torn:
                # only its size and digest: an unfinished line is no entry, its text has no business in one
                digest = hashlib.sha256(found.torn).hexdigest()
                journal.append({"event": "journal.torn-tail", "bytes": len(found.torn), "sha256": digest})
            if follower.size < found.tree.size:
                journal._tiler.wake()
        except BaseException:
            journal.close()
            raise
        return journal

    @staticmethod
    def verify(path: Path, *, witnessed: TreeHead | None = None) -> Verification:
        """See `audit.verify.verify`; needs no open journal and writes nothing."""
        return verify(path, witnessed=witnessed)

    @property
    def usable(self) -> bool:
        """Whether entries can be appended: no write has failed and it is not closed."""
        return self._failed is None

    @property
    def head(self) -> TreeHead:
        """The tree of what is on the disk."""
        return self._durable

    @property
    def size(self) -> int:
        """How many entries are on the disk."""
        return self._durable.size

    def append(self, entry: Mapping[str, JsonValue]) -> int:
        """Record `entry` and return its number (from 0) once it is on the disk.

        Raises EntryError for what cannot be recorded (nothing is written), JournalFailedError when it could not be
        made durable: whoever gets that must not do what they wanted to record.
        """
        index = self._enqueue(encode(entry), None)
        with self._flush_lock:
            if self._durable.size <= index:
                self._flush()
        return index

    def submit(self, entry: Mapping[str, JsonValue], done: Done) -> int:
        """Have `entry` recorded and return the number it will have at once; `done` is told when it is on the disk.

        `done` gets the number, or the JournalFailedError for which nothing may be done; entries that were submitted are
        told of in their order, in a thread of the journal. Raises EntryError and JournalFailedError itself when it is
        known at once, `done` is not called then.
        """
        index = self._enqueue(encode(entry), done)
        self._flusher.wake()
        return index

    def buffer(self, entry: Mapping[str, JsonValue]) -> int:
        """Put `entry` among those that the next flush, whoever's it is, writes; returns the number it will have.

        For who flushes for many at once. Raises as `append`.
        """
        return self._enqueue(encode(entry), None)

    def flush(self) -> None:
        """Make all that was buffered durable; raises JournalFailedError."""
        with self._flush_lock:
            self._flush()

    def root(self, size: int | None = None) -> bytes:
        """Root (32 bytes) of the tree of the first `size` entries, by default of all that are on the disk."""
        durable = self._durable
        if size is None or size == durable.size:
            return durable.root
        with self._tiles_lock:
            return self._proven(size, durable)[0]

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """RFC 6962 2.1.1 proof that entry `index` is in the tree of the first `size` entries, all by default.

        Raises ValueError for no entry of that tree, BrokenJournalError if a tile that is needed was altered, OSError.
        """
        durable = self._durable
        size = durable.size if size is None else size
        with self._tiles_lock:
            root, node = self._proven(size, durable)
            proof = merkle.inclusion_proof(index, size, node)
            leaf = node(0, index)
        if not merkle.verify_inclusion(index, size, leaf, proof, root):
            raise BrokenJournalError(index, "tile-altered", "the tiles do not give the tree")
        return proof

    def consistency_proof(self, first: int, second: int | None = None) -> list[bytes]:
        """RFC 6962 2.1.2 proof that the tree of `second` entries, all by default, extends that of `first`.

        Raises ValueError unless first <= second, BrokenJournalError if a tile that is needed was altered, OSError.
        """
        durable = self._durable
        second = durable.size if second is None else second
        with self._tiles_lock:
            second_root, node = self._proven(second, durable)
            first_root, _ = self._proven(first, durable)
            proof = merkle.consistency_proof(first, second, node)
        if not merkle.verify_consistency(first, second, first_root, second_root, proof):
            raise BrokenJournalError(first, "tile-altered", "the tiles do not give the tree")
        return proof

    def checkpoint(self) -> bytes | None:
        """The signed checkpoint that was published last, None if there is none."""
        return self._follower.files.checkpoint()

    def publish(self, note: bytes) -> None:
        """Put a signed checkpoint (its whole file) into NAME.log, after the tiles of its tree: durable on return.

        From then on the log counts as broken without it. A checkpoint of the same size, such as one with more
        signatures, takes the place of the last. Raises BrokenJournalError for one that is not of this log (nothing is
        written then) and OSError.
        """
        tree = parse_checkpoint(note)
        if tree.size < self._published:
            raise BrokenJournalError(tree.size, "checkpoint-old", f"one of {self._published} entries was published")
        if tree.size > self._durable.size or tree.root != self.root(tree.size):
            raise BrokenJournalError(tree.size, "checkpoint-mismatch", "the checkpoint is not of this log")
        with self._tiles_lock:
            self._check_usable()
            self._follower.follow(self._durable.size)
            self._follower.write_partials(tree.size)
            self._follower.files.replace_checkpoint(note)
            with self._flush_lock:
                self._check_usable()
                self._published = tree.size
                self._note_head(self._durable)

    def close(self) -> None:
        """Write what was submitted, the head and the tiles, and let go of the files. May be called twice.

        What is appended after this raises JournalFailedError.
        """
        with self._flush_lock:
            if self._failed is None:
                try:
                    self._flush()
                except JournalFailedError:
                    _log.warning("the journal %s was closed with entries that could not be written", self.path.name)
            self._fail(_CLOSED)  # with what came in since the flush
        self._flusher.stop()
        self._tiler.stop()
        with self._tiles_lock, self._flush_lock:
            if self._file < 0:
                return
            try:
                self._follower.write_partials(self._durable.size)
            except (OSError, BrokenJournalError) as error:
                _log.warning("tiles of the journal %s were not written: %s", self.path.name, error)
            os.fsync(self._head_file)
            os.close(self._head_file)
            os.close(self._file)
            self._file = self._head_file = -1

    def _enqueue(self, data: bytes, done: Done | None) -> int:
        with self._buffer_lock:
            self._check_usable()
            index = self._taken + len(self._buffer)
            self._buffer.append((line(index, timestamp(self._clock()), data), done))
        return index

    def _flush(self) -> None:
        """Write and sync all that is buffered; the caller holds the flush lock. Raises JournalFailedError."""
        with self._buffer_lock:
            self._check_usable()
            batch, self._buffer = self._buffer, []
            self._taken += len(batch)
        if not batch:
            return
        before = self._durable.size
        try:
            for data, _ in batch:
                self._tree.append(leaf_hash(data))
            reached = TreeHead(self._tree.size, self._tree.root())
            written = b"\n".join([data for data, _ in batch]) + b"\n"
            _write_all(self._file, written)
            self._length += len(written)
            self._check_file()
            self._sync(self._file)
            self._note_head(reached)
        except BaseException as error:  # an interrupt, too, leaves a file that differs from what is known here
            reason = error.strerror if isinstance(error, OSError) else None
            failure = self._fail(f"could not record: {reason or type(error).__name__}", batch)
            if isinstance(error, Exception):
                raise failure from error
            raise
        self._durable = reached
        self._answer([(done, index) for index, (_, done) in enumerate(batch, before) if done is not None])
        if before // TILE != reached.size // TILE:
            self._tiler.wake()

    def _check_file(self) -> None:
        """Raises OSError unless the file ends where the last write did and still has a name."""
        found = os.fstat(self._file)
        if found.st_size != self._length or not found.st_nlink:
            raise OSError(errno.ESTALE, "the file was cut, written to or removed by someone else")

    def _fail(self, reason: str, batch: Sequence[tuple[bytes, Done | None]] = ()) -> JournalFailedError:
        """Record nothing more; the batch, and what waits behind it, is not recorded. The reason stays the first."""
        with self._buffer_lock:
            first, self._failed = self._failed is None, self._failed or reason
            late, self._buffer = self._buffer, []
        if first and reason != _CLOSED:
            _log.error("the journal %s records nothing more until it is opened again: %s", self.path.name, reason)
        failure = JournalFailedError(self._failed)
        self._answer([(done, failure) for _, done in (*batch, *late) if done is not None])
        return failure

    def _answer(self, answers: list[tuple[Done, int | AuditError]]) -> None:
        if answers:
            self._answers.extend(answers)
            self._flusher.wake()

    def _flush_submitted(self) -> None:
        """One step of the flusher."""
        try:
            with self._flush_lock:
                if self._buffer:
                    self._flush()
        except JournalFailedError:
            pass  # whoever submitted is told below
        while self._answers:
            done, answer = self._answers.popleft()
            try:
                done(answer)
            except Exception as error:  # the others are told all the same; only its type, the text may be confidential
                _log.error("who submitted to the journal %s failed: %s", self.path.name, type(error).__name__)

    def _write_tiles(self) -> None:
        """One step of the tiler. What it cannot write now it writes with the next step."""
        try:
            with self._tiles_lock:
                self._follower.follow(self._durable.size)
        except (OSError, BrokenJournalError) as error:
            _log.error("tiles of the journal %s cannot be written: %s", self.path.name, error)

    def _proven(self, size: int, durable: TreeHead) -> tuple[bytes, merkle.Node]:
        """Root of the tree of `size` entries, shown to be extended by the durable one, and the nodes it was made of.

        Tiles come from the disk, where they may have been altered: what is handed out must lead to the root in memory.
        """
        if not 0 <= size <= durable.size:
            raise ValueError(f"{durable.size} entries are on the disk, not {size}")
        follower = self._follower
        follower.follow(durable.size)
        root = merkle.tree_hash(size, follower.node)
        proof = merkle.consistency_proof(size, durable.size, follower.node)
        if not merkle.verify_consistency(size, durable.size, root, durable.root, proof):
            raise BrokenJournalError(size, "tile-altered", "the tiles do not give the tree")
        return root, follower.node

    def _note_head(self, head: TreeHead) -> None:
        os.pwrite(self._head_file, HeadRecord(head, self._published).encode(), 0)

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise JournalFailedError(self._failed)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """A thread that does a step whenever it is woken; it starts with the first."""

    def __init__(self, name: str, step: Callable[[], None]) -> None:
        self._name = name
        self._step = step
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have a step done soon; does not wait."""
        if self._woken.is_set():  # the step that is to come sees what it is woken for
            return
        self._woken.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopping:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        """Do the steps that are due, and end."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        self._woken.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._woken.wait()
            self._woken.clear()
            self._step()
        self._step()


def _read(
    path: Path, follower: Follower, extends: tuple[int, bytes] | None, each: Callable[[Entry], None] | None
) -> tuple[int, Replayed]:
    """Size of the last checkpoint, and the log, read to its end and checked against all that was noted of it."""
    record = read_head(path)
    checkpoint = read_checkpoint(path)
    published = 0 if record is None else record.published
    if published and checkpoint is None:
        raise BrokenJournalError(0, "checkpoint-missing", f"a checkpoint of {published} entries was there")
    noted = []
    cosigned = read_cosigned(path)
    if cosigned is not None:
        noted.append(Noted(cosigned, "witness-mismatch"))
    if record is not None:
        noted.append(Noted(record.tree, "head-mismatch"))
    if checkpoint is not None:
        if checkpoint.size < published:
            raise BrokenJournalError(checkpoint.size, "checkpoint-old", f"there was one of {published} entries")
        noted.append(Noted(checkpoint, "checkpoint-mismatch"))
        published = checkpoint.size
    if extends is not None:
        noted.append(Noted(TreeHead(*extends), "witness-mismatch"))
    return published, replay(path, follower, noted, each)


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalLockedError(f"{path.name} is open for writing elsewhere") from error


def _open_head(path: Path, record: HeadRecord) -> int:
    """The head's file. A new one has its content before its name: an empty one could not be told from a damaged one."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(record.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
