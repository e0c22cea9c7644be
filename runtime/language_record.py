"""A message as it is kept: JSON, from which it is told in the language of whoever reads it later.

    {"template": "older than {days} days", "values": {"days": 398}}

Values are texts and whole numbers as they are; {"template"}, {"term"}, {"list"} and {"time"} for what has parts.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from runtime.language import Bilingual, Listed, Message, Term, ToldError


def to_record(message: Message) -> str:
    """The message as JSON; what is none of the values above is kept as its English text."""
    return json.dumps(_written(message), ensure_ascii=False)


def from_record(record: str) -> Message:
    """The message that `to_record` wrote. Raises ValueError for anything else."""
    try:
        message = _read(json.loads(record))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the record of a message: {error}") from None
    if not isinstance(message, Message):
        raise ValueError("not the record of a message")
    return message


def _written(value: object) -> Any:
    if isinstance(value, ToldError):
        value = value.told
    if isinstance(value, Message):
        return {"template": value.template, "values": {name: _written(each) for name, each in value.params}}
    if isinstance(value, Term):
        return {"term": [value.kind, value.name, value.english]}
    if isinstance(value, Bilingual):
        return {"en": value.en, "fa": value.fa}
    if isinstance(value, Listed):
        return {"list": [_written(each) for each in value.values], "link": value.link}
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    return value if isinstance(value, int) else str(value)


def _read(value: Any) -> object:
    if not isinstance(value, dict):
        return value
    if "template" in value:
        return Message(value["template"], **{name: _read(each) for name, each in value["values"].items()})
    if "term" in value:
        kind, name, english = value["term"]
        return Term(kind, name, english)
    if "en" in value:
        return Bilingual(value["en"], value["fa"])
    if "list" in value:
        return Listed(tuple(_read(each) for each in value["list"]), value["link"])
    return datetime.fromisoformat(value["time"])
