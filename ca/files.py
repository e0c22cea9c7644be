"""Files that others read while we write them: a reader sees the whole old state or the whole new one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ca.errors import StoreError


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` in place of the file `path` at once, durably."""
    draft = path.with_name(f".{path.name}.new")
    _write(draft, content)
    draft.replace(path)
    _sync(path.parent)


@contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when the context ends; `move_file` puts it where others read it."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def move_file(draft: Path, path: Path) -> None:
    """Put the file `draft`, which is durable and in the same file system, in place of `path` at once."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft.replace(path)
    _sync(path.parent)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Create `folder` with `files` (by relative path) at once, durably; it must not hold anything yet.

    A draft left beside it by an interrupted attempt is removed: nobody ever read it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} holds a hierarchy already; a ceremony never replaces one")
    draft = folder.with_name(f".{folder.name}.draft")
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(mode=0o755, parents=True)
    for name, content in files.items():
        path = draft / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(path, content)
    for inner in [draft, *(path for path in draft.rglob("*") if path.is_dir())]:
        _sync(inner)
    draft.rename(folder)  # onto an empty folder or none: one step for every reader
    _sync(folder.parent)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
