"""What a person is told, in the language they read: English or Persian.

A `Message` is an English template and the values it names. The template is the key by which a package's catalogue
(`messages.fa.yaml`, see `runtime.language_catalogue`) holds the Persian one; values are never translated, unless they
are messages themselves or names that a catalogue knows (`Term`). Nothing is put together before somebody reads it.

`str(message)` is the English text, for logs, journals and programs. In a Persian text every foreign value stands
between FSI and PDI (UAX #9), so that it neither turns nor is turned by the words around it.

Which language it is a service reads from Accept-Language (RFC 9110 12.5.4), a command from its environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

FSI: Final = "\u2068"
PDI: Final = "\u2069"
ZWNJ: Final = "\u200c"  # zero-width non-joiner: Persian spelling needs it

_PERSIAN_DIGITS: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_RANGE: Final = re.compile(
    r"\s*(?P<range>\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q=(?P<q>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_MAX_HEADER: Final = 1000  # characters of Accept-Language that are read


class Language(StrEnum):
    """A language that people are spoken to in, by its tag (RFC 5646)."""

    EN = "en"
    FA = "fa"


@dataclass(frozen=True, slots=True)
class Term:
    """A name that programs use and people know by another: a role, a step, a state; `english` is what is said for it.

    A name that the catalogue does not know is said as it is.
    """

    kind: str
    name: str
    english: str | None = None

    def __str__(self) -> str:
        return self.name if self.english is None else self.english

    def text(self, language: Language) -> str:
        """The name in this language."""
        known = None if language is Language.EN else _persian_term(self.kind, self.name)
        return _value(str(self), language) if known is None else known


@dataclass(frozen=True, slots=True)
class Bilingual:
    """A text that comes with both its languages, as those of a policy pack do: no catalogue knows it."""

    en: str
    fa: str

    def __str__(self) -> str:
        return self.en

    def text(self, language: Language) -> str:
        """The text in this language."""
        return self.en if language is Language.EN else self.fa


Link = Literal["and", "or", "also"]
_LINKS: Final[Mapping[Language, Mapping[Link, str]]] = {
    Language.EN: {"and": ", ", "or": " or ", "also": "; "},
    Language.FA: {"and": "، ", "or": " یا ", "also": "؛ "},
}


@dataclass(frozen=True, slots=True)
class Listed:
    """Several values, named one after the other: `a, b, c`, `a or b`, or sentences: `a; b`."""

    values: tuple[object, ...]
    link: Link = "and"

    def __str__(self) -> str:
        return self.text(Language.EN)

    def text(self, language: Language) -> str:
        """The list in this language."""
        return _LINKS[language][self.link].join(_value(value, language) for value in self.values)


def terms(kind: str, names: Iterable[str], link: Link = "and") -> Listed:
    """A list of names of one kind."""
    return Listed(tuple(Term(kind, name) for name in names), link)


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """A sentence: a template with `{name}` for each of its values."""

    template: str
    params: tuple[tuple[str, object], ...]

    def __init__(self, template: str, /, **params: object) -> None:
        object.__setattr__(self, "template", template)
        object.__setattr__(self, "params", tuple(params.items()))

    def __str__(self) -> str:
        return self.text(Language.EN)

    def text(self, language: Language) -> str:
        """The sentence in this language; in English where nobody translated it."""
        template = None if language is Language.EN else _persian_template(self.template)
        if template is None:
            template, language = self.template, Language.EN
        if not self.params:
            return template
        values = {name: _value(value, language) for name, value in self.params}
        # Whoever tells what went wrong must not fail at it: braces that name no value are said as they are.
        return _NAMED.sub(lambda named: values.get(named[1], named[0]), template)

    def spoken(self, language: Language) -> Language:
        """The language that `text(language)` answers in."""
        return language if language is Language.EN or _persian_template(self.template) is not None else Language.EN


Text = str | Message
"""What a person is told: a message, or a text that has only one language."""


class ToldError(Exception):
    """An error that a person is told about, in their language; `told` is what."""

    def __init__(self, said: Text, **params: object) -> None:
        """Take a template and the values that it names, or a message."""
        super().__init__(said)
        self.told = said if isinstance(said, Message) else Message(said, **params)

    def text(self, language: Language) -> str:
        """What went wrong, in this language."""
        return self.told.text(language)

    def __str__(self) -> str:
        return str(self.told)


def text_of(said: object, language: Language) -> str:
    """A text in this language, whatever carries it."""
    return said.text(language) if isinstance(said, Message | Term | Bilingual | Listed | ToldError) else str(said)


def negotiate(accept_language: str | None) -> Language:
    """The language that an Accept-Language header prefers (RFC 9110 12.5.4); English where it has no preference.

    Ranges are looked up as in RFC 4647 3.4, so that `fa-IR` is answered in `fa`. Of equal weights the first one counts;
    parts that are not in the grammar do not count.
    """
    weights: dict[str, float] = {}
    for part in (accept_language or "")[:_MAX_HEADER].split(","):
        match = _RANGE.fullmatch(part)
        if match is not None:
            weights.setdefault(match["range"].split("-")[0].lower(), float(match["q"] or 1))
    rest = weights.pop("*", 0.0)
    for language in Language:  # after those that are named; English first
        weights.setdefault(language.value, rest)
    best = max((tag for tag in weights if tag in set(Language)), key=weights.__getitem__)
    return Language(best) if weights[best] > 0 else Language.EN


def of_environment(environment: Mapping[str, str]) -> Language:
    """The language of whoever started this command: `KWBP_LANG`, else the locale of messages (POSIX 8.2)."""
    for name in ("KWBP_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return Language.FA if re.match(r"fa(?![A-Za-z])", environment[name]) else Language.EN
    return Language.EN


def _value(value: object, language: Language) -> str:
    if isinstance(value, Message | Term | Bilingual | Listed | ToldError):
        return value.text(language)
    if isinstance(value, datetime):
        value = value.isoformat()
    if language is Language.EN:
        return str(value)
    if isinstance(value, int):
        return str(value).translate(_PERSIAN_DIGITS)
    return FSI + one_line(str(value)) + PDI


def digits(text: str) -> str:
    """`text` with Persian digits for the ASCII ones."""
    return text.translate(_PERSIAN_DIGITS)


def one_line(text: str) -> str:
    """A text whose every character is seen: nothing steers a terminal, hides, or turns the direction of reading.

    Isolates that are closed within it stay: they turn nothing outside of them, and nobody leaves the brackets.
    """
    kept = {ZWNJ, FSI, PDI} if _closed(text) else {ZWNJ}
    return "".join(char if char.isprintable() or char in kept else "\ufffd" for char in text)


def _closed(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == FSI) - (char == PDI)
        if depth < 0:
            return False
    return depth == 0


def _persian_template(template: str) -> str | None:
    # Imported when the first Persian reader comes: most processes never read YAML.
    from runtime.language_catalogue import persian

    return persian().messages.get(template)


def _persian_term(kind: str, name: str) -> str | None:
    from runtime.language_catalogue import persian

    return persian().terms.get(kind, {}).get(name)
