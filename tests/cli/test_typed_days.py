"""Days and numbers as people type them, and tables whose amounts stay in one piece."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
import typer
from rich.console import Console

from cli import output
from cli.typed_days import business_day, moment, number, whole


@pytest.mark.parametrize("text", ["2026-11-23", "2026/11/23", "1405-09-02", "1405/9/2", "۱۴۰۵/۰۹/۰۲", "٢٠٢٦-١١-٢٣"])
def test_a_day_is_of_either_calendar_in_digits_of_any_script(text: str) -> None:
    assert business_day(text) == date(2026, 11, 23)


@pytest.mark.parametrize(
    "text", ["", "1405-13-01", "2026-02-30", "1404/12/30", "26-11-23", "2026-11-23T00:00", "0001-01-01"]
)
def test_what_is_no_day_of_its_calendar_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="Jalali"):
        business_day(text)


@pytest.mark.parametrize("text", ["2026-11-23 13:45", "2026-11-23T13:45:00", "۱۴۰۵/۰۹/۰۲ ۱۳:۴۵"])
def test_a_moment_is_a_day_of_either_calendar_and_its_time_in_utc(text: str) -> None:
    assert moment(text) == datetime(2026, 11, 23, 13, 45, tzinfo=UTC)
    assert moment(text.split("T")[0].split()[0]) == datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "13:45", "1405/12/30 10:00", "2026-11-23 24:00", "2026-11-23 1", "۱۴۰۵/۰۹/۰۲ ۱۳:۶۰"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="Jalali"):
        moment(text)


@pytest.mark.parametrize(("leap", "common"), [("1403/12/30", "1404/12/30"), ("1399-12-30", "1405-12-30")])
def test_the_last_day_of_esfand_is_there_in_leap_years_alone(leap: str, common: str) -> None:
    assert (business_day(leap).month, business_day(leap).day) == (3, 20)
    with pytest.raises(typer.BadParameter, match="Jalali"):
        business_day(common)
    for text in ("1405/07/31", "1405/11/31", "1405/00/10", "\u202e2026-11-23", "2026-\u200f11-23", "2026-11/-3"):
        with pytest.raises(typer.BadParameter, match="Jalali"):
            business_day(text)


def test_numbers_are_read_in_digits_of_any_script_and_never_guessed() -> None:
    assert (whole("-40000"), whole("۴۰۰۰۰"), whole("-٧"), number("۷")) == (-40_000, 40_000, -7, 7)
    for text in ("", "abc", "40,000", "4_0", "1.5", "9" * 19, "²"):
        with pytest.raises(typer.BadParameter, match="whole number"):
            whole(text)
    for text in ("0", "-7", str(2**31)):
        with pytest.raises(typer.BadParameter, match="begin with 1"):
            number(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_no_amount_or_name_of_a_table_is_cut_in_two(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(width=40, force_terminal=terminal, highlight=False, soft_wrap=True, no_color=True)
    monkeypatch.setattr(output, "_out", console)
    row = ("2026-11-23 19:05:20", "a4" * 20, "REV_FAILED", 12_500_000, "a reason that somebody wrote down at length")
    output.table("Orders", ("Received", "XID", "State", "Amount", "Why"), [row])
    shown = capsys.readouterr().out
    assert all(str(each) in shown for each in row[:4])
    assert (row[4] in shown) is not terminal, "sentences are broken where a terminal is narrow"
