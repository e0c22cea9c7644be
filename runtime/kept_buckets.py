"""Buckets of `runtime.token_bucket` in a table, one row a key: right also where several processes take at once.

The table has the key as its primary key and `full_at`, when the bucket is full again. Full ones have no row.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, delete, select

from runtime.database import insert_new, put
from runtime.token_bucket import NONE, Rate, take


def count(db: Connection, key_column: Column[str], key: str, rate: Rate, now: datetime) -> timedelta:
    """Take one out of the bucket of `key`; how long to wait if it is empty, zero if one was taken.

    Part of the caller's transaction, which holds the bucket until it ends.
    """
    table = key_column.table
    db.execute(delete(table).where(table.c.full_at <= now))
    # Whoever comes at the same time waits here, also for a bucket that had no row to be locked.
    insert_new(db, table, **{key_column.name: key, "full_at": now})
    full_at = db.execute(select(table.c.full_at).where(key_column == key).with_for_update()).scalar_one()
    full_at, wait = take(rate, full_at, now)
    if wait == NONE:
        put(db, table, **{key_column.name: key, "full_at": full_at})
    return wait
