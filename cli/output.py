"""How commands speak: tables and coloured lines for people, one JSON document for programs.

With `--json` nothing but that document goes to standard output; progress always goes to standard error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass
class _Mode:
    json: bool = False


_mode = _Mode()


def use_json(enabled: bool) -> None:
    """Switch this process to JSON output."""
    _mode.json = enabled


def json_wanted() -> bool:
    return _mode.json


def emit(document: Mapping[str, Any] | Sequence[Any], lines: Sequence[str] = ()) -> None:
    """The result of a command: `document` for programs, `lines` (rich markup) for people."""
    if _mode.json:
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))
    else:
        for line in lines:
            _out.print(line)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], document: Any = None) -> None:
    """A table for people; for programs `document`, or the rows as a list of objects."""
    if _mode.json:
        keys = [column.lower().replace(" ", "_") for column in columns]
        emit(document if document is not None else [dict(zip(keys, row, strict=True)) for row in rows])
        return
    view = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        view.add_column(column, overflow="fold")
    for row in rows:
        view.add_row(*("" if cell is None else str(cell) for cell in row))
    _out.print(view)


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


def fail(text: str, *, hint: str | None = None, code: int = 1, document: Mapping[str, Any] | None = None) -> NoReturn:
    """End the command with an error and, where there is one, what to do next."""
    if _mode.json:
        typer.echo(json.dumps(document or {"error": text, "hint": hint}, ensure_ascii=False))
    _err.print(f"[red]✗[/red] {_escape(text)}")
    if hint:
        _err.print(f"  {_escape(hint)}")
    raise typer.Exit(code)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def rial(amount: int) -> str:
    """An amount for people: 1,250,000 rial."""
    return f"{amount:,} rial"
