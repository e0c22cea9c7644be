"""What a sale or a reversal does to the accounts, and the answer it gets.

Each function runs in one transaction of the database that also keeps the answer, and the transaction is on the disk
before the answer leaves. So a request that is repeated, before or after a crash, meets its own row:

- a sale with the trace of an earlier one (acquirer, terminal, STAN, local time and date) is the same sale, and gets the
  stored answer, or it is another request with a used trace, and gets 94;
- a reversal takes a sale back once; a repeat of it gets the stored answer;
- a reversal that overtakes its sale leaves a row that the sale meets when it comes, so that the money does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from shetab.dialect import Dialect
from shetab.errors import ShetabError, ValueFormatError
from shetab.iran import Banks
from shetab.jalali import local_time_and_date, transmission_time
from shetab.message import Message
from shetab.pin_block import PinBlockFormat
from shetab.subfields import AdditionalData, OriginalDataElements, SecurityControl
from shetab.types import Expiry, Pan, Pin
from switch import ledger
from switch.card_check import Presented, check_card
from switch.issuer_keys import IssuerKeys
from switch.schema import accounts, acquirers, transactions
from switch.zone import ZoneKeys

_SALE: Final = "000000"
_RIAL: Final = "364"
_RATE_ONE: Final = "00000001"  # DE 10: no decimals, rate 1
_OF_NOBODY: Final = bytes(32)

_TRACE: Final = ("kind", "acquirer", "terminal", "stan", "local_time", "local_date")
_FIND: Final = select(transactions).where(*(transactions.c[name] == bindparam(name) for name in _TRACE))
_INTERMEDIARY: Final = select(acquirers.c.intermediary).where(acquirers.c.code == bindparam("acquirer"))
_BALANCE: Final = select(accounts.c.balance).where(accounts.c.iban == bindparam("account"))


@dataclass(frozen=True, slots=True)
class Rules:
    """What the switch decides with."""

    dialect: Dialect
    keys: IssuerKeys
    zone: ZoneKeys
    banks: Banks
    institution: str
    """DE 33 of the switch's messages."""
    rng: Callable[[int], bytes]


class _Refused(Exception):
    """Leaves the checks of a message with the response code to answer."""

    def __init__(self, rc: str) -> None:
        super().__init__(rc)
        self.rc = rc


def sale(
    connection: Connection,
    rules: Rules,
    request: Message,
    *,
    signed_on: str | None,
    now: datetime,
    forced_rc: str | None = None,
) -> Message:
    """Answer a 0200 or 0201: debit the card's account and credit the acquirer's intermediary account once, or refuse.

    :param signed_on: institution that signed on over this connection. :param forced_rc: refuse with this DE 39, as an
        issuer that is told to.
    """
    fingerprint = _fingerprint(rules, request)
    row = _find(connection, "sale", *_trace(request))
    if row is not None and row.fingerprint is not None:
        return _repeated(rules, request, row, fingerprint, now)
    iban, rc = None, forced_rc or "05"
    if row is None and forced_rc is None:
        try:
            iban, intermediary = _authorise(connection, rules, request, signed_on, now)
            rc = "00"
        except _Refused as refused:
            rc = refused.rc
    approval = rules.rng(3).hex().upper() if rc == "00" else None
    answer = _answer(rules, request, rc, now, approval)
    values = _row(rules, request, now) | {
        "fingerprint": fingerprint,
        "iban": iban,
        "rc": rc,
        "answer": _stored(answer),
        "state": "approved" if rc == "00" else "declined",
    }
    if row is not None:  # its reversal came first
        values["state"] = "forestalled"
        connection.execute(update(transactions).where(transactions.c.id == row.id).values(**values))
        return answer
    transaction_id = _insert(connection, values | {"kind": "sale"})
    if iban is not None:
        ledger.transfer(
            connection,
            debit=iban,
            credit=intermediary,
            amount=request.amount,
            text=f"sale {request[37]}",
            now=now,
            transaction_id=transaction_id,
        )
    return answer


def reversal(
    connection: Connection, rules: Rules, request: Message, *, signed_on: str | None, now: datetime
) -> Message:
    """Answer a 0420 or 0421: give an approved sale back once.

    00 taken back, or there was nothing to take back; 25 original not found (and refused if it comes later); 94 taken
    back by another reversal; 13 or 14 another amount or card than the original; 12 partial reversal, or DE 90 no sale.
    """
    fingerprint = _fingerprint(rules, request)
    row = _find(connection, "reversal", *_trace(request))
    if row is not None:
        return _repeated(rules, request, row, fingerprint, now)
    original, rc = None, "00"
    try:
        _require_member(connection, request, signed_on)
        original = _original(connection, rules, request)
        if original is None:
            rc = "25"
            _forestall(connection, rules, request, now)
        elif original.state == "reversed":
            raise _Refused("94")
    except _Refused as refused:
        rc = refused.rc
    answer = _answer(rules, request, rc, now, None)
    transaction_id = _insert(
        connection,
        _row(rules, request, now)
        | {
            "kind": "reversal",
            "fingerprint": fingerprint,
            "rc": rc,
            "answer": _stored(answer),
            "state": "approved" if rc == "00" else "declined",
            "original": None if original is None else original.id,
        },
    )
    if rc == "00" and original is not None and original.state == "approved":
        ledger.transfer(
            connection,
            debit=_intermediary(connection, request[32]),
            credit=original.iban,
            amount=original.amount,
            text=f"reversal {request[37]}",
            now=now,
            transaction_id=transaction_id,
        )
        connection.execute(update(transactions).where(transactions.c.id == original.id).values(state="reversed"))
    return answer


# --- checks of a sale ------------------------------------------------------------------------------------------------


def _authorise(
    connection: Connection, rules: Rules, request: Message, signed_on: str | None, now: datetime
) -> tuple[str, str]:
    """Accounts to debit and to credit."""
    intermediary = _require_member(connection, request, signed_on)
    if request[3] != _SALE:
        raise _Refused("12")
    if request.amount == 0:
        raise _Refused("13")
    verdict = check_card(connection, rules.keys, _presented(rules, request), now)
    if verdict.rc != "00" or verdict.card is None:
        raise _Refused(verdict.rc)
    iban = str(verdict.card.iban)
    if connection.execute(_BALANCE, {"account": iban}).scalar_one() < request.amount:
        raise _Refused("51")
    return iban, intermediary


def _require_member(connection: Connection, request: Message, signed_on: str | None) -> str:
    """The intermediary account of the acquirer, which must be the one that signed on."""
    if signed_on is None:
        raise _Refused("92")
    if request[32] != signed_on:
        raise _Refused("58")
    return _intermediary(connection, signed_on)


def _intermediary(connection: Connection, acquirer: str) -> str:
    return str(connection.execute(_INTERMEDIARY, {"acquirer": acquirer}).scalar_one())


def _presented(rules: Rules, request: Message) -> Presented:
    if rules.banks.of_bin(request[2]) is None:
        raise _Refused("15")
    try:
        pan = request.pan
        cvv2 = AdditionalData.from_de48(request[48]).cvv2
    except ValueFormatError:
        raise _Refused("14") from None
    expiry = request.get(14)
    return Presented(pan, None if expiry is None else Expiry(expiry), cvv2, lambda: _pin(rules.zone, request, pan))


def _pin(zone: ZoneKeys, request: Message, pan: Pan) -> Pin | None:
    block = request.get(52)
    if block is None:
        return None
    try:
        block_format = PinBlockFormat(SecurityControl.from_de53(request[53]).pin_block_format)
        return zone.open_pin_block(bytes.fromhex(block), pan, block_format)
    except (ShetabError, ValueError):
        # The MAC was right, so this is no try at a PIN: the two ends use different keys or formats.
        raise _Refused("63") from None


# --- rows ------------------------------------------------------------------------------------------------------------


def _trace(request: Message) -> tuple[str, str, str, str, str]:
    return request[32], request[41], request[11], request[12], request[13]


def _find(connection: Connection, kind: str, *trace: str) -> Row[Any] | None:
    return connection.execute(_FIND, dict(zip(_TRACE, (kind, *trace), strict=True))).one_or_none()


def _original(connection: Connection, rules: Rules, request: Message) -> Row[Any] | None:
    """The sale that DE 90 and the terminal of a reversal name; it must agree in amount and card."""
    named = OriginalDataElements.from_de90(request[90])
    if named.mti not in ("0200", "0201") or named.acquirer != request[32] or 95 in request:
        raise _Refused("12")
    original = _find(connection, "sale", named.acquirer, request[41], named.stan, request[12], request[13])
    if original is None:
        return None
    if original.amount != request.amount:
        raise _Refused("13")
    if original.pan_lookup != _pan_lookup(rules, request):
        raise _Refused("14")
    return original


def _forestall(connection: Connection, rules: Rules, request: Message, now: datetime) -> None:
    """Keep the trace of a sale that was reversed before it came."""
    named = OriginalDataElements.from_de90(request[90])
    values = _row(rules, request, now) | {"kind": "sale", "stan": named.stan, "state": "forestalled", "rc": "05"}
    _insert(connection, values)


def _insert(connection: Connection, values: Mapping[str, object]) -> int:
    key = connection.execute(insert(transactions), dict(values)).inserted_primary_key
    return int(key[0]) if key is not None else 0


def _row(rules: Rules, request: Message, now: datetime) -> dict[str, object]:
    acquirer, terminal, stan, local_time, local_date = _trace(request)
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
        "pan_lookup": _pan_lookup(rules, request),
        "masked_pan": rules.dialect.redact(request)["2"],
        "received_at": ledger.naive_utc(now),
    }


def _pan_lookup(rules: Rules, request: Message) -> bytes:
    try:
        return rules.keys.pan_lookup(request.pan)
    except ValueFormatError:
        return _OF_NOBODY


def _fingerprint(rules: Rules, request: Message) -> bytes:
    return rules.keys.fingerprint({field: value for field, value in request.fields.items() if field != 7})


# --- answers ---------------------------------------------------------------------------------------------------------


def _repeated(rules: Rules, request: Message, row: Row[Any], fingerprint: bytes, now: datetime) -> Message:
    if row.fingerprint != fingerprint:
        return _answer(rules, request, "94", now, None)
    stored = {int(field): value for field, value in row.answer.items()}
    return Message(rules.dialect.response_mti(request.mti), stored | {2: request[2]})


def _answer(rules: Rules, request: Message, rc: str, now: datetime, approval: str | None) -> Message:
    fields = rules.dialect.echoed_fields(request)
    fields |= {
        6: request[4],
        7: transmission_time(now),
        10: _RATE_ONE,
        15: local_time_and_date(now)[1],
        33: rules.institution,
        39: rc,
        51: _RIAL,
        62: request[62],
    }
    if approval is not None:
        fields[38] = approval
    return Message(rules.dialect.response_mti(request.mti), fields)


def _stored(answer: Message) -> dict[str, str]:
    return {str(field): value for field, value in answer.fields.items() if field != 2}
