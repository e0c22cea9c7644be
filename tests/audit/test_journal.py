from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue

import pytest

from audit import (
    AuditError,
    BrokenJournalError,
    EntryError,
    Journal,
    JournalFailedError,
    JournalLockedError,
    TreeHead,
    read,
    verify,
)
from audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from audit.verify import head_path, log_folder
from tests.support.rfc6962 import naive_root
from tests.support.signed_logs import LogSigner


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
    usable_before = journal.usable
    with pytest.raises(JournalFailedError, match="Input/output error"):
        journal.append({"number": 1})
    assert (usable_before, journal.usable) == (True, False)
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


# ---- Submitted entries


class Answers:
    """What `submit` was answered, in order."""

    def __init__(self, expected: int) -> None:
        self.found: list[int | AuditError] = []
        self.threads: set[str] = set()
        self._all = threading.Event()
        self._expected = expected

    def __call__(self, answer: int | AuditError) -> None:
        self.threads.add(threading.current_thread().name)
        self.found.append(answer)
        if len(self.found) == self._expected:
            self._all.set()

    def wait(self) -> list[int | AuditError]:
        assert self._all.wait(30)
        return self.found


def test_submitted_entries_are_on_the_disk_before_they_are_answered_in_order(path: Path) -> None:
    sync, covered = RecordedSync(), []
    answers = Answers(500)

    def done(answer: int | AuditError) -> None:
        covered.append(sync.covered)
        answers(answer)

    with Journal.open(path, sync=sync) as journal:
        assert [journal.submit({"number": number}, done) for number in range(500)] == list(range(500))
        assert answers.wait() == list(range(500))
    end = 0
    for line, at in zip(path.read_bytes().splitlines(keepends=True), covered, strict=True):
        end += len(line)
        assert end <= at
    assert threading.current_thread().name not in answers.threads
    assert sync.calls < 500
    assert verify(path).head.size == 500


def test_submit_returns_while_the_disk_is_busy(path: Path) -> None:
    go_on = threading.Event()

    def slow_disk(file: int) -> None:
        go_on.wait(30)
        os.fdatasync(file)

    answers = Answers(3)
    with Journal.open(path, sync=slow_disk) as journal:
        for number in range(3):
            journal.submit({"number": number}, answers)
        assert answers.found == []
        assert journal.size == 0
        go_on.set()
        assert answers.wait() == [0, 1, 2]


def test_what_was_submitted_and_appended_together_is_numbered_once(path: Path) -> None:
    answers = Answers(200)

    def work(journal: Journal, worker: int) -> list[int]:
        found = []
        for _ in range(50):
            journal.submit({"worker": worker}, answers)
            found.append(journal.append({"worker": worker}))
        return found

    with Journal.open(path) as journal, ThreadPoolExecutor(4) as pool:
        appended = [index for found in pool.map(lambda worker: work(journal, worker), range(4)) for index in found]
        submitted = [answer for answer in answers.wait() if isinstance(answer, int)]
    assert sorted(appended + submitted) == list(range(400))
    assert submitted == sorted(submitted)


def test_an_entry_that_cannot_be_recorded_is_refused_by_submit_itself(journal: Journal, path: Path) -> None:
    answers = Answers(1)
    with pytest.raises(EntryError):
        journal.submit({"amount": 1.5}, answers)  # type: ignore[dict-item]  # what is tested
    journal.submit({"operation": "next"}, answers)
    assert answers.wait() == [0]


def test_that_it_failed_is_in_the_log_once_with_the_reason(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def disk(_file: int) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal.open(path, sync=disk)
    for number in range(3):
        with pytest.raises(JournalFailedError):
            journal.append({"number": number})
    told = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(told) == 1
    assert "No space left on device" in told[0]


def test_after_a_failed_sync_everything_that_was_submitted_is_told(path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def disk(file: int) -> None:
        entered.set()
        go_on.wait(30)
        raise OSError(28, "No space left on device")

    answers = Answers(3)
    journal = Journal.open(path, sync=disk)
    journal.submit({"number": 0}, answers)
    assert entered.wait(30)
    journal.submit({"number": 1}, answers)
    journal.submit({"number": 2}, answers)
    go_on.set()
    assert [str(answer) for answer in answers.wait()] == ["could not record: No space left on device"] * 3
    assert not journal.usable
    with pytest.raises(JournalFailedError, match="No space left"):
        journal.submit({"number": 3}, answers)
    journal.close()
    assert len(answers.found) == 3


def test_one_who_fails_with_their_answer_does_not_keep_others_from_theirs(journal: Journal) -> None:
    answers = Answers(1)

    def fails(answer: int | AuditError) -> None:
        raise RuntimeError("nobody expected this")

    journal.submit({"number": 0}, fails)
    journal.submit({"number": 1}, answers)
    assert answers.wait() == [1]


def test_what_was_submitted_is_written_before_it_closes(path: Path) -> None:
    answers = Answers(50)
    with Journal.open(path) as journal:
        for number in range(50):
            journal.submit({"number": number}, answers)
    assert answers.found == list(range(50))
    assert verify(path).head.size == 50


# ---- Tree, checkpoints and tiles


def test_the_root_is_that_of_the_definition_at_every_size(journal: Journal, path: Path) -> None:
    for number in range(20):
        journal.append({"number": number})
        assert journal.root() == naive_root(path.read_bytes().splitlines())
    lines = path.read_bytes().splitlines()
    assert [journal.root(size) for size in range(21)] == [naive_root(lines[:size]) for size in range(21)]


def test_proofs_hold_while_the_log_grows(path: Path) -> None:
    with Journal.open(path, sync=lambda file: None) as journal:
        for number in range(520):
            journal.append({"number": number})
        lines, root = path.read_bytes().splitlines(), journal.root()
        for index in (0, 255, 256, 519):
            proof = journal.inclusion_proof(index)
            assert verify_inclusion(index, 520, leaf_hash(lines[index]), proof, root)
        journal.append({"number": 520})
        assert verify_consistency(520, 521, root, journal.root(), journal.consistency_proof(520))
        assert verify_consistency(300, 520, naive_root(lines[:300]), root, journal.consistency_proof(300, 520))


@pytest.mark.parametrize("size", [522, -1])
def test_nothing_is_proved_of_what_is_not_on_the_disk(journal: Journal, size: int) -> None:
    with pytest.raises(ValueError, match="are on the disk"):
        journal.root(size)
    with pytest.raises(ValueError, match="are on the disk"):
        journal.inclusion_proof(0, size)
    with pytest.raises(ValueError, match="are on the disk"):
        journal.consistency_proof(0, size)


def test_no_proof_is_made_of_a_tile_that_was_altered_meanwhile(path: Path) -> None:
    with Journal.open(path, sync=lambda file: None) as journal:
        for number in range(300):
            journal.append({"number": number})
        journal.inclusion_proof(5)
        tile = log_folder(path) / "tile/0/000"
        whole = tile.read_bytes()
        tile.write_bytes(bytes(32) + whole[32:])
        with pytest.raises(BrokenJournalError, match="tile-altered"):
            journal.inclusion_proof(5, 270)
        with pytest.raises(BrokenJournalError, match="tile-altered"):
            journal.consistency_proof(5, 270)
        tile.write_bytes(whole)
        assert journal.inclusion_proof(5, 270)


def test_a_published_checkpoint_has_its_tiles_and_is_missed_from_then_on(path: Path, signer: LogSigner) -> None:
    with Journal.open(path) as journal:
        assert journal.checkpoint() is None
        for number in range(5):
            journal.append({"number": number})
        note = signer.sign(3, journal.root(3))
        journal.publish(note)
        assert journal.checkpoint() == note
        assert verify(path).checkpoint == TreeHead(3, journal.root(3))
    (log_folder(path) / "checkpoint").unlink()
    with pytest.raises(BrokenJournalError, match="checkpoint-missing"):
        Journal.open(path)


def test_a_checkpoint_that_is_not_of_this_log_is_not_published(journal: Journal, signer: LogSigner) -> None:
    for number in range(5):
        journal.append({"number": number})
    journal.publish(signer.sign(4, journal.root(4)))
    for size, root, reason in (
        (5, journal.root(4), "checkpoint-mismatch"),
        (6, journal.root(), "checkpoint-mismatch"),
        (3, journal.root(3), "checkpoint-old"),
    ):
        with pytest.raises(BrokenJournalError, match=reason):
            journal.publish(signer.sign(size, root))
    assert journal.checkpoint() is not None
    assert Journal.verify(journal.path).checkpoint == TreeHead(4, journal.root(4))


def test_a_writer_that_was_killed_after_it_put_a_checkpoint_there_goes_on(path: Path, signer: LogSigner) -> None:
    with Journal.open(path) as journal:
        journal.append({"number": 0})
        signer.publish(journal)
        earlier = head_path(path).read_bytes()
        journal.append({"number": 1})
        signer.publish(journal)
    head_path(path).write_bytes(earlier)
    with Journal.open(path) as journal:
        assert journal.append({"number": 2}) == 2
    assert verify(path).checkpoint is not None


def test_a_log_that_extends_what_a_witness_saw_of_it_opens(written: Path) -> None:
    lines = written.read_bytes().splitlines()
    for size in range(6):
        with Journal.open(written, extends=(size, naive_root(lines[:size]))) as journal:
            assert journal.size == 5


@pytest.mark.parametrize(
    ("size", "seen", "reason"), [(6, 5, "cut-tail"), (5, 4, "witness-mismatch"), (0, 1, "witness")]
)
def test_a_log_that_does_not_extend_it_does_not_open(written: Path, size: int, seen: int, reason: str) -> None:
    lines = written.read_bytes().splitlines()
    with pytest.raises(BrokenJournalError, match=reason):
        Journal.open(written, extends=(size, naive_root(lines[:seen])))


def test_missing_tiles_are_written_again_when_it_opens(signed: Path) -> None:
    checkpoint = (log_folder(signed) / "checkpoint").read_bytes()
    shutil.rmtree(log_folder(signed))
    log_folder(signed).mkdir()
    (log_folder(signed) / "checkpoint").write_bytes(checkpoint)
    with pytest.raises(BrokenJournalError, match="tile-missing"):
        verify(signed)
    Journal.open(signed).close()
    assert verify(signed).head.size == 600


def test_a_log_with_an_altered_tile_does_not_open(signed: Path) -> None:
    tile = log_folder(signed) / "tile/entries/001"
    tile.write_bytes(tile.read_bytes().replace(b'"sign"', b'"sigh"', 1))
    with pytest.raises(BrokenJournalError, match="entry 256: tile-altered"):
        Journal.open(signed)


def test_tiles_that_cannot_be_written_keep_nobody_from_recording(path: Path) -> None:
    with Journal.open(path, sync=lambda file: None) as journal:
        log_folder(path).write_bytes(b"in the way")
        for number in range(300):
            journal.append({"number": number})
        with pytest.raises(OSError, match="operations"):
            journal.inclusion_proof(0)
    log_folder(path).unlink()
    with Journal.open(path) as journal:
        assert len(journal.inclusion_proof(0)) == 9


# -- what somebody else does to it


@pytest.mark.parametrize("step", ["_write_all", "leaf_hash"])
def test_an_interrupt_in_the_middle_of_recording_leaves_a_log_that_opens(
    path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(path)
    journal.append({"event": "before"})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"audit.journal.{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append({"event": "interrupted"})
    with pytest.raises(JournalFailedError, match="KeyboardInterrupt"):
        journal.append({"event": "what the interrupted operation came to"})
    journal.close()
    with Journal.open(path) as journal:
        assert journal.append({"event": "after"}) == 1


def test_an_error_that_nobody_foresaw_is_told_to_all_who_wait(path: Path) -> None:
    answers: Queue[int | AuditError] = Queue()

    def fails(_file: int) -> None:
        raise MemoryError

    journal = Journal.open(path, sync=fails)
    journal.submit({"event": "one"}, answers.put)
    assert isinstance(answers.get(timeout=30), JournalFailedError)
    journal.close()


def test_what_is_submitted_while_it_closes_is_answered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Queue[int | AuditError] = Queue()
    journal = Journal.open(path)
    flush, late = journal._flush, iter([True])

    def flushed() -> None:
        flush()
        if next(late, False):
            journal.submit({"event": "late"}, answers.put)

    monkeypatch.setattr(journal, "_flush", flushed)
    journal.close()
    assert isinstance(answers.get_nowait(), JournalFailedError)
    assert verify(path).head.size == 0


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _written_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x\n")


def _replaced(path: Path) -> None:
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


@pytest.mark.parametrize("change", [_cut, _written_to, _replaced, Path.unlink])
def test_recording_stops_once_the_file_is_not_the_one_that_was_written(
    path: Path, change: Callable[[Path], None]
) -> None:
    with Journal.open(path) as journal:
        journal.append({"event": "before"})
        change(path)
        with pytest.raises(JournalFailedError, match="by someone else"):
            journal.append({"event": "after"})


def test_no_tiles_are_made_of_entries_that_were_cut(path: Path) -> None:
    with Journal.open(path, sync=lambda file: None) as journal:
        for number in range(200):
            journal.append({"number": number})
        _cut(path)
        with pytest.raises(BrokenJournalError, match="cut-tail"):
            journal._follower.follow(200)
    assert not log_folder(path).exists()


def test_a_writer_killed_while_it_made_the_files_of_a_log_makes_them_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("audit.journal.HeadRecord.encode", killed)
        with pytest.raises(Killed):
            Journal.open(path)
    with Journal.open(path) as journal:
        assert journal.append({"event": "first"}) == 0


def test_a_closed_log_gets_no_checkpoint(path: Path, signer: LogSigner) -> None:
    journal = Journal.open(path)
    journal.append({"event": "one"})
    note = signer.sign(journal.size, journal.root())
    journal.close()
    with pytest.raises(JournalFailedError):
        journal.publish(note)
    assert journal.checkpoint() is None
