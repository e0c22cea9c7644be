"""The life of an order, step by step: a row a step, written in the transaction that makes the step.

What a step says beside its state is little, and never card data: trace numbers, response codes, the number of an
attempt, who did it and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from gateway.operating.tables import order_steps
from gateway.order import Order

ATTEMPT: Final = "attempt"
"""In `Step.what`: which attempt of a reversal, from 1."""

_STEP: Final = insert(order_steps)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an order. `state` is the order's after it; `what` is JSON."""

    number: int
    at: datetime
    state: str
    what: Mapping[str, Any]


def record(connection: Connection, order: Order, at: datetime, what: Mapping[str, Any] | None = None) -> None:
    """Write the step that made `order` what it is; its `steps` counts this one. Part of the caller's transaction."""
    known = {name: value for name, value in (what or {}).items() if value is not None}
    connection.execute(
        _STEP,
        {
            "received_at": order.received_at,
            "xid": order.xid,
            "merchant_id": order.merchant_id,
            "kind": order.kind,
            "number": order.steps,
            "at": at,
            "state": order.state,
            "what": known or None,
        },
    )


def steps_of(connection: Connection, order: Order) -> list[Step]:
    """The steps of an order, in their order."""
    mine = (
        order_steps.c.received_at == order.received_at,
        order_steps.c.xid == order.xid,
        order_steps.c.merchant_id == order.merchant_id,
        order_steps.c.kind == order.kind,
    )
    rows = connection.execute(select(order_steps).where(*mine).order_by(order_steps.c.number))
    return [Step(row.number, row.at, row.state, row.what or {}) for row in rows]
