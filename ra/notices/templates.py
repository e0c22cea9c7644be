"""What notices say: `templates.en.yaml` and `templates.fa.yaml`, read strictly and filled in.

A template names fields and nothing else: no attribute, index, conversion or format. Values are filled in once and are
never read as templates. In a Persian text times are Jalali, in Iran's time, digits are Persian, and whatever is
written from left to right stands in an isolate (UAX #9), so that it does not turn what is around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from cps.strict_yaml import load
from ra.notices.rules import Rules, rules
from runtime.language import FSI, PDI, Language
from shetab.jalali import IRAN_STANDARD_TIME, from_gregorian

_PERSIAN: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_TIMES: Final = frozenset({"due", "since", "not_after"})
_NUMBERS: Final = frozenset({"count", "days", "percent"})
_REFERENCE: Final = (
    12  # digits of an application's number: with all of them anybody could act for an anonymous applicant
)


class TemplateError(Exception):
    """A templates file is not as expected."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str = Field(pattern=r"^[^{}\r\n]+$")
    lines: tuple[str, ...] = Field(min_length=1)


class _Templates(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    language: Language
    direction: Literal["ltr", "rtl"]
    sender: str = Field(pattern=r"^[^{}\r\n]+$")
    closing: tuple[str, ...]
    repeat: str
    words: Mapping[str, Mapping[str, str]]
    events: Mapping[str, _Event]


@dataclass(frozen=True, slots=True)
class Told:
    """A notice in words: `paragraphs` of text without markup."""

    language: Language
    direction: str
    sender: str
    subject: str
    paragraphs: tuple[str, ...]


def tell(event: str, fields: Mapping[str, str], language: Language, *, attempt: int = 1) -> Told:
    """What a notice says in a language; from the second attempt on, that it may be a repeat."""
    known = _templates(language)
    said = {name: _value(name, value, known) for name, value in fields.items()}
    lines = [*known.events[event].lines, *known.closing]
    paragraphs = [line.format_map(said) for line in lines if names_in(line) <= said.keys()]
    if attempt > 1:
        paragraphs.append(known.repeat.format_map({"attempt": _number(str(attempt), language)}))
    return Told(language, known.direction, known.sender, known.events[event].subject, tuple(paragraphs))


def names_in(line: str) -> frozenset[str]:
    """The fields that a template names. Raises TemplateError for anything that is more than a name."""
    found = set()
    try:
        for _text, name, form, conversion in Formatter().parse(line):
            if name is not None:
                if form or conversion or not name.isidentifier():
                    raise TemplateError(f"a template names fields, and nothing about them: {line}")
                found.add(name)
    except ValueError as error:
        raise TemplateError(f"{error}: {line}") from None
    return frozenset(found)


def check(text: bytes, told: Rules) -> _Templates:
    """Templates from the bytes of a file, for exactly the events of the rules. Raises TemplateError."""
    try:
        templates = _Templates.model_validate(load(text))
    except ValueError as error:
        raise TemplateError(str(error)) from None
    if templates.events.keys() != told.events.keys():
        raise TemplateError(f"events without text, or text without event: {templates.events.keys() ^ told.events}")
    for name, event in templates.events.items():
        named = frozenset[str]().union(*map(names_in, event.lines))
        declared = told.events[name]
        if not named <= declared.fields:
            raise TemplateError(f"{name} has no {sorted(named - declared.fields)}")
        if names_in(event.lines[0]) - set(declared.has):
            raise TemplateError(f"{name}: its first line is always there")
    for line in templates.closing:
        if not names_in(line) <= {"application"}:
            raise TemplateError("the closing names the application alone")
    if names_in(templates.repeat) != {"attempt"}:
        raise TemplateError("the repeat names its attempt")
    return templates


@cache
def _templates(language: Language) -> _Templates:
    return check(files(__package__).joinpath(f"templates.{language.value}.yaml").read_bytes(), rules())


def _value(name: str, value: str, templates: _Templates) -> str:
    language = templates.language
    if name in _TIMES:
        return _time(value, language)
    if name in _NUMBERS:
        return _number(value, language)
    if (words := templates.words.get(name)) is not None and value in words:
        return words[value]
    if name == "application":
        value = value[:_REFERENCE]
    return value if language is Language.EN else f"{FSI}{value}{PDI}"


def _number(value: str, language: Language) -> str:
    return value if language is Language.EN else value.translate(_PERSIAN)


def _time(value: str, language: Language) -> str:
    moment = datetime.fromisoformat(value).astimezone(UTC)
    if language is Language.EN:
        return f"{moment:%Y-%m-%d %H:%M} UTC"
    there = moment.astimezone(IRAN_STANDARD_TIME)
    year, month, day = from_gregorian(there.date())
    return f"{year}/{month:02}/{day:02}، ساعت {there:%H:%M} به وقت ایران".translate(_PERSIAN)
