"""What others wrote is shown as they wrote it: it colours, hides and breaks nothing."""

from __future__ import annotations

import pytest
import typer

from cli import output


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
    ],
    ids=["closing tag", "hidden text", "backslash", "terminal title", "two lines", "reads backwards", "persian"],
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
