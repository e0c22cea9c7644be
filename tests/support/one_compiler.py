"""Statements are compiled once for all databases of a test run, not once for each.

SQLAlchemy keeps what it compiled for as long as an `Engine` lives, under the identity of its dialect. A service has one
engine; tests open thousands, each on a database of its own, and would spend a fifth of their time compiling the same
statements again. Dialects of one class and one version of the database write the same SQL.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

_compiled: Final[LRUCache[Any, Any]] = LRUCache(5000)


def compile_once() -> None:
    """From here on all engines of this process share what is compiled."""
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg):
        dialect.__hash__ = _hash  # type: ignore[assignment,method-assign]
        dialect.__eq__ = _equal  # type: ignore[assignment,method-assign]
    Engine._compiled_cache = property(lambda _engine: _compiled, lambda _engine, _own: None)  # type: ignore[assignment]


def _hash(dialect: Any) -> int:
    return hash(dialect.__class__)


def _equal(dialect: Any, other: Any) -> bool:
    return (
        dialect.__class__ is other.__class__
        and dialect.server_version_info == other.server_version_info
        and dialect.paramstyle == other.paramstyle
    )
