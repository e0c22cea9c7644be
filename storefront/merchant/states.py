"""The life of an order at the merchant (protocol.md, "State machines"): which state may follow which.

    INVOICED ─► PAID_PENDING ─┬─► AUTHORISED ─► ACKED ─► RECEIPTED
                              ├─► DECLINED
                              └─► UNKNOWN ─┬─► REVERSED   the gateway has given back whatever was debited
                                           └─► DECLINED   nothing was debited

An expired INVOICED order needs no state of its own: M2 refuses by the invoice's own notAfter.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class OrderState(StrEnum):
    """States of one order; the value is what the database holds."""

    INVOICED = "INVOICED"
    PAID_PENDING = "PAID_PENDING"
    """The buyer's order is accepted; AuthReq is stored and sent, the same bytes each time, until it is answered."""
    AUTHORISED = "AUTHORISED"
    """The gateway's approval and our AuthAck are stored; AuthAck is sent until the gateway confirms it."""
    ACKED = "ACKED"
    RECEIPTED = "RECEIPTED"
    DECLINED = "DECLINED"
    UNKNOWN = "UNKNOWN"
    """The gateway does not know, or gives back; it is asked until it says, signed, that the order is closed."""
    REVERSED = "REVERSED"


_S: Final = OrderState
MOVES: Final[dict[OrderState, frozenset[OrderState]]] = {
    _S.INVOICED: frozenset({_S.PAID_PENDING}),
    _S.PAID_PENDING: frozenset({_S.AUTHORISED, _S.DECLINED, _S.UNKNOWN}),
    _S.AUTHORISED: frozenset({_S.ACKED, _S.UNKNOWN}),
    _S.ACKED: frozenset({_S.RECEIPTED}),
    _S.RECEIPTED: frozenset(),
    _S.DECLINED: frozenset(),
    _S.UNKNOWN: frozenset({_S.REVERSED, _S.DECLINED}),
    _S.REVERSED: frozenset(),
}

PAID: Final = frozenset({_S.ACKED, _S.RECEIPTED})
"""States in which the goods may be shipped."""

UNFINISHED: Final = frozenset({_S.PAID_PENDING, _S.AUTHORISED, _S.ACKED})
"""States that a merchant which starts again must drive on."""


def may_follow(before: OrderState, after: OrderState) -> bool:
    """Whether an order may go from `before` to `after`."""
    return after in MOVES[before]
