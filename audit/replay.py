"""Reading the log: for whoever wants its entries, and for the writer, who goes on where it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.entry import Entry, decode
from audit.errors import BrokenJournalError
from audit.merkle import CompactRange, leaf_hash
from audit.tiles import Follower
from audit.verify import TreeHead, lines


@dataclass(frozen=True, slots=True)
class Noted:
    """A tree that the log must extend, and the reason that an error gives if it does not."""

    tree: TreeHead
    reason: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log that was read to its end: its tree, its length in bytes, and the bytes of an unfinished last line."""

    tree: CompactRange
    length: int
    torn: bytes


def read(path: Path) -> Iterator[Entry]:
    """Entries of the log in order. Each is of the right form and number; whether it is the one that was written then,
    only `verify` says. Raises BrokenJournalError."""
    with path.open("rb") as file:
        for index, line in enumerate(lines(file)):
            if not line.endswith(b"\n"):  # unfinished: no entry
                return
            yield decode(line[:-1], index)


def replay(path: Path, follower: Follower, noted: list[Noted], each: Callable[[Entry], None] | None = None) -> Replayed:
    """Read the whole log; `each` is given every entry, in order.

    `follower` checks the tiles up to the first that is missing. Raises BrokenJournalError for a line or tile that is
    wrong and for a log that does not extend the trees in `noted`.
    """
    tree, length, torn, following = CompactRange(), 0, b"", True
    noted = sorted(noted, key=lambda one: one.tree.size)
    noted = _check(tree, noted)
    with path.open("rb") as file:
        for index, line in enumerate(lines(file)):
            if not line.endswith(b"\n"):
                torn = line
                break
            data = line[:-1]
            entry = decode(data, index)
            hash_ = leaf_hash(data)
            tree.append(hash_)
            if following:
                following = follower.check(data, hash_)
            if each is not None:
                each(entry)
            length += len(line)
            if noted and noted[0].tree.size == tree.size:
                noted = _check(tree, noted)
    for one in noted:
        raise BrokenJournalError(tree.size, "cut-tail", f"{tree.size} entries, {one.tree.size} were noted")
    return Replayed(tree, length, torn)


def _check(tree: CompactRange, noted: list[Noted]) -> list[Noted]:
    """What is left of `noted` after those of the tree's size were checked."""
    while noted and noted[0].tree.size == tree.size:
        if noted[0].tree.root != tree.root():
            detail = f"the first {tree.size} entries are not those that were noted"
            raise BrokenJournalError(0, noted[0].reason, detail)
        noted = noted[1:]
    return noted
