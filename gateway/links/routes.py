"""Lines and routes over HTTP, for the operator.

| route          |                                                                      |
| -------------- | -------------------------------------------------------------------- |
| GET /v1/links  | every line of every connector: state, traffic, round trips           |
| GET /v1/routes | which connector serves which cards, and how many of them are up      |
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from gateway.links.meters import LineState
from gateway.operating.officer_acts import acting
from gateway.routing import Routes
from runtime.identity import Caller

OperatorCaller = Annotated[Caller, Depends(acting("service:operator"))]


class LineDocument(BaseModel):
    """One line. Round trips in milliseconds, of the last few hundred."""

    model_config = ConfigDict(from_attributes=True)

    connector: str
    line: int
    address: str
    tls: bool
    state: str = Field(description="up, signing on, connecting or down")
    since: datetime
    in_flight: int
    sent: int
    received: int
    refused: int = Field(description="messages that came and were not believed, or that nobody waited for")
    reconnects: int
    p50_ms: float | None
    p99_ms: float | None
    clock_ahead: float | None = Field(
        description="seconds that the clock is ahead of the network's at least, by its answers; none: it has not said"
    )


class RouteDocument(BaseModel):
    """A prefix of PANs and the connector that serves it; no prefix: all other cards."""

    prefix: str | None
    connector: str | None = Field(description="none: cards without a route are declined")
    signed_on: bool


def _lines(request: Request) -> list[LineState]:
    lines: list[LineState] = request.app.state.gateway.line_states()
    return lines


def _routes(request: Request) -> Routes:
    routes: Routes = request.app.state.gateway.routes
    return routes


def create_router() -> APIRouter:
    """The routes; the gateway is in `app.state.gateway`."""
    router = APIRouter()

    @router.get("/v1/links")
    async def links(_caller: OperatorCaller, lines: Annotated[list[LineState], Depends(_lines)]) -> list[LineDocument]:
        """The lines to switch and hosts."""
        return [LineDocument.model_validate(each) for each in lines]

    @router.get("/v1/routes")
    async def routes(_caller: OperatorCaller, found: Annotated[Routes, Depends(_routes)]) -> list[RouteDocument]:
        """Which cards go where; the longest prefix wins."""
        table = found.table
        rows: list[tuple[str | None, str | None]] = [*sorted(table.prefixes.items()), (None, table.default)]
        return [
            RouteDocument(prefix=prefix, connector=name, signed_on=name is not None and found.of(name).signed_on)
            for prefix, name in rows
        ]

    return router
