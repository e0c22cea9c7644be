"""What databases say of themselves, to compare those that migrations made with those that the metadata made."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, inspect, text

from runtime.database import reading


def described(engine: Engine) -> dict[str, Any]:
    """What a database says of its tables, but Alembic's own."""
    looked = inspect(engine)

    def plain(value: Any) -> Any:
        return {key: str(each) for key, each in value.items()} if isinstance(value, dict) else str(value)

    def sorted_by_name(items: list[Any]) -> list[Any]:
        return sorted(({key: plain(value) for key, value in item.items()} for item in items), key=str)

    return {
        table: {
            "columns": sorted_by_name(looked.get_columns(table)),
            "key": str(looked.get_pk_constraint(table)["constrained_columns"]),
            "foreign": sorted_by_name(looked.get_foreign_keys(table)),
            "unique": sorted_by_name(looked.get_unique_constraints(table)),
            "checks": sorted_by_name(looked.get_check_constraints(table)),
            "indexes": sorted_by_name(looked.get_indexes(table)),
        }
        for table in looked.get_table_names()
        if table != "alembic_version"
    }


def indexes(engine: Engine) -> set[str]:
    """The names of all indexes, also of those on expressions, which SQLAlchemy cannot read back from SQLite."""
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
        "postgresql": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }[engine.dialect.name]
    with reading(engine) as db:
        return {name for name in db.execute(text(query)).scalars() if "alembic_version" not in name}


def triggers(engine: Engine) -> set[str]:
    """The triggers, each with its statement."""
    query = {
        "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    }[engine.dialect.name]
    with reading(engine) as db:
        return set(db.execute(text(query)).scalars())
