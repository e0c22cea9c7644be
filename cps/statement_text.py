"""The sentences of a statement, beside its pack: for each heading of RFC 3647 what people read, in every language.

    "4.9.5": {en: …, fa: …, tables: [revocation]}     a provision: prose, and tables made from the pack
    "5.3.1": procedural                               people do it, software neither does nor checks it
    "9.1.1": no stipulation                           the statement says nothing about it

Prose is one paragraph or a list of them. It quotes values, so that it cannot disagree with the rules:

    {classes.merchant.validity.max}   a value of the pack or its annex (`document_values`)
    {#4.9.5}, {#SOD-AUTHOR}           a link to a heading, or to a rule
    `kwbp ca revoke`                  a command, a name, a value, as it is

There is nothing else; a brace or a back-tick that is none of these is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from cps import canonical, strict_yaml
from cps.errors import PackError
from cps.rfc3647 import Language

Kind = Literal["provision", "procedural", "no stipulation"]
RULES: Final = "rules"
TERMS: Final = "terms"

_TOKEN: Final = re.compile(r"`(?P<code>[^`]+)`|\{#(?P<link>[A-Z0-9.-]+)\}|\{(?P<path>[A-Za-z0-9_.-]+)\}")


def _paragraphs(value: object) -> object:
    return [value] if isinstance(value, str) else value


Prose = Annotated[tuple[str, ...], BeforeValidator(_paragraphs)]
TableName = Literal[
    "classes",
    "subjects",
    "risk",
    "evidence",
    "checks",
    "contradictions",
    "steps",
    "rejections",
    "service_levels",
    "roles",
    "exclusive",
    "signers",
    "operations",
    "keys",
    "validity",
    "revocation",
    "denylist",
    "clocks",
    "profiles",
    "extensions",
    "authorities",
    "policies",
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(_Model):
    """The same in every language."""

    en: str
    fa: str

    def said(self, language: Language) -> str:
        return self.en if language == "en" else self.fa


class Passage(_Model):
    """What stands under one heading."""

    kind: Kind = "provision"
    en: Prose = ()
    fa: Prose = ()
    tables: tuple[TableName, ...] = ()

    def prose(self, language: Language) -> tuple[str, ...]:
        """The paragraphs, with their placeholders."""
        return self.en if language == "en" else self.fa


class _Chapters(_Model):
    passages: dict[str, Passage]
    rules: dict[str, str]
    terms: dict[str, dict[str, Words]]


@dataclass(frozen=True, slots=True)
class StatementText:
    """All sentences of a statement.

    `rules`: the sentence of each rule in Persian (the pack has the English one); `terms`: names of what the pack names,
    by group; `digest`: SHA-256 (32 bytes) of the canonical form of all files together.
    """

    passages: Mapping[str, Passage]
    rules: Mapping[str, str]
    terms: Mapping[str, Mapping[str, Words]]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of prose: `text`, `code`, a `link` to an anchor, or the `path` of a value."""

    kind: Literal["text", "code", "link", "path"]
    text: str


def load_texts(chapters: Mapping[str, str | bytes]) -> StatementText:
    """The sentences from YAML files by name: `rules`, `terms`, and chapters of any name. Raises PackError."""
    documents: dict[str, dict[str, Any]] = {}
    for name, text in chapters.items():
        try:
            document = strict_yaml.load(text)
        except ValueError as error:
            raise PackError(f"the text {name} is {error}") from None
        if not isinstance(document, dict):
            raise PackError(f"the text {name} is a mapping of headings")
        documents[name] = document
    special = {name: documents.get(name, {}) for name in (RULES, TERMS)}
    passages: dict[str, Any] = {}
    for name, document in documents.items():
        if name in special:
            continue
        if twice := sorted(passages.keys() & document.keys()):
            raise PackError(f"the text {name} speaks of {', '.join(twice)}, as another one does")
        passages |= {number: {"kind": said} if isinstance(said, str) else said for number, said in document.items()}
    try:
        read = _Chapters.model_validate({"passages": passages, **special})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise PackError(f"the texts break their schema: {faults}") from None
    return StatementText(read.passages, read.rules, read.terms, canonical.digest(documents))


def tokens(prose: str) -> tuple[Token, ...]:
    """A paragraph in pieces; raises PackError where it is not in the grammar."""
    found: list[Token] = []
    at = 0
    for match in _TOKEN.finditer(prose):
        found.append(Token("text", prose[at : match.start()]))
        kind = match.lastgroup
        found.append(Token(kind, match[0 if kind is None else kind]))  # type: ignore[arg-type]  # named as the kinds
        at = match.end()
    found.append(Token("text", prose[at:]))
    for token in found:
        if token.kind == "text" and (stray := next((mark for mark in "{}`" if mark in token.text), None)):
            raise PackError(f"a stray {stray} in “{token.text.strip()[:60]}”")
    return tuple(token for token in found if token.text)
