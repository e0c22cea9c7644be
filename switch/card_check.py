"""Whether whoever presents card data holds the card: state, expiry, CVV2, PIN, in this order.

In a payment a one-time password that was given for it stands in the place of the PIN (`switch.passwords`); whether the
PIN itself pays with a card is the card's policy.

All wrong values count as tries of one card, so that nobody can search for one of them with the others left out.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Row, bindparam, select, update

from shetab.jalali import has_expired
from shetab.types import Cvv2, Expiry, Pan, Pin
from switch import passwords
from switch.issuer_keys import IssuerKeys
from switch.passwords import Payment
from switch.schema import card_policies, cards

MAX_WRONG_TRIES: Final = 3
_CARD: Final = select(cards).where(cards.c.pan_lookup == bindparam("lookup"))

_STATIC_PIN2: Final = select(card_policies.c.static_pin2).where(card_policies.c.card_id == bindparam("card"))


@dataclass(frozen=True, slots=True)
class Presented:
    """What came with a payment or was said at the counter. None where nothing came.

    The PIN is asked for last, and only of a card that exists: a PIN block can be opened with the right PAN alone.
    """

    pan: Pan
    expiry: Expiry | None
    cvv2: Cvv2 | None
    pin: Callable[[], Pin | None]
    payment: Payment | None = None
    """What is paid; None where nothing is: then it is the PIN that counts."""
    static_pin2: bool = True
    """Whether the PIN pays with cards that have no policy of their own."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rc` is DE 39: "00" if the card is good. `card` is its row, None if there is no such card."""

    rc: str
    card: Row[tuple[object, ...]] | None


def check_card(connection: Connection, keys: IssuerKeys, presented: Presented, now: datetime) -> Verdict:
    """Verify card data and count wrong tries.

    14 no such card or wrong CVV2, 62 blocked, 75 too many wrong tries, 54 expired or wrong expiry, 55 wrong PIN.
    """
    card, rc = _active(connection, keys, presented.pan)
    if card is None or rc is not None:
        return Verdict(rc or "14", card)
    rc = _first_wrong(connection, keys, card, presented, now)
    if rc is not None:
        return _wrong(connection, card, rc)
    if card.wrong_tries:
        _set_tries(connection, card.card_id, 0)
    expired = presented.expiry is None or has_expired(presented.expiry, now)
    return Verdict("54" if expired else "00", card)


def check_printed(connection: Connection, keys: IssuerKeys, pan: Pan, expiry: Expiry, now: datetime) -> Verdict:
    """Verify what the front of a card says: a wrong expiry counts as a wrong try. It proves no holder."""
    card, rc = _active(connection, keys, pan)
    if card is None or rc is not None:
        return Verdict(rc or "14", card)
    if not hmac.compare_digest(keys.expiry_value(pan, expiry), card.expiry_value):
        return _wrong(connection, card, "54")
    return Verdict("54" if has_expired(expiry, now) else "00", card)


def _active(connection: Connection, keys: IssuerKeys, pan: Pan) -> tuple[Row[tuple[object, ...]] | None, str | None]:
    """The card, and why it is refused whatever is presented with it."""
    card = connection.execute(_CARD, {"lookup": keys.pan_lookup(pan)}).one_or_none()
    if card is None:
        return None, "14"
    if card.state != "active":
        return card, "62"
    return card, "75" if card.wrong_tries >= MAX_WRONG_TRIES else None


def _wrong(connection: Connection, card: Row[tuple[object, ...]], rc: str) -> Verdict:
    _set_tries(connection, card.card_id, card.wrong_tries + 1)
    return Verdict("75" if card.wrong_tries + 1 >= MAX_WRONG_TRIES else rc, card)


def _first_wrong(
    connection: Connection, keys: IssuerKeys, card: Row[tuple[object, ...]], presented: Presented, now: datetime
) -> str | None:
    pan, expiry = presented.pan, presented.expiry
    if expiry is None or not hmac.compare_digest(keys.expiry_value(pan, expiry), card.expiry_value):
        return "54"
    if presented.cvv2 is None or presented.cvv2 != keys.cvv2(pan, expiry):
        return "14"
    pin, payment = presented.pin(), presented.payment
    if pin is None:
        return "55"
    if payment is not None and passwords.accept(connection, keys, pan, pin, payment, now=now):
        return None
    if payment is not None and not _pays_with_pin(connection, card, presented.static_pin2):
        return "55"
    return None if hmac.compare_digest(keys.pin_value(pan, pin), card.pin_value) else "55"


def _pays_with_pin(connection: Connection, card: Row[tuple[object, ...]], otherwise: bool) -> bool:
    own = connection.execute(_STATIC_PIN2, {"card": card.card_id}).scalar_one_or_none()
    return otherwise if own is None else bool(own)


def _set_tries(connection: Connection, card_id: str, tries: int) -> None:
    connection.execute(update(cards).where(cards.c.card_id == card_id).values(wrong_tries=tries))
