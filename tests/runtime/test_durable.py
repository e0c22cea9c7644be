"""Durable schedules with real time, on SQLite and PostgreSQL: once among replicas, again after a kill, ended in order.

There is one DBOS in a process, so replicas are processes here; they run `tests.support.ticking`.
"""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from runtime.beat import Beat
from runtime.durable import Durable, JsonRows, Schedule
from tests.support.databases import DATABASES, empty_database
from tests.support.ready_python import Python

EACH_SECOND = "* * * * * *"
PATIENCE = 60.0  # seconds that a test waits for what must come


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def replica(folder: Path, name: str, database: str, *, pause: float = 0.0) -> subprocess.Popen[str]:
    command = ["-m", "tests.support.ticking", database, folder / "ticks", name, pause]
    return Python(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def ticks(folder: Path) -> list[dict[str, str]]:
    path = folder / "ticks"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def listening() -> set[str]:
    """The sockets of this process that listen, by inode (proc(5): state 0A)."""
    tables = "".join(Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6"))
    rows = [line.split() for line in tables.splitlines()]
    open_now = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    return {row[9] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in open_now}


def test_work_is_done_on_its_clock_a_fault_is_logged_by_class_and_the_next_tick_comes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 2:
            done.set()
        raise OSError("a card number, perhaps")

    with Durable(
        "try", [Schedule("work", EACH_SECOND, work)], database=tmp_path / "try.sqlite", replica="r", poll=0.05
    ):
        assert done.wait(PATIENCE)
    after = len(calls)

    text = capfd.readouterr().err
    assert '"error": "OSError"' in text
    assert "card number" not in text
    assert after == len(calls)
    file = tmp_path / "try-schedules.sqlite"
    assert file.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(file) as rows:
        stored = "\n".join(rows.iterdump())
    assert "card number" not in stored
    assert "try.work" in stored
    rows.close()


def test_it_opens_no_port_and_writes_to_no_console(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = listening()  # of other tests in this process
    with Durable("try", [Schedule("work", EACH_SECOND, int)], database=tmp_path / "try.sqlite", replica="r", poll=0.05):
        assert listening() <= before
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("dbos").propagate


def test_schedules_of_an_earlier_release_are_forgotten(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with Durable("try", [Schedule(name, EACH_SECOND, int)], database=tmp_path / "try.sqlite", replica="r"):
            pass
    with sqlite3.connect(tmp_path / "try-schedules.sqlite") as rows:
        names = {name for (name,) in rows.execute("SELECT schedule_name FROM workflow_schedules")}
    rows.close()
    assert names == {"try.new", "try.tidy"}


def test_work_that_is_under_way_is_waited_for_at_the_end(tmp_path: Path) -> None:
    begun, finished = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.5)
        finished.set()

    with Durable(
        "try", [Schedule("work", EACH_SECOND, work)], database=tmp_path / "try.sqlite", replica="r", poll=0.05
    ):
        assert begun.wait(PATIENCE)
    assert finished.is_set()


@pytest.mark.parametrize("kind", DATABASES)
def test_each_tick_is_worked_through_once_among_replicas(tmp_path: Path, kind: str) -> None:
    database = empty_database(kind, tmp_path)
    both = [replica(tmp_path, name, database) for name in ("one", "two")]
    until(lambda: len(ticks(tmp_path)) >= 3)
    for each in both:
        each.terminate()
    assert [each.wait(PATIENCE) for each in both] == [0, 0]

    times = Counter(each["tick"] for each in ticks(tmp_path) if each["event"] == "begun")
    assert set(times.values()) == {1}


@pytest.mark.parametrize("kind", DATABASES)
def test_what_a_killed_process_had_begun_is_begun_again_by_its_next_start(tmp_path: Path, kind: str) -> None:
    database = empty_database(kind, tmp_path)
    dying = replica(tmp_path, "one", database, pause=600.0)
    until(lambda: len(ticks(tmp_path)) >= 1)
    dying.send_signal(signal.SIGKILL)
    dying.wait(PATIENCE)
    begun = ticks(tmp_path)[0]["tick"]

    again = replica(tmp_path, "one", database)
    until(lambda: {"tick": begun, "event": "ended", "by": "one"} in ticks(tmp_path))
    again.terminate()
    assert again.wait(PATIENCE) == 0


@pytest.mark.parametrize("hours", [-1000, 1])
def test_a_clock_that_is_set_neither_ends_the_schedules_nor_floods_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    offset = timedelta(0)

    class Wall(datetime):
        """The clock of this machine, when it is set."""

        @classmethod
        def now(cls, tz: Any = None) -> Self:
            return cls.fromtimestamp((datetime.now(UTC) + offset).timestamp(), tz)

    monkeypatch.setattr("dbos._scheduler.datetime", Wall)
    calls: list[int] = []
    followed: list[int] = []
    with Durable(
        "try",
        [Schedule("work", EACH_SECOND, lambda: calls.append(1))],
        database=tmp_path / "try.sqlite",
        replica="r",
        poll=0.05,
        everywhere=lambda: followed.append(1),
        beat=0.05,
        wall=lambda: Wall.now(UTC),
    ):
        until(lambda: len(calls) >= 1)
        offset = timedelta(hours=hours)
        before = len(calls)
        until(lambda: len(calls) >= before + 2)
        assert len(calls) < 1000
        assert followed


def test_work_of_each_process_goes_on_after_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise OSError("a card number, perhaps")

    with Beat("try", 0.01, work):
        until(lambda: len(calls) >= 3)
    text = capfd.readouterr().err
    assert text.count("beat-failed") == 1
    assert "card number" not in text


def test_rows_are_json_without_the_texts_of_exceptions() -> None:
    rows = JsonRows()
    inputs = {"args": (datetime(2026, 11, 22, tzinfo=UTC), None), "kwargs": {}}
    written = rows.serialize(inputs)
    assert json.loads(written)
    assert rows.deserialize(written) == {"args": [datetime(2026, 11, 22, tzinfo=UTC), None], "kwargs": {}}
    assert rows.serialize(ValueError("secret")) == '"ValueError"'
    with pytest.raises(TypeError):
        rows.serialize(object())
