"""Whether whoever presents card data holds the card: state, expiry, CVV2, PIN, in this order.

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
from switch.issuer_keys import IssuerKeys
from switch.schema import cards

MAX_WRONG_TRIES: Final = 3
_CARD: Final = select(cards).where(cards.c.pan_lookup == bindparam("lookup"))


@dataclass(frozen=True, slots=True)
class Presented:
    """What came with a payment or was said at the counter. None where nothing came.

    The PIN is asked for last, and only of a card that exists: a PIN block can be opened with the right PAN alone.
    """

    pan: Pan
    expiry: Expiry | None
    cvv2: Cvv2 | None
    pin: Callable[[], Pin | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rc` is DE 39: "00" if the card is good. `card` is its row, None if there is no such card."""

    rc: str
    card: Row[tuple[object, ...]] | None


def check_card(connection: Connection, keys: IssuerKeys, presented: Presented, now: datetime) -> Verdict:
    """Verify card data and count wrong tries.

    14 no such card or wrong CVV2, 62 blocked, 75 too many wrong tries, 54 expired or wrong expiry, 55 wrong PIN.
    """
    pan = presented.pan
    card = connection.execute(_CARD, {"lookup": keys.pan_lookup(pan)}).one_or_none()
    if card is None:
        return Verdict("14", None)
    if card.state != "active":
        return Verdict("62", card)
    if card.wrong_tries >= MAX_WRONG_TRIES:
        return Verdict("75", card)
    rc = _first_wrong(keys, card, presented)
    if rc is None:
        if card.wrong_tries:
            _set_tries(connection, card.card_id, 0)
        expired = presented.expiry is None or has_expired(presented.expiry, now)
        return Verdict("54" if expired else "00", card)
    _set_tries(connection, card.card_id, card.wrong_tries + 1)
    return Verdict("75" if card.wrong_tries + 1 >= MAX_WRONG_TRIES else rc, card)


def _first_wrong(keys: IssuerKeys, card: Row[tuple[object, ...]], presented: Presented) -> str | None:
    pan, expiry = presented.pan, presented.expiry
    if expiry is None or not hmac.compare_digest(keys.expiry_value(pan, expiry), card.expiry_value):
        return "54"
    if presented.cvv2 is None or presented.cvv2 != keys.cvv2(pan, expiry):
        return "14"
    pin = presented.pin()
    if pin is None or not hmac.compare_digest(keys.pin_value(pan, pin), card.pin_value):
        return "55"
    return None


def _set_tries(connection: Connection, card_id: str, tries: int) -> None:
    connection.execute(update(cards).where(cards.c.card_id == card_id).values(wrong_tries=tries))
