"""The group writer of a database: durable before told, one commit for many, each job's fate its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, event, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from runtime.database import open_database
from runtime.group_writer import DatabaseUnavailableError, GroupWriter
from tests.support.databases import empty_database

metadata = MetaData()
names = Table("names", metadata, Column("name", String, primary_key=True))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(tmp_path / "writer.db")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def writer(engine: Engine) -> Iterator[GroupWriter]:
    writer = GroupWriter(engine, "test")
    writer.start()
    yield writer
    writer.close()


def _add(name: str) -> Callable[[Connection], str]:
    def job(connection: Connection) -> str:
        connection.execute(insert(names).values(name=name))
        return name

    return job


def _count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(names)).scalar_one()


def _held(writer: GroupWriter) -> threading.Event:
    """Keep the writer busy until the event is set, so that what is submitted meanwhile forms one group."""
    go = threading.Event()
    started = threading.Event()

    def wait(_connection: Connection) -> None:
        started.set()
        go.wait(20)

    writer.submit(wait)
    started.wait(20)
    return go


def test_a_result_is_given_after_its_commit(writer: GroupWriter, engine: Engine) -> None:
    async def scenario() -> None:
        assert await writer.run(_add("1")) == "1"
        assert _count(engine) == 1

    asyncio.run(scenario())


def test_jobs_that_meet_share_one_commit(writer: GroupWriter, engine: Engine) -> None:
    commits: list[int] = []
    event.listen(engine, "commit", lambda _connection: commits.append(1))
    go = _held(writer)
    futures = [writer.submit(_add(str(number))) for number in range(50)]
    go.set()
    assert [future.result(20) for future in futures] == [str(number) for number in range(50)]
    assert len(commits) == 2  # the one that held the writer, and one for all fifty


def test_a_job_that_fails_is_undone_alone(writer: GroupWriter, engine: Engine) -> None:
    def half(connection: Connection) -> None:
        connection.execute(insert(names).values(name="half"))
        raise KeyError("half")

    go = _held(writer)
    good = writer.submit(_add("1"))
    bad = writer.submit(half)
    also_good = writer.submit(_add("2"))
    go.set()
    assert (good.result(20), also_good.result(20)) == ("1", "2")
    with pytest.raises(KeyError):
        bad.result(20)
    assert _count(engine) == 2


def test_savepoints_are_taken_only_where_a_job_failed(writer: GroupWriter, engine: Engine) -> None:
    taken: list[str] = []
    event.listen(engine, "savepoint", lambda _connection, name: taken.append(name))
    ran: list[str] = []

    def counted(name: str) -> Callable[[Connection], str]:
        def job(connection: Connection) -> str:
            ran.append(name)
            return _add(name)(connection)

        return job

    go = _held(writer)
    futures = [writer.submit(counted(name)) for name in "abc"]
    go.set()
    assert [future.result(20) for future in futures] == ["a", "b", "c"]
    assert (ran, taken) == (["a", "b", "c"], [])
    go = _held(writer)
    futures = [writer.submit(counted(name)) for name in ("d", "a", "e")]
    go.set()
    assert [futures[0].result(20), futures[2].result(20)] == ["d", "e"]
    with pytest.raises(IntegrityError):
        futures[1].result(20)
    assert ran[3:] == ["d", "a", "d", "a", "e"]  # undone as a whole, and done again each by itself
    assert len(taken) == 3
    assert _count(engine) == 5


def test_a_transaction_that_the_database_ended_by_itself_is_told_to_nobody_as_done(
    writer: GroupWriter, engine: Engine
) -> None:
    """SQLite does so when it cannot undo a statement: a full disk, no memory. `OR ROLLBACK` asks it to."""
    writer.submit(_add("1")).result(20)

    def ended(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT OR ROLLBACK INTO names (name) VALUES ('1')")

    def ended_unheard(connection: Connection) -> None:
        with contextlib.suppress(IntegrityError):
            ended(connection)

    for bad in (ended, ended_unheard):
        go = _held(writer)
        futures = [writer.submit(_add("before")), writer.submit(bad), writer.submit(_add("after"))]
        go.set()
        for future in futures:
            with pytest.raises(DatabaseUnavailableError):
                future.result(20)
        assert _count(engine) == 1  # nothing of them by itself, either
    with pytest.raises(DatabaseUnavailableError):
        writer.submit(ended_unheard).result(20)
    assert writer.submit(_add("2")).result(20) == "2"


def test_an_error_that_a_job_kept_to_itself_commits_nothing_unseen() -> None:
    """PostgreSQL can only undo such a transaction, and answers COMMIT with a ROLLBACK: for the driver it is done."""
    engine = open_database(empty_database("postgresql", Path()))
    metadata.create_all(engine)
    writer = GroupWriter(engine, "test")
    writer.start()

    def kept_to_itself(connection: Connection) -> None:
        with contextlib.suppress(IntegrityError):
            _add("1")(connection)

    try:
        writer.submit(_add("1")).result(20)
        with pytest.raises(DatabaseUnavailableError):
            writer.submit(kept_to_itself).result(20)
        go = _held(writer)
        futures = [writer.submit(_add("2")), writer.submit(kept_to_itself)]
        go.set()
        assert futures[0].result(20) == "2"
        with pytest.raises((DatabaseUnavailableError, DBAPIError)):
            futures[1].result(20)
        assert _count(engine) == 2
    finally:
        writer.close()
        engine.dispose()


def test_nobody_waits_for_ever_for_a_job_that_ends_its_thread(writer: GroupWriter) -> None:
    def ends(_connection: Connection) -> None:
        raise SystemExit

    with pytest.raises(DatabaseUnavailableError):
        writer.submit(ends).result(20)
    assert writer.submit(_add("1")).result(20) == "1"


def test_a_job_that_fails_with_nobody_beside_it_is_undone_too(writer: GroupWriter, engine: Engine) -> None:
    def half(connection: Connection) -> None:
        connection.execute(insert(names).values(name="half"))
        raise KeyError("half")

    with pytest.raises(KeyError):
        writer.submit(half).result(20)
    assert _count(engine) == 0
    assert writer.submit(_add("1")).result(20) == "1"


def test_nobody_is_told_of_a_commit_that_failed(writer: GroupWriter, engine: Engine) -> None:
    @event.listens_for(engine, "commit")
    def _full(_connection: Connection) -> None:
        raise OSError("no space left on device")

    go = _held(writer)
    futures = [writer.submit(_add("1")), writer.submit(_add("2"))]
    go.set()
    for future in futures:
        with pytest.raises(DatabaseUnavailableError):
            future.result(20)
    event.remove(engine, "commit", _full)
    assert _count(engine) == 0
    assert writer.submit(_add("3")).result(20) == "3"  # and the writer lives on


def test_a_cancelled_job_that_has_not_begun_is_not_done(writer: GroupWriter, engine: Engine) -> None:
    async def scenario() -> None:
        go = _held(writer)
        task = asyncio.create_task(writer.run(_add("1")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go.set()
        assert await writer.run(_add("2")) == "2"

    asyncio.run(scenario())
    assert _count(engine) == 1


def test_closing_finishes_what_is_queued_and_refuses_more(writer: GroupWriter, engine: Engine) -> None:
    go = _held(writer)
    futures = [writer.submit(_add(str(number))) for number in range(5)]
    go.set()
    writer.close()
    assert all(future.done() for future in futures)
    assert _count(engine) == 5
    with pytest.raises(DatabaseUnavailableError):
        writer.submit(_add("late"))
