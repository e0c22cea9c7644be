"""Wrong passphrases make the next one wait, across restarts; a record that was put back is seen to be none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.language import Language
from runtime.secrets import Secret
from storefront.errors import LockedOut, WalletLocked
from storefront.wallet import container
from storefront.wallet.lockout import FIRST_WAIT, FREE, LONGEST_WAIT, Tries, wait_after

pytestmark = pytest.mark.usefixtures("cheap_guesses")

RIGHT, WRONG = Secret(b"correct horse"), Secret(b"correct horsf")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path, clock: Clock) -> Path:
    """Where a wallet would be; its record of tries is there."""
    path = tmp_path / "wallet.kwbp"
    Tries(path, clock).begin()
    return path


@pytest.fixture
def record(path: Path) -> Path:
    return path.with_name("wallet.kwbp.tries")


def guess(path: Path, clock: Clock, times: int = 1) -> None:
    """Wrong passphrases, each counted before it is tried. The counter outlives nothing but its file."""
    for _ in range(times):
        Tries(path, clock).count(expected=True)


def test_the_free_tries_cost_nothing_then_each_waits_longer_up_to_an_hour() -> None:
    waits = [wait_after(failed) for failed in range(40)]
    assert waits[:FREE] == [timedelta()] * FREE
    assert waits[FREE : FREE + 3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits == sorted(waits)
    assert waits[-1] == wait_after(10**9) == LONGEST_WAIT


def test_nothing_is_tried_before_its_time_and_a_restart_changes_nothing(path: Path, clock: Clock) -> None:
    guess(path, clock, FREE)
    for failed in range(FREE, FREE + 4):
        end = clock.now + wait_after(failed)
        clock.now = end - timedelta(seconds=1)
        with pytest.raises(LockedOut, match=f"{end:%H:%M:%S}"):
            guess(path, clock)
        clock.now = end
        guess(path, clock)


def test_a_try_that_was_right_is_forgotten_with_those_before(path: Path, clock: Clock) -> None:
    guess(path, clock, FREE)
    clock.now += FIRST_WAIT
    Tries(path, clock).count(expected=True)
    Tries(path, clock).forget()
    guess(path, clock, FREE)
    with pytest.raises(LockedOut):
        guess(path, clock)


def put_back_by_copying(record: Path, early: bytes) -> None:
    record.write_bytes(early)


def put_back_by_renaming(record: Path, early: bytes) -> None:
    other = record.with_name("other")
    other.write_bytes(early)
    other.replace(record)


def removed(record: Path, early: bytes) -> None:
    record.unlink()


def emptied(record: Path, early: bytes) -> None:
    record.write_bytes(b"")


def nonsense(record: Path, early: bytes) -> None:
    record.write_bytes(b'{"failed": "none"}')


def negative(record: Path, early: bytes) -> None:
    document = json.loads(record.read_bytes()) | {"failed": -1000}
    record.write_bytes(json.dumps(document).encode())


def a_link(record: Path, early: bytes) -> None:
    other = record.with_name("other")
    record.rename(other)
    record.symlink_to(other)


def put_back_with_its_mark(record: Path, early: bytes) -> None:
    """As `cp -a` of the whole folder would."""
    mark = record.with_name(record.name + ".lock")
    when = json.loads(early)["mark"]
    for path, content in ((record, early), (mark, b"")):
        path.write_bytes(content)
        os.utime(path, ns=(when, when))


@pytest.mark.parametrize(
    "meddle",
    [put_back_by_copying, put_back_by_renaming, removed, emptied, nonsense, negative, a_link, put_back_with_its_mark],
)
def test_a_record_that_is_not_the_newest_one_counts_as_all_free_tries(
    path: Path, record: Path, clock: Clock, meddle: object
) -> None:
    early = record.read_bytes()
    guess(path, clock, FREE - 1)
    meddle(record, early)  # type: ignore[operator]
    with pytest.raises(LockedOut):
        guess(path, clock)
    clock.now += FIRST_WAIT
    guess(path, clock)
    with pytest.raises(LockedOut):
        guess(path, clock)


def test_a_record_that_was_kept_by_a_second_name_is_an_older_one(path: Path, record: Path, clock: Clock) -> None:
    kept = record.with_name("kept")
    os.link(record, kept)
    guess(path, clock, FREE - 1)
    kept.replace(record)
    with pytest.raises(LockedOut):
        guess(path, clock)


def test_a_clock_that_is_set_back_begins_the_waiting_anew(path: Path, clock: Clock) -> None:
    guess(path, clock, FREE)
    clock.now -= timedelta(days=1)
    with pytest.raises(LockedOut):
        guess(path, clock)
    clock.now += FIRST_WAIT
    guess(path, clock)


def test_a_wallet_of_before_there_were_records_gets_one(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "old.kwbp"
    for _ in range(FREE):
        Tries(path, clock).count(expected=False)
    with pytest.raises(LockedOut):
        Tries(path, clock).count(expected=False)


def test_locked_out_even_the_right_passphrase_waits(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "buyer" / "wallet.kwbp"
    container.create(path, RIGHT, {"cards": {}}, clock=clock)
    guess(path, clock, FREE - 1)
    with pytest.raises(WalletLocked):
        container.read(path, WRONG, clock=clock)
    with pytest.raises(LockedOut) as refusal, container.editing(path, RIGHT, clock=clock):
        pass
    assert "۳۰" in refusal.value.text(Language.FA)
    with pytest.raises(LockedOut):
        container.change_passphrase(path, RIGHT, WRONG, clock=clock)
    clock.now += FIRST_WAIT
    assert container.read(path, RIGHT, clock=clock) == {"cards": {}}
    with pytest.raises(WalletLocked):  # and the count begins anew
        container.read(path, WRONG, clock=clock)


def test_a_process_that_is_killed_over_a_guess_has_had_its_try(tmp_path: Path) -> None:
    path = tmp_path / "wallet.kwbp"
    container.create(path, RIGHT, {})
    program = """
import os, signal, sys
from pathlib import Path
from runtime.secrets import Secret
from storefront.wallet import container
container.unseal = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
container.read(Path(sys.argv[1]), Secret(b"guess"))
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert json.loads(path.with_name("wallet.kwbp.tries").read_bytes())["failed"] == 1
    container.read(path, RIGHT)
    assert json.loads(path.with_name("wallet.kwbp.tries").read_bytes())["failed"] == 0
