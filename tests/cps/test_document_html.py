"""The HTML page, judged by HTML Tidy and read back with a parser that is not ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from cps import document_html
from cps.document import compose
from cps.document_blocks import Code, Document, Link, Paragraph, Row, Section, Table, Text
from cps.rfc3647 import LANGUAGES, Language, outline
from tests.support.judges import run
from tests.support.statements import published_edition

HOSTILE = '<script>alert("1 & 2")</script>\'`|*'
_PAGES = {language: document_html.render(compose(published_edition(), language)) for language in LANGUAGES}


@dataclass
class Reader(HTMLParser):
    """Collects what a browser would: elements with attributes, anchors, links, the text of code."""

    starts: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.starts if name == tag]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


@pytest.mark.parametrize("language", LANGUAGES)
def test_tidy_finds_neither_error_nor_warning(language: Language) -> None:
    judged = run("tidy", "-quiet", "-errors", "-utf8", stdin=_PAGES[language].encode())
    assert (judged.returncode, judged.stderr.decode()) == (0, "")


def test_tidy_does_judge() -> None:
    broken = _PAGES["en"].replace("</table>", "", 1)
    assert run("tidy", "-quiet", "-errors", "-utf8", stdin=broken.encode()).returncode != 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_heading_and_rule_has_an_anchor_and_every_link_leads_to_one(language: Language) -> None:
    page = read(_PAGES[language])
    anchors = [each["id"] for _tag, each in page.starts if "id" in each]
    assert len(anchors) == len(set(anchors))
    assert {f"s{number}" for number in outline()} | set(published_edition().rules) <= set(anchors)
    targets = {str(each["href"]) for each in page.of("a")}
    assert targets <= {f"#{anchor}" for anchor in anchors}
    assert {f"#s{number}" for number in outline()} <= targets


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_loaded_from_elsewhere(language: Language) -> None:
    page = read(_PAGES[language])
    assert not {tag for tag, _ in page.starts} & {"script", "link", "img", "iframe", "object", "base"}
    assert not [each for _tag, each in page.starts if "src" in each or any(name.startswith("on") for name in each)]
    assert "url(" not in _PAGES[language]
    assert "@import" not in _PAGES[language]


def test_persian_runs_from_right_to_left_and_code_in_it_does_not() -> None:
    page = read(_PAGES["fa"])
    assert page.of("html") == [{"lang": "fa", "dir": "rtl"}]
    assert {each["dir"] for each in page.of("code")} == {"ltr"}
    assert read(_PAGES["en"]).of("html") == [{"lang": "en", "dir": "ltr"}]


def test_headings_are_nested_as_in_the_outline() -> None:
    page = read(_PAGES["en"])
    ranks = [len(page.of(f"h{rank}")) for rank in (1, 2, 3, 4, 5)]
    chapters, middle, deep = (sum(each.level == level for each in outline().values()) for level in (1, 2, 3))
    assert ranks == [1, chapters + 1, middle, deep, 0]  # and the contents


def test_the_same_edition_gives_the_same_bytes() -> None:
    assert document_html.render(compose(published_edition(), "fa")) == _PAGES["fa"]


def test_text_from_the_data_stays_text() -> None:
    spans = (Text(HOSTILE), Code(HOSTILE), Link('x"y', HOSTILE))
    table = Table(HOSTILE, (HOSTILE,), (Row((spans,), 'a"b<'),))
    document = Document(
        "en", HOSTILE, HOSTILE, table, (Section("1", HOSTILE, 1, (Paragraph(spans), Paragraph(spans, True), table)),)
    )
    page = document_html.render(document)
    reader = read(page)
    assert "<script" not in page
    assert reader.text.count(HOSTILE) == 21
    assert {each["id"] for each in reader.of("tr") if "id" in each} == {'a"b<'}
    assert {each["href"] for each in reader.of("a")} == {'#x"y', "#s1"}
