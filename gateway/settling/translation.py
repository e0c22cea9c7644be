"""Rows 19 to 21 to ISO 8583: which message a request becomes, and what it repeats of the one that it follows.

| request    | message           | DE 90 names       | DE 62   |
| ---------- | ----------------- | ----------------- | ------- |
| CapReq     | 0220              | the 0100          | CAPTURE |
| CapRevReq  | 0420              | the 0220          | CAPREV  |
| AuthRevReq | 0420, DE 95       | the 0100 or 0200  | AUTHREV |
| a release  | 0420, DE 95       | the 0100          | AUTHREV |
| CredReq    | 0200, DE 3 200000 | the 0220 or 0200  | CREDIT  |
| CredRevReq | 0420              | the 0200 refund   | CREDREV |

The action in DE 62 tells these from a reversal of an order whose outcome is unknown, which takes back what it finds.
DE 95 says what is left; where nothing is, the 0420 is without it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from gateway.merchants import Merchant
from gateway.order import Order
from gateway.settling.row import Settling
from gateway.translation import INTERNET, IRAN, KEYED_WITHOUT_CARD, LONGEST_PIN, RIAL, order_sent_at, sent_order, times
from kwbp.settling import AuthRevReqTBS, CapReqTBS, CapRevReqTBS, CredReqTBS
from shetab.dialect import Dialect
from shetab.jalali import local_moment, transmission_time
from shetab.message import Message
from shetab.reversal import confirmation_advice, repeated, reversal_advice
from shetab.subfields import AdditionalData, Coding, OriginalDataElements
from shetab.types import Pan, Rial

_REFUND: Final = "200000"


def first_message(
    dialect: Dialect,
    row: Settling,
    order: Order,
    followed: Settling | None,
    merchant: Merchant,
    pan: Pan,
    now: datetime,
) -> Message:
    """The message of a request that was not sent yet.

    :param followed: the capture or credit that it follows; None if it follows the order's own answer.
    """
    message = _first(dialect, row, order, followed, merchant, pan, now)
    return replace(message, original_at=_followed_at(order, followed))


def _followed_at(order: Order, followed: Settling | None) -> datetime:
    """When what is followed took place: its DE 12 and 13, with the year. A capture has the time of its order."""
    if followed is None or followed.sent.mti != "0200":
        return order_sent_at(order)
    return local_moment(followed.sent[12], followed.sent[13], followed.received_at)


def _first(
    dialect: Dialect,
    row: Settling,
    order: Order,
    followed: Settling | None,
    merchant: Merchant,
    pan: Pan,
    now: datetime,
) -> Message:
    original = sent_order(order) if followed is None else followed.sent
    sent_at = transmission_time(now)
    left: Rial | None = None
    body = None if row.is_release else row.asked.body
    match body:
        case None:
            action, left = "AUTHREV", Rial(row.leaves) if row.leaves else None
        case CredReqTBS():
            return _refund(dialect, row, order, original, merchant, Rial(body.amount.amount), pan, now)
        case CapReqTBS():
            return confirmation_advice(
                original,
                Rial(body.amount.amount),
                stan=row.stan,
                transmission_time=sent_at,
                coding=_coding(row, "CAPTURE"),
                pan=pan.reveal(),
            )
        case AuthRevReqTBS():
            action, left = "AUTHREV", Rial(body.new_amount.amount) if body.new_amount.amount else None
        case CapRevReqTBS():
            action = "CAPREV"
        case _:
            action = "CREDREV"
    return reversal_advice(
        original,
        stan=row.stan,
        transmission_time=sent_at,
        pan=pan.reveal(),
        coding=_coding(row, action),
        replacement=left,
    )


def repeated_message(row: Settling, order: Order, followed: Settling | None, pan: Pan, now: datetime) -> Message:
    """The message of a request that may have been sent: a repeat, with the same STAN, RRN and DE 90."""
    sent = row.sent
    fields = {**sent.fields, 2: pan.reveal()}
    # Of an advice DE 12 and 13 are those of what it follows; a refund has its own, of when it was sent first.
    own = local_moment(sent[12], sent[13], row.received_at) if sent.mti == "0200" else None
    first = Message(sent.mti, fields, original_at=_followed_at(order, followed), local_at=own)
    return repeated(first, transmission_time=transmission_time(now))


def kept_fields(message: Message) -> dict[int, str]:
    """What of a message is stored to repeat it: all but the PAN. Nothing of it is secret."""
    return {field: value for field, value in message.fields.items() if field != 2}


def _coding(row: Settling, action: str) -> str:
    return Coding(row.xid, action).to_de62()


def _refund(
    dialect: Dialect,
    row: Settling,
    order: Order,
    original: Message,
    merchant: Merchant,
    amount: Rial,
    pan: Pan,
    now: datetime,
) -> Message:
    """A transaction of its own, at its own time; DE 90 names what it gives back."""
    fields = times(now)
    fields |= {
        2: pan.reveal(),
        3: _REFUND,
        4: amount.to_de4(),
        11: row.stan,
        17: fields[13],
        18: merchant.mcc,
        19: IRAN,
        22: KEYED_WITHOUT_CARD,
        25: INTERNET,
        26: LONGEST_PIN,
        32: order.acquirer or "",
        37: row.rrn,
        41: original[41],
        42: original[42],
        43: merchant.network_name(dialect),
        48: AdditionalData(None).to_de48(),
        49: RIAL,
        62: _coding(row, "CREDIT"),
        90: OriginalDataElements.of(original).to_de90(),
        100: pan.bin,
    }
    return Message("0200", fields)
