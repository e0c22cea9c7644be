"""What jobs say is said once, after the commit: not of what was undone, not twice when their group runs again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, event, func, insert, select
from sqlalchemy.exc import OperationalError

from runtime.after_commit import after_commit, with_refusal
from runtime.database import open_database
from runtime.group_writer import DatabaseUnavailableError, GroupWriter
from tests.runtime.test_group_writer import _held
from tests.support.databases import DATABASES, empty_database

metadata = MetaData()
names = Table("names", metadata, Column("name", String, primary_key=True))


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(empty_database(request.param, tmp_path))
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def writer(engine: Engine) -> Iterator[GroupWriter]:
    writer = GroupWriter(engine, "test")
    writer.start()
    yield writer
    writer.close()


def saying(said: list[str], name: str, *, refuse: bool = False) -> Callable[[Connection], None]:
    def job(connection: Connection) -> None:
        connection.execute(insert(names).values(name=name))
        after_commit(connection, lambda: said.append(f"did {name}"))
        if refuse:
            with_refusal(connection, lambda: said.append(f"refused {name}"))
            raise KeyError(name)

    return job


def test_a_job_is_heard_after_its_commit_and_before_its_result(writer: GroupWriter, engine: Engine) -> None:
    seen: list[int] = []

    def look() -> None:
        with engine.connect() as connection:
            seen.append(connection.execute(select(func.count()).select_from(names)).scalar_one())

    def job(connection: Connection) -> None:
        connection.execute(insert(names).values(name="1"))
        after_commit(connection, look)

    writer.submit(job).result(20)
    assert seen == [1]


def test_a_group_that_runs_again_is_heard_once_and_what_is_undone_only_refuses(writer: GroupWriter) -> None:
    said: list[str] = []
    go = _held(writer)
    jobs = [writer.submit(saying(said, name, refuse=name == "2")) for name in ("1", "2", "3")]
    go.set()
    jobs[0].result(20)
    jobs[2].result(20)
    with pytest.raises(KeyError):
        jobs[1].result(20)
    assert said == ["did 1", "refused 2", "did 3"]


def test_what_could_not_be_committed_is_not_heard(writer: GroupWriter, engine: Engine) -> None:
    said: list[str] = []

    def full(_connection: Connection) -> None:
        raise OperationalError("commit", None, Exception("disk full"))

    event.listen(engine, "commit", full)
    with pytest.raises(DatabaseUnavailableError):
        writer.submit(saying(said, "1")).result(20)
    assert said == []
    event.remove(engine, "commit", full)
    writer.submit(saying(said, "1")).result(20)
    assert said == ["did 1"]


def test_who_cannot_be_heard_holds_up_nobody(writer: GroupWriter) -> None:
    def job(connection: Connection) -> str:
        connection.execute(insert(names).values(name="1"))
        after_commit(connection, lambda: 1 / 0)
        return "done"

    assert writer.submit(job).result(20) == "done"


def test_in_a_transaction_of_somebody_else_it_is_said_at_once(writer: GroupWriter, engine: Engine) -> None:
    """Also on a connection that the writer had before."""
    said: list[str] = []
    writer.submit(saying(said, "1")).result(20)
    with engine.begin() as connection:
        saying(said, "2")(connection)
        assert said == ["did 1", "did 2"]


def test_a_connection_that_is_cut_under_a_job_is_told_as_the_database_being_away(tmp_path: Path) -> None:
    engine = open_database(empty_database("postgresql", tmp_path))
    metadata.create_all(engine)
    writer = GroupWriter(engine, "test")
    writer.start()
    said: list[str] = []

    def cut(connection: Connection) -> None:
        after_commit(connection, lambda: said.append("did it"))
        connection.execute(select(func.pg_terminate_backend(func.pg_backend_pid())))

    try:
        with pytest.raises(DatabaseUnavailableError):
            writer.submit(cut).result(20)
        assert said == []
        writer.submit(saying(said, "1")).result(20)
        assert said == ["did 1"]
    finally:
        writer.close()
        engine.dispose()
