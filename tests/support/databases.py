"""A database for a test, on SQLite and on PostgreSQL: what is true of one must be true of the other.

The PostgreSQL cluster is one a test process, started when the first test asks for it (`tests.support.postgres`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from ca.schema import bring_up_to_date
from runtime.database import open_database
from tests.support.postgres import Cluster

DATABASES: Final = ("sqlite", "postgresql")
_CA: Final = "ca"


@cache
def cluster() -> Cluster:
    """This process's cluster."""
    return Cluster.start()


def stop_cluster() -> None:
    """End it, if it was started (`tests/conftest.py`)."""
    if cluster.cache_info().currsize:
        cluster().stop()
        cluster.cache_clear()


def ca_database(kind: str, folder: Path) -> str:
    """The URL of a certificate authority's database, up to date and empty."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'ca.db'}"

    def make(url: str) -> None:
        engine = open_database(url)
        bring_up_to_date(engine)
        engine.dispose()

    cluster().template(_CA, make)
    return cluster().database(_CA)


def empty_database(kind: str, folder: Path) -> str:
    """The URL of a database with nothing in it."""
    return f"sqlite:///{folder / 'empty.db'}" if kind == "sqlite" else cluster().database()
