"""A database for a test, on SQLite and on PostgreSQL: what is true of one must be true of the other.

The PostgreSQL cluster is one a test process, started when the first test asks for it (`tests.support.postgres`).
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import gateway.tables
import ra.database
from ca.schema import bring_up_to_date
from runtime.database import open_database
from tests.support.postgres import Cluster

DATABASES: Final = ("sqlite", "postgresql")
_CA: Final = "ca"
_RA: Final = "ra"
_GATEWAY: Final = "gateway"


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


def ra_database(kind: str, folder: Path) -> str:
    """The URL of a registration authority's database, up to date and empty."""
    if kind == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "ra.db"
        if not path.exists():
            path.write_bytes(_ra_file())  # quicker than to make the tables each time
        return f"sqlite:///{path}"
    cluster().template(_RA, _make_ra)
    return cluster().database(_RA)


@cache
def _ra_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ra.db"
        _make_ra(f"sqlite:///{path}")
        return path.read_bytes()


def _make_ra(url: str) -> None:
    engine = open_database(url)
    ra.database.bring_up_to_date(engine)
    engine.dispose()


def gateway_database(kind: str, folder: Path) -> str:
    """The URL of a gateway's database, up to date and empty."""
    if kind == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "gateway.sqlite"
        if not path.exists():
            path.write_bytes(_gateway_file())
        return f"sqlite:///{path}"
    cluster().template(_GATEWAY, _make_gateway)
    return cluster().database(_GATEWAY)


@cache
def _gateway_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.sqlite"
        _make_gateway(f"sqlite:///{path}")
        return path.read_bytes()


def _make_gateway(url: str) -> None:
    engine = open_database(url)
    gateway.tables.bring_up_to_date(engine)
    engine.dispose()


def empty_database(kind: str, folder: Path) -> str:
    """The URL of a database with nothing in it."""
    return f"sqlite:///{folder / 'empty.db'}" if kind == "sqlite" else cluster().database()
