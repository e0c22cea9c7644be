"""Rows 19 to 23 over HTTP, beside `POST /v1/settling`: what is looked up.

| route                              | for                            |                                              |
| ---------------------------------- | ------------------------------ | -------------------------------------------- |
| GET /v1/settlement-advices/{date}  | merchants                      | the SettleAdvice of a closed business day    |
| GET /v1/orders/{xid}/settlings     | the order's merchant, operator | what was asked for after the authorisation   |
| GET /v1/business-days              | the merchant, operator         | its business days, compared with the switch  |
"""

from __future__ import annotations

import base64
from datetime import date, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field
from starlette.requests import Request

from gateway.order import OrderKey
from gateway.settling import row as rows
from gateway.settling.service import SettlingService
from kwbp.codes import AuthCode
from kwbp.wrapper import MEDIA_TYPE
from runtime.identity import Caller, require

_MERCHANT: Final = "merchant:*"
_OPERATOR: Final = "service:operator"

MerchantCaller = Annotated[Caller, Depends(require(_MERCHANT))]
Reader = Annotated[Caller, Depends(require(_MERCHANT, _OPERATOR))]
XidHex = Annotated[str, Path(pattern=r"^[0-9a-f]{40}$", description="XID, 20 bytes as lower-case hexadecimal")]


def _settling(request: Request) -> SettlingService:
    service = request.app.state.gateway.settling
    assert isinstance(service, SettlingService)
    return service


Settling = Annotated[SettlingService, Depends(_settling)]


class SettlingDocument(BaseModel):
    """One request of rows 19 to 21, or a release. Amount in rial; `answer` is DER in base64."""

    request: str = Field(
        description="CapReq, CapRevReq, AuthRevReq, CredReq or CredRevReq; Release: the gateway gave back by itself "
        "what nobody had captured in time"
    )
    rrpid: str | None = Field(description="none of a release")
    state: str
    amount: int = Field(description="as asked for; of an AuthRevReq and a Release what is to be left")
    received_at: datetime
    changed_at: datetime
    stan: str
    rrn: str
    attempts: int
    auth_code: str | None
    rc: str | None
    answer: str | None = Field(description="KwbpMessage with the final answer")


class BusinessDayDocument(BaseModel):
    """A merchant's business day; sums are data elements 74 to 77, 86 to 89 and 97."""

    business_day: date
    state: str
    compared_at: datetime | None
    in_balance: bool | None = Field(description="by the switch's word (DE 66); none if not compared yet")
    own: dict[str, str] | None
    theirs: dict[str, str] | None


def create_router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1")

    @routes.get(
        "/settlement-advices/{day}",
        responses={200: {"content": {MEDIA_TYPE: {}}, "description": "KwbpMessage"}},
        response_class=Response,
    )
    async def advice(
        day: Annotated[date, Path(description="business day in Iran, YYYY-MM-DD")],
        caller: MerchantCaller,
        settling: Settling,
        part: Annotated[int, Query(ge=1, le=999)] = 1,
    ) -> Response:
        """KwbpMessage with the SettleAdvice of the merchant's business day; 404 while the day is open."""
        return Response(await settling.advices.of(caller.name, day, part), media_type=MEDIA_TYPE)

    @routes.get("/orders/{xid}/settlings")
    async def settlings(
        xid: XidHex,
        caller: Reader,
        settling: Settling,
        merchant_id: Annotated[str | None, Query()] = None,
    ) -> list[SettlingDocument]:
        """What was asked for about an order after its authorisation, oldest first."""
        key = OrderKey(_owner(caller, merchant_id), bytes.fromhex(xid))
        return [_document(row) for row in await settling.store.look(settling.store.of_key, key)]

    @routes.get("/business-days")
    async def business_days(
        caller: Reader,
        settling: Settling,
        merchant_id: Annotated[str | None, Query()] = None,
    ) -> list[BusinessDayDocument]:
        """The merchant's business days, oldest first."""
        days = await settling.store.look(settling.reconciliation.days, _owner(caller, merchant_id))
        return [_day(row) for row in days]

    return routes


def _owner(caller: Caller, merchant_id: str | None) -> str:
    """A merchant sees its own; the operator says whose."""
    return caller.name if caller.kind == "merchant" else merchant_id or ""


def _document(row: rows.Settling) -> SettlingDocument:
    body = None if row.is_release else row.asked.body
    return SettlingDocument(
        request="Release" if body is None else type(body).__name__.removesuffix("TBS"),
        rrpid=None if body is None else row.rrpid.hex(),
        state=row.state,
        amount=row.leaves or 0 if body is None else body.amount.amount,
        received_at=row.received_at,
        changed_at=row.changed_at,
        stan=row.stan,
        rrn=row.rrn,
        attempts=row.attempts,
        auth_code=None if row.auth_code is None else AuthCode(row.auth_code).protocol_name,
        rc=row.rc,
        answer=None if row.answer is None else base64.b64encode(row.answer).decode("ascii"),
    )


def _day(row: Any) -> BusinessDayDocument:
    return BusinessDayDocument(
        business_day=date.fromisoformat(row.business_day),
        state=row.state,
        compared_at=row.compared_at,
        in_balance=None if row.settled is None else row.settled == "1",
        own=row.own,
        theirs=row.theirs,
    )
