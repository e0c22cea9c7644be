"""`kwbp cps`: the Certification Practice Statement, as the rules that execute and as the document that people read."""

from __future__ import annotations

import hashlib
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import cps_publishing, cps_replay, output
from cli.statement import edition
from cps import document_html, document_markdown
from cps.document import Edition, compose, section
from cps.document_check import problems
from cps.document_difference import difference
from cps.document_markdown import render_section
from cps.rfc3647 import Heading, Language, above, outline

app = typer.Typer(
    no_args_is_help=True,
    help="""The Certification Practice Statement: rules as data, and the document made of them (RFC 3647).

  check    is every heading of RFC 3647 answered, in both languages, and every value there?
  show     the headings and how each is answered, or what stands under one
  render   the whole document: HTML or Markdown, Persian or English
  diff     what changes between two versions, rule by rule
  replay   what a draft would have decided of past cases, and by which clause
  sign     as a security officer, sign that a draft is published; the signature is put beside it, in NAME.signed/
  publish  have the signatures time-stamped and the version installed, for every service to take in
  list     the versions of this installation, and what does not hold

A PACK is a published one by its name, or a draft in a YAML file; the texts of a draft NAME.yaml are beside it in
NAME.texts/, and those of the newest version if it has none.
""",
)


class LanguageChoice(StrEnum):
    """The languages of the document."""

    EN = "en"
    FA = "fa"


class FormatChoice(StrEnum):
    """The forms of the document."""

    HTML = "html"
    MARKDOWN = "markdown"


_IN_FORCE: Final = "the version in force"
PackOption = Annotated[
    str | None, typer.Option("--pack", help="Published pack, or a YAML file.", show_default=_IN_FORCE)
]
TextsOption = Annotated[
    Path | None, typer.Option("--texts", help="Folder of the texts.", file_okay=False, show_default="those of the pack")
]
LanguageOption = Annotated[LanguageChoice, typer.Option("--language", help="Language of the document.")]


@app.command("check")
def check(
    pack: Annotated[str | None, typer.Argument(help="Published pack, or a YAML file.", show_default=_IN_FORCE)] = None,
    texts: TextsOption = None,
) -> None:
    """Check a pack and its texts: exit code 1 and a list of what is wrong, if anything is.

    A heading is answered by prose, tables or rules, or it says `procedural` or `no stipulation`, or all headings below
    it are answered. The languages have the same paragraphs and quote the same values; every rule has its sentence.
    """
    found = edition(pack, texts)
    wrong = problems(found)
    kinds = Counter(each for heading in outline().values() if (each := _answer(found, heading)) is not None)
    document = {
        "pack": found.name,
        "pack_sha256": found.pack.digest.hex(),
        "texts_sha256": found.texts.digest.hex(),
        "annex_sha256": found.annex_digest.hex(),
        "headings": len(outline()),
        "answered": dict(sorted(kinds.items())),
        "problems": [{"at": each.at, "text": each.text} for each in wrong],
    }
    lines = [f"{output.plain(found.name)}, SHA-256 {found.pack.digest.hex()}"]
    lines += [f"[red]✗[/red] {output.plain(each)}" for each in wrong]
    if not wrong:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(f"[green]✓[/green] {len(outline())} headings of RFC 3647 in two languages: {counts}")
    output.emit(document, lines)
    if wrong:
        raise typer.Exit(1)


@app.command("show")
def show(
    number: Annotated[str | None, typer.Argument(metavar="SECTION", help="A heading, for example 4.9.5.")] = None,
    language: LanguageOption = LanguageChoice.EN,
    pack: PackOption = None,
    texts: TextsOption = None,
) -> None:
    """Show what stands under a heading and those below it; without one, every heading and how it is answered."""
    found, chosen = edition(pack, texts), _language(language)
    if number is None:
        rows = [
            (heading.number, heading.titles[chosen], _answer(found, heading), ", ".join(found.rules_of(heading.number)))
            for heading in outline().values()
        ]
        output.table(found.name, ("Section", "Title", "Answer", "Rules"), rows)
        return
    if number not in outline():
        output.fail(f"RFC 3647 has no heading {number}", hint="'kwbp cps show' lists them")
    shown = [section(found, each, chosen) for each in outline() if number in above(each)]
    document = [
        {
            "section": each.number,
            "title": each.title,
            "answer": _answer(found, outline()[each.number]),
            "rules": list(found.rules_of(each.number)),
            "markdown": render_section(each),
        }
        for each in shown
    ]
    output.emit(document, [output.plain(line) for each in shown for line in render_section(each).splitlines()])


@app.command("render")
def render(
    language: LanguageOption = LanguageChoice.EN,
    form: Annotated[FormatChoice, typer.Option("--format", help="Form of the document.")] = FormatChoice.HTML,
    out: Annotated[Path | None, typer.Option("--out", help="File to write.", dir_okay=False)] = None,
    pack: PackOption = None,
    texts: TextsOption = None,
) -> None:
    """Write the whole document, to a file or to standard output. The same pack gives the same bytes.

    An HTML page needs nothing from elsewhere. A pack that 'check' finds wrong is not rendered.
    """
    found = edition(pack, texts)
    if wrong := problems(found):
        output.fail(f"{found.name} has {len(wrong)} problems, first {wrong[0]}", hint="'kwbp cps check' lists them")
    document = compose(found, _language(language))
    text = document_html.render(document) if form is FormatChoice.HTML else document_markdown.render(document)
    if out is None:
        typer.echo(text, nl=False)
        return
    data = text.encode()
    out.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    output.emit(
        {"pack": found.name, "language": str(language), "format": str(form), "file": str(out), "sha256": digest},
        [f"{output.plain(found.name)} is in {output.plain(out)}, SHA-256 {digest}."],
    )


@app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="Published pack, or a YAML file.")],
    new: Annotated[str, typer.Argument(metavar="B", help="The later one.")],
) -> None:
    """Show what changes from pack A to pack B: each value with its section, then the headings that read anew."""
    was, becomes = edition(old), edition(new)
    found = difference(was, becomes)
    document = {
        "old": {"pack": was.name, "sha256": was.pack.digest.hex()},
        "new": {"pack": becomes.name, "sha256": becomes.pack.digest.hex()},
        "rules": [
            {"section": each.section, "path": each.path, "old": each.old, "new": each.new} for each in found.changes
        ],
        "texts": [{"section": each.section, "language": each.language, "what": each.what} for each in found.readings],
    }
    if output.json_wanted():
        output.emit(document)
        return
    rows = [(each.section, each.path, each.old, each.new) for each in found.changes]
    output.table(
        f"Rules that change from {was.name} ({_short(was)}) to {becomes.name} ({_short(becomes)})",
        ("Section", "Value", "Old", "New"),
        rows,
    )
    read: dict[tuple[str, str], list[str]] = {}
    for each in found.readings:
        read.setdefault((each.section, each.what), []).append(each.language)
    texts = [(number, what, ", ".join(languages)) for (number, what), languages in read.items()]
    output.table("Headings that read anew", ("Section", "What", "Languages"), texts)
    if was.name == becomes.name and (found.changes or found.readings):
        output.note(f"Both are called {output.plain(was.name)}: what differs needs a version of its own.")


cps_publishing.register(app)
cps_replay.register(app)


def _answer(found: Edition, heading: Heading) -> str | None:
    """How a heading is answered, in a word; None where only those below it are."""
    kind = found.kind(heading.number)
    only_below = heading.has_parts and heading.number not in found.texts.passages
    return None if only_below and not found.rules_of(heading.number) else kind


def _short(found: Edition) -> str:
    return f"{found.pack.digest.hex()[:16]}…"


def _language(choice: LanguageChoice) -> Language:
    return "fa" if choice is LanguageChoice.FA else "en"
