"""Databases are opened as they must be for what is written to them to be true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, select, text
from sqlalchemy.exc import DBAPIError

from runtime.database import insert_new, noting, open_database, put, reading
from tests.support.databases import DATABASES, empty_database

METADATA = MetaData()
THINGS = Table("things", METADATA, Column("id", Integer, primary_key=True), Column("word", String, unique=True))


@pytest.mark.parametrize(
    "url", ["postgresql://ca:hunter2@db/ca", "postgresql://ca@db/ca?password=hunter2", "mysql://hunter2", "hunter2"]
)
def test_a_url_with_a_password_or_of_another_database_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        open_database(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_row_is_inserted_once_and_the_transaction_goes_on(tmp_path: Path, kind: str) -> None:
    engine = open_database(empty_database(kind, tmp_path))
    METADATA.create_all(engine)
    with engine.begin() as db:
        assert insert_new(db, THINGS, id=1, word="one")
        assert not insert_new(db, THINGS, id=1, word="two")
        assert not insert_new(db, THINGS, id=2, word="one")
        put(db, THINGS, id=1, word="three")
        put(db, THINGS, id=3, word="four")
    with reading(engine) as db:
        assert db.execute(select(THINGS.c.word).order_by(THINGS.c.id)).scalars().all() == ["three", "four"]
    engine.dispose()


def test_postgresql_gives_up_what_takes_too_long_and_does_not_write_where_it_only_reads(tmp_path: Path) -> None:
    engine = open_database(empty_database("postgresql", tmp_path))
    with engine.begin() as db:
        assert db.execute(text("SHOW statement_timeout")).scalar_one() == "30s"
        assert db.execute(text("SHOW lock_timeout")).scalar_one() == "10s"
        assert db.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    with pytest.raises(DBAPIError), reading(engine) as db:
        METADATA.create_all(db)
    with engine.begin() as db:  # the connection comes back as it was
        assert db.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
        METADATA.create_all(db)
    engine.dispose()


def test_a_server_that_is_cut_off_is_noticed() -> None:
    engine = open_database(empty_database("postgresql", Path()))
    with engine.connect() as db:
        session: Any = db.connection.driver_connection
        said = session.info.get_parameters()
    assert {"keepalives_idle": "10", "tcp_user_timeout": "30000"}.items() <= said.items()
    engine.dispose()


@pytest.mark.parametrize("kind", DATABASES)
def test_what_is_noted_is_there_and_the_next_commit_waits_for_the_disk_again(tmp_path: Path, kind: str) -> None:
    engine = open_database(empty_database(kind, tmp_path))
    METADATA.create_all(engine)
    setting = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}[kind]
    lax, strict = {"sqlite": (1, 2), "postgresql": ("off", "on")}[kind]
    with noting(engine) as db:
        assert db.execute(text(setting)).scalar_one() == lax
        insert_new(db, THINGS, id=1, word="one")
    with pytest.raises(RuntimeError), noting(engine) as db:
        insert_new(db, THINGS, id=2, word="two")
        raise RuntimeError("the power failed")
    with engine.begin() as db:  # the same connection, from the pool
        assert db.execute(text(setting)).scalar_one() == strict
        assert db.execute(select(THINGS.c.id)).scalars().all() == [1]
    engine.dispose()
