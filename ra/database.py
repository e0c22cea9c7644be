"""The schema of a registration authority's database: all its tables, and how they came to be (`runtime.schema`).

Tables that a module has of its own stand on the same metadata; that module is imported here, so that whoever opens the
database knows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from ra import est_tables, holder_store, orders, person_tables, registration_store, request_nonces, reviews, schema
from ra.checks import tables as check_tables
from ra.notices import tables as notice_tables
from runtime.schema import Schema

_WITH_TABLES: Final = (
    schema,
    person_tables,
    registration_store,
    holder_store,
    reviews,
    orders,
    est_tables,
    request_nonces,
    check_tables,
    notice_tables,
)

SCHEMA: Final = Schema(
    schema.metadata,
    folder=Path(__file__).parent / "migrations",
    head="0001",
    first=("applications",),
    lock=0x6B77_6270_7261,  # "kwbpra"
)


def bring_up_to_date(engine: Engine) -> None:
    """Make or upgrade the tables; SchemaError if the database is of a version that this one does not know."""
    SCHEMA.bring_up_to_date(engine)
