"""The life of an order at the gateway (protocol.md, "State machines"): which state may follow which.

    RECEIVED ─► VERIFIED ─► SENT ─┬─► APPROVED ─┬─► ACKED ──► REV_QUEUED   a hold that was never captured lapses
        │           │             │             └─► REV_QUEUED   no AuthAck in time, one with accepted FALSE, operator
        │           │             ├─► DECLINED
        └───────────┴─────────────┘
                                  └─► UNKNOWN ────► REV_QUEUED ─┬─► REVERSED
                                                                └─► REV_FAILED   a person must look
                                                                      ├─► REV_QUEUED   once more, on a person's word
                                                                      ├─► REVERSED     the bank told: it is given back
                                                                      └─► DEBITED      the bank told: it stays debited

An order that was refused before its signatures held has no state: it leaves no trace in the order book, so it cannot
stand in the way of the honest one. RECEIVED therefore means: all signatures verified (G1–G7), no key used yet.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class OrderState(StrEnum):
    """States of one order; the value is what the database holds."""

    RECEIVED = "RECEIVED"
    """Signatures good, this request holds the XID. No private key has been used, nothing has left."""
    VERIFIED = "VERIFIED"
    """Opened and bound to its certificate (G8–G11); STAN and RRN are allocated. Nothing has left."""
    SENT = "SENT"
    """From here on the 0200 may be at the switch."""
    APPROVED = "APPROVED"
    DECLINED = "DECLINED"
    """Money did not move: the issuer, a limit or the sealed part itself refused."""
    UNKNOWN = "UNKNOWN"
    """No answer that can be believed. Always reversed."""
    ACKED = "ACKED"
    """The merchant has signed that it holds our answer: the automatic reversal is off."""
    REV_QUEUED = "REV_QUEUED"
    REVERSED = "REVERSED"
    REV_FAILED = "REV_FAILED"
    """The gateway has done what it could. A person asks the bank, and states what it told (`gateway.operating`)."""
    DEBITED = "DEBITED"
    """A person has stated, and another confirmed, that the card stays debited. The merchant was told no approval."""


_S: Final = OrderState
MOVES: Final[dict[OrderState, frozenset[OrderState]]] = {
    # VERIFIED again: a gateway that was killed before SENT opens the order anew, with new numbers.
    _S.RECEIVED: frozenset({_S.VERIFIED, _S.DECLINED}),
    _S.VERIFIED: frozenset({_S.VERIFIED, _S.SENT, _S.DECLINED}),
    _S.SENT: frozenset({_S.APPROVED, _S.DECLINED, _S.UNKNOWN}),
    _S.APPROVED: frozenset({_S.ACKED, _S.REV_QUEUED}),
    _S.DECLINED: frozenset(),
    _S.UNKNOWN: frozenset({_S.REV_QUEUED}),
    # Of a hold alone, of which nothing was captured: the merchant's own word is for the rest (`OrderStore.release`).
    _S.ACKED: frozenset({_S.REV_QUEUED}),
    _S.REV_QUEUED: frozenset({_S.REVERSED, _S.REV_FAILED}),
    # The one way back: the switch had answered the reversal with "original not found" (25), then the approval of
    # that original came in late. It was overtaken on the way and has now debited the card: reverse once more.
    _S.REVERSED: frozenset({_S.REV_QUEUED}),
    _S.REV_FAILED: frozenset({_S.REV_QUEUED, _S.REVERSED, _S.DEBITED}),
    _S.DEBITED: frozenset(),
}

WITHOUT_PAN: Final = frozenset({_S.DECLINED, _S.DEBITED})
"""States in which no message about the order will be sent any more, so the sealed PAN is dropped on the way in.

ACKED keeps it while a capture, a credit or their reversal may need it (`gateway.settling`).

REVERSED loses it too once the switch has said that it took the original back; after "original not found" it is kept for
a while (`OrderStore.forget_pans`), because the original may still come in and need another reversal.
"""


def may_follow(before: OrderState, after: OrderState) -> bool:
    """Whether an order may go from `before` to `after`."""
    return after in MOVES[before]
