"""A dialect of ISO 8583 as data: which fields a message has, what they look like, how its MAC is placed.

`pyiso8583` turns fields into bytes and back. Everything it leaves open is decided here, from `dialects/*.yaml`, when
encoding as well as when decoding: known MTI and direction, mandatory and conditional fields, characters, lengths,
ranges and values, the place of the MAC, one canonical encoding. The tables are called Shetab-like because they come
from public third-party code; a second dialect is another file.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache, cached_property
from importlib import resources
from typing import Any, Final, Literal, Self

import iso8583
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shetab.errors import FieldPresenceError, MacFormatError, MessageFormatError
from shetab.formats import FieldFormat, describe, matches_date_pattern, split_date_pattern
from shetab.message import Message

MAC_SIZE: Final = 8
"""Bytes of a MAC: DE 64 and DE 128 are b8."""

_MTI_LENGTH: Final = 4
_BITMAP_LENGTH: Final = 16
_SHORTEST_PAN: Final = 16
_NO_MAC_YET: Final = bytes(MAC_SIZE)


class Direction(StrEnum):
    """Which way a message goes, seen from the acquirer."""

    TO_SWITCH = "to_switch"
    FROM_SWITCH = "from_switch"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldRule(_Strict):
    """One line of `fields:` in a dialect file."""

    name: str
    notation: str = Field(alias="format")
    pattern: str | None = None
    values: tuple[str, ...] = ()
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
        return self

    def broken_rule(self, value: str) -> str | None:
        """The rule `value` breaks, as a slug, or None."""
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
    directions: frozenset[Direction]
    request: str | None = None
    mandatory: frozenset[int]
    conditional: frozenset[int]
    requires: tuple[Requirement, ...] = ()
    echoes: tuple[int, ...] = ()
    match: tuple[int, ...]


class Dialect(_Strict):
    """A loaded dialect. Stateless and safe to share."""

    name: str
    iso_version: str
    mac_field_size: Literal[8]
    fields: dict[int, FieldRule]
    messages: dict[str, MessageRule]

    @classmethod
    def load(cls, name: str) -> Dialect:
        """The dialect of `shetab/dialects/<name>.yaml`, for example "shetab87_ascii".

        :raises FileNotFoundError, ValueError: no such dialect, or its file is wrong.
        """
        return _load(name)

    @classmethod
    def from_yaml(cls, text: str) -> Dialect:
        """Read a dialect file.

        :raises ValueError: unknown keys, formats or fields (`pydantic.ValidationError` is one).
        """
        data = yaml.safe_load(text)
        messages = data["messages"]
        for mti, rule in messages.items():
            if like := rule.pop("like", None):
                messages[mti] = {**messages[like], **rule}
        return cls.model_validate(data)

    @model_validator(mode="after")
    def _tables_name_only_known_fields(self) -> Self:
        for mti, rule in self.messages.items():
            named = {*rule.mandatory, *rule.conditional}
            if unknown := sorted(named - self.fields.keys()):
                raise ValueError(f"{mti} names field {unknown[0]} without a format")
            if named & {1, 64, 65, 128}:
                raise ValueError(f"{mti} names a bitmap or MAC field: the dialect places them itself")
            if rule.mandatory & rule.conditional:
                raise ValueError(f"{mti} names a field as mandatory and conditional")
            if not {*rule.echoes, *rule.match} <= rule.mandatory:
                raise ValueError(f"{mti} echoes or matches on a field that may be absent")
            if rule.request is not None and rule.match != self.messages[rule.request].match:
                raise ValueError(f"{mti} and its request {rule.request} match on different fields")
        return self

    @cached_property
    def _spec(self) -> dict[str, dict[str, Any]]:
        fixed = {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0}
        spec: dict[str, dict[str, Any]] = {
            "h": {**fixed, "max_len": 0},
            "t": {**fixed, "max_len": _MTI_LENGTH},
            "p": {**fixed, "max_len": _BITMAP_LENGTH},
            "1": {**fixed, "max_len": _BITMAP_LENGTH},
        }
        for number, rule in self.fields.items():
            spec[str(number)] = {**fixed, "len_type": rule.format.length_digits, "max_len": rule.format.size}
        return spec

    # --- bytes and messages -----------------------------------------------------------------------------------------

    def encode(self, message: Message) -> bytes:
        """Bytes of a message that keeps every rule of the dialect, ASCII.

        The MAC slot is added: DE 64 if no field is beyond it, else DE 128, holding `message.mac` or zeros; continue
        with `mac_input` and `with_mac`.

        :raises MessageFormatError: MTI unknown, or a field breaks its format.
        :raises FieldPresenceError: a mandatory field is missing, or one is not allowed.
        :raises MacFormatError: `message.mac` has not 8 bytes.
        """
        self.check(message)
        return self._encode_unchecked(message)

    def decode(self, raw: bytes, direction: Direction | None = None) -> Message:
        """Read one whole message and check every rule of the dialect. Does not verify the MAC.

        :param direction: refuse an MTI that does not travel this way.
        :raises MessageFormatError, FieldPresenceError: as `encode`; also trailing bytes, a MAC slot that is absent or
            in the wrong field, and any encoding but the canonical one (lengths like "+5", lower-case bitmaps).
        """
        elements, failure = self._split(raw)
        # Raised outside the handler of `_split`: the library's error holds the whole message, PAN and all.
        if failure is not None:
            raise failure
        mti = elements.pop(0)
        mac_field = 128 if 128 in elements else 64
        mac_text = elements.pop(mac_field, None)
        if mac_text is None:
            raise FieldPresenceError(mti=mti, field="64", rule="mac_is_missing")
        if rule := self.fields[mac_field].broken_rule(mac_text):
            raise MessageFormatError(mti=mti, field=str(mac_field), rule=rule, value_class=describe(mac_text))
        message = Message(mti, elements, bytes.fromhex(mac_text))
        self.check(message, direction)
        if self._encode_unchecked(message) != raw:
            raise MessageFormatError(mti=mti, field="p", rule="encoding_is_not_canonical")
        return message

    def check(self, message: Message, direction: Direction | None = None) -> None:
        """Check MTI, direction, presence and format of every field.

        :raises MessageFormatError, FieldPresenceError, MacFormatError: naming field and rule, never a value.
        """
        mti = message.mti
        rule = self.messages.get(mti)
        if rule is None:
            raise MessageFormatError(mti=None, field="t", rule="mti_not_in_dialect", value_class=describe(mti))
        if direction is not None and direction not in rule.directions:
            raise MessageFormatError(mti=mti, field="t", rule=f"mti_does_not_travel_{direction}")
        if message.mac is not None and len(message.mac) != MAC_SIZE:
            raise MacFormatError(f"a MAC has {MAC_SIZE} bytes, not {len(message.mac)}")
        present = message.fields.keys()
        for field in sorted(rule.mandatory - present):
            raise FieldPresenceError(mti=mti, field=str(field), rule="mandatory_field_is_missing")
        for field in sorted(present - rule.mandatory - rule.conditional):
            raise FieldPresenceError(mti=mti, field=str(field), rule="field_is_not_allowed")
        for requirement in rule.requires:
            if requirement.when in present and requirement.field not in present:
                raise FieldPresenceError(
                    mti=mti, field=str(requirement.field), rule=f"must_be_present_with_field_{requirement.when}"
                )
        for field, value in message.fields.items():
            if broken := self.fields[field].broken_rule(value):
                raise MessageFormatError(mti=mti, field=str(field), rule=broken, value_class=describe(value))

    def _encode_unchecked(self, message: Message) -> bytes:
        document = {"t": message.mti, **{str(field): value for field, value in message.fields.items()}}
        mac_field = 64 if max(message.fields) < 64 else 128
        document[str(mac_field)] = (message.mac or _NO_MAC_YET).hex().upper()
        encoded, _ = iso8583.encode(document, self._spec)
        return bytes(encoded)

    def _split(self, raw: bytes) -> tuple[dict[Any, str], MessageFormatError | None]:
        """Fields of `raw` by number, 0 being the MTI; or the error to raise."""
        try:
            document, _ = iso8583.decode(raw, self._spec)
        except iso8583.DecodeError as error:
            return {}, MessageFormatError(mti=None, field=error.field, rule="cannot_be_decoded")
        except KeyError as error:
            return {}, MessageFormatError(mti=None, field=str(error.args[0]), rule="field_not_in_dialect")
        mti = document.pop("t")
        document.pop("p")
        document.pop("1", None)
        return {0: mti, **{int(field): value for field, value in document.items()}}, None

    # --- MAC ---------------------------------------------------------------------------------------------------------

    def mac_input(self, raw: bytes) -> bytes:
        """What the MAC is computed over: MTI to the byte before the MAC, the bitmap already showing the MAC bit.

        :raises MacFormatError: `raw` has no MAC slot at its end.
        """
        self._require_mac_slot(raw)
        return raw[: -2 * MAC_SIZE]

    def with_mac(self, raw: bytes, mac: bytes) -> bytes:
        """`raw` with the 8 bytes of `mac` in its MAC slot.

        :raises MacFormatError: no MAC slot, or a MAC of another length.
        """
        if len(mac) != MAC_SIZE:
            raise MacFormatError(f"a MAC has {MAC_SIZE} bytes, not {len(mac)}")
        return self.mac_input(raw) + mac.hex().upper().encode("ascii")

    @staticmethod
    def _require_mac_slot(raw: bytes) -> None:
        bitmaps = raw[_MTI_LENGTH : _MTI_LENGTH + 2 * _BITMAP_LENGTH]
        try:
            primary = int(bitmaps[:_BITMAP_LENGTH], 16)
            last = int(bitmaps[_BITMAP_LENGTH:], 16) if primary >> 63 else primary
        except ValueError:
            last = 0
        if not last & 1:
            raise MacFormatError("the last bitmap does not show a MAC")

    # --- request and response ----------------------------------------------------------------------------------------

    def response_mti(self, request_mti: str) -> str:
        """MTI that answers `request_mti`: "0210" for "0200" and for its repeat "0201".

        :raises MessageFormatError: the MTI is unknown or asks for no answer.
        """
        original = self.original_mti(request_mti)
        answers = [mti for mti, rule in self.messages.items() if rule.request == original and mti[2] != original[2]]
        if request_mti in answers or not answers:
            raise MessageFormatError(mti=request_mti, field="t", rule="mti_has_no_response")
        return answers[0]

    def original_mti(self, mti: str) -> str:
        """MTI of the first request an MTI belongs to: "0420" for "0420", "0421" and "0430".

        :raises MessageFormatError: MTI unknown.
        """
        rule = self.messages.get(mti)
        if rule is None:
            raise MessageFormatError(mti=None, field="t", rule="mti_not_in_dialect", value_class=describe(mti))
        return rule.request or mti

    def match_key(self, message: Message) -> tuple[str, ...]:
        """What a response has in common with its request and with no other message in flight, MTI first.

        For money: MTI class, STAN, local time and date, acquirer, RRN, terminal. The STAN keeps its leading zeros.
        DE 7 is no part of it: a repeat carries a new one.
        """
        fields = self.messages[message.mti].match
        return (self.original_mti(message.mti), *(message[field] for field in fields))

    def check_echo(self, request: Message, response: Message) -> None:
        """The response repeats what the table says of its request.

        :raises FieldPresenceError: rule "does_not_answer_the_request" (another MTI) or "must_equal_the_request".
        """
        if self.messages[response.mti].request != self.original_mti(request.mti):
            raise FieldPresenceError(mti=response.mti, field="t", rule="does_not_answer_the_request")
        for field in self.messages[response.mti].echoes:
            if response[field] != request[field]:
                raise FieldPresenceError(mti=response.mti, field=str(field), rule="must_equal_the_request")

    def echoed_fields(self, request: Message) -> dict[int, str]:
        """The fields an answer to `request` repeats, with their values."""
        return {field: request[field] for field in self.messages[self.response_mti(request.mti)].echoes}

    # --- helpers -----------------------------------------------------------------------------------------------------

    def pad(self, field: int, text: str) -> str:
        """`text` filled with spaces on the right to the length of a fixed text field (DE 41, 42, 43)."""
        return text.ljust(self.fields[field].format.size)

    def redact(self, message: Message) -> Mapping[str, str]:
        """The message as a log may show it: only fields the table marks `clear`, and the PAN masked."""
        shown = {"mti": message.mti}
        for field, value in message.fields.items():
            show = self.fields[field].show
            if show == "clear":
                shown[str(field)] = value
            elif show == "masked" and len(value) >= _SHORTEST_PAN:
                shown[str(field)] = f"{value[:6]}{'*' * (len(value) - 10)}{value[-4:]}"
            else:
                shown[str(field)] = "*"
        return shown


@cache
def _load(name: str) -> Dialect:
    return Dialect.from_yaml(resources.files("shetab").joinpath("dialects", f"{name}.yaml").read_text("utf-8"))
