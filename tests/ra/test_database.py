"""The RA's migrations make exactly the tables that its modules know, on both databases, and refuse what they do not."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

import ra
from ra import schema
from ra.database import SCHEMA, bring_up_to_date
from ra.queue import Wanted
from ra.store import Store
from runtime.database import open_database, reading
from runtime.schema import SchemaError
from tests.support.databases import DATABASES, empty_database
from tests.support.schemas import described, indexes, triggers

REMEDY = "a table of the RA was changed: run scripts/migration ra"


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
    SCHEMA.metadata.create_all(made)
    yield made
    made.dispose()


def test_whoever_opens_the_database_knows_the_tables_of_every_module() -> None:
    known = set(SCHEMA.metadata.tables)
    for module in pkgutil.walk_packages(ra.__path__, "ra."):
        if ".migrations" not in module.name:
            import_module(module.name)
    assert set(SCHEMA.metadata.tables) == known, "name the module in ra/database.py"


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning", "ignore:autogenerate skipping:UserWarning")
def test_migrations_make_exactly_the_tables_of_the_metadata(engine: Engine, metadata_alone: Engine) -> None:
    bring_up_to_date(engine)

    with reading(engine) as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SCHEMA.metadata) == [], REMEDY
    assert described(engine) == described(metadata_alone), REMEDY
    assert indexes(engine) == indexes(metadata_alone), REMEDY
    assert triggers(engine) == triggers(metadata_alone), REMEDY


def test_the_revision_that_the_code_expects_is_the_newest() -> None:
    assert SCHEMA.revisions().get_current_head() == SCHEMA.head


@pytest.mark.parametrize("revisions", [[], ["0001", "9999"]])
def test_a_database_without_exactly_one_revision_is_refused(engine: Engine, revisions: list[str]) -> None:
    Store(engine)
    with engine.begin() as db:
        db.execute(text("DELETE FROM alembic_version"))
        for revision in revisions:
            db.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})

    with pytest.raises(SchemaError, match=r"states no single revision.*restore it from a backup"):
        Store(engine)


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    Store(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaError, match=rf"of revision 9999.*up to {SCHEMA.head}.*use the newer version"):
        Store(engine)


def test_a_database_from_before_there_were_revisions_is_refused(metadata_alone: Engine) -> None:
    with pytest.raises(SchemaError, match=r"before there were releases.*name an empty database"):
        Store(metadata_alone)


def test_replicas_that_start_together_upgrade_once(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bring_up_to_date, [engine] * 4))

    assert Store(engine).queue.total(Wanted()) == 0
    assert inspect(engine).has_table("applications")


@pytest.mark.parametrize("verb", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0} CASCADE"])
def test_records_are_never_changed_on_postgresql(tmp_path: Path, verb: str) -> None:
    engine = open_database(empty_database("postgresql", tmp_path))
    bring_up_to_date(engine)
    for table in schema.APPEND_ONLY:
        column = next(iter(table.columns)).name
        with pytest.raises(IntegrityError, match="append-only"), engine.begin() as db:
            db.execute(text(verb.format(table.name, column)))
    engine.dispose()
