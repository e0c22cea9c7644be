"""A document in Markdown (CommonMark with tables). What was not meant as mark-up is escaped and stays what it is."""

from __future__ import annotations

import re
from typing import Final

from cps.document_blocks import Code, Document, Link, Paragraph, Section, Span, Table

_MARKS: Final = re.compile(r"([\\`*_\[\]<>|~&$])")
_FIRST: Final = re.compile(r"^(#|[-+](?=\s)|\d+(?=[.)]\s))")  # would begin a heading or a list
_TICKS: Final = re.compile(r"`+")


def render(document: Document) -> str:
    """The whole document as text that ends with a line feed."""
    lines = [f"# {_escaped(document.title)}", "", *_table(document.identity), f"## {_escaped(document.contents)}", ""]
    for section in document.sections:
        title = _escaped(f"{section.number} {section.title}")
        lines.append(f"{'  ' * (section.level - 1)}- [{title}](#{section.anchor})")
    lines.append("")
    for section in document.sections:
        lines += _section(section)
    body = "\n".join(lines)
    return f'<div dir="rtl" lang="fa">\n\n{body}\n</div>\n' if document.language == "fa" else body


def render_section(section: Section) -> str:
    """One section alone, without anchors: nothing beside it leads there."""
    return "\n".join([_heading(section), "", *_blocks(section, anchors=False)])


def _section(section: Section) -> list[str]:
    return [f'<a id="{section.anchor}"></a>', "", _heading(section), "", *_blocks(section, anchors=True)]


def _heading(section: Section) -> str:
    return f"{'#' * (section.level + 1)} {_escaped(f'{section.number} {section.title}')}"


def _blocks(section: Section, *, anchors: bool) -> list[str]:
    lines: list[str] = []
    for block in section.blocks:
        lines += _table(block, anchors=anchors) if isinstance(block, Table) else _paragraph(block)
    return lines


def _paragraph(paragraph: Paragraph) -> list[str]:
    text = _FIRST.sub(_not_first, _spans(paragraph.spans))
    return [f"*{text}*" if paragraph.is_note else text, ""]


def _not_first(mark: re.Match[str]) -> str:
    return f"{mark[1]}\\" if mark[1].isdigit() else f"\\{mark[1]}"


def _table(table: Table, *, anchors: bool = True) -> list[str]:
    columns = [_escaped(column) for column in table.columns] or [""] * len(table.rows[0].cells)
    lines = [f"**{_escaped(table.title)}**", "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in table.rows:
        cells = [_spans(cell, in_table=True) for cell in row.cells]
        anchor = "" if row.anchor is None or not anchors else f'<a id="{_escaped_attribute(row.anchor)}"></a>'
        lines.append(f"| {anchor}{' | '.join(cells)} |")
    return [*lines, ""]


def _spans(spans: tuple[Span, ...], *, in_table: bool = False) -> str:
    return "".join(_span(span, in_table) for span in spans)


def _span(span: Span, in_table: bool) -> str:
    if isinstance(span, Code):
        return _code(span.text, in_table)
    if isinstance(span, Link):
        return f"[{_escaped(span.text)}](#{span.target})"
    return _escaped(span.text)


def _code(text: str, in_table: bool) -> str:
    """A code span, fenced by more back-ticks than it holds; in a table a bar would end the cell even there."""
    fence = "`" * (1 + max((len(ticks) for ticks in _TICKS.findall(text)), default=0))
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text.replace('|', chr(92) + '|') if in_table else text}{room}{fence}"


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", " ".join(text.splitlines()))


def _escaped_attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
