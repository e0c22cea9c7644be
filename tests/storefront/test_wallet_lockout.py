"""Wrong passphrases make the next one wait, across restarts; a record that was put back is seen to be none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.language import Language
from runtime.secrets import Secret
from storefront.errors import LockedOut, WalletBusy, WalletError, WalletLocked
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
        attempt(path, clock, right=False)


def attempt(path: Path, clock: Clock, *, right: bool, expected: bool = True) -> None:
    """One try. A wrong one ends with an error, as a wallet that stays closed does."""
    with suppress(WalletLocked), Tries(path, clock).attempt(expected=expected):
        if not right:
            raise WalletLocked("wrong")


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
    attempt(path, clock, right=True)
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


def out_of_time(record: Path, early: bytes) -> None:
    document = json.loads(record.read_bytes()) | {"at": "0001-01-01T00:00:00+14:00"}
    record.write_bytes(json.dumps(document).encode())


def without_end(record: Path, early: bytes) -> None:
    record.write_bytes(record.read_bytes().replace(b'"failed": 4', b'"failed": 1e999'))


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
    [
        put_back_by_copying,
        put_back_by_renaming,
        removed,
        emptied,
        nonsense,
        negative,
        out_of_time,
        without_end,
        a_link,
        put_back_with_its_mark,
    ],
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
        attempt(path, clock, right=False, expected=False)
    with pytest.raises(LockedOut):
        attempt(path, clock, right=False, expected=False)


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


TWENTY = """
import os, sys
from pathlib import Path
from runtime.secrets import Secret
from storefront.errors import LockedOut, WalletLocked
from storefront.wallet import container
children = []
for _ in range(20):
    child = os.fork()
    if not child:
        try:
            container.read(Path(sys.argv[1]), Secret(sys.argv[2].encode()))
            os._exit(0)
        except LockedOut:
            os._exit(2)
        except WalletLocked:
            os._exit(1)
    children.append(child)
print(*sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.parametrize(
    ("passphrase", "ends"), [(RIGHT, [0] * 20), (WRONG, [1] * FREE + [2] * (20 - FREE))], ids=["right", "wrong"]
)
def test_of_many_processes_at_once_none_is_locked_out_by_right_ones_and_no_guess_is_free(
    tmp_path: Path, passphrase: Secret, ends: list[int]
) -> None:
    path = tmp_path / "wallet.kwbp"
    container.create(path, RIGHT, {})
    arguments = [sys.executable, "-c", TWENTY, str(path), passphrase.reveal().decode()]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert [int(code) for code in done.stdout.split()] == ends


def test_a_wallet_is_made_once(tmp_path: Path, clock: Clock) -> None:
    """Somebody else who makes one at the same moment is not overwritten."""
    path = tmp_path / "wallet.kwbp"
    with container._alone(path), pytest.raises(WalletBusy):
        container.create(path, RIGHT, {}, clock=clock)
    container.create(path, RIGHT, {}, clock=clock)
    with pytest.raises(WalletError, match="already a wallet"):
        container.create(path, WRONG, {}, clock=clock)
