"""Whether a statement can be read: every heading answered, in both languages alike, every name and value there.

A heading of RFC 3647 that is neither a provision (prose, a table or a rule), nor `procedural`, nor `no stipulation` is
a problem, unless the headings below it say it. So is a part of the pack that the document does not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, get_args

from cps.document import Edition, section
from cps.errors import PackError
from cps.rfc3647 import LANGUAGES, Heading, heading_of, outline
from cps.statement_text import TableName, tokens

_ARABIC: Final = {"ي": "ی", "ك": "ک"}  # letters that look like the Persian ones and are not


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and at which heading or rule."""

    at: str
    text: str

    def __str__(self) -> str:
        return f"{self.at}: {self.text}"


def problems(edition: Edition) -> tuple[Problem, ...]:
    """Everything that is wrong with an edition; empty if a document can be made of it."""
    return (
        *_structure(edition),
        *(problem for heading in outline().values() for problem in _heading(edition, heading)),
        *_rules(edition),
        *_sections(edition),
        *_tables(edition),
        *_operations(edition),
    )


def _structure(edition: Edition) -> Iterator[Problem]:
    for number in edition.texts.passages:
        if number not in outline():
            yield Problem(number, "RFC 3647 has no such heading")


def _heading(edition: Edition, heading: Heading) -> Iterator[Problem]:
    number, passage = heading.number, edition.passage(heading.number)
    kind = edition.kind(number)
    if kind is None and not heading.has_parts:
        yield Problem(number, "neither a provision, nor procedural, nor no stipulation")
    if kind == "no stipulation" and (passage.en or passage.tables or edition.rules_of(number)):
        yield Problem(number, "no stipulation, and yet something stands there")
    if number in edition.texts.passages and kind == "provision" and not (passage.en or passage.tables):
        yield Problem(number, "a provision that says nothing")
    if len(passage.en) != len(passage.fa):
        yield Problem(number, f"{len(passage.en)} paragraphs in English, {len(passage.fa)} in Persian")
    try:
        for english, persian in zip(passage.en, passage.fa, strict=False):
            yield from _alike(number, english, persian)
        if all(rule in edition.texts.rules for rule in edition.rules_of(number)):
            for language in LANGUAGES:
                section(edition, number, language)
    except PackError as error:
        yield Problem(number, str(error))


def _alike(number: str, english: str, persian: str) -> Iterator[Problem]:
    """Both languages quote the same values and lead to the same places."""
    quoted = [
        sorted(token.text for token in tokens(text) if token.kind in {"path", "link"}) for text in (english, persian)
    ]
    if quoted[0] != quoted[1]:
        differing = sorted(set(quoted[0]) ^ set(quoted[1])) or ["one of them twice"]
        yield Problem(number, f"the languages quote different things: {', '.join(differing)}")
    yield from _spelling(number, persian)


def _spelling(at: str, persian: str) -> Iterator[Problem]:
    for wrong, right in _ARABIC.items():
        if wrong in persian:
            yield Problem(at, f"the Arabic letter {wrong} instead of the Persian {right}")


def _rules(edition: Edition) -> Iterator[Problem]:
    said = edition.texts.rules
    for rule in edition.rules:
        if rule not in said:
            yield Problem(rule, "the rule has no Persian sentence")
    for name, text in said.items():
        if name not in edition.rules:
            yield Problem(name, "there is no such rule")
        yield from _spelling(name, text)


def _sections(edition: Edition) -> Iterator[Problem]:
    pack = edition.pack
    stated = {
        **{f"rules.{name}": rule.section for name, rule in edition.rules.items()},
        **{f"classes.{name}": rule.section for name, rule in pack.classes.items()},
        **{f"classes.{name}.rekey": each.for_rekey.section for name, each in pack.classes.items()},
        **{f"revocation.{reason}": each.section for reason, each in pack.revocation.items()},
        **{f"rejections.{code}": each.section for code, each in pack.rejections.items()},
        **{f"procedural.{number}": number for number in pack.procedural},
        **{f"profiles.{name}": profile.section for name, profile in edition.annex.profiles.items()},
        "suspension": pack.suspension.section,
        "denylist": pack.denylist.section,
        "publication": pack.publication.section,
        "review": pack.review.section,
        "acceptance": pack.acceptance.section,
        "one_time_code": pack.one_time_code.section,
    }
    for where, number in stated.items():
        if heading_of(number) not in outline():
            yield Problem(where, f"RFC 3647 has no heading {heading_of(number)}")


def _tables(edition: Edition) -> Iterator[Problem]:
    shown = {name for passage in edition.texts.passages.values() for name in passage.tables}
    for name in get_args(TableName):
        if name not in shown:
            yield Problem(f"table {name}", "no heading shows it, so a part of the rules would be hidden")


def _operations(edition: Edition) -> Iterator[Problem]:
    """Keys would lie still for ever whose operations only roles may approve that nobody can hold any more."""
    for name, each in edition.annex.operations.items():
        if unknown := sorted(set(each.by) - set(edition.pack.roles)):
            yield Problem(
                f"operation {name}", f"the pack does not have the roles that approve it: {', '.join(unknown)}"
            )
