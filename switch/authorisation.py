"""What a sale, a hold, or the reversal of either as a whole does to the accounts, and the answer it gets.

Each function runs in one transaction of the database that also keeps the answer, and the transaction is on the disk
before the answer leaves. So a request that is repeated, before or after a crash, meets its own row:

- a sale with the trace of an earlier one (acquirer, terminal, STAN, local time and date) is the same sale, and gets the
  stored answer, or it is another request with a used trace, and gets 94;
- a reversal takes a sale back once; a repeat of it gets the stored answer;
- a reversal that overtakes its sale leaves a row that the sale meets when it comes, so that the money does not move.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select, update

from shetab.errors import ShetabError, ValueFormatError
from shetab.message import Message
from shetab.pin_block import PinBlockFormat
from shetab.subfields import AdditionalData, OriginalDataElements, SecurityControl
from shetab.types import Expiry, Pan, Pin
from switch import ledger
from switch.card_check import Presented, check_card
from switch.errors import KeyIndexError
from switch.key_ring import KeyRing
from switch.movements import HELD, Movement, held_account, made_of, move, standing_of, void
from switch.passwords import payment_of
from switch.recording import (
    Refused,
    Rules,
    answer_to,
    find,
    fingerprint_of,
    insert_row,
    intermediary_of,
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

SALE: Final = "sale"
HOLD: Final = "hold"
_PURCHASE: Final = "000000"

_BALANCE: Final = select(accounts.c.balance).where(accounts.c.iban == bindparam("account"))


_KINDS: Final = {"0100": HOLD, "0101": HOLD, "0200": SALE, "0201": SALE}


def kind_of(mti: str) -> str:
    """What a request of this MTI does with the card's money."""
    return _KINDS[mti]


def sale(
    connection: Connection,
    rules: Rules,
    request: Message,
    *,
    signed_on: str | None,
    now: datetime,
    forced_rc: str | None = None,
) -> Message:
    """Answer a 0100, 0200 or a repeat: debit the card's account once, or refuse.

    A sale credits the acquirer's intermediary account; an authorisation (0100) only holds the money.

    :param signed_on: institution that signed on over this connection. :param forced_rc: refuse with this DE 39, as an
        issuer that is told to.
    """
    fingerprint = fingerprint_of(rules, request)
    kind = kind_of(request.mti)
    row = find(connection, kind, *trace_of(request))
    if row is not None and row.fingerprint is not None:
        return repeated_answer(connection, rules, request, row, fingerprint, now)
    iban, rc = None, forced_rc or "05"
    if row is None and forced_rc is None:
        try:
            iban, intermediary = _authorise(connection, rules, request, signed_on, now)
            rc = "00"
        except Refused as refused:
            rc = refused.rc
    approval = rules.rng(3).hex().upper() if rc == "00" else None
    answer = answer_to(connection, rules, request, rc, now, approval)
    values = row_values(rules, request, now) | {
        "fingerprint": fingerprint,
        "iban": iban,
        "rc": rc,
        "answer": stored(answer),
        "state": "approved" if rc == "00" else "declined",
    }
    if row is not None:  # its reversal came first
        values["state"] = "forestalled"
        connection.execute(update(transactions).where(transactions.c.id == row.id).values(**values))
        return answer
    transaction_id = insert_row(connection, values | {"kind": kind})
    if iban is not None:
        ledger.transfer(
            connection,
            debit=iban,
            credit=held_account(connection, now) if kind == HOLD else intermediary,
            amount=request.amount,
            text=f"{kind} {request[37]}",
            now=now,
            transaction_id=transaction_id,
        )
        if kind == SALE:
            move(connection, transaction_id, Movement.DEBIT, request.amount, now=now)
    return answer


def reversal(
    connection: Connection, rules: Rules, request: Message, *, signed_on: str | None, now: datetime
) -> Message:
    """Answer a 0420 or 0421 of a whole sale or hold, whatever became of it: give it back once.

    00 taken back, or there was nothing to take back; 25 original not found (and refused if it comes later); 94 taken
    back by another reversal; 13 or 14 another amount or card than the original; 12 partial reversal, DE 90 no sale, or
    something of it was captured or credited.
    """
    fingerprint = fingerprint_of(rules, request)
    row = find(connection, "reversal", *trace_of(request))
    if row is not None and is_decided(row, request, fingerprint):
        return repeated_answer(connection, rules, request, row, fingerprint, now)
    original, rc = None, "00"
    try:
        require_member(connection, request, signed_on)
        original = _original(connection, rules, request)
        if original is None:
            rc = "25"
            _forestall(connection, rules, request, now)
        elif original.state == "reversed":
            raise Refused("94")
        elif original.state == "approved" and standing_of(connection, original) != original.amount:
            raise Refused("12")
    except Refused as refused:
        rc = refused.rc
    answer = answer_to(connection, rules, request, rc, now, None)
    transaction_id = record(
        connection,
        row,
        row_values(rules, request, now)
        | {
            "kind": "reversal",
            "fingerprint": fingerprint,
            "rc": rc,
            "answer": stored(answer),
            "state": "approved" if rc == "00" else "declined",
            "original": None if original is None else original.id,
        },
    )
    if rc == "00" and original is not None and original.state == "approved":
        ledger.transfer(
            connection,
            debit=HELD if original.kind == HOLD else intermediary_of(connection, request[32]),
            credit=original.iban,
            amount=original.amount,
            text=f"reversal {request[37]}",
            now=now,
            transaction_id=transaction_id,
        )
        connection.execute(update(transactions).where(transactions.c.id == original.id).values(state="reversed"))
        void(connection, original.id)
    return answer


# --- checks of a sale ------------------------------------------------------------------------------------------------


def _authorise(
    connection: Connection, rules: Rules, request: Message, signed_on: str | None, now: datetime
) -> tuple[str, str]:
    """Accounts to debit and to credit."""
    intermediary = require_member(connection, request, signed_on)
    if request[3] != _PURCHASE:
        raise Refused("12")
    if request.amount == 0:
        raise Refused("13")
    verdict = check_card(connection, rules.keys, _presented(rules, request), now)
    if verdict.rc != "00" or verdict.card is None:
        raise Refused(verdict.rc)
    iban = str(verdict.card.iban)
    if connection.execute(_BALANCE, {"account": iban}).scalar_one() < request.amount:
        raise Refused("51")
    return iban, intermediary


def _presented(rules: Rules, request: Message) -> Presented:
    if rules.banks.of_bin(request[2]) is None:
        raise Refused("15")
    try:
        pan = request.pan
        cvv2 = AdditionalData.from_de48(request[48]).cvv2
    except ValueFormatError:
        raise Refused("14") from None
    expiry = request.get(14)
    return Presented(
        pan,
        None if expiry is None else Expiry(expiry),
        cvv2,
        lambda: _pin(rules.ring, request, pan),
        payment_of(request),
        rules.passwords.static_pin2,
    )


def _pin(ring: KeyRing, request: Message, pan: Pan) -> Pin | None:
    block = request.get(52)
    if block is None:
        return None
    try:
        security = SecurityControl.from_de53(request[53])
        block_format = PinBlockFormat(security.pin_block_format)
        return ring.open_pin_block(request[32], security.pin_key_index, bytes.fromhex(block), pan, block_format)
    except KeyIndexError:
        raise Refused("89") from None
    except (ShetabError, ValueError):
        # The MAC was right, so this is no try at a PIN: the two ends use different keys or formats.
        raise Refused("63") from None


# --- rows ------------------------------------------------------------------------------------------------------------


def _original(connection: Connection, rules: Rules, request: Message) -> Row[Any] | None:
    """The sale or hold that DE 90 and the terminal of a reversal name; it must agree in amount and card."""
    named = OriginalDataElements.from_de90(request[90])
    if named.mti not in _KINDS or named.acquirer != request[32] or 95 in request:
        raise Refused("12")
    original = find(connection, kind_of(named.mti), named.acquirer, request[41], named.stan, request[12], request[13])
    if original is None:
        return None
    if original.amount != request.amount:
        raise Refused("13")
    if original.pan_lookup != pan_lookup(rules, request):
        raise Refused("14")
    if made_of(connection, original, "capture" if original.kind == HOLD else "credit"):
        raise Refused("12")
    return original


def _forestall(connection: Connection, rules: Rules, request: Message, now: datetime) -> None:
    """Keep the trace of a sale that was reversed before it came."""
    named = OriginalDataElements.from_de90(request[90])
    values = row_values(rules, request, now) | {
        "kind": kind_of(named.mti),
        "stan": named.stan,
        "state": "forestalled",
        "rc": "05",
    }
    insert_row(connection, values)
