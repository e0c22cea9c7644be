"""The log in the form of c2sp.org/tlog-tiles: files that any web server can serve and any tiled-log client can read.

    NAME.log/checkpoint              the last signed checkpoint
    NAME.log/tile/0/x001/234         256 leaf hashes, joined; at level n hashes of full tiles of level n-1
    NAME.log/tile/0/x001/235.p/17    the first 17 of a tile that was not full when a checkpoint needed it
    NAME.log/tile/entries/x001/234   the 256 entries, each after its length in two bytes

All this is derived from `NAME.jsonl`: written behind the appends, never in front of one, and written again where it is
missing. Tiles never change, so what is there must be what would be written; a tile that differs was altered.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from audit.errors import BrokenJournalError
from audit.merkle import HASH_SIZE, leaf_hash, merkle_tree_hash
from audit.verify import MAX_LINE, TILE, log_folder, split_hashes, tile_name

CHECKPOINT: Final = "checkpoint"


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry after its length as a big-endian uint16."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle; raises ValueError for one that is cut."""
    entries, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or at + 2 > len(data):
            raise ValueError("the bundle ends inside an entry")
        entries.append(data[at + 2 : end])
        at = end
    return entries


class TileFolder:
    """The files of one log. A tree of `size` leaves can be read as soon as `Follower.write_partials(size)` was done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, path: Path) -> TileFolder:
        """The tiles of the log `path`, a file NAME.jsonl."""
        return cls(log_folder(path))

    def has(self, name: str, data: bytes, first: int) -> bool:
        """Whether the file is there; raises BrokenJournalError (`tile-altered`) if it holds anything but `data`."""
        try:
            there = (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except IsADirectoryError:
            raise BrokenJournalError(first, "tile-altered", f"{name} is no file") from None
        if there != data:
            raise BrokenJournalError(first, "tile-altered", f"{name} is not what the entries give")
        return True

    def put(self, name: str, data: bytes, first: int) -> bool:
        """Write the file unless it is there, which it is then; `first` is the entry that an error names."""
        if not self.has(name, data, first):
            self._write(self.folder / name, data)
        return True

    def drop_partials(self, level: int | str, number: int) -> None:
        """Remove the partial files of a tile that is full now."""
        shutil.rmtree(self.folder / f"{tile_name(level, number)}.p", ignore_errors=True)

    def replace_checkpoint(self, note: bytes) -> None:
        """Put a signed checkpoint in the place of the last one, durably."""
        self._write(self.folder / CHECKPOINT, note)
        sync_directory(self.folder)

    def checkpoint(self) -> bytes | None:
        """The last signed checkpoint, None if there is none."""
        try:
            return (self.folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return None

    def node(self, level: int, index: int, size: int) -> bytes:
        """A node (`audit.merkle.Node`) of the tree of `size` leaves; raises BrokenJournalError if there is no tile."""
        tile_level, height = divmod(level, 8)
        number, at = divmod(index << height, TILE)
        hashes = self._hashes(tile_level, number, size)
        return merkle_tree_hash(hashes[at : at + (1 << height)])

    def entry(self, index: int, size: int) -> bytes:
        """The line of entry `index` out of the tree of `size` leaves; raises BrokenJournalError if it is not there."""
        number, at = divmod(index, TILE)
        data = self._read("entries", number, min(TILE, size - number * TILE), index)
        try:
            return decode_bundle(data)[at]
        except (ValueError, IndexError) as error:
            raise BrokenJournalError(index, "tile-altered", f"{tile_name('entries', number)} is damaged") from error

    def _hashes(self, level: int, number: int, size: int) -> list[bytes]:
        width = min(TILE, (size >> 8 * level) - number * TILE)
        first = number << 8 * (level + 1)
        hashes = split_hashes(self._read(level, number, width, first))
        if len(hashes) not in (width, TILE) or len(hashes[-1]) != HASH_SIZE:
            raise BrokenJournalError(first, "tile-altered", f"{tile_name(level, number)} is damaged")
        return hashes

    def _read(self, level: int | str, number: int, width: int, first: int) -> bytes:
        """The tile or bundle; a partial one may have been replaced by the full one."""
        for each in (width, TILE):
            try:
                return (self.folder / tile_name(level, number, each)).read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                pass
        raise BrokenJournalError(first, "tile-missing", f"{tile_name(level, number, width)} is not there")

    def _write(self, path: Path, data: bytes) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(file, "wb", closefd=False) as stream:
                stream.write(data)
            os.fdatasync(file)  # a name that leads to half a tile would look like an altered one after a power cut
        finally:
            os.close(file)
        fresh.replace(path)


class Follower:
    """Reads the log behind its writer and writes its tiles. Not for several threads at a time.

    Kept in memory are the tiles that are not full: of each level up to 255 hashes, and up to 255 entries.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.files = TileFolder.of(path)
        self._path = path
        self._offset = 0
        self._entries: list[bytes] = []
        self._columns: list[list[bytes]] = [[]]

    def check(self, line: bytes, hash_: bytes) -> bool:
        """Take in the next entry. False if it completes tiles that are not there: `follow` is to write them.

        Raises BrokenJournalError for a tile that is altered.
        """
        self._take(line, hash_)
        return len(self._entries) < TILE or self._complete(write=False)

    def follow(self, size: int) -> None:
        """Write the full tiles of the first `size` entries, which are on the disk.

        Raises OSError, after which it may be called again, and BrokenJournalError for an altered tile.
        """
        if size <= self.size and len(self._entries) < TILE:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while self.size < size:
                self._complete(write=True)
                line = file.readline(MAX_LINE + 1)
                if not line.endswith(b"\n"):  # these entries were there once
                    raise BrokenJournalError(self.size, "cut-tail", f"{self.size} entries, {size} were written")
                self._take(line[:-1], leaf_hash(line[:-1]))
        self._complete(write=True)

    def write_partials(self, size: int) -> None:
        """Write what the tree of `size` leaves has beyond full tiles; raises what `follow` does."""
        self.follow(size)
        for level, column in enumerate(self._columns):
            number, width = divmod(size >> 8 * level, TILE)
            if width and number == (self.size >> 8 * level) // TILE:  # otherwise it is full by now
                first = number << 8 * (level + 1)
                self.files.put(tile_name(level, number, width), b"".join(column[:width]), first)
                if level == 0:
                    self.files.put(tile_name("entries", number, width), encode_bundle(self._entries[:width]), first)

    def node(self, level: int, index: int) -> bytes:
        """A node (`audit.merkle.Node`) of the tree as far as it was followed."""
        tile_level, height = divmod(level, 8)
        number, at = divmod(index << height, TILE)
        if number == (self.size >> 8 * tile_level) // TILE:
            return merkle_tree_hash(self._columns[tile_level][at : at + (1 << height)])
        return self.files.node(level, index, self.size)

    def _take(self, line: bytes, hash_: bytes) -> None:
        self._entries.append(line)
        self._columns[0].append(hash_)
        self._offset += len(line) + 1
        self.size += 1

    def _complete(self, *, write: bool) -> bool:
        """Write the tiles that are full, or see whether they are there, and let go of them; if not, change nothing."""
        if len(self._entries) < TILE:
            return True
        settle = self.files.put if write else self.files.has
        number = self.size // TILE - 1
        if not settle(tile_name("entries", number), encode_bundle(self._entries), number * TILE):
            return False
        level, hashes = 0, self._columns[0]
        while len(hashes) == TILE:
            number = (self.size >> 8 * (level + 1)) - 1
            if not settle(tile_name(level, number), b"".join(hashes), number << 8 * (level + 1)):
                return False
            level += 1
            if level == len(self._columns):
                self._columns.append([])
            hashes = [*self._columns[level], merkle_tree_hash(hashes)]
        self._columns[:level] = [[] for _ in range(level)]
        self._columns[level] = hashes
        self._entries = []
        if write:
            self.files.drop_partials("entries", self.size // TILE - 1)
            for each in range(level):
                self.files.drop_partials(each, (self.size >> 8 * (each + 1)) - 1)
        return True


def sync_directory(directory: Path) -> None:
    """Make the names of freshly made files durable."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
