"""STAN: unique per acquirer and business day, wrapping; RRN: twelve digits, unique with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, update

from gateway.errors import StanExhaustedError
from gateway.schema import metadata, trace_numbers
from gateway.trace_numbers import business_day, next_stan, rrn_for
from runtime.database import open_database

NOW = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = open_database(tmp_path / "numbers.db")
    metadata.create_all(engine)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def _set(connection: Connection, **values: object) -> None:
    connection.execute(update(trace_numbers).values(values))


def test_numbers_begin_at_one_and_count_up(connection: Connection) -> None:
    assert [next_stan(connection, "581672", NOW) for _ in range(3)] == ["000001", "000002", "000003"]


def test_each_acquirer_has_its_own(connection: Connection) -> None:
    next_stan(connection, "581672", NOW)
    assert next_stan(connection, "603799", NOW) == "000001"


def test_999999_is_followed_by_000001(connection: Connection) -> None:
    next_stan(connection, "581672", NOW)
    _set(connection, last=999_998)
    assert [next_stan(connection, "581672", NOW) for _ in range(3)] == ["999999", "000001", "000002"]


def test_numbers_run_on_over_midnight(connection: Connection) -> None:
    """A message of 23:59 that is still in flight at 00:01 must not meet its own number."""
    next_stan(connection, "581672", NOW)
    assert next_stan(connection, "581672", NOW + timedelta(days=1)) == "000002"


def test_a_day_that_has_used_all_numbers_gets_no_more(connection: Connection) -> None:
    next_stan(connection, "581672", NOW)
    _set(connection, used=999_998)
    next_stan(connection, "581672", NOW)
    with pytest.raises(StanExhaustedError):
        next_stan(connection, "581672", NOW)
    assert next_stan(connection, "581672", NOW + timedelta(days=1)) == "000003"


def test_a_clock_set_back_does_not_get_the_earlier_day_anew(connection: Connection) -> None:
    connection.execute(insert(trace_numbers).values(acquirer="581672", business_day="2026-03-22", last=7, used=999_999))
    with pytest.raises(StanExhaustedError):
        next_stan(connection, "581672", NOW)


def test_the_business_day_is_that_of_iran() -> None:
    assert business_day(datetime(2026, 3, 21, 20, 29, tzinfo=UTC)).isoformat() == "2026-03-21"
    assert business_day(datetime(2026, 3, 21, 20, 30, tzinfo=UTC)).isoformat() == "2026-03-22"


def test_the_rrn_is_year_day_hour_and_stan() -> None:
    assert rrn_for("000042", NOW) == "608015000042"  # 21 March is day 80; 12:00 UTC is 15:30 in Iran
    assert rrn_for("000042", datetime(2026, 3, 21, 20, 30, tzinfo=UTC)) == "608100000042"
