"""The schema of a certificate authority's database: its tables, and how they came to be (`runtime.schema`)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from ca.errors import StoreError
from ca.tables import metadata
from runtime.schema import Schema, SchemaError

SCHEMA: Final = Schema(
    metadata,
    folder=Path(__file__).parent / "migrations",
    head="0001",
    first=("issuers",),
    lock=0x6B77_6270_6361,  # "kwbpca"
)


def bring_up_to_date(engine: Engine) -> None:
    """Make or upgrade the tables; StoreError if the database is of a version that this one does not know."""
    try:
        SCHEMA.bring_up_to_date(engine)
    except SchemaError as error:
        raise StoreError(str(error)) from None
