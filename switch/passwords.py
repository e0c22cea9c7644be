"""One-time passwords (رمز پویا) at the card's bank: given for one purchase, taken once.

    0600  the gateway asks: card, XID, merchant, amount, and the hash of the holder's request
    ───►  the card is judged, the attempt is counted, the keyed hash of a fresh password is stored with what it is good
          for: one transaction; then the holder gets a message, and the gateway an answer without the password
    0200  a payment offers it in the place of PIN2: taken once, by the rule P8, in the transaction that moves the money

The same request again gets the same answer, and the holder no second message; another request for the same purchase
makes a new password, and the one before is worth nothing; once one was used, there is no other. A holder who misses a
message, because a bank that fell between transaction and message sends none, asks again.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from kwbp.errors import ProtocolError
from kwbp.money import Money
from kwbp.password import PasswordBinding, require_bound
from runtime.database import put
from runtime.settings import PasswordSettings
from runtime.token_bucket import NONE, take
from shetab.errors import ValueFormatError
from shetab.message import Message
from shetab.subfields import Coding, PasswordNotice
from shetab.types import Pan, Pin
from switch import ledger
from switch.inbox import ShortMessage
from switch.issuer_keys import IssuerKeys
from switch.schema import password_buckets, passwords, phones

Rng = Callable[[int], bytes]

_GIVEN: Final = select(passwords).where(
    passwords.c.pan_lookup == bindparam("lookup"), passwords.c.xid == bindparam("payment")
)

_SHOWN: Final = 4, 2
"""Digits of a telephone number that are told, at its beginning and its end."""


@dataclass(frozen=True, slots=True)
class Payment:
    """What is paid, as the gateway says: `xid` None where the reference names no purchase of KWBP."""

    xid: bytes | None
    merchant_id: str
    amount: Money


def payment_of(request: Message) -> Payment:
    """What a 0200 or 0600 is about: purchase, merchant, amount."""
    try:
        xid = Coding.from_de62(request[62]).xid
    except ValueFormatError:
        xid = None
    return Payment(xid, request[42].rstrip(), Money.rial(int(request.amount)))


@dataclass(frozen=True, slots=True)
class Given:
    """A password was given: what the gateway is told, and what the holder is sent (None for a repeat)."""

    notice: PasswordNotice
    message: ShortMessage | None


def give(
    connection: Connection,
    keys: IssuerKeys,
    rules: PasswordSettings,
    card: Row[Any],
    pan: Pan,
    payment: Payment,
    request: bytes,
    *,
    now: datetime,
    rng: Rng,
) -> Given | None:
    """A password for `payment`, which names a purchase.

    None if the card has had too many, its holder has no telephone, or one was used for this purchase.

    :param card: the card's row, good for payments. :param request: SHA-256 of the holder's request.
    """
    assert payment.xid is not None
    lookup = keys.pan_lookup(pan)
    known = _find(connection, lookup, payment.xid)
    if known is not None and hmac.compare_digest(known.request, request):
        return Given(PasswordNotice(known.valid_until.replace(tzinfo=UTC), known.sent_to), None)
    if known is not None and known.used_at is not None:
        return None  # for one payment, once
    number = connection.execute(select(phones.c.number).where(phones.c.iban == card.iban)).scalar_one_or_none()
    if number is None or not _count(connection, rules, lookup, now):
        return None
    password = Pin(f"{int.from_bytes(rng(16), 'big') % 10**rules.digits:0{rules.digits}d}")
    valid_until = (now + rules.lifetime).replace(microsecond=0)
    sent_to = masked(number)
    put(
        connection,
        passwords,
        pan_lookup=lookup,
        xid=payment.xid,
        request=request,
        merchant=payment.merchant_id,
        amount=payment.amount.amount,
        value=keys.password_value(pan, payment.xid, password),
        valid_until=ledger.naive_utc(valid_until),
        sent_to=sent_to,
        used_at=None,
    )
    told = ShortMessage(
        card.card_id, number, password.reveal(), payment.merchant_id, payment.amount.amount, valid_until
    )
    return Given(PasswordNotice(valid_until, sent_to), told)


def accept(
    connection: Connection, keys: IssuerKeys, pan: Pan, offered: Pin, payment: Payment, *, now: datetime
) -> bool:
    """Whether `offered` is the password that was given for `payment` (P8); if so, it is used up."""
    lookup = keys.pan_lookup(pan)
    given = None if payment.xid is None else _find(connection, lookup, payment.xid)
    if payment.xid is None or given is None or given.used_at is not None:
        return False
    binding = PasswordBinding(
        payment.xid, given.merchant, Money.rial(given.amount), given.valid_until.replace(tzinfo=UTC)
    )
    try:
        require_bound(binding, xid=payment.xid, merchant_id=payment.merchant_id, amount=payment.amount, now=now)
    except ProtocolError:
        return False
    if not hmac.compare_digest(keys.password_value(pan, payment.xid, offered), given.value):
        return False
    this = (passwords.c.pan_lookup == lookup, passwords.c.xid == payment.xid)
    connection.execute(update(passwords).where(*this).values(used_at=ledger.naive_utc(now)))
    return True


def forget(connection: Connection, before: datetime) -> None:
    """Drop passwords that ran out before `before`."""
    connection.execute(delete(passwords).where(passwords.c.valid_until < ledger.naive_utc(before)))


def masked(number: str) -> str:
    """A telephone number with its middle hidden."""
    first, last = _SHOWN
    return f"{number[:first]}{'*' * (len(number) - first - last)}{number[-last:]}"


def _find(connection: Connection, lookup: bytes, xid: bytes) -> Row[Any] | None:
    return connection.execute(_GIVEN, {"lookup": lookup, "payment": xid}).one_or_none()


def _count(connection: Connection, rules: PasswordSettings, lookup: bytes, now: datetime) -> bool:
    """P9 at the bank, durable: a restart takes nothing back."""
    table, instant = password_buckets, ledger.naive_utc(now)
    connection.execute(delete(table).where(table.c.full_at <= instant))  # full ones need no row
    forget(connection, now - timedelta(days=1))
    full_at = connection.execute(select(table.c.full_at).where(table.c.pan_lookup == lookup)).scalar_one_or_none()
    full_at, wait = take(rules.rate, None if full_at is None else full_at.replace(tzinfo=UTC), now)
    if wait == NONE:
        put(connection, table, pan_lookup=lookup, full_at=ledger.naive_utc(full_at))
    return wait == NONE
