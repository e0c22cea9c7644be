"""Which application somebody means who types the first digits of its id."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Engine, select

from ra import schema
from runtime.database import reading

_MOST: Final = 10
_AFTER_EVERY_DIGIT: Final = "g"


def beginning_with(engine: Engine, prefix: str) -> list[str]:
    """The first ids, ten at most and in order, that begin with `prefix` (lower-case hexadecimal)."""
    column = schema.applications.c.id
    query = select(column).where(column >= prefix, column < prefix + _AFTER_EVERY_DIGIT).order_by(column).limit(_MOST)
    with reading(engine) as db:
        return list(db.execute(query).scalars())
