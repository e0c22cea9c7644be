"""What others wrote is shown as they wrote it: it colours, hides and breaks nothing."""

from __future__ import annotations

import json

import pytest
import typer

from cli import main, output
from ra.errors import UnknownError
from runtime.language import FSI, PDI, Message, Term, ToldError
from runtime.problems import Problem


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Shop [/x]", "Shop [/x]"),
        ("[conceal]price[/conceal]", "[conceal]price[/conceal]"),
        (r"C:\[bold]", r"C:\[bold]"),
        ("a\x1b]0;title\x07b", "a\ufffd]0;title\ufffdb"),
        ("first line\nsecond", "first line\ufffdsecond"),
        ("\u202elatot", "\ufffdlatot"),
        ("کتاب‌فروشی دیوان", "کتاب‌فروشی دیوان"),
        (f"گام {FSI}vet{PDI}", f"گام {FSI}vet{PDI}"),
        (f"{PDI}vet{FSI}", "\ufffdvet\ufffd"),
        (f"{FSI}vet", "\ufffdvet"),
    ],
    ids=[
        "closing tag",
        "hidden text",
        "backslash",
        "terminal title",
        "two lines",
        "reads backwards",
        "persian",
        "a value set apart",
        "brackets turned outwards",
        "a bracket left open",
    ],
)
def test_the_text_of_others_is_plain(capsys: pytest.CaptureFixture[str], written: str, shown: str) -> None:
    output.emit({}, [f"[bold]{output.plain(written)}[/bold]"])
    output.note(output.plain(written))
    output.table("T", ("Column",), [(written,)])
    said = capsys.readouterr()
    assert said.out.startswith(shown + "\n")
    assert shown in said.out.removeprefix(shown)
    assert said.err == shown + "\n"


def test_an_error_keeps_its_lines_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        output.fail("first [/x]\nsecond", hint="[red]hint")
    assert capsys.readouterr().err == "✗ first [/x]\nsecond\n  [red]hint\n"


@pytest.fixture
def persian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KWBP_LANG", "fa")


@pytest.mark.usefixtures("persian")
def test_an_error_is_told_in_the_language_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        output.fail(Message("older than {days} days", days=3), hint=Message("give its PEM file instead"))
    assert capsys.readouterr().err == "✗ از ۳ روز کهنه‌تر است\n  به جای آن فایل PEM گواهی را بدهید\n"


def test_an_error_is_told_in_english_where_nothing_else_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KWBP_LANG", "en")
    with pytest.raises(typer.Exit):
        output.fail(ToldError("older than {days} days", days=3))
    assert capsys.readouterr().err == "✗ older than 3 days\n"


@pytest.mark.usefixtures("persian")
def test_programs_read_english(capsys: pytest.CaptureFixture[str]) -> None:
    output.use_json(True)
    try:
        with pytest.raises(typer.Exit):
            output.fail(Message("the case is decided"), hint=Message("give its PEM file instead"))
        assert output.said(Term("state", "ISSUED")) == "ISSUED"
    finally:
        output.use_json(False)
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": "the case is decided", "hint": "give its PEM file instead"}
    assert output.said(Term("state", "ISSUED")) == "صادرشده"


@pytest.mark.usefixtures("persian")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            Problem(403, "refused", Message("older than {days} days", days=3), clause="CPS 3.2.2"),
            "کهنه‌تر است (CPS 3.2.2)",
        ),
        (UnknownError("there is no such application"), "چنین درخواستی وجود ندارد"),
    ],
    ids=["problem", "error of a package"],
)
def test_what_ends_a_command_is_told_in_the_language_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fails(_arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(main, "build", fails)
    with pytest.raises(SystemExit):
        main.main()
    assert told in capsys.readouterr().err


def test_a_table_for_people_says_its_headings_in_their_language(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KWBP_LANG", "fa")
    output.table("Merchants", ("Merchant", "Active"), [("M-1", True), ("M-2", False)])
    shown = capsys.readouterr().out
    assert all(each in shown for each in ("پذیرنده‌ها", "فعال", "بله", "نه"))
    monkeypatch.setenv("KWBP_LANG", "en")
    output.table("Merchants", ("Merchant", "Active"), [("M-1", True)])
    assert "yes" in capsys.readouterr().out


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.table("Orders", ("XID",), [])
    assert "There is nothing to show." in capsys.readouterr().out
