"""The Markdown document, read back with a CommonMark parser that is not ours."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from cps import document_html, document_markdown
from cps.document import compose, section
from cps.document_blocks import Code, Document, Link, Paragraph, Row, Section, Span, Table, Text
from cps.rfc3647 import LANGUAGES, Language, outline
from tests.support.statements import published_edition

HOSTILE = "<b>_a_ *b* `c` | [d](e) &amp; ~~f~~ $g$ \\ 1. - #"


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(text)


def leaves(tokens: list[Token]) -> list[Token]:
    return [leaf for token in tokens for leaf in (token.children or [token])]


def shown(tokens: list[Token]) -> str:
    return "".join(leaf.content for leaf in leaves(tokens) if leaf.type in {"text", "text_special", "code_inline"})


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_document_reads_as_the_html_page_does(language: Language) -> None:
    document = compose(published_edition(), language)
    tokens = parsed(document_markdown.render(document))
    page = document_html.render(document)
    counted = {
        "heading_open": len(re.findall("<h[1-6]>", page)),
        "table_open": page.count("<table>"),
        "tr_open": page.count("<tr") + 1,  # a head for the table that has none
        "code_inline": page.count("<code") - len(re.findall("<a [^>]*><code", page)),
    }
    assert {kind: sum(leaf.type == kind for leaf in leaves(tokens)) for kind in counted} == counted
    assert counted["heading_open"] == len(outline()) + 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_link_leads_to_an_anchor(language: Language) -> None:
    text = document_markdown.render(compose(published_edition(), language))
    anchors = set(re.findall(r'<a id="([^"]+)"></a>', text))
    targets = {str(leaf.attrs["href"]) for leaf in leaves(parsed(text)) if leaf.type == "link_open"}
    assert targets
    assert targets <= {f"#{anchor}" for anchor in anchors}


def test_persian_runs_from_right_to_left() -> None:
    text = document_markdown.render(compose(published_edition(), "fa"))
    assert text.startswith('<div dir="rtl" lang="fa">\n\n# ')
    assert text.endswith("\n</div>\n")


def test_the_same_edition_gives_the_same_bytes() -> None:
    one, other = (document_markdown.render(compose(published_edition(), "en")) for _ in range(2))
    assert one == other


def test_a_section_alone_has_no_anchors() -> None:
    alone = document_markdown.render_section(section(published_edition(), "5.2.4", "en"))
    assert alone.startswith("#### 5.2.4 Roles requiring separation of duties\n")
    assert "`SOD-AUTHOR`" in alone
    assert "<a id" not in alone


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ((Text(HOSTILE),), HOSTILE),
        ((Text("1. one"),), "1. one"),
        ((Text("- one"),), "- one"),
        ((Text("# one"),), "# one"),
        ((Text("one\ntwo"),), "one two"),
        ((Code("a `` b"),), "a `` b"),
        ((Code("`a`"),), "`a`"),
        ((Code("a | b"),), "a | b"),
        ((Link("s1", "[x]"),), "[x]"),
    ],
)
def test_text_from_the_data_stays_text(spans: tuple[Span, ...], expected: str) -> None:
    table = Table("T", ("A", "B"), (Row((spans, spans), 'x"<&'),))
    document = Document("en", "D", "C", table, (Section("1", "S", 1, (Paragraph(spans), Paragraph(spans, True))),))
    tokens = parsed(document_markdown.render(document))
    assert shown(tokens).count(expected) >= 4
    kinds = {leaf.type for leaf in leaves(tokens)}
    assert kinds.isdisjoint({"image", "s_open", "ordered_list_open"})
    assert {leaf.content for leaf in leaves(tokens) if leaf.type == "html_inline"} == {
        '<a id="x&quot;&lt;&amp;">',
        '<a id="s1">',
        "</a>",
    }
