"""A document as one HTML page: nothing is loaded from elsewhere, and all text is escaped where it is written.

Headings have the anchors `#s4.9.5`, rules theirs (`#SOD-AUTHOR`). Persian runs from right to left; code in it does not.
"""

from __future__ import annotations

from html import escape
from typing import Final

from cps.document_blocks import Block, Code, Document, Link, Row, Section, Span, Table

_DIRECTION: Final = {"en": "ltr", "fa": "rtl"}

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 1rem/1.6 "Vazirmatn", "Noto Sans", "DejaVu Sans", Tahoma, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, h4 { line-height: 1.3; margin: 1.6em 0 .5em; }
h2 { border-bottom: 2px solid #345; }
h4 { font-size: 1rem; }
.number { color: #345; }
code, .number { font-family: "DejaVu Sans Mono", Consolas, monospace; font-size: .9em; unicode-bidi: isolate; }
code { overflow-wrap: break-word; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .8em 0 1.2em; }
caption { text-align: start; font-weight: bold; padding: .3em 0; }
th, td { border: 1px solid #bcc; padding: .35em .6em; text-align: start; vertical-align: top; }
thead th, tbody th { background: #eef2f5; }
tr:target, section:target > h2, section:target > h3, section:target > h4 { background: #fff6d6; }
.note { color: #555; font-style: italic; }
:lang(fa) .note { font-style: normal; }
nav ul { list-style: none; padding-inline-start: 1.2em; margin: 0; }
nav > ul { columns: 2 22rem; padding: 0; }
a { color: #0b4f8a; text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; }
  a { color: inherit; }
  .wide { overflow: visible; }
  h2 { break-before: page; }
  h2, h3, h4, caption { break-after: avoid; }
  tr { break-inside: avoid; }
}
""".strip()


def render(document: Document) -> str:
    """The whole page, ending with a line feed."""
    language, title = document.language, escape(document.title)
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="{language}" dir="{_DIRECTION[language]}">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>\n{_STYLE}\n</style>",
        "</head>",
        "<body>",
        "<header>",
        f"<h1>{title}</h1>",
        *_table(document.identity),
        "</header>",
        f'<nav aria-label="{escape(document.contents)}">',
        f"<h2>{escape(document.contents)}</h2>",
        *_contents(document.sections),
        "</nav>",
        "<main>",
        *_sections(document.sections),
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _contents(sections: tuple[Section, ...]) -> list[str]:
    lines: list[str] = []
    depth = 0
    for section in sections:
        if section.level > depth:
            lines += ["<ul>"] * (section.level - depth)
        else:
            lines += ["</li>", *(["</ul>", "</li>"] * (depth - section.level))]
        depth = section.level
        lines.append(f'<li><a href="#{section.anchor}">{_title(section)}</a>')
    return [*lines, *(["</li>", "</ul>"] * depth)]


def _sections(sections: tuple[Section, ...]) -> list[str]:
    lines: list[str] = []
    open_levels: list[int] = []
    for section in sections:
        while open_levels and open_levels[-1] >= section.level:
            lines.append("</section>")
            open_levels.pop()
        open_levels.append(section.level)
        rank = section.level + 1
        lines.append(f'<section id="{section.anchor}">')
        lines.append(f"<h{rank}>{_title(section)}</h{rank}>")
        for block in section.blocks:
            lines += _block(block)
    return [*lines, *(["</section>"] * len(open_levels))]


def _title(section: Section) -> str:
    return f'<span class="number" dir="ltr">{section.number}</span> {escape(section.title)}'


def _block(block: Block) -> list[str]:
    if isinstance(block, Table):
        return _table(block)
    note = ' class="note"' if block.is_note else ""
    return [f"<p{note}>{_spans(block.spans)}</p>"]


def _table(table: Table) -> list[str]:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    return [
        '<div class="wide">',
        "<table>",
        f"<caption>{escape(table.title)}</caption>",
        *([f"<thead><tr>{head}</tr></thead>"] if table.columns else []),
        "<tbody>",
        *(_row(row) for row in table.rows),
        "</tbody>",
        "</table>",
        "</div>",
    ]


def _row(row: Row) -> str:
    first, *others = map(_spans, row.cells)
    anchor = "" if row.anchor is None else f' id="{escape(row.anchor)}"'
    cells = "".join(f"<td>{cell}</td>" for cell in others)
    return f'<tr{anchor}><th scope="row">{first}</th>{cells}</tr>'


def _spans(spans: tuple[Span, ...]) -> str:
    return "".join(map(_span, spans))


def _span(span: Span) -> str:
    if isinstance(span, Code):
        return f'<code dir="ltr">{escape(span.text)}</code>'
    if isinstance(span, Link):
        return f'<a href="#{escape(span.target)}"><code dir="ltr">{escape(span.text)}</code></a>'
    return escape(span.text)
