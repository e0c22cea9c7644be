"""Administrative requests (0600): a holder asks the card's bank for a one-time password, through the gateway.

The card is judged by what is printed on it; password and message follow `switch.passwords`. Nothing of this moves
money, so there is no trace to keep but the password's own row.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from shetab.errors import ValueFormatError
from shetab.jalali import transmission_time
from shetab.message import Message
from shetab.types import Expiry
from switch import passwords
from switch.card_check import check_printed
from switch.inbox import ShortMessage
from switch.passwords import payment_of
from switch.recording import Rules

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_ONE_TIME: Final = "380000"
"""DE 3 of a request for a one-time password."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The 0610, and what is to be sent to the holder once the transaction is on the disk."""

    answer: Message
    message: ShortMessage | None = None


def administrative(
    connection: Connection, rules: Rules, request: Message, *, signed_on: str | None, now: datetime
) -> Reply:
    """Answer a 0600.

    00 sent; 92 nobody signed on; 58 another acquirer than signed on; 12 no request for a password of a purchase; 13 no
    amount; 14, 15, 54, 62, 75 as in a payment; 65 too often for this card, its holder has no telephone, or
    a password was used for this purchase.
    """
    given = None
    if signed_on is None:
        rc = "92"
    elif request[32] != signed_on:
        rc = "58"
    elif request[3] != _ONE_TIME:
        rc = "12"
    elif request.amount == 0:
        rc = "13"
    elif rules.banks.of_bin(request[2]) is None:
        rc = "15"
    else:
        rc, given = _password(connection, rules, request, now)
    fields = rules.dialect.echoed_fields(request)
    fields |= {7: transmission_time(now), 33: rules.institution, 39: rc}
    if given is not None:
        fields[48] = given.notice.to_de48()
    answer = Message(rules.dialect.response_mti(request.mti), fields)
    return Reply(answer, None if given is None else given.message)


def _password(
    connection: Connection, rules: Rules, request: Message, now: datetime
) -> tuple[str, passwords.Given | None]:
    payment, pan = payment_of(request), None
    with suppress(ValueFormatError):
        pan = request.pan
    if pan is None:
        return "14", None
    if payment.xid is None or _HASH.fullmatch(request[48]) is None:
        return "12", None
    verdict = check_printed(connection, rules.keys, pan, Expiry(request[14]), now)
    if verdict.rc != "00" or verdict.card is None:
        return verdict.rc, None
    given = passwords.give(
        connection,
        rules.keys,
        rules.passwords,
        verdict.card,
        pan,
        payment,
        bytes.fromhex(request[48]),
        now=now,
        rng=rules.rng,
    )
    return ("65" if given is None else "00"), given
