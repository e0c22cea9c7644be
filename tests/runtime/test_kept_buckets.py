"""Buckets in a table: what was taken is remembered, by whichever process it was taken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Column, MetaData, String, Table, func, select

from ra.schema import UtcTime
from runtime.database import open_database
from runtime.kept_buckets import count
from runtime.token_bucket import NONE, Rate
from tests.support.databases import DATABASES, cluster

NOW = datetime(2026, 3, 21, 12, tzinfo=UTC)
RATE = Rate(burst=3, every=timedelta(minutes=1))
buckets = Table(
    "buckets", MetaData(), Column("who", String, primary_key=True), Column("full_at", UtcTime, nullable=False)
)


@pytest.mark.parametrize("kind", DATABASES)
def test_of_many_who_take_at_once_no_more_get_some_than_there_is(kind: str, tmp_path: Path) -> None:
    engine = open_database(tmp_path / "buckets.db" if kind == "sqlite" else cluster().database())
    buckets.create(engine)
    together = Barrier(8)

    def take(_number: int) -> timedelta:
        together.wait()
        with engine.begin() as db:
            return count(db, buckets.c.who, "one", RATE, NOW)

    with ThreadPoolExecutor(8) as pool:
        waits = sorted(pool.map(take, range(8)))
    assert waits == [NONE] * 3 + [timedelta(minutes=1)] * 5

    def later(minutes: int) -> timedelta:
        with engine.begin() as db:
            return count(db, buckets.c.who, "one", RATE, NOW + timedelta(minutes=minutes))

    assert [later(1), later(1)] == [NONE, timedelta(minutes=1)]
    with engine.begin() as db:
        assert count(db, buckets.c.who, "another", RATE, NOW + timedelta(minutes=4)) == NONE
        assert db.execute(select(func.count()).select_from(buckets)).scalar_one() == 1  # the full one is forgotten
    engine.dispose()
