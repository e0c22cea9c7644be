"""Wrong passphrases: a few are free, then each makes the next one wait longer.

    wallet.kwbp.tries         {"failed": 6, "at": "2026-01-01T10:00:00+00:00", "mark": 1767261600000000000}
    wallet.kwbp.tries.lock    empty; the time at which it was changed last is the mark

A try is counted, on the disk, before it is made, and forgotten once it was right: whoever kills the process after a
wrong passphrase has not had it for nothing, and a restart changes nothing.

Each record holds the time of the last change (ctime) of an empty file beside it, which is changed for each record and
whose time nobody can set. So an older record that is put back, with or without that file, is seen to be none; so is a
record that was removed, for the wallet's own header says that there is one. Either counts as if all the free tries were
used, and the waiting begins; so does a process that is killed between the two writes. A clock that was set back begins
it anew.

What a file cannot do is defend itself: who may write in the folder can write a record of their own, and who takes the
wallet away guesses at home, without any record. There the cost of each guess is all that stands in the way
(`storefront.wallet.container`, Argon2id), and the PKCS#11 token, whose key does not come along.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from storefront.errors import LockedOut
from storefront.evidence.moments import moment
from storefront.files import make_folder, write_whole

FREE: Final = 5
"""Wrong passphrases that cost no waiting."""

FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(hours=1)
_LIMIT: Final = 1024  # bytes of a record
_MARK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


def wait_after(failed: int) -> timedelta:
    """How long nothing is tried after so many wrong passphrases: 30 s after the fifth, then twice as long each time."""
    if failed < FREE:
        return timedelta()
    return min(FIRST_WAIT * (1 << min(failed - FREE, 16)), LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class _Record:
    failed: int
    at: datetime


class Tries:
    """The record of wrong passphrases that belongs to the wallet file `wallet`."""

    def __init__(self, wallet: Path, clock: Clock = utc_now) -> None:
        self._path = wallet.with_name(wallet.name + ".tries")
        self._clock = clock

    def begin(self) -> None:
        """Start the record of a wallet that was just made here: no try has failed."""
        with self._alone() as mark:
            self._write(_Record(0, self._clock()), mark)

    @contextmanager
    def attempt(self, *, expected: bool) -> Iterator[None]:
        """One try: counted before the block, forgotten with those before it if the block ends well.

        Tries are made one after the other: made side by side, so many right ones would be taken for wrong ones.

        :param expected: the wallet says that it has a record. :raises LockedOut: it must not be made yet.
        """
        with self._alone() as mark:
            self._count(mark, expected=expected)
            yield
            self._write(_Record(0, self._clock()), mark)

    def _count(self, mark: int, *, expected: bool) -> None:
        now, found = self._clock(), self._read(mark)
        if found is None:
            found = _Record(FREE if expected else 0, now)
            self._write(found, mark)
        elif now < found.at:  # the clock was set back: it does not shorten the waiting
            found = _Record(found.failed, now)
            self._write(found, mark)
        until = found.at + wait_after(found.failed)
        if now < until:
            raise LockedOut(
                "too many wrong passphrases, or the record of them is gone: none is tried before {time}",
                time=moment(until),
            )
        self._write(_Record(found.failed + 1, now), mark)

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """One process at a time, for as long as the block lasts; a killed one is out. Yields the empty file."""
        make_folder(self._path.parent)
        descriptor = os.open(self._path.with_name(self._path.name + ".lock"), _MARK, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, mark: int) -> _Record | None:
        """The record; None if there is none, or another lies in its place."""
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                document = json.loads(file.read(_LIMIT))
            record = _Record(int(document["failed"]), datetime.fromisoformat(document["at"]).astimezone(UTC))
            if document["mark"] == os.fstat(mark).st_ctime_ns and record.failed >= 0:
                return record
        return None

    def _write(self, record: _Record, mark: int) -> None:
        os.utime(mark)
        document = {
            "failed": record.failed,
            "at": record.at.isoformat(timespec="seconds"),
            "mark": os.fstat(mark).st_ctime_ns,
        }
        write_whole(self._path, json.dumps(document).encode())
