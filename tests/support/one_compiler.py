"""What libraries compile is compiled once in a test run: statements for all databases, parameters for all servers.

A service has one database and one application. Tests make thousands of both, and would spend a fifth of their time
having the same statements and the same parameters compiled again.

SQLAlchemy keeps a compiled statement as long as an `Engine` lives, under the identity of its dialect; dialects of one
class and one version of the database write the same SQL. FastAPI has pydantic build a validator for each parameter and
answer of each route; the same type with the same constraints has the same one.
"""

from __future__ import annotations

import sys
from typing import Any, Final

_KEPT: Final = 5000
"""Statements."""


def compile_once() -> None:
    """From here on, in this process, for the libraries that are loaded."""
    if "sqlalchemy" in sys.modules:
        _statements()
    if "fastapi" in sys.modules:
        _parameters()


def _statements() -> None:
    from sqlalchemy import Engine
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
    from sqlalchemy.util import LRUCache

    def equal(dialect: Any, other: Any) -> bool:
        return (
            dialect.__class__ is other.__class__
            and dialect.server_version_info == other.server_version_info
            and dialect.paramstyle == other.paramstyle
        )

    compiled: LRUCache[Any, Any] = LRUCache(_KEPT)
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg):
        dialect.__hash__ = lambda self: hash(self.__class__)  # type: ignore[assignment,method-assign]
        dialect.__eq__ = equal  # type: ignore[assignment,method-assign]
    Engine._compiled_cache = property(lambda _engine: compiled, lambda _engine, _own: None)  # type: ignore[assignment]


def _parameters() -> None:
    from fastapi._compat import v2

    made: dict[Any, tuple[Any, Any]] = {}
    build = v2.TypeAdapter

    def adapter(of: Any, *, config: Any = None) -> Any:
        try:
            key = (of.__origin__, repr(of.__metadata__), repr(config))
            hash(key)
        except (AttributeError, TypeError):
            return build(of, config=config)
        if key not in made:
            made[key] = (build(of, config=config), of)  # with the type, so that what a repr names by its address stays
        return made[key][0]

    v2.TypeAdapter = adapter  # type: ignore[assignment,misc]
