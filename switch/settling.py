"""What follows an approved sale or hold: captured, credited, taken back in whole or in part.

Each message names what it follows by DE 90, and the purchase by DE 62; card, terminal and acquirer must be the same. A
message is booked once: its repeat meets its own row and gets the stored answer, or is worked on now if it could not be
then (`switch.recording`).

| message               | DE 62   | follows          | debit        | credit       |
| --------------------- | ------- | ---------------- | ------------ | ------------ |
| 0220                  | CAPTURE | a hold           | held         | intermediary |
| 0420 of 0220          | CAPREV  | a capture        | intermediary | held         |
| 0420 of 0100, DE 95   | AUTHREV | a hold           | held         | card         |
| 0420 of 0200, DE 95   | AUTHREV | a sale           | intermediary | card         |
| 0200, DE 3 200000     | CREDIT  | a capture, sale  | intermediary | card         |
| 0420 of that 0200     | CREDREV | a credit         | card         | intermediary |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from shetab.errors import ValueFormatError
from shetab.message import Message
from shetab.subfields import Coding, OriginalDataElements, ReplacementAmounts
from switch import ledger
from switch.movements import Movement, held_account, made_of, move, set_standing, standing_of
from switch.recording import (
    Refused,
    Rules,
    answer_to,
    find,
    fingerprint_of,
    is_decided,
    pan_lookup,
    record,
    repeated_answer,
    require_member,
    row_values,
    stored,
    trace_of,
)
from switch.schema import accounts, transactions

_PURCHASE: Final = "000000"
_REFUND: Final = "200000"


@dataclass(frozen=True, slots=True)
class Booking:
    """What a message does: `amount` rial from `debit` to `credit`, about `original`, of which `left` rial stand after.

    `iban` is the card's account. `left` is None where the original is not touched, `movement` where no merchant's money
    moves.
    """

    original: Row[Any]
    debit: str
    credit: str
    amount: int
    iban: str
    movement: Movement | None
    left: int | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message with what its plan needs to know."""

    connection: Connection
    rules: Rules
    request: Message
    named: OriginalDataElements
    intermediary: str
    now: datetime

    def original(self, *kinds: str) -> Row[Any]:
        """The approved transaction that DE 90 names, of one of these kinds.

        :raises Refused: 25 there is none, 12 it does not stand.
        """
        request = self.request
        query = select(transactions).where(
            transactions.c.kind.in_(kinds),
            transactions.c.acquirer == request[32],
            transactions.c.terminal == request[41],
            transactions.c.stan == self.named.stan,
            transactions.c.pan_lookup == pan_lookup(self.rules, request),
            transactions.c.reference.startswith(Coding(Coding.from_de62(request[62]).xid).to_de62()),
        )
        row = self.connection.execute(query).one_or_none()
        if row is None:
            raise Refused("25")
        if row.state != "approved" or row.merchant != request[42].rstrip():
            raise Refused("12")
        return row

    @property
    def held(self) -> str:
        return held_account(self.connection, self.now)


def settle(
    connection: Connection,
    rules: Rules,
    request: Message,
    *,
    signed_on: str | None,
    now: datetime,
    forced_rc: str | None = None,
) -> Message:
    """Answer a message of the table above, or its repeat.

    00 booked; 25 what it follows is not known; 12 that does not stand, or has another form; 13 amount beyond what there
    is; 51 the card cannot give a credit back. :param forced_rc: refuse with this DE 39, as an issuer that is told to.
    """
    kind = kind_of(request)
    fingerprint = fingerprint_of(rules, request)
    row = find(connection, kind, *trace_of(request))
    if row is not None and is_decided(row, request, fingerprint):
        return repeated_answer(connection, rules, request, row, fingerprint, now)
    booking, rc = None, forced_rc or "00"
    if forced_rc is None:
        try:
            booking = _plan(connection, rules, request, signed_on, now)
        except Refused as refused:
            rc = refused.rc
    answer = answer_to(
        connection, rules, request, rc, now, rules.rng(3).hex().upper() if _approves(request, rc) else None
    )
    transaction_id = record(
        connection,
        row,
        row_values(rules, request, now)
        | {
            "kind": kind,
            "fingerprint": fingerprint,
            "rc": rc,
            "answer": stored(answer),
            "state": "approved" if booking is not None else "declined",
            "iban": None if booking is None else booking.iban,
            "original": None if booking is None else booking.original.id,
        },
    )
    if booking is not None:
        _book(connection, request, booking, transaction_id, now)
    return answer


def is_settling(request: Message) -> bool:
    """Whether a message is one of the table: 0220, a refund, or a reversal that says what it takes back."""
    if request.mti in ("0220", "0221"):
        return True
    if request.mti in ("0200", "0201"):
        return request[3] == _REFUND
    return request.mti in ("0420", "0421") and _action(request) != ""


def kind_of(request: Message) -> str:
    """Under which kind it is recorded."""
    return {"022": "capture", "020": "credit", "042": "reversal"}[request.mti[:3]]


def _action(request: Message) -> str:
    try:
        return Coding.from_de62(request[62]).action
    except ValueFormatError:
        return ""


def _approves(request: Message, rc: str) -> bool:
    return rc == "00" and request.mti in ("0200", "0201", "0220", "0221")  # DE 38; a 0430 has none


def _plan(connection: Connection, rules: Rules, request: Message, signed_on: str | None, now: datetime) -> Booking:
    intermediary = require_member(connection, request, signed_on)
    plan = PLANS.get(_action(request))
    if plan is None or 90 not in request:
        raise Refused("12")
    try:
        named = OriginalDataElements.from_de90(request[90])
    except ValueFormatError:
        raise Refused("12") from None
    if named.acquirer != request[32]:
        raise Refused("12")
    booking = plan(_Asked(connection, rules, request, named, intermediary, now))
    if booking.amount <= 0:
        raise Refused("13")
    return booking


def _book(connection: Connection, request: Message, booking: Booking, transaction_id: int, now: datetime) -> None:
    ledger.transfer(
        connection,
        debit=booking.debit,
        credit=booking.credit,
        amount=booking.amount,
        text=f"{_action(request).lower()} {request[37]}",
        now=now,
        transaction_id=transaction_id,
    )
    if booking.left is not None:
        set_standing(connection, booking.original.id, booking.left)
    if booking.movement is not None:
        move(connection, transaction_id, booking.movement, booking.amount, now=now)


# --- one plan an action -----------------------------------------------------------------------------------------------


def _capture(asked: _Asked) -> Booking:
    _require(asked.request.mti[:3] == "022" and asked.named.mti in ("0100", "0101"))
    hold = asked.original("hold")
    room = standing_of(asked.connection, hold) - made_of(asked.connection, hold, "capture")
    amount = int(asked.request.amount)
    _require(amount <= room, "13")
    return Booking(hold, asked.held, asked.intermediary, amount, hold.iban, Movement.DEBIT)


def _capture_reversal(asked: _Asked) -> Booking:
    _require(asked.request.mti[:3] == "042" and asked.named.mti in ("0220", "0221"))
    capture, amount = _whole(asked, "capture")
    _require(made_of(asked.connection, capture, "credit") == 0)
    return Booking(capture, asked.intermediary, asked.held, amount, capture.iban, Movement.DEBIT_REVERSAL, left=0)


def _auth_reversal(asked: _Asked) -> Booking:
    request, connection = asked.request, asked.connection
    holds = asked.named.mti in ("0100", "0101")
    _require(request.mti[:3] == "042" and (holds or asked.named.mti in ("0200", "0201")) and request[3] == _PURCHASE)
    row = asked.original("hold" if holds else "sale")
    _require(row.amount == request.amount, "13")
    left = _replacement(request)
    standing = standing_of(connection, row)
    spent = made_of(connection, row, "capture" if holds else "credit")
    _require(spent <= left < standing, "13")
    debit = asked.held if holds else asked.intermediary
    return Booking(row, debit, row.iban, standing - left, row.iban, None if holds else Movement.DEBIT_REVERSAL, left)


def _credit(asked: _Asked) -> Booking:
    _require(asked.request.mti[:3] == "020" and asked.named.mti in ("0200", "0201", "0220", "0221"))
    row = asked.original("capture" if asked.named.mti[1:3] == "22" else "sale")
    room = standing_of(asked.connection, row) - made_of(asked.connection, row, "credit")
    amount = int(asked.request.amount)
    _require(amount <= room, "13")
    return Booking(row, asked.intermediary, row.iban, amount, row.iban, Movement.CREDIT)


def _credit_reversal(asked: _Asked) -> Booking:
    _require(asked.request.mti[:3] == "042" and asked.named.mti in ("0200", "0201") and asked.request[3] == _REFUND)
    credit, amount = _whole(asked, "credit")
    balance = select(accounts.c.balance).where(accounts.c.iban == credit.iban)
    _require(asked.connection.execute(balance).scalar_one() >= amount, "51")
    return Booking(credit, credit.iban, asked.intermediary, amount, credit.iban, Movement.CREDIT_REVERSAL, left=0)


PLANS: Final[Mapping[str, Callable[[_Asked], Booking]]] = MappingProxyType(
    {
        "CAPTURE": _capture,
        "CAPREV": _capture_reversal,
        "AUTHREV": _auth_reversal,
        "CREDIT": _credit,
        "CREDREV": _credit_reversal,
    }
)
"""By the action of DE 62."""


def _whole(asked: _Asked, kind: str) -> tuple[Row[Any], int]:
    """A transaction that is taken back as a whole, and its amount."""
    _require(95 not in asked.request)
    row = asked.original(kind)
    _require(row.amount == asked.request.amount, "13")
    return row, int(row.amount)


def _replacement(request: Message) -> int:
    """What is to be left: DE 95, nothing without it."""
    if 95 not in request:
        return 0
    try:
        return int(ReplacementAmounts.from_de95(request[95]).amount)
    except ValueFormatError:
        raise Refused("12") from None


def _require(holds: bool, rc: str = "12") -> None:
    if not holds:
        raise Refused(rc)
