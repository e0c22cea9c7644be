"""One row a transaction, and the answer that it keeps: what every kind of message about money has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from runtime.settings import PasswordSettings
from shetab.dialect import Dialect
from shetab.errors import ValueFormatError
from shetab.iran import Banks
from shetab.jalali import transmission_time
from shetab.message import Message
from switch import business_day, ledger
from switch.issuer_keys import IssuerKeys
from switch.key_ring import KeyRing
from switch.schema import acquirers, transactions

_RIAL: Final = "364"
_RATE_ONE: Final = "00000001"  # DE 10: no decimals, rate 1
_OF_NOBODY: Final = bytes(32)
_NOT_WORKED_ON: Final = frozenset({"90", "91", "92", "96"})
"""DE 39 that decides nothing: no route, an issuer that is away, a malfunction."""

_TRACE: Final = ("kind", "acquirer", "terminal", "stan", "local_time", "local_date")
_FIND: Final = select(transactions).where(*(transactions.c[name] == bindparam(name) for name in _TRACE))
_INSERT: Final = insert(transactions)
_INTERMEDIARY: Final = select(acquirers.c.intermediary).where(acquirers.c.code == bindparam("acquirer"))


@dataclass(frozen=True, slots=True)
class Rules:
    """What the switch decides with."""

    dialect: Dialect
    keys: IssuerKeys
    ring: KeyRing
    banks: Banks
    institution: str
    """DE 33 of the switch's messages."""
    rng: Callable[[int], bytes]
    passwords: PasswordSettings = PasswordSettings()  # noqa: RUF009  # frozen


class Refused(Exception):
    """Leaves the checks of a message with the response code to answer."""

    def __init__(self, rc: str) -> None:
        super().__init__(rc)
        self.rc = rc


def require_member(connection: Connection, request: Message, signed_on: str | None) -> str:
    """The intermediary account of the acquirer, which must be the one that signed on."""
    if signed_on is None:
        raise Refused("92")
    if request[32] != signed_on:
        raise Refused("58")
    return intermediary_of(connection, signed_on)


def intermediary_of(connection: Connection, acquirer: str) -> str:
    return str(connection.execute(_INTERMEDIARY, {"acquirer": acquirer}).scalar_one())


def trace_of(request: Message) -> tuple[str, str, str, str, str]:
    return request[32], request[41], request[11], request[12], request[13]


def find(connection: Connection, kind: str, *trace: str) -> Row[Any] | None:
    return connection.execute(_FIND, dict(zip(_TRACE, (kind, *trace), strict=True))).one_or_none()


def insert_row(connection: Connection, values: Mapping[str, object]) -> int:
    key = connection.execute(_INSERT, dict(values)).inserted_primary_key
    return int(key[0]) if key is not None else 0


def is_decided(row: Row[Any], request: Message, fingerprint: bytes) -> bool:
    """Whether `row` has the answer to `request`: a repeat is worked on if its first copy could not be."""
    is_repeat = request.mti.endswith("1") and row.fingerprint == fingerprint
    return not (is_repeat and row.state == "declined" and row.rc in _NOT_WORKED_ON)


def record(connection: Connection, row: Row[Any] | None, values: Mapping[str, object]) -> int:
    """Keep a transaction: in the row of its first copy, if there is one. Its number."""
    if row is None:
        return insert_row(connection, values)
    connection.execute(update(transactions).where(transactions.c.id == row.id).values(**values))
    return int(row.id)


def row_values(rules: Rules, request: Message, now: datetime) -> dict[str, object]:
    acquirer, terminal, stan, local_time, local_date = trace_of(request)
    return {
        "acquirer": acquirer,
        "terminal": terminal,
        "stan": stan,
        "local_time": local_time,
        "local_date": local_date,
        "rrn": request[37],
        "merchant": request[42].rstrip(),
        "reference": request[62],
        "amount": int(request.amount),
        "pan_lookup": pan_lookup(rules, request),
        "masked_pan": rules.dialect.redact(request)["2"],
        "received_at": ledger.naive_utc(now),
    }


def pan_lookup(rules: Rules, request: Message) -> bytes:
    try:
        return rules.keys.pan_lookup(request.pan)
    except ValueFormatError:
        return _OF_NOBODY


def fingerprint_of(rules: Rules, request: Message) -> bytes:
    return rules.keys.fingerprint({field: value for field, value in request.fields.items() if field != 7})


def repeated_answer(
    connection: Connection, rules: Rules, request: Message, row: Row[Any], fingerprint: bytes, now: datetime
) -> Message:
    if row.fingerprint != fingerprint:
        return answer_to(connection, rules, request, "94", now, None)
    stored = {int(field): value for field, value in row.answer.items()}
    return Message(rules.dialect.response_mti(request.mti), stored | {2: request[2]}, local_at=request.local_at)


def answer_to(
    connection: Connection, rules: Rules, request: Message, rc: str, now: datetime, approval: str | None
) -> Message:
    fields = rules.dialect.echoed_fields(request)
    fields |= {
        6: request[4],
        7: transmission_time(now),
        10: _RATE_ONE,
        15: business_day.current(connection, now).strftime("%m%d"),
        33: rules.institution,
        39: rc,
        51: _RIAL,
        62: request[62],
    }
    if approval is not None:
        fields[38] = approval
    return Message(rules.dialect.response_mti(request.mti), fields, local_at=request.local_at)


def stored(answer: Message) -> dict[str, str]:
    return {str(field): value for field, value in answer.fields.items() if field != 2}
