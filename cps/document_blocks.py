"""A document before it is written down: sections of paragraphs and tables, made of plain text, code and links.

Renderers (`document_html`, `document_markdown`) know these few shapes and nothing of policies, so that one place each
is enough to escape what is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from cps.rfc3647 import Language


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """An identifier, a command or a value, written from left to right in every language."""

    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link to the anchor `target` of the same document; an identifier unless `is_text`."""

    target: str
    text: str
    is_text: bool = False


Span = Text | Code | Link


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; `is_note` for one that says how a heading is treated, not what it provides."""

    spans: tuple[Span, ...]
    is_note: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; `anchor` is where links to it lead."""

    cells: tuple[tuple[Span, ...], ...]
    anchor: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title and named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


Block = Paragraph | Table


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of RFC 3647 with what stands under it; `level` 1 is a chapter."""

    number: str
    title: str
    level: int
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        return f"s{self.number}"


@dataclass(frozen=True, slots=True)
class Document:
    """A whole statement in one language; `identity` names exactly which."""

    language: Language
    title: str
    contents: str
    identity: Table
    sections: tuple[Section, ...]
