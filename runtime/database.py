"""Databases: SQLite for one machine, PostgreSQL beyond it, through SQLAlchemy.

    with engine.begin() as db: …          writes; on SQLite it has the write lock from the first statement
    with reading(engine) as db: …         reads, in one snapshot; waits for no writer and keeps none waiting
    with noting(engine) as db: …          writes what can be found out again; waits for no disk

A password is never part of a URL: libpq finds it by `?passfile=…`, `?service=…`, a client certificate, or the peer's
name on a Unix socket.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Row, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

_READING: Final = "kwbp_reading"

# In PostgreSQL's own units. A statement that waits longer fails and can be tried again; a session that died with a
# lock gives it back. synchronous_commit stays on whatever the server's default: a commit that returned is on its disk.
_SESSION: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
_CONNECT_TIMEOUT: Final = 5  # seconds
# A server that is cut off does not end its sessions, and the limits above are its own: libpq notices in half a minute.
_LINE: Final = {
    "keepalives": 1,
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,  # milliseconds
}
_POOL: Final = {"pool_size": 8, "max_overflow": 24, "pool_timeout": 10, "pool_recycle": 1800}
_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def open_database(target: str | Path) -> Engine:
    """Open a database by path (SQLite) or URL (`sqlite:`, `postgresql:`); raises ValueError for other URLs.

    SQLite runs with a write-ahead log and `synchronous=FULL`: a commit that returned survives `kill -9` and loss of
    power. A transaction takes the write lock at its start, so that a read followed by a write cannot fail half-way.
    PostgreSQL runs READ COMMITTED: what must not be done twice is a constraint, or is done under a lock on a row.
    """
    if isinstance(target, Path):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _sqlite(f"sqlite:///{target}")
    try:
        url = make_url(target)
    except ArgumentError:
        raise ValueError("this is not the URL of a database") from None  # not quoted: it may hold a password
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _sqlite(target)
    if backend != "postgresql":
        raise ValueError(f"databases are SQLite or PostgreSQL, not {backend}")
    if url.password is not None or "password" in url.query:
        raise ValueError("a password does not belong into the URL of a database; name a passfile or a service")
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": _CONNECT_TIMEOUT, "options": options, **_LINE},
        pool_pre_ping=True,
        hide_parameters=True,
        **_POOL,
    )


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, all of it in one snapshot."""
    options: dict[str, Any] = {_READING: True}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect() as db:
        db.execution_options(**options)
        with db.begin():
            yield db


@contextmanager
def noting(engine: Engine) -> Iterator[Connection]:
    """A transaction whose loss, should the machine lose power, does no harm: it waits for no disk.

    What it writes can be found out again from elsewhere. The next `engine.begin()` takes it along to the disk.
    """
    with engine.connect() as db:
        if engine.dialect.name == "postgresql":
            with db.begin():
                db.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield db
            return
        raw = db.connection.driver_connection
        assert raw is not None  # it is connected
        db.rollback()  # asking for the connection began a transaction, in which the setting cannot be changed
        raw.execute("PRAGMA synchronous=NORMAL")
        try:
            with db.begin():
                yield db
        finally:
            raw.execute("PRAGMA synchronous=FULL")


def insert_new(db: Connection, table: Table, **values: Any) -> bool:
    """Insert a row unless a row like it is there (any constraint of uniqueness); whether it was inserted.

    Unlike an insert that fails it leaves the transaction usable; of two at once the second waits for the first.
    """
    statement = _inserting_new(db.dialect.name, table, tuple(table.primary_key.columns))
    return bool(db.execute(statement, values).one_or_none() is not None)


def insert_many_new(
    db: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, returning: Sequence[Column[Any]] = ()
) -> list[Row[Any]]:
    """As `insert_new` for many rows; returns these columns (by default the key) of those inserted, in no set order."""
    if not rows:
        return []
    statement = _inserting_new(db.dialect.name, table, tuple(returning or table.primary_key.columns))
    return list(db.execute(statement, list(rows)).all())


def insert_all_new(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """As `insert_many_new`, for those who need not know which rows were inserted: it costs a good deal less."""
    if rows:
        db.execute(_inserting_new(db.dialect.name, table, ()), list(rows))


def put(db: Connection, table: Table, **values: Any) -> None:
    """Insert a row, or replace all its given values if its primary key is there."""
    db.execute(_putting(db.dialect.name, table, tuple(values)), values)


def put_many(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """As `put` for many rows, all with the same columns; at least one."""
    db.execute(_putting(db.dialect.name, table, tuple(rows[0])), list(rows))


# Composing these costs more than running them: each is composed once for a table.
@cache
def _inserting_new(dialect: str, table: Table, returning: tuple[Column[Any], ...]) -> Any:
    statement = _INSERT[dialect](table).on_conflict_do_nothing()
    return statement.returning(*returning) if returning else statement


@cache
def _putting(dialect: str, table: Table, names: tuple[str, ...]) -> Any:
    statement = _INSERT[dialect](table)
    keys = [column.name for column in table.primary_key.columns]
    replaced = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=replaced)


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # SQLAlchemy, not the driver, opens transactions: see _on_begin.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get(_READING, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
