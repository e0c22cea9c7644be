"""The tables of a dialect file as values: fields, messages, encoding, and how its wire differs from what we work with.

Everything inside works on canonical messages: data elements by their numbers of ISO 8583:1987, response codes of 1987.
`fields` and `messages` are about these. A dialect whose wire has other numbers (1993) says so in `wire`, and a dialect
that writes the same fields as other bytes (binary) in `encoding`. A file may name a `base` and hold only what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shetab import tables_yaml
from shetab.formats import FieldFormat, matches_date_pattern, split_date_pattern
from shetab.mapping_rules import Rule
from shetab.texts import TextRule

_PLACED_BY_ITSELF: Final = frozenset({1, 64, 65, 128})
_PIN_BLOCK_SIZE: Final = {0: 8, 3: 8, 4: 16}


class Direction(StrEnum):
    """Which way a message goes, seen from the acquirer."""

    TO_SWITCH = "to_switch"
    FROM_SWITCH = "from_switch"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldRule(_Strict):
    """One line of `fields:` in a dialect file."""

    name: str
    fa: str = ""
    notation: str = Field(alias="format")
    pattern: str | None = None
    values: tuple[str, ...] = ()
    text: TextRule | None = None
    """Characters beyond ASCII, if the field may have them; lengths are then of bytes."""
    show: Literal["clear", "masked", "never"] = "never"

    @cached_property
    def format(self) -> FieldFormat:
        """The parsed notation."""
        return FieldFormat.parse(self.notation)

    @cached_property
    def _date_parts(self) -> tuple[str, ...]:
        return split_date_pattern(self.pattern or "")

    @model_validator(mode="after")
    def _notation_and_pattern_are_known(self) -> Self:
        field_format, parts = self.format, self._date_parts  # parsed here, so that a wrong file is refused when loaded
        if parts and (field_format.kind != "n" or field_format.size != 2 * len(parts)):
            raise ValueError(f"{self.name}: pattern does not fit the format")
        if self.text is not None and (field_format.kind != "ans" or not field_format.variable):
            raise ValueError(f"{self.name}: only a variable text field can have characters beyond ASCII")
        return self

    def broken_rule(self, value: str, *, canonical: bool = True) -> str | None:
        """The rule `value` breaks, as a slug, or None. On the wire a text need not be in its canonical form."""
        if self.text is not None:
            return self.text.broken_rule(value, self.format.size, canonical=canonical)
        if rule := self.format.broken_rule(value):
            return rule
        if self._date_parts and not matches_date_pattern(self._date_parts, value):
            return f"must_be_{self.pattern}"
        if self.values and value not in self.values:
            return "value_not_in_dialect"
        return None


class Requirement(_Strict):
    """`field` must be present when `when` is."""

    field: int
    when: int


class MessageRule(_Strict):
    """One entry of `messages:` in a dialect file, `like` already resolved."""

    purpose: str
    fa: str = ""
    directions: frozenset[Direction]
    request: str | None = None
    mandatory: frozenset[int]
    conditional: frozenset[int]
    requires: tuple[Requirement, ...] = ()
    echoes: tuple[int, ...] = ()
    match: tuple[int, ...]


class WireMessage(_Strict):
    """Which fields a message has on the wire, by their numbers there; `of` is the canonical MTI."""

    of: str
    mandatory: frozenset[int]
    conditional: frozenset[int] = frozenset()


class Wire(_Strict):
    """What is on the wire where it is not what we work with."""

    fields: dict[int, FieldRule]
    messages: dict[str, WireMessage]
    rules: dict[str, Rule]

    @model_validator(mode="after")
    def _tables_name_only_known_fields(self) -> Self:
        for mti, message in self.messages.items():
            _require_known(mti, message.mandatory, message.conditional, self.fields)
        if len({message.of for message in self.messages.values()}) != len(self.messages):
            raise ValueError("two messages of the wire are the same canonical message")
        return self


class Encoding(_Strict):
    """How fields become bytes."""

    numbers: Literal["ascii", "bcd"] = "ascii"
    """MTI, and fields of digits; an odd number of BCD digits has a zero before it."""
    lengths: Literal["ascii", "bcd"] = "ascii"
    bitmaps: Literal["hex", "raw"] = "hex"
    octets: Literal["hex", "raw"] = "hex"
    """Fields of bytes, the MAC with them; hexadecimal digits are upper-case ASCII."""


class Tables(_Strict):
    """A whole dialect file, its base and repetitions resolved."""

    name: str
    iso_version: str
    mac_field_size: Literal[8]
    pin_block_format: Literal[0, 3, 4] = 3
    """ISO 9564-1 format of DE 52."""
    mac_algorithm: Literal["aes-cmac", "x9.19"] = "aes-cmac"
    """What DE 64 and 128 are made with."""
    encoding: Encoding = Encoding()
    fields: dict[int, FieldRule]
    messages: dict[str, MessageRule]
    wire: Wire | None = None

    @model_validator(mode="after")
    def _tables_name_only_known_fields(self) -> Self:
        for mti, rule in self.messages.items():
            _require_known(mti, rule.mandatory, rule.conditional, self.fields)
            if not {*rule.echoes, *rule.match} <= rule.mandatory:
                raise ValueError(f"{mti} echoes or matches on a field that may be absent")
            if rule.request is not None and rule.match != self.messages[rule.request].match:
                raise ValueError(f"{mti} and its request {rule.request} match on different fields")
        if self.wire is not None and {message.of for message in self.wire.messages.values()} != self.messages.keys():
            raise ValueError("the messages of the wire are not those of the tables")
        return self

    @model_validator(mode="after")
    def _rules_name_only_known_fields(self) -> Self:
        wire = self.wire
        for name, rule in {} if wire is None else wire.rules.items():
            assert wire is not None
            if not rule.taken_inside <= self.fields.keys() or not rule.taken_outside <= wire.fields.keys():
                raise ValueError(f"the rule {name!r} names a field without a format")
            if not rule.messages <= self.messages.keys():
                raise ValueError(f"the rule {name!r} names a message that there is not")
        return self

    @model_validator(mode="after")
    def _pin_block_fits(self) -> Self:
        pin_data = (self.fields, self.fields if self.wire is None else self.wire.fields)
        size = _PIN_BLOCK_SIZE[self.pin_block_format]
        if any(52 in fields and fields[52].notation != f"b {size}" for fields in pin_data):
            raise ValueError(f"a PIN block of format {self.pin_block_format} has {size} bytes")
        return self


def _require_known(
    mti: str, mandatory: frozenset[int], conditional: frozenset[int], fields: Mapping[int, FieldRule]
) -> None:
    named = mandatory | conditional
    if unknown := sorted(named - fields.keys()):
        raise ValueError(f"{mti} names field {unknown[0]} without a format")
    if named & _PLACED_BY_ITSELF:
        raise ValueError(f"{mti} names a bitmap or MAC field: the dialect places them itself")
    if mandatory & conditional:
        raise ValueError(f"{mti} names a field as mandatory and conditional")


# --- files ------------------------------------------------------------------------------------------------------------


def built_in() -> tuple[str, ...]:
    """Names of the dialects that come with the product."""
    files = resources.files("shetab").joinpath("dialects").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def text_of(name: str) -> str:
    """A dialect file by its name, or by its path if it ends in ".yaml".

    :raises FileNotFoundError: there is none.
    """
    if name.endswith(".yaml"):
        return Path(name).read_text("utf-8")
    return resources.files("shetab").joinpath("dialects", f"{name}.yaml").read_text("utf-8")


def tables_from(text: str) -> Tables:
    """Read a dialect file: what its base says, with what it says itself.

    :raises ValueError: unknown keys, formats or fields (`pydantic.ValidationError` is one), or bases in a circle.
    """
    data = _with_base(tables_yaml.load(text), ())
    texts = data.pop("texts", {})
    wire = data.get("wire")
    if wire is not None:
        wire["fields"] = _merged(data["fields"], wire.get("fields", {}))
        _resolve_likes(wire["messages"])
    _resolve_likes(data["messages"])
    for fields in (data["fields"], {} if wire is None else wire["fields"]):
        for field in fields.values():
            if isinstance(name := field.get("text"), str):
                field["text"] = texts[name]
    return Tables.model_validate(data)


def _with_base(data: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any]:
    base = data.pop("base", None)
    if base is None:
        return data
    if base in above:
        raise ValueError(f"the dialect {base} is based on itself")
    return _merged(_with_base(tables_yaml.load(text_of(base)), (*above, base)), data)


def _merged(base: Mapping[Any, Any], own: Mapping[Any, Any]) -> dict[Any, Any]:
    """`base` with what `own` says; what `own` says is nothing is left out."""
    merged = dict(base)
    for key, value in own.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return {key: dict(value) if isinstance(value, dict) else value for key, value in merged.items()}


def _resolve_likes(messages: dict[str, Any]) -> None:
    for mti, rule in messages.items():
        if like := rule.pop("like", None):
            messages[mti] = {**messages[like], **rule}
