"""Databases: SQLite for one machine, PostgreSQL beyond it, through SQLAlchemy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event


def open_database(target: str | Path) -> Engine:
    """Open a database by path (SQLite) or URL.

    SQLite runs with a write-ahead log and `synchronous=FULL`: a commit that returned survives `kill -9` and loss of
    power. A transaction takes the write lock at its start, so that a read followed by a write cannot fail half-way.
    """
    url = f"sqlite:///{target}" if isinstance(target, Path) else target
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    if isinstance(target, Path):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # SQLAlchemy, not the driver, opens transactions: see _on_begin.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
