"""A folder that somebody else may write to: its files are looked at, read and moved, and no link in it is followed.

Whoever brings lists may own the folder, and put there what they like: `done` or `refused` that lead elsewhere, a link
where a reason is written to, another file in the place of one that was just read. So every step is by descriptors of
directories that are no links, a reason is only ever a new file, and what is moved is what was read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

REASON: Final = ".reason.txt"
DONE: Final = "done"
REFUSED: Final = "refused"
_OWN: Final = frozenset({DONE, REFUSED})
_UNFINISHED: Final = (".part", ".tmp", ".filepart")
_LONGEST_NAME: Final = 200
"""Bytes of a name that a number and `REASON` still fit behind."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY

Mark = tuple[int, int, int]
"""By what a file is known again: inode, size, time of its last change."""


@dataclass(frozen=True, slots=True)
class ListInbox:
    """The folder at `path`. Every method raises OSError; FileNotFoundError if somebody else was faster."""

    path: Path

    def names(self) -> list[str]:
        """What may be lists, by name: the same order for every gateway."""
        with os.scandir(self.path) as found:
            return sorted(
                each.name
                for each in found
                if each.name not in _OWN
                and not each.name.startswith(".")
                and not each.name.lower().endswith(_UNFINISHED)
                and not each.is_dir(follow_symlinks=False)
            )

    def mark(self, name: str) -> Mark:
        """What the file is known again by."""
        return _mark(os.lstat(self.path / name))

    def read(self, name: str, *, largest: int) -> tuple[bytes | None, Mark]:
        """What is in a file, and its mark from before it was read; None if it is no file, or too large."""
        found = os.lstat(self.path / name)
        if not stat.S_ISREG(found.st_mode) or found.st_size > largest:
            return None, _mark(found)
        descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mark = _mark(os.fstat(descriptor))
            data = file.read(largest + 1)
        return (None if len(data) > largest else data), mark

    def move(self, name: str, into: str, mark: Mark, *, reason: str | None = None) -> bool:
        """Whether the file of this mark is in `into` now, its reason beside it; another of its name stays here.

        The reason goes first: no file is ever there without it.
        """
        with _open(self.path) as folder, _open_below(folder, into) as target:
            if _mark(os.stat(name, dir_fd=folder, follow_symlinks=False)) != mark:
                return False
            place = _free(target, name)
            try:
                if reason is not None:
                    _write_new(target, place + REASON, reason)
                os.rename(name, place, src_dir_fd=folder, dst_dir_fd=target)
            except OSError:
                _forget(target, place + REASON)
                raise
            if moved := _mark(os.stat(place, dir_fd=target, follow_symlinks=False)) == mark:
                os.fsync(target)
            else:  # another file took its place in this very moment, and nobody has read that
                os.rename(place, _free(folder, name), src_dir_fd=target, dst_dir_fd=folder)
                _forget(target, place + REASON)
            os.fsync(folder)
            return moved

    def count(self, of: str) -> int:
        """How many files, without their reasons, are in the folder `of` below this one."""
        with contextlib.suppress(FileNotFoundError), _open(self.path) as folder:
            below = os.open(of, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                with os.scandir(below) as found:
                    return sum(1 for each in found if not each.name.endswith(REASON))
            finally:
                os.close(below)
        return 0


def shown(name: str) -> str:
    """A name for people: whatever bytes it is of, it can be written down."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _mark(found: os.stat_result) -> Mark:
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _open_below(folder: int, name: str) -> Iterator[int]:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=folder)
    descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _free(folder: int, name: str) -> str:
    """A name under which nothing is in `folder`: this one, else with a number; a name that is too long is digested."""
    stem = name if len(os.fsencode(name)) <= _LONGEST_NAME else sha256(os.fsencode(name)).hexdigest()
    number, place = 0, stem
    while _there(folder, place):
        number += 1
        place = f"{stem}.{number}"
    return place


def _there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_new(folder: int, name: str, text: str) -> None:
    """What is there already was left by a crash, or is somebody's link: it is not written to, it makes room."""
    _forget(folder, name)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode=0o600, dir_fd=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _forget(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
