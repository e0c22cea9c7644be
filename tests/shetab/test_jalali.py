"""Jalali dates agree with ICU; expiry runs to the end of its month in Iran; dates without a year find theirs."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab import jalali
from shetab.errors import ValueFormatError
from shetab.types import Expiry

_NOWRUZ = Path(__file__).parent / "data" / "nowruz.csv"
_DATES = st.dates(date(1925, 3, 21), date(2090, 3, 19))
_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)  # 10 Esfand 1404


def test_new_year_agrees_with_icu() -> None:
    rows = [line for line in _NOWRUZ.read_text("ascii").splitlines() if not line.startswith("#")]
    table = {int(row["jalali_year"]): date.fromisoformat(row["gregorian"]) for row in csv.DictReader(rows)}
    assert set(table) == set(range(1304, 1469))
    assert {year: jalali.to_gregorian(year, 1, 1) for year in table} == table


@given(_DATES)
def test_round_trip(day: date) -> None:
    assert jalali.to_gregorian(*jalali.from_gregorian(day)) == day


@given(_DATES.filter(lambda day: day < date(2090, 3, 19)))
def test_the_next_day_is_later_by_one_day_and_never_day_zero(day: date) -> None:
    today, tomorrow = jalali.from_gregorian(day), jalali.from_gregorian(day + timedelta(days=1))
    assert tomorrow > today
    assert tomorrow[2] in (1, today[2] + 1)


@pytest.mark.parametrize(
    ("known", "gregorian"),
    [((1357, 11, 22), date(1979, 2, 11)), ((1399, 12, 30), date(2021, 3, 20)), ((1404, 7, 1), date(2025, 9, 23))],
)
def test_known_days(known: tuple[int, int, int], gregorian: date) -> None:
    assert jalali.to_gregorian(*known) == gregorian
    assert jalali.from_gregorian(gregorian) == known


@pytest.mark.parametrize(
    "wrong", [(1404, 12, 30), (1404, 0, 1), (1404, 13, 1), (1404, 7, 31), (1404, 1, 0), (1303, 1, 1), (1469, 1, 1)]
)
def test_days_that_do_not_exist(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueFormatError):
        jalali.to_gregorian(*wrong)


def test_gregorian_dates_outside_the_table() -> None:
    for day in (date(1900, 1, 1), date(1925, 3, 20), date(2090, 3, 20)):
        with pytest.raises(ValueFormatError):
            jalali.from_gregorian(day)


class TestExpiry:
    def test_valid_to_the_last_instant_of_its_month_in_iran(self) -> None:
        end = jalali.expires_at(Expiry("0412"), _NOW)
        assert end == datetime(2026, 3, 20, 20, 30, tzinfo=UTC)  # 1 Farvardin 1405, 00:00 in Iran
        assert not jalali.has_expired(Expiry("0412"), end - timedelta(seconds=1))
        assert jalali.has_expired(Expiry("0412"), end)

    @pytest.mark.parametrize(("digits", "year"), [("0412", 1404), ("9912", 1399), ("5301", 1453), ("5401", 1354)])
    def test_century_is_the_nearest(self, digits: str, year: int) -> None:
        month = int(digits[2:])
        after = jalali.to_gregorian(year, month + 1, 1) if month < 12 else jalali.to_gregorian(year + 1, 1, 1)
        local = jalali.expires_at(Expiry(digits), _NOW).astimezone(jalali.IRAN_STANDARD_TIME)
        assert local.date() == after

    @pytest.mark.parametrize("years", [1, 3, 5])
    def test_a_new_card_lives_its_years(self, years: int) -> None:
        expiry = jalali.expiry_after(_NOW, years)
        assert expiry.reveal() == f"{4 + years:02d}12"
        assert not jalali.has_expired(expiry, _NOW + timedelta(days=365 * years))
        assert jalali.has_expired(expiry, _NOW + timedelta(days=366 * years + 31))


class TestMissingYear:
    @pytest.mark.parametrize(
        ("text", "now", "expected"),
        [
            ("1231", datetime(2027, 1, 1, 5, tzinfo=UTC), date(2026, 12, 31)),
            ("0101", datetime(2026, 12, 31, 10, tzinfo=UTC), date(2027, 1, 1)),
            ("0101", datetime(2026, 12, 31, 21, tzinfo=UTC), date(2027, 1, 1)),  # already 1 January in Iran
            ("0301", datetime(2026, 3, 1, tzinfo=UTC), date(2026, 3, 1)),
            ("0229", datetime(2028, 2, 28, tzinfo=UTC), date(2028, 2, 29)),
        ],
    )
    def test_date(self, text: str, now: datetime, expected: date) -> None:
        assert jalali.complete_date(text, now) == expected

    def test_transmission_time(self) -> None:
        now = datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)
        assert jalali.complete_transmission_time("1231235959", now) == datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)

    @given(st.datetimes(datetime(2000, 1, 1), datetime(2080, 1, 1)), st.integers(-180, 180))  # noqa: DTZ001  # made aware
    def test_transmission_time_round_trip(self, naive: datetime, days: int) -> None:
        sent = naive.replace(microsecond=0, tzinfo=UTC)
        read = jalali.complete_transmission_time(jalali.transmission_time(sent), sent + timedelta(days=days))
        assert read == sent

    @pytest.mark.parametrize("text", ["", "131", "1301", "0230", "00x1", "۰۱۰۱"])
    def test_wrong_dates(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            jalali.complete_date(text, _NOW)

    @pytest.mark.parametrize("text", ["", "0101", "0101240000", "0101006000", "0101000060", "010100006x"])
    def test_wrong_times(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            jalali.complete_transmission_time(text, _NOW)

    def test_local_time_is_that_of_iran(self) -> None:
        assert jalali.local_time_and_date(datetime(2026, 12, 31, 21, 0, 5, tzinfo=UTC)) == ("003005", "0101")


@pytest.mark.parametrize(
    ("mmdd", "now", "day"),
    [
        ("1231", datetime(2027, 1, 1, 3, tzinfo=UTC), date(2026, 12, 31)),
        ("0101", datetime(2026, 12, 31, 12, tzinfo=UTC), date(2027, 1, 1)),
        ("0102", datetime(2026, 12, 31, 12, tzinfo=UTC), date(2026, 1, 2)),
        ("0302", _NOW, date(2026, 3, 2)),
        ("0303", _NOW, date(2025, 3, 3)),
        ("0229", _NOW, date(2024, 2, 29)),
        ("0229", datetime(2104, 2, 27, tzinfo=UTC), date(2096, 2, 29)),
    ],
)
def test_a_day_that_has_been_is_the_latest_such_day(mmdd: str, now: datetime, day: date) -> None:
    assert jalali.latest_date(mmdd, now) == day


@pytest.mark.parametrize("mmdd", ["", "131", "01011", "۱۲۳۱", "0230", "1301"])
def test_no_such_day_has_been(mmdd: str) -> None:
    with pytest.raises(ValueFormatError):
        jalali.latest_date(mmdd, _NOW)


def test_a_moment_that_has_been_is_the_latest_such_moment() -> None:
    assert jalali.complete_transmission_time("0901120000", _NOW) == datetime(2025, 9, 1, 12, tzinfo=UTC)
    assert jalali.complete_transmission_time("0801120000", _NOW) == datetime(2026, 8, 1, 12, tzinfo=UTC)
    assert jalali.complete_transmission_time("0801120000", _NOW, past=True) == datetime(2025, 8, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "day", "near", "year"),
    [
        ("235930", "1231", datetime(2027, 1, 1, 8, tzinfo=UTC), 2026),
        ("000010", "0101", datetime(2026, 12, 31, 8, tzinfo=UTC), 2027),
        ("140045", "1122", datetime(2026, 11, 22, 10, 30, tzinfo=UTC), 2026),
    ],
)
def test_a_local_moment_has_the_year_nearest_to_another(time: str, day: str, near: datetime, year: int) -> None:
    found = jalali.local_moment(time, day, near)
    assert (found.year, f"{found:%m%d%H%M%S}", found.tzinfo) == (year, day + time, jalali.IRAN_STANDARD_TIME)


@pytest.mark.parametrize(("time", "day"), [("240000", "0101"), ("12", "0101"), ("120000", "0230"), ("", "")])
def test_no_local_moment(time: str, day: str) -> None:
    with pytest.raises(ValueFormatError):
        jalali.local_moment(time, day, _NOW)
