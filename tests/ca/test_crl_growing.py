"""A list is read by the one who sends it while it is being written."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ca.crl_encoder import move_up
from ca.crl_growing import GrowingFile
from ca.errors import StoreError

PIECES = (b"first", b"second", b"the last")
PLACE = 4


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[GrowingFile]:
    with (tmp_path / "list").open("wb") as file:
        yield GrowingFile(file, tmp_path / "list", PLACE, "sha256")


def test_who_reads_gets_what_there_is_and_waits_for_the_rest(growing: GrowingFile, tmp_path: Path) -> None:
    read: list[bytes] = []
    came = threading.Semaphore(0)

    def reader() -> bytes:
        for part in growing.parts():
            read.append(part)
            came.release()
        return growing.digest()

    with ThreadPoolExecutor(1) as threads:
        with growing.ended():
            digest = threads.submit(reader)
            for number, piece in enumerate(PIECES, 1):
                growing.write(piece)
                assert came.acquire(timeout=30)
                assert read == list(PIECES[:number])
            assert not digest.done()
        assert digest.result(30) == hashlib.sha256(b"".join(PIECES)).digest()
    assert b"".join(growing.parts()) == b"".join(PIECES)  # and again, for who sends it again
    assert growing.size == len(b"".join(PIECES))
    assert (tmp_path / "list").read_bytes() == bytes(PLACE) + b"".join(PIECES)


def test_who_reads_is_told_that_the_end_never_comes(growing: GrowingFile) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(OSError, match="full"), growing.ended():
            parts = threads.submit(list, growing.parts())
            growing.write(b"half a list")
            raise OSError("full")
        with pytest.raises(StoreError, match="not written to its end"):
            parts.result(30)
    with pytest.raises(StoreError):
        growing.digest()


@pytest.mark.parametrize("by", [0, 1, 2])
def test_what_was_written_makes_room_for_a_longer_length(
    by: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ca.crl_encoder._CHUNK", 7)
    content = bytes(range(100))
    path = tmp_path / "list"
    path.write_bytes(b"room" + content)
    with path.open("r+b") as file:
        move_up(file, 4, len(content), by)
    assert path.read_bytes()[4 + by :] == content
