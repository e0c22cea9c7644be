"""A dialect of ISO 8583 as data: which fields a message has, what they look like, how its MAC is placed.

`pyiso8583` turns fields into bytes and back. Everything it leaves open is decided here, from `dialects/*.yaml`, when
encoding as well as when decoding: known MTI and direction, mandatory and conditional fields, characters, lengths,
ranges and values, other numbers and codes on the wire than inside, the place of the MAC, one canonical encoding. The
tables are called Shetab-like because they come from public third-party code; another dialect is another file.

Inside, messages have the numbers and codes of ISO 8583:1987 (`shetab.message`), whichever dialect the line speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from datetime import UTC, datetime
from functools import cache
from typing import Final, Literal, NoReturn

from shetab import dialect_tables
from shetab.dialect_tables import Direction, FieldRule, MessageRule, Tables
from shetab.errors import FieldPresenceError, MacFormatError, MessageFormatError
from shetab.formats import describe
from shetab.mapping import Mapping8583
from shetab.message import Message
from shetab.octets import MAC_SIZE, MTI, Octets, Piece

__all__ = ["MAC_SIZE", "Dialect", "Direction"]

_SHORTEST_PAN: Final = 16
_NO_MAC_YET: Final = bytes(MAC_SIZE)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Dialect:
    """A loaded dialect. Stateless and safe to share.

    `clock` says the year of dates that have none inside but on the wire.
    """

    def __init__(self, tables: Tables, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self.tables = tables
        self._clock = clock
        wire = tables.wire
        self._wire = wire
        self._mapping = None if wire is None else Mapping8583(wire)
        self._octets = Octets(tables.encoding, tables.fields if wire is None else wire.fields)

    @classmethod
    def load(cls, name: str, *, clock: Callable[[], datetime] = _utc_now) -> Dialect:
        """The dialect of `shetab/dialects/<name>.yaml`, for example "shetab87_ascii", or of a file "….yaml".

        :raises FileNotFoundError, ValueError: no such dialect, or its file is wrong.
        """
        tables = dialect_tables.tables_from(dialect_tables.text_of(name)) if name.endswith(".yaml") else _built_in(name)
        return cls(tables, clock=clock)

    @classmethod
    def from_yaml(cls, text: str, *, clock: Callable[[], datetime] = _utc_now) -> Dialect:
        """Read a dialect file.

        :raises ValueError: unknown keys, formats or fields (`pydantic.ValidationError` is one).
        """
        return cls(dialect_tables.tables_from(text), clock=clock)

    @property
    def name(self) -> str:
        return self.tables.name

    @property
    def fields(self) -> dict[int, FieldRule]:
        """Canonical fields by number."""
        return self.tables.fields

    @property
    def messages(self) -> dict[str, MessageRule]:
        """Canonical messages by MTI."""
        return self.tables.messages

    @property
    def pin_block_format(self) -> Literal[0, 3, 4]:
        """ISO 9564-1 format of DE 52."""
        return self.tables.pin_block_format

    @property
    def mac_algorithm(self) -> Literal["aes-cmac", "x9.19"]:
        """What the MAC is made with."""
        return self.tables.mac_algorithm

    # --- bytes and messages -----------------------------------------------------------------------------------------

    def encode(self, message: Message) -> bytes:
        """Bytes of a message that keeps every rule of the dialect.

        The MAC slot is added: DE 64 if no field is beyond it, else DE 128, holding `message.mac` or zeros; continue
        with `mac_input` and `with_mac`.

        :raises MessageFormatError: MTI unknown, a field breaks its format, or the wire cannot carry its value.
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
        mti, elements, mac = self._split(raw)
        message = Message(mti, elements, mac) if self._mapping is None else self._from_wire(mti, elements, mac)
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
            _refuse_mti(mti)
        if direction is not None and direction not in rule.directions:
            raise MessageFormatError(mti=mti, field="t", rule=f"mti_does_not_travel_{direction}")
        if message.mac is not None and len(message.mac) != MAC_SIZE:
            raise MacFormatError(f"a MAC has {MAC_SIZE} bytes, not {len(message.mac)}")
        present = message.fields.keys()
        _check_presence(mti, present, rule.mandatory, rule.conditional)
        for requirement in rule.requires:
            if requirement.when in present and requirement.field not in present:
                raise FieldPresenceError(
                    mti=mti, field=str(requirement.field), rule=f"must_be_present_with_field_{requirement.when}"
                )
        _check_formats(mti, message.fields, self.fields, canonical=True)

    def _encode_unchecked(self, message: Message) -> bytes:
        mac = message.mac or _NO_MAC_YET
        if self._mapping is None:
            return self._octets.pack(message.mti, message.fields, mac)
        mti, fields = self._mapping.mtis[message.mti], self._mapping.to_wire(message, self._clock())
        self._check_wire(mti, fields)
        return self._octets.pack(mti, fields, mac)

    def _from_wire(self, mti: str, fields: Mapping[int, str], mac: bytes) -> Message:
        assert self._mapping is not None
        assert self._wire is not None
        if mti not in self._wire.messages:
            _refuse_mti(mti)
        self._check_wire(mti, fields)
        return self._mapping.from_wire(self._wire.messages[mti].of, fields, self._clock(), mac)

    def _check_wire(self, mti: str, fields: Mapping[int, str]) -> None:
        assert self._wire is not None
        rule = self._wire.messages[mti]
        _check_presence(mti, fields.keys(), rule.mandatory, rule.conditional)
        _check_formats(mti, fields, self._wire.fields, canonical=False)

    def _split(self, raw: bytes) -> tuple[str, dict[int, str], bytes]:
        """MTI, fields by number, and MAC of `raw`, all as they are on the wire."""
        elements, failure = self._octets.unpack(raw)
        if failure is not None:
            raise failure
        mti = elements.pop(MTI)
        mac_field = 128 if 128 in elements else 64
        mac = elements.pop(mac_field, None)
        if mac is None:
            raise FieldPresenceError(mti=mti, field="64", rule="mac_is_missing")
        if rule := self.fields[mac_field].broken_rule(mac):
            raise MessageFormatError(mti=mti, field=str(mac_field), rule=rule, value_class=describe(mac))
        return mti, elements, bytes.fromhex(mac)

    # --- MAC ---------------------------------------------------------------------------------------------------------

    def mac_input(self, raw: bytes) -> bytes:
        """What the MAC is computed over: MTI to the byte before the MAC, the bitmap already showing the MAC bit.

        :raises MacFormatError: `raw` has no MAC slot at its end.
        """
        return self._octets.covered(raw)

    def mac_of(self, raw: bytes) -> bytes:
        """The 8 bytes in the MAC slot of `raw`.

        :raises MacFormatError: no MAC slot at its end, or bytes there that write no MAC.
        """
        return self._octets.mac_of(raw)

    def with_mac(self, raw: bytes, mac: bytes) -> bytes:
        """`raw` with the 8 bytes of `mac` in its MAC slot.

        :raises MacFormatError: no MAC slot, or a MAC of another length.
        """
        if len(mac) != MAC_SIZE:
            raise MacFormatError(f"a MAC has {MAC_SIZE} bytes, not {len(mac)}")
        return self.mac_input(raw) + self._octets.written_mac(mac)

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
            _refuse_mti(mti)
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
            if response[field] != self._echo(request, field):
                raise FieldPresenceError(mti=response.mti, field=str(field), rule="must_equal_the_request")

    def echoed_fields(self, request: Message) -> dict[int, str]:
        """The fields an answer to `request` repeats, with their values."""
        return {field: self._echo(request, field) for field in self.messages[self.response_mti(request.mti)].echoes}

    def _echo(self, request: Message, field: int) -> str:
        return request[field] if self._mapping is None else self._mapping.echo(request, field)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def pad(self, field: int, text: str) -> str:
        """`text` filled with spaces on the right, if the field (DE 41, 42, 43) has a fixed length."""
        form = self.fields[field].format
        return text if form.variable else text.ljust(form.size)

    def canonical(self, field: int, text: str) -> str:
        """The one form in which a field may have this text: one kind of each letter and digit."""
        rule = self.fields[field].text
        return text if rule is None else rule.form(text)

    def broken_rule(self, field: int, text: str) -> str | None:
        """The rule that `text` breaks as a value of a text field (DE 41, 42, 43), or None."""
        return self.fields[field].broken_rule(self.pad(field, text))

    def redact(self, message: Message) -> Mapping[str, str]:
        """The message as a log may show it: only fields the table marks `clear`, and the PAN masked."""
        values = {str(field): self.shown(self.fields[field], value) or "*" for field, value in message.fields.items()}
        return {"mti": message.mti, **values}

    @staticmethod
    def shown(rule: FieldRule, value: str) -> str | None:
        """A value as a log or a person may see it, or None."""
        if rule.show == "clear":
            return value
        if rule.show == "masked" and len(value) >= _SHORTEST_PAN:
            return f"{value[:6]}{'*' * (len(value) - 10)}{value[-4:]}"
        return None

    @property
    def wire_fields(self) -> dict[int, FieldRule]:
        """Fields by their numbers on the wire."""
        return self.fields if self._wire is None else self._wire.fields

    def canonical_mti(self, mti: str) -> str:
        """The canonical MTI of one on the wire; an unknown one as it is."""
        known = None if self._wire is None else self._wire.messages.get(mti)
        return mti if known is None else known.of

    def take_apart(self, raw: bytes) -> tuple[list[Piece], MessageFormatError | None]:
        """The pieces of `raw` in their order, as far as it can be read, and what stopped the reading; see `explain`."""
        return self._octets.take_apart(raw)


def _refuse_mti(mti: str) -> NoReturn:
    raise MessageFormatError(mti=None, field="t", rule="mti_not_in_dialect", value_class=describe(mti))


def _check_presence(mti: str, present: Set[int], mandatory: frozenset[int], conditional: frozenset[int]) -> None:
    for field in sorted(mandatory - present):
        raise FieldPresenceError(mti=mti, field=str(field), rule="mandatory_field_is_missing")
    for field in sorted(present - mandatory - conditional):
        raise FieldPresenceError(mti=mti, field=str(field), rule="field_is_not_allowed")


def _check_formats(mti: str, fields: Mapping[int, str], rules: Mapping[int, FieldRule], *, canonical: bool) -> None:
    for field, value in fields.items():
        if broken := rules[field].broken_rule(value, canonical=canonical):
            raise MessageFormatError(mti=mti, field=str(field), rule=broken, value_class=describe(value))


@cache
def _built_in(name: str) -> Tables:
    return dialect_tables.tables_from(dialect_tables.text_of(name))
