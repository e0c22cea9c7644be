"""What became of a request about money, and how the money of an order stands, in a word each."""

from __future__ import annotations

from enum import StrEnum

from kwbp.settling import Standing


class RequestState(StrEnum):
    """States of one request; the value is what the database holds. Only OPEN is left, for one of the others."""

    OPEN = "open"
    """Nobody knows yet whether it was done; the same bytes are sent until the gateway says so."""
    APPROVED = "approved"
    DECLINED = "declined"
    """The gateway's final answer: it was not done."""
    REFUSED = "refused"
    """The gateway refused it, signed, and did not take it in: nothing was done."""


class MoneyState(StrEnum):
    """How the money of an order stands that the gateway approved."""

    HELD = "held"
    """Authorised, nothing captured."""
    CANCELLED = "cancelled"
    """All of the authorisation was taken back."""
    CAPTURED = "captured"
    SETTLED = "settled"
    """All that was captured is in closed batches."""
    PARTLY_REFUNDED = "partly-refunded"
    REFUNDED = "refunded"


def money_state(standing: Standing) -> MoneyState:
    """The word for a standing. A refund says more than a closed batch, so it goes first."""
    if standing.authorised == 0:
        return MoneyState.CANCELLED
    if standing.captured == 0:
        return MoneyState.HELD
    if standing.refunded:
        return MoneyState.REFUNDED if standing.refunded == standing.captured else MoneyState.PARTLY_REFUNDED
    return MoneyState.SETTLED if all(each.settled for each in standing.captures) else MoneyState.CAPTURED
