"""How commands speak: tables and coloured lines for people, one JSON document for programs.

With `--json` nothing but that document goes to standard output; progress always goes to standard error.

Errors, and names that the catalogues know, are in the language of the environment (`KWBP_LANG`, else the locale);
what programs read is English. Lines carry markup; what others wrote (names, sources, reasons) goes into them through
`plain`, so that it can neither colour nor hide nor break what a person reads before they sign.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from runtime.language import Language, Message, Term, Text, ToldError, of_environment, one_line, text_of

_PROSE: Final = 3
"""Blanks in a cell that make its column one of sentences, which may be broken; anything else stands in one line."""
_ANY_WIDTH: Final = 10_000

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass
class _Mode:
    json: bool = False


_mode = _Mode()


def use_json(enabled: bool) -> None:
    """Switch this process to JSON output."""
    _mode.json = enabled


def use_language(chosen: Language) -> None:
    """Speak `chosen` from now on, and so do the commands that this process starts."""
    os.environ["KWBP_LANG"] = chosen.value


def json_wanted() -> bool:
    return _mode.json


def language() -> Language:
    """The language of whoever reads this: that of the environment, English for programs."""
    return Language.EN if _mode.json else of_environment(os.environ)


def said(thing: object) -> str:
    """A message, a term, a problem, as the reader's language says it; anything else as it is."""
    return text_of(thing, language())


def emit(document: Mapping[str, Any] | Sequence[Any], lines: Sequence[str] = ()) -> None:
    """The result of a command: `document` for programs, `lines` (rich markup) for people."""
    if _mode.json:
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))
    else:
        for line in lines:
            _out.print(line)


def table(title: str, columns: Sequence[str | Term], rows: Sequence[Sequence[object]], document: Any = None) -> None:
    """A table for people; for programs `document`, or the rows as a list of objects.

    Title and headings are in the reader's language where the catalogue has them (terms `title` and `column`).
    """
    if _mode.json:
        keys = [str(column).lower().replace(" ", "_") for column in columns]
        emit(document if document is not None else [dict(zip(keys, row, strict=True)) for row in rows])
        return
    heading = said(Term("title", title))
    view = Table(title=plain(heading), title_justify="left", header_style="bold", box=None, pad_edge=False)
    cells = [[_cell(value) for value in row] for row in rows]
    for at, column in enumerate(columns):
        named = Term("column", column) if isinstance(column, str) else column
        prose = any(row[at].count(" ") >= _PROSE for row in cells)
        view.add_column(said(named), overflow="fold", no_wrap=not prose)
    for row in cells:
        view.add_row(*row)
    view.width = _width(view)
    _out.print(view)
    if not rows:
        _out.print(said(Message("There is nothing to show.")))


def _width(view: Table) -> int:
    """As wide as it is where no terminal shows it; in a terminal as wide as that, but for what can be broken.

    An amount or a name in two halves is misread. A row that is too long the terminal continues in its next line.
    """
    room = Measurement.get(_out, _out.options.update(max_width=_ANY_WIDTH), view)
    return min(max(_out.width, room.minimum), room.maximum) if _out.is_terminal else room.maximum


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return said(Term("truth", "yes" if value else "no"))
    return "" if value is None else plain(value)


def note(text: str) -> None:
    """One line of progress, on standard error."""
    _err.print(text)


def done(text: str) -> None:
    """One line that says a step succeeded, on standard error."""
    _err.print(f"[green]✓[/green] {text}")


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that something long is going on."""
    with _err.status(text):
        yield


@contextmanager
def progress(text: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar on standard error, gone at the end; call what this gives after each of `total` things (None: unknown)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bar:
        task = bar.add_task(plain(text), total=total)
        yield lambda: bar.advance(task)


def fail(
    text: Text | ToldError,
    *,
    hint: Text | None = None,
    code: int = 1,
    document: Mapping[str, Any] | None = None,
) -> NoReturn:
    """End the command with an error and, where there is one, what to do next."""
    if _mode.json:
        told = {"error": said(text), "hint": None if hint is None else said(hint)}
        typer.echo(json.dumps(document or told, ensure_ascii=False))
    sentence = "\n".join(map(plain, said(text).splitlines()))
    _err.print(f"[red]✗[/red] {sentence}")
    if hint:
        _err.print(f"  {plain(said(hint))}")
    raise typer.Exit(code)


def plain(text: object) -> str:
    """Text as it is, for a line: no markup, nothing that steers a terminal or turns the direction of reading."""
    return escape(one_line(str(text)))


def rial(amount: int) -> str:
    """An amount for people: 1,250,000 rial."""
    return f"{amount:,} rial"
