"""The schema of a gateway's database: all its tables, and how they came to be (`runtime.schema`).

A subject's tables stand in a module of their own on the same metadata. It is named here, so that whoever opens the
database knows them; after a change `scripts/migration gateway` writes the first revision anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from gateway import disclosure_tables, password_tables, replica_tables, schema
from gateway.acquirer import tables as acquirer_tables
from gateway.errors import StoreError
from gateway.limits import tables as limit_tables
from gateway.operating import tables as operating_tables
from runtime.schema import Schema, SchemaError

_WITH_TABLES: Final = (
    schema,
    acquirer_tables,
    disclosure_tables,
    password_tables,
    replica_tables,
    limit_tables,
    operating_tables,
)

SCHEMA: Final = Schema(
    schema.metadata,
    folder=Path(__file__).parent / "migrations",
    head="0001",
    first=("orders",),
    lock=0x6B77_6270_6777,  # "kwbpgw"
)


def bring_up_to_date(engine: Engine) -> None:
    """Make or upgrade the tables; StoreError if the database is of a version that this one does not know."""
    try:
        SCHEMA.bring_up_to_date(engine)
    except SchemaError as error:
        raise StoreError(str(error)) from None
