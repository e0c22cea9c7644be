"""What a document may quote of the rules: every single value by its path, and how each is said in each language.

A path is the way through the data, with a dot between names: `classes.merchant.validity.max`. Lists of things that have
a name or a kind are walked by it (`classes.merchant.steps.vet.expires`), others by their place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel

from cps import canonical
from cps.condition import Condition
from cps.document_blocks import Code, Span, Text
from cps.errors import PackError
from cps.rfc3647 import Language
from shetab import jalali

Value = str | int | float | timedelta | datetime | bytes | Condition | tuple[Any, ...] | None
"""A value that has no parts; a tuple is one of texts or numbers."""

_SCALAR: Final = (str, int, float, timedelta, datetime, bytes, Condition)
_PERSIAN: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_COMMA: Final[Mapping[Language, str]] = {"en": ", ", "fa": "، "}
_UNITS: Final = (
    (timedelta(days=1), {"en": "days", "fa": "روز"}),
    (timedelta(hours=1), {"en": "hours", "fa": "ساعت"}),
    (timedelta(minutes=1), {"en": "minutes", "fa": "دقیقه"}),
    (timedelta(seconds=1), {"en": "seconds", "fa": "ثانیه"}),
    (timedelta(milliseconds=1), {"en": "milliseconds", "fa": "هزارم ثانیه"}),
)
_MONTHS: Final = (
    *("فروردین", "اردیبهشت", "خرداد", "تیر", "مرداد", "شهریور"),
    *("مهر", "آبان", "آذر", "دی", "بهمن", "اسفند"),
)


def values(thing: object, prefix: str = "") -> dict[str, Value]:
    """Every value in `thing` (models, dataclasses, mappings, lists of them) by its path."""
    return dict(_walk(thing, prefix))


def _walk(thing: object, path: str) -> Iterator[tuple[str, Value]]:
    for name, part in _parts(thing):
        where = f"{path}.{name}" if path else name
        if part is None or isinstance(part, _SCALAR):
            yield where, part
        elif isinstance(part, frozenset):
            yield where, tuple(sorted(part))
        elif isinstance(part, tuple) and all(isinstance(item, _SCALAR) for item in part):
            yield where, part
        else:
            yield from _walk(part, where)


def _parts(thing: object) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, BaseModel):
        for name, field in type(thing).model_fields.items():
            yield field.alias or name, getattr(thing, name)
    elif dataclasses.is_dataclass(thing):
        for each in dataclasses.fields(thing):
            yield each.name, getattr(thing, each.name)
    elif isinstance(thing, Mapping):
        for key, part in thing.items():
            yield str(key), part
    elif isinstance(thing, tuple):
        for place, part in enumerate(thing):
            yield str(getattr(part, "name", None) or getattr(part, "kind", place)), part
    else:
        raise TypeError(f"nobody said how a {type(thing).__name__} is quoted")


def written(value: Value) -> str:
    """A value as the pack writes it, for programs and for comparing: durations in ISO 8601, dates in UTC."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, timedelta):
        return _iso(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def digest_of(found: Mapping[str, Value]) -> bytes:
    """SHA-256 (32 bytes) of values, over the canonical form of path → written value."""
    return canonical.digest({path: written(value) for path, value in found.items()})


def spoken(value: Value, language: Language) -> tuple[Span, ...]:
    """A value as a reader is told it; raises PackError if there are no words for it, as for "nothing" and "true"."""
    if isinstance(value, tuple):
        spans: list[Span] = []
        for item in value:
            spans += [Text(_COMMA[language])] if spans else []
            spans += spoken(item, language)
        return tuple(spans)
    if isinstance(value, timedelta):
        return (Text(duration(value, language)),)
    if isinstance(value, datetime):
        return (Text(moment(value, language)),)
    if isinstance(value, bytes):
        return (Code(value.hex()),)
    if isinstance(value, str | Condition):
        return (Code(str(value)),)
    if isinstance(value, float):
        return (Text(digits(f"{value:.0%}", language).replace("%", {"en": " %", "fa": "٪"}[language])),)
    if value is None or isinstance(value, bool):
        raise PackError(f"{written(value) or 'nothing'} cannot be quoted in a sentence")
    return (Text(digits(str(value), language)),)


def digits(text: str, language: Language) -> str:
    """Text with the digits of the language."""
    return text.translate(_PERSIAN) if language == "fa" else text


def duration(value: timedelta, language: Language) -> str:
    """A duration in the largest unit that divides it; a single day in hours, because deadlines of a day mean hours."""
    least = timedelta(days=2)
    for unit, names in _UNITS:
        if value % unit == timedelta(0) and (unit < timedelta(days=1) or value >= least):
            count = value // unit
            name = names[language][:-1] if language == "en" and count == 1 else names[language]
            return f"{digits(str(count), language)} {name}"
    raise PackError(f"the duration {value} is not said in words")


def moment(value: datetime, language: Language) -> str:
    """A moment in UTC; in Persian by the Jalali calendar, with the Gregorian date beside it."""
    at = value.astimezone(UTC)
    if language == "en":
        return f"{at:%Y-%m-%d %H:%M} UTC"
    year, month, day = jalali.from_gregorian(at.date())
    return digits(f"{day} {_MONTHS[month - 1]} {year}، ساعت {at:%H:%M}", "fa") + f" UTC ({at:%Y-%m-%d})"


def _iso(value: timedelta) -> str:
    if value % timedelta(days=1) == timedelta(0):
        return f"P{value.days}D"
    for unit, letter in ((timedelta(hours=1), "H"), (timedelta(minutes=1), "M")):
        if value % unit == timedelta(0):
            return f"PT{value // unit}{letter}"
    return f"PT{value.total_seconds():g}S"
