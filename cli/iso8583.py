"""`kwbp iso8583`: messages of the bank network, for people. Nothing that a card keeps secret is shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import output
from cli.output import plain
from cli.state import installation
from runtime.language import Language, Message, Term, text_of
from shetab.explain import Explanation, Part, explain, guess

app = typer.Typer(help="Messages of the bank network (ISO 8583).", no_args_is_help=True)

_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_LONGEST_NAME: Final = 255
_LARGEST: Final = 1 << 16
_LANGUAGES: Final = {"en": Language.EN, "fa": Language.FA}


@app.callback()
def _group() -> None:
    """A group, though it has one command."""


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="File, '-' for standard input, or hexadecimal digits.", metavar="FILE|-|HEX")
    ],
    dialect: Annotated[
        str | None,
        typer.Option(help="Its dialect, by name or .yaml file; without it, the one in which it makes sense."),
    ] = None,
    lang: Annotated[str | None, typer.Option(help="en or fa; without it, that of the environment.")] = None,
) -> None:
    """Explain one message, field by field. Card data are masked, secrets shown as their class and length.

    A file holds the bytes of the message, without length prefix, or their hexadecimal digits. Give messages with card
    data in a file or on standard input: what is in the command line, others can see.
    """
    if lang is not None and lang not in _LANGUAGES:
        output.fail(Message("the language is en or fa"))
    language = output.language() if lang is None else _LANGUAGES[lang]
    raw, now = _bytes_of(what), datetime.now(UTC)
    try:
        found = guess(raw, now=now) if dialect is None else explain(raw, _dialect(dialect), now=now)
    except FileNotFoundError:
        output.fail(Message("there is no dialect {name}", name=dialect))
    except ValueError:
        output.fail(Message("the file of the dialect {name} is wrong", name=dialect))
    output.emit(_document(found), list(_page(found, language)))
    if found.problem is not None:
        raise typer.Exit(1)


def _dialect(name: str) -> str:
    """A file is looked for where the command was called, then where the settings have it."""
    if not name.endswith(".yaml") or Path(name).exists():
        return name
    return installation().home.dialect(name)


def _bytes_of(what: str) -> bytes:
    if what == "-":
        data = sys.stdin.buffer.read(_LARGEST)
    elif _HEX.fullmatch(what) and not (len(what) <= _LONGEST_NAME and Path(what).exists()):
        return bytes.fromhex(what)
    else:
        with Path(what).open("rb") as file:
            data = file.read(_LARGEST)
    text = b"".join(data.split())
    # A message in ASCII is digits too, but not hexadecimal ones alone: its MTI would have to be written twice as long.
    if _HEX.fullmatch(text.decode("latin-1")) and not _is_message(data):
        return bytes.fromhex(text.decode("ascii"))
    return data


def _is_message(data: bytes) -> bool:
    return guess(data, now=datetime.now(UTC)).problem is None


# --- for people -------------------------------------------------------------------------------------------------------


def _page(found: Explanation, language: Language) -> Iterator[str]:
    def say(sentence: Message) -> str:
        return plain(text_of(sentence, language))

    title = say(Message("{mti} in the dialect {dialect}", mti=found.mti or "?", dialect=found.dialect))
    yield f"[bold]{title}[/bold]  {plain(found.purpose_fa if language is Language.FA else found.purpose)}"
    for part in found.parts:
        yield from _line(part, language)
    if found.mac is not None:
        start, end = found.mac
        place = Message(
            "The MAC is in bytes {start} to {end}; it covers all bytes before it.", start=str(start), end=str(end - 1)
        )
        yield say(place)
    if found.inside:
        yield f"[bold]{say(Message('What it says, in the numbers of 1987:'))}[/bold]"
        for part in found.inside:
            yield from _line(part, language)
    problem = found.problem
    if problem is not None:
        broken = say(Message("broken: field {field}, {rule}", field=problem.field, rule=problem.rule))
        at = found.position
        where = "" if at is None else say(Message("at byte {position}", position=str(at)))
        yield f"[red]✗[/red] {broken} {where} {plain(problem.value_class)}".rstrip()


def _line(part: Part, language: Language) -> Iterator[str]:
    where = "" if part.start is None or part.end is None else f"{part.start:>4}-{part.end - 1:<4} "
    number = {"t": "MTI", "p": "map", "1": "map2"}.get(part.field, part.field)
    name = part.fa if language is Language.FA and part.fa else part.name
    hidden = text_of(Message("not shown"), language)
    shown = f"[{hidden}: {part.value_class}]" if part.shown is None else part.shown
    yield f"  {where}{number:>4}  {plain(name)}: {plain(shown)}"
    for label, value in part.inner:
        yield f"  {' ' * len(where)}      · {plain(text_of(Term('subfield', label), language))}: {plain(value)}"


# --- for programs -----------------------------------------------------------------------------------------------------


def _document(found: Explanation) -> dict[str, Any]:
    problem = found.problem
    return {
        "dialect": found.dialect,
        "mti": found.mti,
        "purpose": found.purpose,
        "fields": [_part(part) for part in found.parts],
        "inside": [_part(part) for part in found.inside],
        "mac": None if found.mac is None else {"start": found.mac[0], "end": found.mac[1]},
        "problem": None
        if problem is None
        else {
            "mti": problem.mti,
            "field": problem.field,
            "rule": problem.rule,
            "value_class": problem.value_class,
            "position": found.position,
        },
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "field": part.field,
        "name": part.name,
        "name_fa": part.fa,
        "start": part.start,
        "end": part.end,
        "shown": part.shown,
        "class": part.value_class,
        "parts": dict(part.inner),
    }
