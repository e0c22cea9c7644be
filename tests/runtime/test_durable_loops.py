"""Durable loops, on SQLite and PostgreSQL: one for each thing whoever begins it, gone on with after a kill."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from runtime.durable import Durable, Loop
from runtime.durable_thread import DurableThread
from tests.runtime.test_durable import PATIENCE, until
from tests.support.databases import DATABASES, empty_database
from tests.support.ready_python import Python


def replica(folder: Path, name: str, database: str, steps: int, *things: str) -> subprocess.Popen[str]:
    command = ["-m", "tests.support.looping", database, folder / "notes", name, steps, *things]
    return Python(command, stdin=subprocess.PIPE, text=True)


def notes(folder: Path) -> list[dict[str, str]]:
    path = folder / "notes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def made(folder: Path) -> Counter[str]:
    return Counter(each["thing"] for each in notes(folder))


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("kind", DATABASES)
def test_what_was_killed_is_gone_on_with_by_its_next_start(tmp_path: Path, kind: str) -> None:
    database = empty_database(kind, tmp_path)
    first = replica(tmp_path, "one", database, 6, "a", "b")
    until(lambda: made(tmp_path)["a"] >= 2)
    first.kill()
    assert first.wait(PATIENCE) == -signal.SIGKILL
    so_far = made(tmp_path)
    again = replica(tmp_path, "one", database, 6, "a", "c")  # "b" goes on though nobody begins it
    until(lambda: all(made(tmp_path)[thing] == 6 for thing in "abc"))
    end(again)
    assert so_far["a"] < 6
    assert made(tmp_path) == {"a": 6, "b": 6, "c": 6}


def test_a_thing_is_worked_on_by_one_replica_and_taken_over_from_a_dead_one(tmp_path: Path) -> None:
    database = empty_database("postgresql", tmp_path)
    one = replica(tmp_path, "one", database, 8, "a")
    until(lambda: made(tmp_path)["a"] >= 1)
    two = replica(tmp_path, "two", database, 8, "a", "b")  # "a" is begun: nothing to do
    until(lambda: made(tmp_path)["b"] >= 3)
    assert {each["by"] for each in notes(tmp_path) if each["thing"] == "a"} == {"one"}
    one.kill()
    one.wait(PATIENCE)
    assert two.stdin is not None
    two.stdin.write("a\n")
    two.stdin.flush()
    until(lambda: made(tmp_path)["a"] == 8 and made(tmp_path)["b"] == 8)
    end(two)
    assert {each["by"] for each in notes(tmp_path) if each["thing"] == "a"} == {"one", "two"}


def test_a_step_that_fails_is_logged_by_class_and_rows_hold_names_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.durable._AFTER_FAULT", 0.01)
    calls: list[str] = []

    async def step(argument: str) -> float | None:
        calls.append(argument)
        if len(calls) == 1:
            raise ValueError("6037701000000007")
        return None if len(calls) == 3 else 0.0

    async def scenario() -> None:
        thread = DurableThread(
            partial(Durable, "try", (), database=tmp_path / "try.sqlite", replica="r", loops=[Loop("work", step)])
        )
        await thread.begin("work", "M-1/abc/1")
        await thread.begin("work", "M-1/abc/1")
        while len(calls) < 3:  # noqa: ASYNC110  # made in another thread
            await asyncio.sleep(0.01)
        await thread.begin("work", "M-1/abc/1")  # done: nothing more
        await asyncio.to_thread(thread.close)

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    assert calls == ["M-1/abc/1"] * 3
    text = capfd.readouterr().err
    assert '"error": "ValueError"' in text
    with sqlite3.connect(tmp_path / "try-schedules.sqlite") as rows:
        stored = "\n".join(rows.iterdump())
    rows.close()
    assert "6037701000000007" not in text + stored
    assert "M-1/abc/1" in stored


def test_a_thread_that_could_not_start_says_so_and_tries_again(tmp_path: Path) -> None:
    tries: list[int] = []

    async def step(argument: str) -> float | None:
        return None

    def make() -> Durable:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the disk is full")
        return Durable("try", (), database=tmp_path / "try.sqlite", replica="r", loops=[Loop("work", step)])

    async def scenario() -> None:
        thread = DurableThread(make)
        with pytest.raises(OSError, match="disk"):
            await thread.begin("work", "a")
        await thread.begin("work", "a")
        await asyncio.to_thread(thread.close)

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    assert len(tries) == 2


def test_what_another_release_left_behind_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are for that release to go on with, which may never start again."""
    by: list[str] = []

    async def one_release(version: str, wait: float | None) -> None:
        monkeypatch.setattr("runtime.durable.VERSION", version)

        async def step(argument: str) -> float | None:
            by.append(version)
            return wait

        thread = DurableThread(
            partial(Durable, "try", (), database=tmp_path / "try.sqlite", replica="r", loops=[Loop("work", step)])
        )
        await thread.begin("work", "a")
        if wait is None:
            assert by == ["0"]
            await thread.take_over("work", "a")
        while version not in by:  # noqa: ASYNC110  # made in another thread
            await asyncio.sleep(0.01)
        await asyncio.to_thread(thread.close)

    asyncio.run(asyncio.wait_for(one_release("0", 600.0), PATIENCE))
    asyncio.run(asyncio.wait_for(one_release("1", None), PATIENCE))
    assert by == ["0", "1"]


def test_a_thread_that_was_never_needed_costs_nothing_to_close() -> None:
    DurableThread(lambda: pytest.fail("not needed")).close()
