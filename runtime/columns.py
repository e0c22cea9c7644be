"""Types of columns that every service stores alike, in SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Dialect, String, TypeDecorator
from sqlalchemy.types import TypeEngine


def as_stored(value: datetime) -> str:
    """An aware datetime as columns of `UtcTime` hold it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, stored as RFC 3339 text in UTC, so that it sorts and reads the same in every database."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else as_stored(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


def name_type(length: int) -> TypeEngine[str]:
    """Text that is looked for by its beginning: compared byte by byte, whatever language the database is set to."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")
