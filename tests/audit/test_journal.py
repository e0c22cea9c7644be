from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit import (
    BrokenJournalError,
    EntryError,
    Journal,
    JournalFailedError,
    JournalLockedError,
    TreeHead,
    read,
    verify,
)
from audit.verify import head_path
from tests.support.rfc6962 import naive_root


def test_entries_are_numbered_from_zero_and_are_the_leaves_of_the_tree(journal: Journal, path: Path) -> None:
    assert [journal.append({"number": number}) for number in range(3)] == [0, 1, 2]
    assert [entry.index for entry in read(path)] == [0, 1, 2]
    assert journal.head == TreeHead(3, naive_root(path.read_bytes().splitlines()))


def test_the_time_of_an_entry_is_the_clock_it_was_given(path: Path) -> None:
    with Journal.open(path, clock=lambda: datetime(2026, 5, 1, 8, 30, tzinfo=UTC)) as journal:
        journal.append({})
    assert next(read(path)).at == "2026-05-01T08:30:00.000000Z"


def test_a_reopened_journal_goes_on_where_it_ended(written: Path) -> None:
    with Journal.open(written) as journal:
        assert journal.append({"operation": "later"}) == 5
    assert verify(written).head.size == 6


def test_what_is_there_is_replayed_in_order_when_it_is_opened(written: Path) -> None:
    replayed: list[object] = []
    with Journal.open(written, replay=lambda entry: replayed.append(entry.entry["key"])):
        pass
    assert replayed == [f"key-{number}" for number in range(5)]


def test_only_the_owner_may_read_it(journal: Journal, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(head_path(path).stat().st_mode) == 0o600


def test_an_entry_that_cannot_be_recorded_leaves_no_trace(journal: Journal, path: Path) -> None:
    with pytest.raises(EntryError):
        journal.append({"amount": 1.5})  # type: ignore[dict-item]  # what is tested
    assert journal.append({"operation": "next"}) == 0
    assert verify(path).head.size == 1


class RecordedSync:
    """The real fdatasync, noting how much of the file each one covered."""

    def __init__(self) -> None:
        self.covered = 0
        self.calls = 0

    def __call__(self, file: int) -> None:
        size = os.fstat(file).st_size
        os.fdatasync(file)
        self.covered = max(self.covered, size)
        self.calls += 1


def test_concurrent_appends_are_each_on_the_disk_before_they_return(path: Path) -> None:
    sync = RecordedSync()

    def work(journal: Journal, worker: int) -> list[tuple[int, int]]:
        return [(journal.append({"worker": worker, "number": number}), sync.covered) for number in range(40)]

    with Journal.open(path, sync=sync) as journal, ThreadPoolExecutor(8) as pool:
        answers = [answer for answers in pool.map(lambda n: work(journal, n), range(8)) for answer in answers]
    assert sorted(index for index, _ in answers) == list(range(320))
    ends, end = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        end += len(line)
        ends.append(end)
    assert all(ends[index] <= covered for index, covered in answers)
    assert verify(path).head.size == 320


def test_appends_that_wait_for_a_running_sync_share_the_next_one(path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def slow_disk(file: int) -> None:
        calls.append(os.fstat(file).st_size)
        if len(calls) == 1:
            entered.set()
            go_on.wait(30)
        os.fdatasync(file)

    with Journal.open(path, sync=slow_disk) as journal, ThreadPoolExecutor(6) as pool:
        first = pool.submit(journal.append, {"number": "first"})
        entered.wait(30)
        others = [pool.submit(journal.append, {"number": number}) for number in range(5)]
        while len(journal._buffer) < 5:
            threading.Event().wait(0.001)
        assert not first.done()
        go_on.set()
        assert {future.result(30) for future in others} == {1, 2, 3, 4, 5}
        assert first.result(30) == 0
    assert len(calls) == 2


def test_after_a_failed_sync_nothing_is_recorded_until_it_is_opened_anew(path: Path) -> None:
    broken = False

    def disk(file: int) -> None:
        if broken:
            raise OSError(5, "Input/output error")
        os.fdatasync(file)

    journal = Journal.open(path, sync=disk)
    journal.append({"number": 0})
    broken = True
    assert journal.usable
    with pytest.raises(JournalFailedError, match="Input/output error"):
        journal.append({"number": 1})
    assert not journal.usable
    broken = False
    with pytest.raises(JournalFailedError):
        journal.append({"number": 2})
    journal.close()
    with Journal.open(path) as again:
        again.append({"number": 3})
    # number 1 was written but never acknowledged: it may be there, number 2 may not
    assert [entry.entry["number"] for entry in read(path)] == [0, 1, 3]


def test_a_full_disk_stops_recording_and_leaves_a_log_that_opens(path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from audit import Journal, JournalFailedError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
journal = Journal.open(Path(sys.argv[1]))
try:
    while True:
        print(journal.append({"padding": "x" * 100}), flush=True)
except JournalFailedError as error:
    print("failed", error)
"""
    answer = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    *acknowledged, failure = answer.stdout.splitlines()
    assert failure.startswith("failed could not record")
    with Journal.open(path):
        pass
    entries = [entry.entry for entry in read(path)]
    assert len(acknowledged) == len(entries) - 1
    assert entries[-1]["event"] == "journal.torn-tail"


def test_a_killed_writer_loses_nothing_it_acknowledged(path: Path) -> None:
    program = """
import sys, threading
from pathlib import Path
from audit import Journal
journal = Journal.open(Path(sys.argv[1]))
def work():
    while True:
        sys.stdout.write(f"{journal.append({'operation': 'sign', 'padding': 'x' * 300})}\\n")
        sys.stdout.flush()
for _ in range(4):
    threading.Thread(target=work).start()
"""
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            seen = [int(process.stdout.readline()) for _ in range(50)]
            os.kill(process.pid, signal.SIGKILL)
            seen += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        with Journal.open(path) as journal:
            assert journal.head.size > max(seen)
        assert verify(path).torn == b""


def test_a_torn_last_line_is_removed_and_noted(written: Path) -> None:
    torn = b'{"at":"2026-05-01T08:30:00.000000Z","entry":{"op'
    with written.open("ab") as file:
        file.write(torn)
    with Journal.open(written) as journal:
        assert journal.append({"operation": "next"}) == 6
    noted = list(read(written))[5].entry
    assert noted == {
        "event": "journal.torn-tail",
        "bytes": len(torn),
        "sha256": hashlib.sha256(torn).hexdigest(),
    }


def test_a_log_that_is_not_whole_does_not_open(written: Path) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(BrokenJournalError, match="entry 2: bad-index"):
        Journal.open(written)
    assert written.read_bytes() == b"".join(lines[:2] + lines[3:])


def test_a_log_whose_head_was_removed_does_not_open(written: Path) -> None:
    head_path(written).unlink()
    with pytest.raises(BrokenJournalError, match="head-missing"):
        Journal.open(written)


def test_a_removed_log_does_not_start_over(written: Path) -> None:
    written.unlink()
    with pytest.raises(BrokenJournalError, match="journal-missing"):
        Journal.open(written)
    assert not written.exists()


def test_a_journal_has_one_writer(journal: Journal, path: Path) -> None:
    with pytest.raises(JournalLockedError):
        Journal.open(path)
    assert journal.append({}) == 0


def test_a_closed_journal_records_nothing(path: Path) -> None:
    journal = Journal.open(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalFailedError, match="closed"):
        journal.append({})
    with Journal.open(path) as again:
        assert again.append({}) == 0


def test_a_log_verifies_while_it_is_being_written(journal: Journal, path: Path) -> None:
    journal.append({"number": 0})
    assert Journal.verify(path).head == journal.head
