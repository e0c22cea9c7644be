"""GET /v1/status: the gateway at one look, for the operator."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request

from gateway.gateway import Gateway
from gateway.open_work import OpenWork, open_work
from gateway.operating.officer_acts import acting
from gateway.states import OrderState
from runtime.identity import Caller
from runtime.problems import Problem

_OPERATOR: Final = "service:operator"

OperatorCaller = Annotated[Caller, Depends(acting(_OPERATOR))]


class KeyAge(BaseModel):
    """A zone key in use; `since` when."""

    zone: str = Field(description="switch, or the connector whose own keys these are")
    key: str
    index: int
    check_value: str
    since: datetime
    changes_at: datetime


class StatusDocument(BaseModel):
    """What an operator wants to know first."""

    ready: bool
    reasons: list[str] = Field(description="why an order that comes now cannot be collected, and what else is wrong")
    lines: dict[str, bool] = Field(description="connectors by name: whether each is signed on")
    clocks: dict[str, float | None] = Field(
        description="connectors by name: seconds that the clock is ahead of theirs at least; none: they have not said"
    )
    open_orders: dict[str, int] = Field(description="orders that have not come to their end, by state")
    unknown: int = Field(description="orders whose outcome nobody knows and that are not being reversed yet")
    reversals_waiting: int
    handed_over: int = Field(description="orders that a person must decide (REV_FAILED)")
    oldest_open_since: datetime | None = Field(description="of the orders above but those that await their AuthAck")
    days_open: int
    oldest_day_open: date | None
    working: int = Field(description="messages that this process works on now")
    zone_keys: list[KeyAge] | None = Field(description="none while they cannot be asked for")


def create_router() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/status")
    async def status(request: Request, _caller: OperatorCaller) -> StatusDocument:
        """The gateway at one look: ready or why not, lines, what is open and since when, keys."""
        gateway = request.app.state.gateway
        assert isinstance(gateway, Gateway)
        found = await open_work(gateway.store, gateway.clock())
        return StatusDocument(
            ready=gateway.ready,
            reasons=[*gateway.reasons, *gateway.watch.degraded],
            lines=gateway.lines,
            clocks={each.connector: each.clock_ahead for each in gateway.line_states()},
            **_told(found),
            working=gateway.admission.working,
            zone_keys=await _keys(gateway),
        )

    return routes


def _told(found: OpenWork) -> dict[str, Any]:
    troubled = [since for state, since in found.since.items() if state is not OrderState.APPROVED]
    return {
        "open_orders": {state.value: number for state, number in found.orders.items()},
        "unknown": found.orders.get(OrderState.UNKNOWN, 0),
        "reversals_waiting": found.orders.get(OrderState.REV_QUEUED, 0),
        "handed_over": found.orders.get(OrderState.REV_FAILED, 0),
        "oldest_open_since": min(troubled, default=None),
        "days_open": found.days,
        "oldest_day_open": found.oldest_day,
    }


async def _keys(gateway: Gateway) -> list[KeyAge] | None:
    try:
        return [KeyAge.model_validate(each, from_attributes=True) for each in await gateway.zone_keys()]
    except Problem:
        return None
