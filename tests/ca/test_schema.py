"""The migrations make exactly the tables that the code knows, on both databases, and refuse what they do not know."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from ca.errors import StoreError
from ca.schema import SCHEMA, bring_up_to_date
from ca.store import Store
from ca.tables import metadata
from runtime.database import open_database, reading
from tests.support.databases import DATABASES, empty_database
from tests.support.schemas import described, indexes

REMEDY = "ca/tables.py was changed: run scripts/migration ca"


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = open_database(empty_database(request.param, tmp_path))
    yield made
    made.dispose()


@pytest.fixture
def metadata_alone(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """Another database of the same kind, whose tables the metadata made itself."""
    folder = tmp_path / "twin"
    folder.mkdir()
    made = open_database(empty_database(engine.dialect.name, folder))
    metadata.create_all(made)
    yield made
    made.dispose()


# Indexes on expressions: see `indexes`.
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning", "ignore:autogenerate skipping:UserWarning")
def test_migrations_make_exactly_the_tables_of_the_metadata(engine: Engine, metadata_alone: Engine) -> None:
    bring_up_to_date(engine)

    with reading(engine) as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == [], REMEDY
    assert described(engine) == described(metadata_alone), REMEDY
    assert indexes(engine) == indexes(metadata_alone), REMEDY


def test_the_revision_that_the_code_expects_is_the_newest() -> None:
    assert SCHEMA.revisions().get_current_head() == SCHEMA.head


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    Store(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreError, match=rf"of revision 9999.*up to {SCHEMA.head}.*use the newer version"):
        Store(engine)


def test_a_database_from_before_there_were_revisions_is_refused(metadata_alone: Engine) -> None:
    with pytest.raises(StoreError, match=r"before there were releases.*name an empty database"):
        Store(metadata_alone)


@pytest.mark.parametrize("table", ["certificates", "issuers"])
def test_a_database_of_somebody_else_is_refused_and_left_as_it_is(engine: Engine, table: str) -> None:
    """A table of a name of ours without a revision: the rest of an older version, or what another program keeps."""
    with engine.begin() as db:
        db.execute(text(f"CREATE TABLE {table} (id INTEGER)"))

    with pytest.raises(StoreError, match=rf"holds tables \({table}\).*name an empty database"):
        Store(engine)
    assert inspect(engine).get_table_names() == [table]


@pytest.mark.parametrize("revisions", [[], [SCHEMA.head, "9999"]])
def test_a_database_without_exactly_one_revision_is_refused(engine: Engine, revisions: list[str]) -> None:
    Store(engine)
    with engine.begin() as db:
        db.execute(text("DELETE FROM alembic_version"))
        for revision in revisions:
            db.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})

    with pytest.raises(StoreError, match=r"states no single revision.*restore it from a backup"):
        Store(engine)


def test_tables_of_others_beside_ours_are_left_alone(engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(text("CREATE TABLE workflow_status (id INTEGER)"))

    assert Store(engine).count() == 0
    assert inspect(engine).has_table("workflow_status")


def test_an_empty_table_of_revisions_alone_is_begun_with(engine: Engine) -> None:
    """What an interrupted first start of some databases leaves: nothing is lost by going on."""
    with engine.begin() as db:
        db.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))

    assert Store(engine).count() == 0
    with reading(engine) as db:
        assert db.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [SCHEMA.head]


def test_replicas_that_start_together_upgrade_once(engine: Engine) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(bring_up_to_date, [engine] * 6))

    with reading(engine) as db:
        assert db.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [SCHEMA.head]


def test_an_upgrade_that_is_interrupted_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    from alembic import command

    upgrade = command.upgrade

    def half(*arguments: Any) -> None:
        upgrade(*arguments)
        die()

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(command, "upgrade", half)
        bring_up_to_date(engine)

    assert inspect(engine).get_table_names() == []
    assert Store(engine).count() == 0
