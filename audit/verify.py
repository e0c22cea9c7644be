"""The offline verifier: is this log whole? One file, the standard library only, so that an auditor can read all of it.

    python3 verify.py hsm.jsonl ca.jsonl …

A log `NAME.jsonl` is read with what lies beside it:

    NAME.jsonl              one entry a line: {"at":"…","entry":{…},"index":0}, canonical JSON, numbered from 0
    NAME.head               entries on the disk, size of the last checkpoint, root of the tree; rewritten in place
    NAME.log/checkpoint     the last signed checkpoint (c2sp.org/tlog-checkpoint): origin, size, root, signatures
    NAME.log/checkpoint.witnessed   the last that a witness cosigned, which can be older
    NAME.log/tile/…         the same entries and their hashes as tiles (c2sp.org/tlog-tiles)

The entries are the leaves of a Merkle tree (RFC 6962 2.1): the hash of a leaf is SHA-256(0x00 || line without its line
feed), of a node SHA-256(0x01 || left || right). Checked is:

- each line: strict JSON, in the one way that it can be written, numbered without a gap;
- that the log extends every tree that was noted of it: the head, the checkpoint, one noted elsewhere (`witnessed`).
  Thereby an altered, deleted, inserted, swapped or cut entry is found, and a log that was rewritten as a whole as far
  as somebody else keeps a checkpoint of it;
- each tile against the entries, and that no tile is missing of the tree of the checkpoint.

Signatures are not checked here, since that takes a library; `kwbp audit verify` does, or openssl (`audit/note.py` says
how). A log may be verified while it is written: what is noted of it is read before it.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

MAX_LINE: Final = 65_535
"""Bytes of a line without its line feed: what the two length bytes of an entry bundle can say."""
TILE: Final = 256  # hashes of a full tile, entries of a full bundle
HASH: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()
_PART: Final = 64 * TILE  # entries that a worker is given at a time
_MAX_INTEGER: Final = 2**53 - 1  # what every JSON reader keeps exact
_FIELDS: Final = frozenset({"at", "entry", "index"})


class AuditError(Exception):
    """Base of everything the package raises."""


class BrokenJournalError(AuditError):
    """A log that was altered, cut, reordered, or is none.

    `index` is the number of the first entry that cannot be trusted (counted from 0), `reason` a slug:

    not-json, bad-shape, bad-index, not-canonical, too-long     the line
    cut-tail, head-mismatch, head-missing, head-unreadable      the log against its head
    checkpoint-mismatch, checkpoint-missing, checkpoint-old, checkpoint-unreadable
    witness-mismatch                    the log against a cosigned checkpoint, or a tree that was noted elsewhere
    tile-altered, tile-missing, tile-unexpected
    journal-missing
    """

    def __init__(self, index: int, reason: str, detail: str) -> None:
        super().__init__(index, reason, detail)  # all three, so that it can be handed from process to process
        self.index = index
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"entry {self.index}: {self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A log's tree: number of leaves, and root (32 bytes)."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """What the writer notes beside its log: the tree that is on the disk, and how large the last checkpoint was."""

    tree: TreeHead
    published: int

    def encode(self) -> bytes:
        """Text of fixed length, so that it is replaced in place within one disk sector, closed by its own SHA-256."""
        text = f"{self.tree.size:020d} {self.published:020d} {self.tree.root.hex()} ".encode("ascii")
        return text + hashlib.sha256(text).hexdigest().encode("ascii") + b"\n"

    @classmethod
    def decode(cls, record: bytes) -> HeadRecord:
        """The record; raises BrokenJournalError (`head-unreadable`) unless `encode` wrote it."""
        found = re.fullmatch(rb"([0-9]{20}) ([0-9]{20}) ([0-9a-f]{64}) [0-9a-f]{64}\n", record)
        if found is not None:
            head = cls(TreeHead(int(found[1]), bytes.fromhex(found[3].decode("ascii"))), int(found[2]))
            if head.encode() == record:
                return head
        raise BrokenJournalError(0, "head-unreadable", "the head is damaged")


@dataclass(frozen=True, slots=True)
class Verification:
    """A whole log: its tree, its length in bytes, its last checkpoint, and the bytes of an unfinished last line.

    A torn line is what a killed writer leaves; it was never acknowledged to anyone.
    """

    head: TreeHead
    length: int
    torn: bytes
    checkpoint: TreeHead | None


# ---- Where things are


def head_path(path: Path) -> Path:
    """Where the writer of the log `path` notes its head."""
    return path.with_suffix(".head")


def log_folder(path: Path) -> Path:
    """Where the log `path` stands as a tiled log: checkpoint and tiles."""
    return path.with_suffix(".log")


def tile_name(level: int | str, index: int, width: int = TILE) -> str:
    """Path below the log's folder of a tile, or of a bundle (`level` is then "entries"): tile/1/x001/234.p/17."""
    number = f"{index % 1000:03d}"
    while index := index // 1000:
        number = f"x{index % 1000:03d}/{number}"
    return f"tile/{level}/{number}" if width == TILE else f"tile/{level}/{number}.p/{width}"


def tiles_of(size: int) -> Iterator[tuple[int | str, int, int]]:
    """(level, index, width) of every bundle and tile of the tree with `size` leaves."""
    for level in ("entries", 0, 1, 2, 3, 4, 5, 6, 7):
        hashes = size >> 8 * (0 if isinstance(level, str) else level)
        for index in range(hashes // TILE):
            yield level, index, TILE
        if hashes % TILE:
            yield level, hashes // TILE, hashes % TILE


def read_head(path: Path) -> HeadRecord | None:
    """The head beside the log `path`, None if there is none; raises BrokenJournalError."""
    for _ in range(8):
        record = _read_if_there(head_path(path))
        if record is None:
            return None
        try:
            return HeadRecord.decode(record)
        except BrokenJournalError as error:  # or it was being replaced while it was read
            damaged = error
    raise damaged


def read_checkpoint(path: Path) -> TreeHead | None:
    """Size and root of the log's last checkpoint, None if there is none; raises BrokenJournalError."""
    note = _read_if_there(log_folder(path) / "checkpoint")
    return None if note is None else parse_checkpoint(note)


def read_cosigned(path: Path) -> TreeHead | None:
    """The same of the last checkpoint that a witness cosigned."""
    note = _read_if_there(log_folder(path) / "checkpoint.witnessed")
    return None if note is None else parse_checkpoint(note)


def parse_checkpoint(note: bytes) -> TreeHead:
    """Size and root out of a signed checkpoint; raises BrokenJournalError (`checkpoint-unreadable`)."""
    try:
        _origin, size, root, *_ = note.decode("utf-8").split("\n")
        tree = TreeHead(int(size), base64.b64decode(root, validate=True))
    except (ValueError, binascii.Error):
        tree = TreeHead(-1, b"")
    start = f"\n{tree.size}\n{base64.b64encode(tree.root).decode('ascii')}\n".encode("ascii")
    signed = b"\n\n\xe2\x80\x94 " in note and note.endswith(b"\n")  # an empty line, then signatures
    if tree.size < 0 or len(tree.root) != HASH or note[note.find(b"\n") :][: len(start)] != start or not signed:
        raise BrokenJournalError(0, "checkpoint-unreadable", "the checkpoint is damaged")
    return tree


def _read_if_there(path: Path) -> bytes | None:
    """The file's content; None if no file is there, be it that something else is."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


# ---- Lines


def lines(file: BinaryIO, first: int = 0) -> Iterator[bytes]:
    """Lines with their line feed; the last may lack it. Raises BrokenJournalError for one longer than any entry.

    `first` is the number of the entry at which the file stands.
    """
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            raise BrokenJournalError(first, "too-long", f"a line of more than {MAX_LINE} bytes")
        yield line
        first += 1


def check_line(line: bytes, index: int) -> None:
    """Raises BrokenJournalError unless the line is entry number `index` and can be read in one way only."""
    try:
        text = line.decode("utf-8")
        fields: Any = _decoder.decode(text)
        canonical = _encoder.encode(fields)
    except (ValueError, RecursionError):
        raise BrokenJournalError(index, "not-json", "the line is no JSON of text and whole numbers") from None
    if (
        type(fields) is not dict
        or fields.keys() != _FIELDS
        or type(fields["at"]) is not str
        or type(fields["entry"]) is not dict
        or type(fields["index"]) is not int
    ):
        raise BrokenJournalError(index, "bad-shape", "the line is no entry of a log")
    if fields["index"] != index:
        raise BrokenJournalError(index, "bad-index", f"found number {fields['index']}")
    if canonical != text:  # also where a key stands twice: only the last was kept
        raise BrokenJournalError(index, "not-canonical", "the same content is written in other bytes")


def _canonical(entries: list[bytes], first: int) -> bool:
    """Whether `check_line` holds for all of these lines: the same for many at a time, which is faster.

    Each line is read as one value that ends where the line does. So if all values together are written as the lines
    are, then each is: no whole object is the beginning of another.
    """
    try:
        text = b"\n".join(entries).decode("utf-8") + "\n"
        found, at = [], 0
        for index in range(first, first + len(entries)):
            fields, at = _decoder.raw_decode(text, at)
            if (
                text[at] != "\n"
                or fields.keys() != _FIELDS
                or fields["index"] != index
                or type(fields["index"]) is not int
                or type(fields["at"]) is not str
                or type(fields["entry"]) is not dict
            ):
                return False
            at += 1
            found.append(fields)
        return _encoder.encode(found)[1:-1] == text[:-1].replace("\n", ",")
    except (ValueError, RecursionError, AttributeError, IndexError):
        return False


def _whole_number(text: str) -> int:
    if len(text) <= 17 and abs(number := int(text)) <= _MAX_INTEGER:
        return number
    raise ValueError("a number that not every reader keeps exact")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no whole number")


_decoder: Final = json.JSONDecoder(parse_int=_whole_number, parse_float=_no_number, parse_constant=_no_number)
_encoder: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# ---- The tree


def merkle_tree_hash(hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 2.1 of leaf hashes, or of roots of complete subtrees of one size.

    Pairs are joined level by level; what is left over goes up as it is.
    """
    if not hashes:
        return EMPTY_ROOT
    sha256 = hashlib.sha256
    while len(hashes) > 1:
        above = [sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes) - 1, 2)]
        if len(hashes) % 2:
            above.append(hashes[-1])
        hashes = above
    return hashes[0]


def split_hashes(tile: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [tile[at : at + HASH] for at in range(0, len(tile), HASH)]


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of the log: where they start, how long they are, the number of the first entry."""

    path: Path
    offset: int
    length: int
    first: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was found of 256 entries, or less at the end: their leaf hashes joined, MTH of these, an altered file."""

    leaf_hashes: bytes
    root: bytes
    altered: str | None


def check_part(part: Part) -> list[Bundle]:
    """Check lines and entry bundles; raises BrokenJournalError for the first line that is wrong."""
    with part.path.open("rb") as file:
        file.seek(part.offset)
        entries = file.read(part.length)[:-1].split(b"\n")
    sha256 = hashlib.sha256
    found = []
    for at in range(0, len(entries), TILE):
        bundle = entries[at : at + TILE]
        if not _canonical(bundle, part.first + at):
            for index, line in enumerate(bundle, part.first + at):
                check_line(line, index)
        hashes = [sha256(b"\x00" + line).digest() for line in bundle]
        altered = _altered_bundle(log_folder(part.path), (part.first + at) // TILE, bundle)
        found.append(Bundle(b"".join(hashes), merkle_tree_hash(hashes), altered))
    return found


def _altered_bundle(folder: Path, number: int, entries: list[bytes]) -> str | None:
    """The first of the bundle's files, full or partial, that does not hold these entries."""
    for width in (*_partial_widths(folder, "entries", number), TILE):
        name = tile_name("entries", number, width)
        there = _read_if_there(folder / name)
        if there is None or width > len(entries):  # one beyond the log is found by its name
            continue
        if there != b"".join(len(line).to_bytes(2, "big") + line for line in entries[:width]):
            return name
    return None


def _partial_widths(folder: Path, level: int | str, number: int) -> list[int]:
    try:
        names = [file.name for file in (folder / f"{tile_name(level, number)}.p").iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]{0,2}", name) and int(name) < TILE)


class _Log:
    """What was read of a log: hashes enough to know its tree at a few sizes, and what does not fit its tiles."""

    def __init__(self, path: Path, wanted: Iterable[int]) -> None:
        self.size = 0
        self._roots: list[bytes] = []  # of the full bundles
        self._open: dict[int, bytes] = {size // TILE: b"" for size in wanted}  # leaf hashes where a wanted tree ends
        self._last = b""
        self._folder = log_folder(path)
        # Listed before the log is read: a tile that is there now has its entries in the log.
        self._tiles = {
            name
            for file in (self._folder / "tile").rglob("*")
            if not file.name.startswith(".") and file.is_file()
            for name in [file.relative_to(self._folder).as_posix()]
        }
        self.altered: BrokenJournalError | None = None

    def add(self, bundle: Bundle) -> None:
        """Take in the next bundle."""
        number, width = len(self._roots), len(bundle.leaf_hashes) // HASH
        if number in self._open:
            self._open[number] = bundle.leaf_hashes
        self._compare(0, number, bundle.leaf_hashes)
        for each in self._files("entries", number, width):
            self._tiles.discard(each)
        if bundle.altered is not None:
            self._note(number * TILE, bundle.altered)
        self.size += width
        if width == TILE:
            self._roots.append(bundle.root)
        else:
            self._last = bundle.leaf_hashes

    def root(self, size: int) -> bytes:
        """MTH of the first `size` entries; `size` is one of those wanted, or all."""
        full, rest = divmod(size, TILE)
        hashes = self._roots[:full]
        if rest:
            leaves = self._open.get(full) or self._last
            hashes = [*hashes, merkle_tree_hash(split_hashes(leaves[: rest * HASH]))]
        return merkle_tree_hash(hashes)

    def check_tiles(self, published: int) -> None:
        """Raises BrokenJournalError for a tile above the leaves that is altered, one missing, one too many."""
        level, hashes = 1, self._roots
        while hashes:
            above = []
            for at in range(0, len(hashes), TILE):
                tile = hashes[at : at + TILE]
                self._compare(level, at // TILE, b"".join(tile))
                if len(tile) == TILE:
                    above.append(merkle_tree_hash(tile))
            level, hashes = level + 1, above
        if self.altered is not None:
            raise self.altered
        for name in sorted(self._tiles):
            if not (self._folder / name).is_file():  # a partial one, whose full one the writer has put there meanwhile
                continue
            raise BrokenJournalError(self.size, "tile-unexpected", f"{name} belongs to no entries")
        for tile_level, number, width in tiles_of(published):
            name = tile_name(tile_level, number, width)
            full = tile_name(tile_level, number)
            if not (self._folder / name).is_file() and not (self._folder / full).is_file():
                first = number << 8 * (1 if isinstance(tile_level, str) else tile_level + 1)
                raise BrokenJournalError(first, "tile-missing", f"{name} of the checkpoint's tree is not there")

    def _files(self, level: int | str, number: int, width: int) -> list[str]:
        """The names there are of this tile's files, of at most `width`."""
        widths = [each for each in _partial_widths(self._folder, level, number) if each <= width]
        full = tile_name(level, number)
        return [tile_name(level, number, each) for each in widths] + ([full] if width == TILE else [])

    def _compare(self, level: int, number: int, hashes: bytes) -> None:
        for name in self._files(level, number, len(hashes) // HASH):
            self._tiles.discard(name)
            there = _read_if_there(self._folder / name)
            if there is None:
                continue
            width = int(name.rpartition("/")[2]) if ".p/" in name else TILE
            if there != hashes[: width * HASH]:
                pairs = zip(split_hashes(there), split_hashes(hashes[: width * HASH]), strict=False)
                same = next((at for at, (left, right) in enumerate(pairs) if left != right), 0)
                self._note((number * TILE + same) << 8 * level, name)

    def _note(self, index: int, name: str) -> None:
        if self.altered is None:  # the first, which names a single entry if the log is what was altered
            self.altered = BrokenJournalError(index, "tile-altered", f"{name} is not what the entries give")


# ---- The whole


def verify(path: Path, *, witnessed: TreeHead | None = None, processes: int = 1) -> Verification:
    """Check the whole log with what lies beside it, and that it extends the tree `witnessed`, noted elsewhere.

    A large log is shared out among `processes`, for callers that have no threads. Raises BrokenJournalError, which says
    what the first entry is that cannot be trusted.
    """
    if not path.exists():
        raise BrokenJournalError(0, "journal-missing", "there is no such file")
    record = read_head(path)
    checkpoint = read_checkpoint(path)
    if record is None and path.stat().st_size:
        raise BrokenJournalError(0, "head-missing", "the log is there, its head is not")
    published = 0 if record is None else record.published
    if published and checkpoint is None:
        raise BrokenJournalError(0, "checkpoint-missing", f"a checkpoint of {published} entries was there")
    if checkpoint is not None and checkpoint.size < published:
        raise BrokenJournalError(checkpoint.size, "checkpoint-old", f"there was one of {published} entries")
    trees = (
        ("head-mismatch", None if record is None else record.tree),
        ("checkpoint-mismatch", checkpoint),
        ("witness-mismatch", read_cosigned(path)),
        ("witness-mismatch", witnessed),
    )
    noted = sorted({(tree.size, tree.root, reason) for reason, tree in trees if tree is not None})
    log = _Log(path, (size for size, _, _ in noted))
    end = _End()
    with path.open("rb") as file, _mapper(path, processes) as mapper:
        for part in mapper(check_part, _parts(path, file, end)):
            for bundle in part:
                log.add(bundle)
    _check_noted(log, noted)
    log.check_tiles(0 if checkpoint is None else checkpoint.size)
    return Verification(TreeHead(log.size, log.root(log.size)), end.length, end.torn, checkpoint)


def _check_noted(log: _Log, noted: list[tuple[int, bytes, str]]) -> None:
    for size, root, reason in noted:
        if size > log.size:
            detail = f"{log.size} entries are there, {size} were noted"
            raise BrokenJournalError(log.size, "cut-tail", detail)
        if log.root(size) != root:
            sound = max((other for other, _, _ in noted if other < size), default=0)  # those before were right
            located = log.altered is not None and sound <= log.altered.index < size
            at = log.altered.index if log.altered is not None and located else sound
            raise BrokenJournalError(at, reason, f"the first {size} entries are not those that were noted")


class _End:
    """Where the whole lines end, and what comes after."""

    length = 0
    torn = b""


def _parts(path: Path, file: BinaryIO, end: _End) -> Iterator[Part]:
    start, first, count = 0, 0, 0
    for line in lines(file):
        if not line.endswith(b"\n"):
            end.torn = line
            break
        end.length += len(line)
        count += 1
        if count % _PART == 0:
            yield Part(path, start, end.length - start, first)
            start, first = end.length, count
    if count > first:
        yield Part(path, start, end.length - start, first)


_Mapper = Callable[[Callable[[Part], list[Bundle]], Iterable[Part]], Iterable[list[Bundle]]]


class _Pool:
    """Some processes: forks, which need nothing of the program that asks except that it has no threads yet."""

    def __init__(self, processes: int) -> None:
        self._executor = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"))

    def __enter__(self) -> _Mapper:
        return self._executor.map

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)


def _mapper(path: Path, processes: int) -> _Pool | nullcontext[_Mapper]:
    if processes > 1 and path.stat().st_size > 32 * 1024 * 1024:  # below that, processes take longer to start
        return _Pool(processes)
    return nullcontext(map)


def main() -> int:
    """Verify the logs named on the command line, one line for each; 0 if all are whole."""
    parser = argparse.ArgumentParser(description="Verify logs offline: every entry, head, tile and checkpoint root.")
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="a file NAME.jsonl; .head and .log beside it")
    status = 0
    for path in parser.parse_args().logs:
        try:
            found = verify(path, processes=len(os.sched_getaffinity(0)))
        except AuditError as error:
            sys.stdout.write(f"{path}: BROKEN: {error}\n")
            status = 1
        except OSError as error:
            sys.stdout.write(f"{path}: CANNOT BE READ: {error}\n")
            status = 1
        else:
            signed = f", checkpoint of {found.checkpoint.size}" if found.checkpoint is not None else ""
            sys.stdout.write(f"{path}: whole, {found.head.size} entries, root {found.head.root.hex()}{signed}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
