"""Bring a certificate authority's database to the schema that this version knows, or refuse it.

Replicas that start together do not race: the upgrade runs in one transaction under a lock (PostgreSQL: an advisory
lock; SQLite: the write lock), and whoever had to wait finds it done. A database that is up to date is only looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from ca.errors import StoreError
from ca.tables import metadata
from runtime.database import reading

HEAD: Final = "0001"
"""The newest revision in `ca/migrations/versions`."""
MIGRATIONS: Final = Path(__file__).parent / "migrations"

_VERSION_TABLE: Final = "alembic_version"
_ONCE: Final = ("issuers",)
"""Tables that there were before there were revisions."""
_LOCK: Final = 0x6B77_6270_6361  # "kwbpca": any number that nothing else in this database locks


def bring_up_to_date(engine: Engine) -> None:
    """Make or upgrade the tables; StoreError if the database is of a version that this one does not know."""
    with reading(engine) as db:
        if _revision(db) == HEAD:
            return
    with engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(text("SET LOCAL lock_timeout = 0"))  # as long as another replica takes to upgrade
            db.execute(text("SET LOCAL statement_timeout = 0"))
            db.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        found = _revision(db)
        if found != HEAD:
            _upgrade(db, found)


def _revision(db: Connection) -> str | None:
    """The revision of a database; None if there is nothing in it."""
    looked = inspect(db)
    stated: list[str] = []
    if looked.has_table(_VERSION_TABLE):
        stated = list(db.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalars())  # noqa: S608
    if len(stated) == 1:
        return stated[0]
    # What durable workflows or others keep beside ours is not looked at.
    ours = sorted(set(looked.get_table_names()) & {*metadata.tables, *_ONCE})
    if stated or (ours and looked.has_table(_VERSION_TABLE)):
        raise StoreError(
            "this database states no single revision, so an upgrade was broken off: restore it from a backup"
        )
    if ours:
        shown = ", ".join(ours[:3]) + (", …" if len(ours) > 3 else "")
        raise StoreError(
            f"this database holds tables ({shown}) and states no revision: it was made before there were releases, and "
            "cannot be upgraded, or it is another program's; name an empty database"
        )
    return None


def _upgrade(db: Connection, found: str | None) -> None:
    # Here, because a database is rarely upgraded and Alembic takes its time to load.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    known = {each.revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            f"this database is of revision {found}, which this version does not know; it knows revisions up to {HEAD}: "
            "use the newer version that the database was upgraded with, or restore a backup from before that"
        )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = db
    command.upgrade(config, "head")
