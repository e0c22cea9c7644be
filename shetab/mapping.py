"""Canonical messages to fields of the wire and back, by the rules of a dialect.

Both directions agree: what one wrote, the other reads as the same message. What comes and has no place inside (one of
several action codes that mean the same, letters of another keyboard) is kept with the message, so that it is written
again as it came; whatever else would be written otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Final

from shetab.dialect_tables import Wire
from shetab.errors import MessageFormatError
from shetab.formats import describe
from shetab.mapping_base import NotMappedError, Times
from shetab.mapping_dates import LocalTime, Original
from shetab.mapping_rules import PartialAmount, Rule
from shetab.message import Message

_NONE: Final = frozenset[int]()


class Mapping8583:
    """The rules of one dialect, by message."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._by_mti: dict[str, tuple[list[Rule], frozenset[int], frozenset[int], frozenset[int]]] = {}
        """Rules of a canonical MTI, the fields inside and outside that they take, and those that are kept."""
        for message in wire.messages.values():
            rules = [rule for rule in wire.rules.values() if rule.applies(message.of)]
            self._by_mti[message.of] = (
                rules,
                _NONE.union(*(rule.taken_inside for rule in rules)),
                _NONE.union(*(rule.taken_outside for rule in rules)),
                _NONE.union(*(rule.kept for rule in rules)),
            )
        self._texts = {field: rule.text for field, rule in wire.fields.items() if rule.text is not None}

    @cached_property
    def mtis(self) -> dict[str, str]:
        """MTIs of the wire by the canonical ones."""
        return {message.of: mti for mti, message in self._wire.messages.items()}

    def to_wire(self, message: Message, now: datetime) -> dict[int, str]:
        """Fields of the wire, by their numbers there, MAC apart.

        :raises MessageFormatError: a value that the wire cannot carry, or kept fields that are not what they say.
        """
        fields = self._plain(message, now)
        if message.kept:
            again = {**fields, **message.kept}
            back = self.from_wire(message.mti, again, now)
            if (back.fields, back.kept) != (message.fields, message.kept):
                raise MessageFormatError(mti=message.mti, field=str(min(message.kept)), rule="kept_field_does_not_fit")
            fields = again
        return fields

    def _plain(self, message: Message, now: datetime) -> dict[int, str]:
        rules, taken, _, _ = self._by_mti[message.mti]
        times = Times(now, message.original_at, message.local_at)
        fields: dict[int, str] = {}
        for field, value in message.fields.items():
            if field not in taken:
                text = self._texts.get(field)
                fields[field] = value if text is None else text.to_wire(value)
        try:
            for rule in rules:
                rule.to_wire(message.fields, fields, times, self.mtis)
        except NotMappedError as error:
            value_class = describe(message.fields.get(error.field, ""))
            raise MessageFormatError(
                mti=message.mti, field=str(error.field), rule=error.rule, value_class=value_class
            ) from None
        return fields

    def from_wire(self, mti: str, fields: Mapping[int, str], now: datetime, mac: bytes | None = None) -> Message:
        """The canonical message of `fields`, whose canonical MTI is `mti`. They keep the tables of the wire.

        :raises MessageFormatError: a value that no canonical message has.
        """
        rules, _, taken, keepable = self._by_mti[mti]
        original_at = next((rule.moment(fields) for rule in rules if isinstance(rule, Original)), None)
        local_at = next((rule.moment(fields) for rule in rules if isinstance(rule, LocalTime)), None)
        times = Times(now, original_at, local_at)
        inside: dict[int, str] = {}
        for field, value in fields.items():
            if field not in taken:
                text = self._texts.get(field)
                inside[field] = value if text is None else text.form(value)
        try:
            for rule in rules:
                rule.from_wire(fields, inside, times, self.mtis)
        except NotMappedError as error:
            value_class = describe(fields.get(error.field, ""))
            raise MessageFormatError(
                mti=self.mtis[mti], field=str(error.field), rule=error.rule, value_class=value_class
            ) from None
        again = self._plain(Message(mti, inside, original_at=original_at, local_at=local_at), now)
        if original_at is not None and self._plain(Message(mti, inside, local_at=local_at), now) == again:
            original_at = None  # DE 90 says as much
        if local_at is not None and self._plain(Message(mti, inside, original_at=original_at), now) == again:
            local_at = None  # its day has been no other time since
        different = {field: value for field, value in fields.items() if again.get(field) != value}
        for field in sorted(different.keys() | (again.keys() - fields.keys())):
            if field not in fields or not (field in keepable or field in self._texts):
                raise MessageFormatError(mti=self.mtis[mti], field=str(field), rule="field_does_not_fit_the_message")
        return Message(mti, inside, mac, different, original_at, local_at)

    def echo(self, request: Message, field: int) -> str:
        """What an answer to `request` has in a field that it repeats: of a partial amount, the part.

        :raises MessageFormatError: DE 95 of the request has more than an amount.
        """
        for rule in self._by_mti[request.mti][0]:
            if isinstance(rule, PartialAmount) and rule.amount == field:
                try:
                    return rule.left(request.fields)
                except NotMappedError as error:
                    raise MessageFormatError(mti=request.mti, field=str(error.field), rule=error.rule) from None
        return request[field]
