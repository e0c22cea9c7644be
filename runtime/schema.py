"""Bring a service's database to the schema that this version of it knows, or refuse it.

    SCHEMA = Schema(metadata, folder=…/migrations, head="0001", first={"issuers"}, lock=…)
    SCHEMA.bring_up_to_date(engine)                        # SchemaError: a database of another version

Replicas that start together do not race: the upgrade runs in one transaction under a lock (PostgreSQL: an advisory
lock; SQLite: the write lock), and whoever had to wait finds it done. A database that is up to date is only looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine, MetaData, inspect, text

from runtime.database import reading

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

_VERSION_TABLE: Final = "alembic_version"
AROUND: Final = Path(__file__).parent / "migrations"
"""What Alembic runs around the revisions of every service, and what one is written after."""


class SchemaError(Exception):
    """A database is not of a version that this one knows; says what to do about it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of a service and the revisions that make them, in `folder`/versions; `head` is the newest.

    `first` are tables that there were before there were revisions. `lock` is any number that nothing else in the same
    database locks.
    """

    metadata: MetaData
    folder: Path
    head: str
    first: Collection[str]
    lock: int

    def bring_up_to_date(self, engine: Engine) -> None:
        """Make or upgrade the tables; SchemaError if the database is of a version that this one does not know."""
        with reading(engine) as db:
            if self._revision(db) == self.head:
                return
        with engine.begin() as db:
            if db.dialect.name == "postgresql":
                db.execute(text("SET LOCAL lock_timeout = 0"))  # as long as another replica takes to upgrade
                db.execute(text("SET LOCAL statement_timeout = 0"))
                db.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": self.lock})
            found = self._revision(db)
            if found != self.head:
                self._upgrade(db, found)

    def revisions(self) -> ScriptDirectory:
        """The revisions, as Alembic sees them."""
        from alembic.script import ScriptDirectory

        return ScriptDirectory.from_config(self._config())

    def _revision(self, db: Connection) -> str | None:
        """The revision of a database; None if there is nothing in it."""
        looked = inspect(db)
        stated: list[str] = []
        if looked.has_table(_VERSION_TABLE):
            stated = list(db.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalars())  # noqa: S608
        if len(stated) == 1:
            return stated[0]
        # What durable workflows or others keep beside ours is not looked at.
        ours = sorted(set(looked.get_table_names()) & {*self.metadata.tables, *self.first})
        if stated or (ours and looked.has_table(_VERSION_TABLE)):
            raise SchemaError(
                "this database states no single revision, so an upgrade was broken off: restore it from a backup"
            )
        if ours:
            shown = ", ".join(ours[:3]) + (", …" if len(ours) > 3 else "")
            raise SchemaError(
                f"this database holds tables ({shown}) and states no revision: it was made before there were releases, "
                "and cannot be upgraded, or it is another program's; name an empty database"
            )
        return None

    def _upgrade(self, db: Connection, found: str | None) -> None:
        # Here, because a database is rarely upgraded and Alembic takes its time to load.
        from alembic import command

        known = {each.revision for each in self.revisions().walk_revisions()}
        if found is not None and found not in known:
            raise SchemaError(
                f"this database is of revision {found}, which this version does not know; it knows revisions up to "
                f"{self.head}: use the newer version that the database was upgraded with, or restore a backup from "
                "before that"
            )
        config = self._config()
        config.attributes["connection"] = db
        config.attributes["metadata"] = self.metadata
        command.upgrade(config, "head")

    def _config(self) -> Config:
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(AROUND).replace("%", "%%"))
        config.set_main_option("version_locations", str(self.folder / "versions").replace("%", "%%"))
        config.set_main_option("path_separator", "newline")  # a folder's name may hold anything else
        return config
