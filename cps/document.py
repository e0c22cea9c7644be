"""The statement that people read, put together from the pack, its texts and its annex (RFC 3647 section 6).

    pack + texts + annex ─► `edition` ─► `problems` ─► `compose` ─► `document_html`, `document_markdown`

The same edition gives the same document, to the byte. An edition with a problem gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cps.annex import Annex, RuleFacts
from cps.document_blocks import Block, Code, Document, Link, Paragraph, Row, Section, Span, Table, Text
from cps.document_tables import Tables
from cps.document_values import Value, digest_of, moment, spoken, values
from cps.document_words import Vocabulary, vocabulary
from cps.errors import PackError
from cps.model import Pack
from cps.rfc3647 import Heading, Language, above, heading_of, outline
from cps.rules import Rule
from cps.statement_text import Kind, Passage, StatementText, tokens

_SILENT: Final = Passage()


@dataclass(frozen=True)
class Edition:
    """A pack with everything that it takes to read it."""

    pack: Pack
    texts: StatementText
    annex: Annex

    @property
    def name(self) -> str:
        return f"{self.pack.cps.id}-{self.pack.cps.version}"

    @cached_property
    def quotable(self) -> Mapping[str, Value]:
        """Every value that prose may quote, by its path: of the pack, and of the annex."""
        return {**values(self.pack), **values(self.annex)}

    @cached_property
    def annex_digest(self) -> bytes:
        """SHA-256 (32 bytes) over the annex."""
        return digest_of(values(self.annex))

    @cached_property
    def rules(self) -> Mapping[str, RuleFacts]:
        """Every rule by its id: the pack's, in the order of `Rule`, then those of dual control over keys."""
        own = {str(rule): RuleFacts(self.pack.rules[rule].section, self.pack.rules[rule].text) for rule in Rule}
        return {**own, **self.annex.approval_rules}

    @cached_property
    def _rules_by_heading(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name, rule in self.rules.items():
            number = heading_of(rule.section)
            found[number] = (*found.get(number, ()), name)
        return found

    def passage(self, number: str) -> Passage:
        """What the texts say under a heading; empty if nothing."""
        return self.texts.passages.get(number, _SILENT)

    def rules_of(self, number: str) -> tuple[str, ...]:
        """The ids of the rules that implement a heading."""
        return self._rules_by_heading.get(number, ())

    def kind(self, number: str) -> Kind | None:
        """How a heading is answered; None if it is not.

        What the pack calls procedural is so with everything below it, as far as the texts say no more.
        """
        if number in self.texts.passages:
            return self.texts.passages[number].kind
        if any(each in self.pack.procedural for each in above(number)):
            return "procedural"
        return "provision" if self.rules_of(number) else None

    def rule_text(self, rule: str, language: Language) -> str:
        return self.rules[rule].text if language == "en" else self.texts.rules[rule]


def compose(edition: Edition, language: Language) -> Document:
    """The whole document in one language. Raises PackError if a piece of it cannot be said."""
    words = vocabulary(edition.texts, language)
    return Document(
        language,
        words.say("document", "title"),
        words.say("document", "contents"),
        _identity(edition, words),
        tuple(section(edition, heading.number, language) for heading in outline().values()),
    )


def section(edition: Edition, number: str, language: Language) -> Section:
    """One heading and what stands under it, without the headings below. Raises PackError as `compose`."""
    heading = outline()[number]
    words = vocabulary(edition.texts, language)
    passage = edition.passage(number)
    kind = edition.kind(number)
    blocks: list[Block] = []
    if kind == "no stipulation":
        blocks.append(Paragraph((Text(words.say("notes", "none")),), is_note=True))
    elif kind == "procedural" and _says_it(edition, heading):
        blocks.append(Paragraph((Text(words.say("notes", "procedural")),), is_note=True))
    blocks += [Paragraph(prose(edition, paragraph, language)) for paragraph in passage.prose(language)]
    tables = Tables(edition.pack, edition.annex, words)
    blocks += [tables.make(name) for name in passage.tables]
    if rules := edition.rules_of(number):
        blocks.append(_rules(edition, rules, words))
    return Section(number, heading.titles[language], heading.level, tuple(blocks))


def prose(edition: Edition, paragraph: str, language: Language) -> tuple[Span, ...]:
    """A paragraph with its values and links in place. Raises PackError naming what it cannot quote or find."""
    spans: list[Span] = []
    for token in tokens(paragraph):
        if token.kind == "text":
            spans.append(Text(token.text))
        elif token.kind == "code":
            spans.append(Code(token.text))
        elif token.kind == "link":
            spans.append(_link(edition, token.text))
        elif token.text in edition.quotable:
            spans += spoken(edition.quotable[token.text], language)
        else:
            raise PackError(f"there is no value {token.text}")
    return tuple(spans)


def _link(edition: Edition, name: str) -> Link:
    if name in outline():
        return Link(f"s{name}", name)
    if name in edition.rules:
        return Link(name, name)
    raise PackError(f"there is neither a heading nor a rule {name}")


def _says_it(edition: Edition, heading: Heading) -> bool:
    """Whether the note stands here: under the headings that have no others below them."""
    return not heading.has_parts or heading.number in edition.texts.passages


def _rules(edition: Edition, rules: tuple[str, ...], words: Vocabulary) -> Table:
    rows = [Row(((Code(rule),), (Text(edition.rule_text(rule, words.language)),)), rule) for rule in rules]
    columns = (words.say("columns", "rule"), words.say("columns", "text"))
    return Table(words.say("titles", "rules"), columns, tuple(rows))


def _identity(edition: Edition, words: Vocabulary) -> Table:
    cps = edition.pack.cps
    facts: tuple[tuple[str, Span], ...] = (
        ("id", Code(cps.id)),
        ("version", Code(cps.version)),
        ("effective", Text(moment(cps.effective, words.language))),
        ("uri", Code(cps.uri)),
        ("pack", Code(edition.pack.digest.hex())),
        ("text", Code(edition.texts.digest.hex())),
        ("annex", Code(edition.annex_digest.hex())),
        ("outline", Code("RFC 3647")),
    )
    rows = [Row(((Text(words.say("document", name)),), (said,))) for name, said in facts]
    return Table(words.say("document", "identity"), (), tuple(rows))
