"""KWBP to ISO 8583 and back: which data element says what (bank-network tables of the dialect).

Pure: takes values, returns messages. The one place of the gateway where clear card data is handled; it goes from the
key service's answer into the message and is kept nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from gateway.order import Order, UnclaimedAnswer
from shetab.dialect import Dialect
from shetab.jalali import local_moment, local_time_and_date, transmission_time
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.reversal import repeated, reversal_advice
from shetab.subfields import AdditionalData, SecurityControl
from shetab.types import Cvv2, Expiry, Pan, Rial

if TYPE_CHECKING:
    from gateway.merchants import Merchant

SALE: Final = "0200"
"""MTI of an order that debits the card."""
HOLD: Final = "0100"
"""MTI of an order that holds the money, to be captured later (0220)."""
ORDERS: Final = frozenset({SALE, HOLD})
"""What takes money or holds it."""
_PURCHASE: Final = "000000"
IRAN: Final = "364"
RIAL: Final = "364"
KEYED_WITHOUT_CARD: Final = "010"
"""DE 22: PAN entered by hand, nothing said of a PIN pad (ISO 8583:1987 A.5)."""
INTERNET: Final = "59"
LONGEST_PIN: Final = "12"
"""ISO 9564-1 format 3: filled at random, so equal PINs of one card do not give equal blocks."""


class OpenedCard(Protocol):
    """What the key service returns of a card, for one message (see `gateway_keys.client`)."""

    @property
    def pan(self) -> Pan: ...
    @property
    def expiry(self) -> Expiry: ...
    @property
    def cvv2(self) -> Cvv2 | None: ...
    @property
    def pin_block(self) -> bytes | None: ...
    @property
    def pin_key_index(self) -> int: ...
    @property
    def mac_key_index(self) -> int: ...
    @property
    def pin_block_format(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SwitchAnswer:
    """What a 0210 says, in terms of KWBP. `outcome` is "approved", "declined" or "unknown".

    `rc` is DE 39 as it came, `told_rc` what the merchant is told of it: nothing if the table does not know it.
    """

    outcome: str
    auth_code: int
    rc: str | None = None
    told_rc: str | None = None
    approval: str | None = None
    settle_date: str | None = None
    alarm: bool = False
    left: bool = True
    """FALSE: it is certain that no byte of the request left."""


_NO_REPLY: Final = 3
NO_ANSWER: Final = SwitchAnswer("unknown", _NO_REPLY)
"""What is known when no 0210 came that can be believed."""


def times(now: datetime) -> dict[int, str]:
    """DE 7 (UTC), DE 12 and DE 13 (Iran) of a message first sent at `now`."""
    local_time, local_date = local_time_and_date(now)
    return {7: transmission_time(now), 12: local_time, 13: local_date}


def order_request(
    dialect: Dialect, order: Order, merchant: Merchant, card: OpenedCard, now: datetime, *, mti: str = SALE
) -> Message:
    """The 0200 of a VERIFIED order, or the 0100 if its money is only to be held."""
    if order.acquirer is None or order.stan is None or order.rrn is None:
        raise ValueError("the order has no trace numbers yet")
    fields = times(now)
    fields |= {
        2: card.pan.reveal(),
        3: _PURCHASE,
        4: Rial(order.amount).to_de4(),
        11: order.stan,
        14: card.expiry.reveal(),
        17: fields[13],
        18: merchant.mcc,
        19: IRAN,
        22: KEYED_WITHOUT_CARD,
        25: INTERNET,
        26: LONGEST_PIN,
        32: order.acquirer,
        37: order.rrn,
        41: dialect.pad(41, merchant.terminal_id),
        42: dialect.pad(42, merchant.merchant_id),
        43: merchant.network_name(dialect),
        48: AdditionalData(card.cvv2).to_de48(),
        49: RIAL,
        # The purchase as buyer and merchant know it: with it an issuer can ask for the signed order.
        62: f"KWBP2 {order.xid.hex()}",
        100: card.pan.bin,
    }
    if card.pin_block is not None:
        security = SecurityControl(card.pin_block_format, card.pin_key_index, card.mac_key_index)
        fields |= {52: card.pin_block.hex().upper(), 53: security.to_de53()}
    return Message(mti, fields)


def reversible_fields(dialect: Dialect, request: Message) -> dict[int, str]:
    """What of an order must be stored to reverse it: all that its 0420 repeats, but the PAN. Nothing of it is secret.

    A hold is told from a sale by its MTI, under 0.
    """
    kept = dialect.messages["0420"].mandatory - {2}
    held = {0: request.mti} if request.mti == HOLD else {}
    return held | {field: value for field, value in request.fields.items() if field in kept}


def sent_order(order: Order) -> Message:
    """The 0200 or 0100 as it was sent, as far as it was kept: without PAN and secrets."""
    if order.sent_fields is None:
        raise ValueError("the order was not sent")
    return Message(order.mti, {int(field): value for field, value in order.sent_fields.items() if field != "0"})


def order_sent_at(order: Order) -> datetime:
    """When the order took place: DE 12 and 13 of its message, with the year that they lack."""
    sent = sent_order(order)
    return local_moment(sent[12], sent[13], order.received_at)


def reversal_request(order: Order, pan: Pan, now: datetime) -> Message:
    """The 0420 of a queued reversal, or the 0421 if one was sent before."""
    if order.reversal_stan is None:
        raise ValueError("the reversal is not queued")
    original = sent_order(order)
    sent_at = transmission_time(now)
    advice = reversal_advice(original, stan=order.reversal_stan, transmission_time=sent_at, pan=pan.reveal())
    advice = replace(advice, original_at=order_sent_at(order))
    return advice if order.reversal_attempts == 0 else repeated(advice, transmission_time=sent_at)


def read_answer(codes: ResponseCodes, answer: Message) -> SwitchAnswer:
    """Outcome and references of a 0210. A code that is not in the table is outcome "unknown"."""
    rc = answer[39]
    entry = codes.of(rc)
    approval = answer.get(38) if entry.outcome == "approved" else None
    return SwitchAnswer(
        rc=rc,
        told_rc=rc if rc in codes.codes else None,
        outcome=entry.outcome,
        auth_code=codes.auth_code(rc),
        approval=approval,
        settle_date=answer[15],
        alarm=entry.alarm,
    )


def not_sent(codes: ResponseCodes, rc: str) -> SwitchAnswer:
    """What the gateway says itself, under `rc`, when it is certain that nothing reached the switch."""
    return SwitchAnswer("declined", codes.auth_code(rc), rc=rc, told_rc=rc, left=False)


def unclaimed(codes: ResponseCodes, answer: Message) -> UnclaimedAnswer:
    """An answer that nobody waits for, without its card data."""
    fields: Mapping[int, str] = answer.fields
    rc = fields.get(39)
    return UnclaimedAnswer(
        mti=answer.mti,
        acquirer=fields.get(32),
        stan=fields.get(11),
        rrn=fields.get(37),
        terminal_id=fields.get(41, "").rstrip(),
        rc=rc,
        approval=fields.get(38),
        approved=rc is not None and codes.of(rc).outcome == "approved",
    )
