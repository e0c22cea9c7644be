"""A file that one thread writes while another reads it: what is read waits for what is still to be written."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ca.errors import StoreError

_CHUNK: Final = 1024 * 1024


class GrowingFile:
    """The bytes that are written to a file from some place on, and their digest. One thread writes, any number read."""

    def __init__(self, file: BinaryIO, path: Path, place: int, algorithm: str) -> None:
        """`file`: the open file `path`, where it is written from `place` on; `algorithm`: a name of `hashlib`."""
        self._file = file
        self._path = path
        self._place = place
        self._hash = hashlib.new(algorithm)
        self._changed = threading.Condition()
        self._size = 0
        self._is_whole: bool | None = None  # None: more will come
        file.seek(place)

    @property
    def size(self) -> int:
        """Bytes that were written so far."""
        return self._size

    def write(self, chunk: bytes) -> None:
        """The next bytes."""
        self._file.write(chunk)
        self._file.flush()
        self._hash.update(chunk)
        with self._changed:
            self._size += len(chunk)
            self._changed.notify_all()

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Context of the one who writes: at its end all is there, or whoever still reads is told that it never will."""
        whole = False
        try:
            yield
            whole = True
        finally:
            with self._changed:
                self._is_whole = whole
                self._changed.notify_all()

    def parts(self) -> Iterator[bytes]:
        """The bytes from the first to the last, as they come; StoreError if the last never come."""
        read = 0
        with self._path.open("rb") as file:
            file.seek(self._place)
            while size := self._wait(read):
                chunk = file.read(min(size, _CHUNK))
                read += len(chunk)
                yield chunk

    def digest(self) -> bytes:
        """Of all bytes, once they are there; StoreError if they never are."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_whole is not None)
            self._check()
            return self._hash.digest()

    def _wait(self, read: int) -> int:
        """How many bytes there are beyond the first `read`, at least one; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._size > read or self._is_whole is not None)
            self._check()
            return self._size - read

    def _check(self) -> None:
        if self._is_whole is False:
            raise StoreError("the list was not written to its end")
