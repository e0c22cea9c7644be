"""Canonical messages as JSON objects, for authorisers that speak HTTP instead of ISO 8583.

    {"message":"sale","role":"request","amount":150000,"stan":"000042","rrn":"…","pan":"…",…}

Every field is that of the canonical dialect under a name (`json_form.yaml`), with the same rules in both directions.
There is one encoding of a message: members sorted by name, no spaces, ASCII. What has a member twice, one that has no
name here, or a value of another type is refused, and so is whatever the dialect refuses.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Final

from shetab import tables_yaml
from shetab.dialect import Dialect, Direction
from shetab.errors import MessageFormatError
from shetab.formats import describe
from shetab.message import Message

REQUEST: Final = "request"
REPEAT: Final = "repeat"
ANSWER: Final = "answer"
LARGEST: Final = 16_384
"""Bytes of a message; what is longer is not read."""


class JsonForm:
    """The form for one canonical dialect. Stateless and safe to share."""

    def __init__(self, dialect: Dialect) -> None:
        table = _table()
        self._dialect = dialect
        self._kinds: dict[str, str] = table["messages"]
        self._names: dict[int, str] = table["fields"]
        self._numbers = {name: number for number, name in self._names.items()}
        self._whole = frozenset[int](table["whole"])
        self._of_mti = {mti: self._kind_and_role(mti) for mti in dialect.messages if self._original(mti) in self._kinds}
        self._mti_of = {of: mti for mti, of in reversed(self._of_mti.items())}

    def encode(self, message: Message) -> bytes:
        """The JSON of a message that keeps the rules of the dialect, without its MAC.

        :raises MessageFormatError, FieldPresenceError: it does not keep them, or has no form here.
        """
        self._dialect.check(message)
        if message.mti not in self._of_mti:
            raise MessageFormatError(mti=message.mti, field="t", rule="has_no_json_form")
        kind, role = self._of_mti[message.mti]
        members: dict[str, str | int] = {"message": kind, "role": role}
        for number, value in message.fields.items():
            members[self._names[number]] = int(value) if number in self._whole else value
        return json.dumps(members, sort_keys=True, separators=(",", ":")).encode("ascii")

    def decode(self, raw: bytes, direction: Direction | None = None) -> Message:
        """Read one message and check every rule of the dialect.

        :raises MessageFormatError, FieldPresenceError: naming field and rule, never a value.
        """
        members = _members(raw)
        message = Message(self._mti_of_members(members), {})
        fields = {}
        for name, value in members.items():
            number = self._numbers.get(name)
            if number is None:
                raise MessageFormatError(mti=message.mti, field="json", rule="member_has_no_name_here")
            fields[number] = self._text(message.mti, number, value)
        message = Message(message.mti, fields)
        self._dialect.check(message, direction)
        return message

    def schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of all messages: what a foreign authoriser is written against."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "KWBP authoriser messages",
            "oneOf": [self._schema_of(mti) for mti in self._of_mti],
            "$defs": {self._names[number]: self._schema_of_field(number) for number in sorted(self._names)},
        }

    # --- tables -------------------------------------------------------------------------------------------------------

    def _original(self, mti: str) -> str:
        return self._dialect.original_mti(mti)

    def _kind_and_role(self, mti: str) -> tuple[str, str]:
        original = self._original(mti)
        role = REQUEST if mti == original else ANSWER if mti[2] != original[2] else REPEAT
        return self._kinds[original], role

    def _mti_of_members(self, members: dict[str, Any]) -> str:
        kind, role = members.pop("message", None), members.pop("role", None)
        mti = self._mti_of.get((kind, role)) if isinstance(kind, str) and isinstance(role, str) else None
        if mti is None:
            raise MessageFormatError(mti=None, field="t", rule="message_and_role_name_no_message")
        return mti

    def _text(self, mti: str, number: int, value: Any) -> str:
        if number in self._whole and type(value) is int and value >= 0:
            return str(value).zfill(self._dialect.fields[number].format.size)
        if number not in self._whole and isinstance(value, str):
            return value
        raise MessageFormatError(mti=mti, field=str(number), rule="wrong_type_of_member", value_class=describe(""))

    def _schema_of(self, mti: str) -> dict[str, Any]:
        rule, (kind, role) = self._dialect.messages[mti], self._of_mti[mti]
        named = {self._names[number] for number in rule.mandatory | rule.conditional}
        return {
            "title": f"{kind}, {role}",
            "type": "object",
            "properties": {
                "message": {"const": kind},
                "role": {"const": role},
                **{name: {"$ref": f"#/$defs/{name}"} for name in sorted(named)},
            },
            "required": ["message", "role", *sorted(self._names[number] for number in rule.mandatory)],
            "additionalProperties": False,
        }

    def _schema_of_field(self, number: int) -> dict[str, Any]:
        rule = self._dialect.fields[number]
        if number in self._whole:
            return {"type": "integer", "minimum": 0, "maximum": 10**rule.format.size - 1, "description": rule.name}
        found: dict[str, Any] = {"type": "string", "maxLength": rule.format.size, "description": rule.name}
        if not rule.format.variable:
            found["minLength"] = rule.format.size
        if rule.values:
            found["enum"] = list(rule.values)
        return found


def _members(raw: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a member stands twice")
        return found

    error = MessageFormatError(mti=None, field="json", rule="must_be_one_flat_object")
    if len(raw) > LARGEST:
        raise error
    try:
        members = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        members = None
    # Raised outside the handler: the library's error holds the whole text, PAN and all.
    if not isinstance(members, dict):
        raise error
    return members


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = tables_yaml.load(resources.files("shetab").joinpath("json_form.yaml").read_text("utf-8"))
    return table
