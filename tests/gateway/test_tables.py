"""The gateway's migrations make exactly the tables that its modules know, on both databases, and refuse the unknown."""

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

import gateway
from gateway.errors import StoreError
from gateway.tables import SCHEMA, bring_up_to_date
from runtime.database import open_database, reading
from tests.support.databases import DATABASES, empty_database
from tests.support.schemas import described, indexes

REMEDY = "a table of the gateway was changed: run scripts/migration gateway"


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
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if ".migrations" not in module.name:
            import_module(module.name)
    assert set(SCHEMA.metadata.tables) == known, "name the module in gateway/tables.py"


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning", "ignore:autogenerate skipping:UserWarning")
def test_migrations_make_exactly_the_tables_of_the_metadata(engine: Engine, metadata_alone: Engine) -> None:
    bring_up_to_date(engine)

    with reading(engine) as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SCHEMA.metadata) == [], REMEDY
    assert described(engine) == described(metadata_alone), REMEDY
    assert indexes(engine) == indexes(metadata_alone), REMEDY


def test_the_revision_that_the_code_expects_is_the_newest() -> None:
    assert SCHEMA.revisions().get_current_head() == SCHEMA.head


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    bring_up_to_date(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreError, match=rf"of revision 9999.*up to {SCHEMA.head}.*use the newer version"):
        bring_up_to_date(engine)


def test_a_database_from_before_there_were_revisions_is_refused(metadata_alone: Engine) -> None:
    with pytest.raises(StoreError, match=r"before there were releases.*name an empty database"):
        bring_up_to_date(metadata_alone)


def test_replicas_that_start_together_make_the_tables_once(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bring_up_to_date, [engine] * 4))

    assert inspect(engine).has_table("orders")
