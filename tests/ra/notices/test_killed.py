"""`kill -9` between any two steps of a delivery: nothing is lost, and what comes twice says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from ra.notices.kinds import NoticeState
from tests.support.databases import empty_database
from tests.support.notice_book import ONE, TWO, NoticeBook

STEPS = ("begun", "derived", "claimed", "sent", "noted")


@pytest.fixture(scope="module")
def processes() -> Iterator[subprocess.Popen[str]]:
    """What makes a process for each line."""
    command = [sys.executable, "-m", "tests.support.notice_book"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as made:
        yield made
        made.communicate()


def run(processes: subprocess.Popen[str], database: str, spool: Path, step: str, minutes: int) -> str:
    """Have a process stop at a step, and kill it there; without such a step it ends by itself. How it ended."""
    assert processes.stdin is not None
    assert processes.stdout is not None
    processes.stdin.write(f"{database} {spool} {step} {minutes}\n")
    said = processes.stdout.readline().split()
    if said[0] != "reached":
        return " ".join(said)
    os.kill(int(said[1]), signal.SIGKILL)
    return processes.stdout.readline().strip()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_each_step_in_turn_every_notice_arrives_once_or_marked(
    kind: str, processes: subprocess.Popen[str], tmp_path: Path
) -> None:
    url, spool = empty_database(kind, tmp_path), tmp_path / "spool"
    book = NoticeBook(url)
    for case in (ONE, TWO):
        book.case(case, contact="shop@example.ir")
        book.step(case, "submit", "DRAFT", "SCREENING")
        book.step(case, "expire", "VETTING", "EXPIRED")
    for count, step in enumerate(STEPS):
        assert run(processes, url, spool, step, 10 * count) == "killed"
    assert run(processes, url, spool, "never", 10 * len(STEPS)) == "ended 0"
    found = book.all()
    assert len(found) == 4
    assert {each.state for each in found} == {NoticeState.SENT}
    mails = {file.name: message_from_bytes(file.read_bytes(), policy=default) for file in (spool / "new").iterdir()}
    assert mails.keys() == {each.id for each in found}
    # Killed after the claim, the first was taken again; killed after sending, again: each time it said so.
    assert [each.attempts for each in found] == [3, 1, 1, 1]
    repeats = [mails[each.id]["X-KWBP-Notice-Repeat"] for each in found]
    assert repeats == ["3", None, None, None]
    assert list((spool / "tmp").iterdir()) == []
    book.close()
