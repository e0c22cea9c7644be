"""Reading a journal without writing it: what an auditor runs, offline, on a copy.

Found without any help: an entry altered, inserted, deleted, swapped, written twice; a cut head. A cut tail is found
against a *head* (number of entries and last hash) that was noted elsewhere: the writer keeps one beside the log, an
API answer carries one, a witness may keep another. A log that was rewritten as a whole by someone who can also
rewrite every noted head is the business of witnesses, not of a hash chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from audit.entry import GENESIS, MAX_LINE, Entry, decode
from audit.errors import BrokenJournalError

_HEAD_LENGTH: Final = 20 + 1 + 64 + 1


@dataclass(frozen=True, slots=True)
class Head:
    """How far a journal had come: `count` entries, the last with `hash` (hex; GENESIS when there is none)."""

    count: int
    hash: str

    def encode(self) -> bytes:
        """Fixed-length text record, so that it is replaced in place within one disk sector."""
        return f"{self.count:020d} {self.hash}\n".encode("ascii")

    @classmethod
    def decode(cls, record: bytes) -> Head:
        """Head from its record; raises BrokenJournalError (`head-unreadable`)."""
        count, _, digest = record[:-1].partition(b" ")
        if len(record) != _HEAD_LENGTH or len(digest) != len(GENESIS) or not count.isdigit():
            raise BrokenJournalError(0, "head-unreadable", "the head record is damaged")
        return cls(int(count), digest.decode("ascii", "replace"))


@dataclass(frozen=True, slots=True)
class Verification:
    """A whole journal: its head, its length in bytes, and the bytes of an unfinished last line.

    A torn line is what a killed writer leaves; it was never acknowledged to anyone.
    """

    head: Head
    length: int
    torn: bytes


def head_path(path: Path) -> Path:
    """Where the writer of the journal `path` notes its head."""
    return path.with_name(path.name + ".head")


def read(path: Path) -> Iterator[Entry]:
    """Entries of the journal in order, each checked before it is given.

    Raises BrokenJournalError at the first that is not right.
    """
    with path.open("rb") as file:
        prev = GENESIS
        for index, line in enumerate(_lines(file)):
            if not line.endswith(b"\n"):  # unfinished: no entry
                return
            entry = decode(line[:-1], index=index, prev=prev)
            prev = entry.hash
            yield entry


def verify(path: Path, *, witnessed: Head | None = None, replay: Callable[[Entry], None] | None = None) -> Verification:
    """Checks the whole journal, and that it extends the head `witnessed`, by default the one noted beside it, if there.

    `replay` is given every entry once it was checked, in order. Raises BrokenJournalError naming the first entry that
    is wrong.
    """
    if not path.exists():
        raise BrokenJournalError(0, "journal-missing", "there is no such file")
    beside = head_path(path)
    if witnessed is None and beside.exists():
        witnessed = Head.decode(beside.read_bytes())
    count, length, prev, torn = 0, 0, GENESIS, b""
    extends = witnessed is None or witnessed.count == 0
    with path.open("rb") as file:
        for line in _lines(file):
            if not line.endswith(b"\n"):
                torn = line
                break
            entry = decode(line[:-1], index=count, prev=prev)
            prev = entry.hash
            if replay is not None:
                replay(entry)
            count += 1
            length += len(line)
            if witnessed is not None and count == witnessed.count:
                if prev != witnessed.hash:
                    raise BrokenJournalError(count - 1, "head-mismatch", "the entry is not the one that was witnessed")
                extends = True
    if not extends and witnessed is not None:
        raise BrokenJournalError(count, "cut-tail", f"{count} entries, {witnessed.count} were witnessed")
    return Verification(Head(count, prev), length, torn)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their line feed; the last may lack it. Raises BrokenJournalError for one longer than any entry."""
    index = 0
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            raise BrokenJournalError(index, "too-long", f"a line of more than {MAX_LINE} bytes")
        yield line
        index += 1
