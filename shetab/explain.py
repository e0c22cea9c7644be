"""A message for people: what each byte of it says, without what must not be shown.

What a dialect marks `never` is shown as its class and length, the PAN as its first six and last four digits. A broken
message is explained as far as it can be read, with the place where the reading stopped; if its formats are broken its
values are not shown at all, since what stands where a field should be may be another one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from shetab.dialect import Dialect
from shetab.dialect_tables import FieldRule
from shetab.errors import DialectError, MessageFormatError, ValueFormatError
from shetab.formats import describe
from shetab.jalali import IRAN_STANDARD_TIME
from shetab.mapping_dates import LocalTime
from shetab.message import Message
from shetab.octets import Piece
from shetab.subfields import Coding, OriginalDataElements, ReplacementAmounts, SecurityControl
from shetab.types import Pan

_BY_DEFAULT: Final = ("shetab87_ascii", "shetab87_binary", "shetab93_ascii", "shetab93_binary", "shetab93_binary_pin4")
"""Dialects that are tried when none is named, in this order."""
_FRAME: Final = {
    "t": ("message type", "نوع پیام"),
    "p": ("bitmap", "نگاشت بیتی"),
    "1": ("second bitmap", "نگاشت بیتی دوم"),
}
_MAC: Final = ("64", "128")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the wire, or a field inside (then without bytes). `shown` is None if it may not be shown."""

    field: str
    name: str
    fa: str
    value_class: str
    shown: str | None
    start: int | None = None
    end: int | None = None
    inner: tuple[tuple[str, str], ...] = ()
    """Sub-fields by name."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A message under one dialect. `inside` is what it is to us, where the wire is another edition; else empty."""

    dialect: str
    mti: str
    purpose: str
    purpose_fa: str
    parts: tuple[Part, ...]
    inside: tuple[Part, ...]
    problem: DialectError | None
    position: int | None
    """Byte at which the broken field begins, if there is a problem with one."""
    mac: tuple[int, int] | None
    """Where the MAC is; it covers what is before it."""


def explain(raw: bytes, dialect: str, *, now: datetime) -> Explanation:
    """`raw` under the dialect of this name or file. Whatever is wrong with it is in the answer.

    :raises FileNotFoundError, ValueError: no such dialect.
    """
    pieces, failure = Dialect.load(dialect, clock=lambda: now).take_apart(raw)
    found = Dialect.load(dialect, clock=_year_of(pieces, dialect, now))
    problem: DialectError | None = failure
    message: Message | None = None
    if failure is None:
        try:
            message = found.decode(raw)
        except DialectError as error:
            problem = error
    rule = found.messages.get(found.canonical_mti(pieces[0].value)) if pieces else None
    parts = tuple(
        _part_of(piece, found.wire_fields.get(int(piece.field)) if piece.field.isdigit() else None, found)
        for piece in pieces
    )
    if message is not None:
        inner = {field: tuple(_subfields(message, field)) for field in message.fields}
        same = found.tables.wire is None
        parts = tuple(
            replace(part, inner=inner.get(int(part.field), ())) if same and part.field.isdigit() else part
            for part in parts
        )
        inside = () if same else tuple(_inside(message, field, found, inner[field]) for field in message.fields)
    else:
        inside = ()
    if isinstance(problem, MessageFormatError):
        parts = tuple(part if _is_frame(part) else replace(part, shown=None) for part in parts)
    mac = next(((part.start, part.end) for part in parts if part.field in _MAC), None)
    return Explanation(
        dialect=found.name,
        mti=pieces[0].value if pieces else "",
        purpose="" if rule is None else rule.purpose,
        purpose_fa="" if rule is None else rule.fa,
        parts=parts,
        inside=inside,
        problem=problem,
        position=None if problem is None else _position(problem, parts),
        mac=None if mac is None or mac[0] is None or mac[1] is None else (mac[0], mac[1]),
    )


def guess(raw: bytes, *, now: datetime, dialects: Sequence[str] = _BY_DEFAULT) -> Explanation:
    """`raw` under the dialect in which it makes sense, or else the one that reads furthest."""
    tried = [explain(raw, name, now=now) for name in dialects]

    def worth(each: Explanation) -> tuple[bool, bool, int]:
        return each.problem is None, bool(each.purpose), max((part.end or 0 for part in each.parts), default=0)

    return max(tried, key=worth)  # the first of equals


def _year_of(pieces: Sequence[Piece], dialect: str, now: datetime) -> Callable[[], datetime]:
    """A clock of the year that the message says itself, if it says one: an old message is not a wrong one."""
    wire = Dialect.load(dialect).tables.wire
    rule = None if wire is None else next((rule for rule in wire.rules.values() if isinstance(rule, LocalTime)), None)
    text = next((piece.value for piece in pieces if rule is not None and piece.field == str(rule.outside)), "")
    try:
        written = datetime.strptime(text, "%y%m%d%H%M%S").replace(tzinfo=IRAN_STANDARD_TIME)
    except ValueError:
        return lambda: now
    return lambda: written


def _is_frame(part: Part) -> bool:
    """Whether it is no value of a field; in bytes of another kind a card number may stand where a bitmap should be."""
    if part.field not in _FRAME:
        return False
    try:
        Pan.parse(part.shown or "")
    except ValueFormatError:
        return True
    return False


def _part_of(piece: Piece, rule: FieldRule | None, dialect: Dialect) -> Part:
    name, fa = _FRAME.get(piece.field, ("", "")) if rule is None else (rule.name, rule.fa)
    shown = piece.value if rule is None else dialect.shown(rule, piece.value)
    return Part(piece.field, name, fa, describe(piece.value), shown, piece.start, piece.end)


def _inside(message: Message, field: int, dialect: Dialect, inner: tuple[tuple[str, str], ...]) -> Part:
    rule, value = dialect.fields[field], message[field]
    return Part(str(field), rule.name, rule.fa, describe(value), dialect.shown(rule, value), inner=inner)


def _position(problem: DialectError, parts: Sequence[Part]) -> int | None:
    """Where the reading stopped, or where the field begins that is wrong."""
    if problem.position is not None:
        return problem.position
    return next((part.start for part in parts if part.field == problem.field), None)


def _subfields(message: Message, field: int) -> Iterator[tuple[str, str]]:
    """Sub-fields that may be shown; a text of another layout has none that we know."""
    text = message[field]
    try:
        if field == 53:
            control = SecurityControl.from_de53(text)
            yield "PIN block format", str(control.pin_block_format)
            yield "index of the PIN key", str(control.pin_key_index)
            yield "index of the MAC key", str(control.mac_key_index)
        elif field == 62:
            coding = Coding.from_de62(text)
            yield "purchase", coding.xid.hex()
            yield "action", coding.action or "none"
        elif field == 90:
            named = OriginalDataElements.from_de90(text)
            yield "message type", named.mti
            yield "trace number", named.stan
            yield "transmission time", named.transmission_time
            yield "acquirer", named.acquirer
        elif field == 95:
            yield "amount that is left", str(int(ReplacementAmounts.from_de95(text).amount))
        elif field == 3:
            yield "transaction", text[:2]
            yield "account it is taken from", text[2:4]
            yield "account it goes to", text[4:]
    except ValueFormatError:
        return
