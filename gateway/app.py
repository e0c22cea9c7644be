"""The gateway over HTTP: mutual TLS, the client certificate says who asks.

| route                      | for                             |                                                 |
| -------------------------- | ------------------------------- | ----------------------------------------------- |
| POST /v1/auth              | merchants                       | AuthReq in, AuthRes or Error out                 |
| POST /v1/ack               | merchants                       | AuthAck in; 204 if taken, else Error             |
| POST /v1/inquiry           | merchants                       | InqReq in, InqRes or Error out                   |
| POST /v1/password          | merchants                       | OTPReq in, OTPRes or Error out                   |
| POST /v1/settling          | merchants                       | CapReq, CapRevReq, AuthRevReq, CredReq,          |
|                            |                                 | CredRevReq or BatchAdminReq in, Res or Error out |
| GET /v1/orders/{xid}       | the order's merchant, operator  | where an order stands, with the signed answer    |
| POST /v1/certificates      | merchants                       | PCertReq in, PCertRes or Error out               |
| GET /v1/orders/{xid}/      | operator                        | the objects that prove the gateway's part        |
|     evidence               |                                 |                                                  |
| GET, POST /v1/merchants    | operator                        | the merchants this gateway collects for          |

A protocol message is answered with a protocol message and status 200, whatever it says: HTTP status carries no business
meaning (KWBP global rule 7). Problem details are for what is not a protocol exchange: nothing that was sent has been
judged, and the same bytes may be sent again.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, FastAPI, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from gateway.acquirer import routes as acquirer_routes
from gateway.errors import MerchantRegistryError, StoreError, TerminalTakenError
from gateway.evidence import evidence_of
from gateway.gateway import Gateway
from gateway.links import routes as links_routes
from gateway.merchants import Merchant
from gateway.openapi import MESSAGE_IN, complete
from gateway.operating.officer_acts import acting
from gateway.operating.routes import create_router as operating_routes
from gateway.order import Order, OrderKey
from gateway.settling.routes import create_router
from gateway.settling.store import SettlingStore
from gateway.status import create_router as status_routes
from kwbp.codes import AuthCode
from kwbp.wrapper import MEDIA_TYPE
from runtime import health, problems
from runtime.group_writer import DatabaseUnavailableError
from runtime.identity import Caller, caller_of, require
from runtime.language import Message
from runtime.problems import Problem

A = TypeVar("A")

_MERCHANT: Final = "merchant:*"
_OPERATOR: Final = "service:operator"
_MESSAGE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {MEDIA_TYPE: {}}, "description": "KwbpMessage"}}

MerchantCaller = Annotated[Caller, Depends(require(_MERCHANT))]
OperatorCaller = Annotated[Caller, Depends(acting(_OPERATOR))]
OrderReader = Annotated[Caller, Depends(require(_MERCHANT, _OPERATOR))]
XidHex = Annotated[str, Path(pattern=r"^[0-9a-f]{40}$", description="XID, 20 bytes as lower-case hexadecimal")]


class MerchantDocument(BaseModel):
    """A merchant's registration. `order_limit` in rial; none for no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    merchant_id: str = Field(max_length=15)
    terminal_id: str = Field(max_length=8)
    name: str = Field(max_length=40, description="for DE 43: ASCII, or Persian where the dialect has it")
    mcc: str = Field(max_length=4)
    active: bool = True
    order_limit: int | None = Field(default=None, gt=0)
    iban: str | None = Field(default=None, max_length=26, description="where the acquirer pays to")


class OrderDocument(BaseModel):
    """Where an order stands. Amount in rial; `answer` and `auth_ack` are DER in base64."""

    xid: str
    merchant_id: str
    kind: str
    state: str
    amount: int
    received_at: datetime
    changed_at: datetime
    masked_pan: str | None
    stan: str | None
    rrn: str | None
    rc: str | None
    approval: str | None
    settle_date: str | None
    auth_code: str | None
    ack_by: datetime | None
    reversal_reason: str | None
    reversal_attempts: int
    reversal_rc: str | None
    late_rc: str | None = Field(description="DE 39 of an answer that came too late to count")
    answer: str | None = Field(description="KwbpMessage with the AuthRes or Error that was given")
    auth_ack: str | None = Field(description="SignedData of the merchant's AuthAck")


class ZoneKeyDocument(BaseModel):
    """A zone key in use: what the two ends compare, and when it is changed by itself."""

    zone: str = Field(description="switch, or the connector whose own keys these are")
    key: str
    index: int
    check_value: str
    since: datetime
    changes_at: datetime
    replaced_still_valid: int


class EvidenceDocument(BaseModel):
    """The gateway's part of a purchase: DER in base64, signed objects by their names in a bundle."""

    state: str
    documents: dict[str, str]
    money: list[dict[str, str]] = Field(description="requests and answers of rows 19 to 21, in their order")
    authorities: list[str] = Field(description="certificates of authorities above the signers")
    crls: list[str] = Field(description="every status list that the gateway has judged by")


async def _gateway(request: Request) -> Gateway:  # a plain function would run in a thread
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


Served = Annotated[Gateway, Depends(_gateway)]


async def _counted(request: Request, gateway: Served) -> None:
    """Whatever a merchant asks is counted, before any of it is read."""
    caller = caller_of(request.scope)
    if caller.kind == "merchant":
        gateway.admission.count(caller.name)


def create_app(open_gateway: Callable[[], AbstractAsyncContextManager[Gateway]]) -> FastAPI:
    """The application; `open_gateway` makes its gateway in the server's event loop and closes it at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_gateway() as gateway:
            app.state.gateway = gateway
            await gateway.start()
            try:
                yield
            finally:
                await gateway.stop()

    app = FastAPI(title="KWBP payment gateway", version="1", lifespan=lifespan, dependencies=[Depends(_counted)])
    problems.install(app)
    health.install(app, "gateway", lambda: bool(app.state.gateway.ready), *_told(app))
    app.add_exception_handler(DatabaseUnavailableError, _on_store_failure)
    app.add_exception_handler(StoreError, _on_store_failure)

    @app.post("/v1/auth", responses=_MESSAGE, response_class=Response, openapi_extra=MESSAGE_IN)
    async def authorize(request: Request, caller: MerchantCaller, gateway: Served) -> Response:
        """Collect an order: KwbpMessage with AuthReq in, with AuthRes or Error out; for the same bytes, the same."""
        return _message(await _exchange(request, caller, gateway, gateway.authorize))

    @app.post(
        "/v1/ack",
        responses={**_MESSAGE, 204: {"description": "taken"}},
        response_class=Response,
        openapi_extra=MESSAGE_IN,
    )
    async def acknowledge(request: Request, caller: MerchantCaller, gateway: Served) -> Response:
        """Acknowledge an AuthRes: KwbpMessage with AuthAck in; nothing out, or an Error."""
        error = await _exchange(request, caller, gateway, gateway.acknowledge)
        return Response(status_code=204) if error is None else _message(error)

    @app.post("/v1/inquiry", responses=_MESSAGE, response_class=Response, openapi_extra=MESSAGE_IN)
    async def inquire(request: Request, caller: MerchantCaller, gateway: Served) -> Response:
        """Where a purchase stands: KwbpMessage with InqReq in, with InqRes or Error out."""
        return _message(await _exchange(request, caller, gateway, gateway.inquire))

    @app.post("/v1/password", responses=_MESSAGE, response_class=Response, openapi_extra=MESSAGE_IN)
    async def password(request: Request, caller: MerchantCaller, gateway: Served) -> Response:
        """A password for one payment: KwbpMessage with OTPReq in, with OTPRes or Error out; for the same, the same."""
        return _message(await _exchange(request, caller, gateway, gateway.password))

    @app.post("/v1/settling", responses=_MESSAGE, response_class=Response, openapi_extra=MESSAGE_IN)
    async def settle(request: Request, caller: MerchantCaller, gateway: Served) -> Response:
        """Money after the authorisation: KwbpMessage with a request of rows 19 to 22 in, with its Res or Error out."""
        return _message(await _exchange(request, caller, gateway, gateway.settle))

    @app.post("/v1/certificates", responses=_MESSAGE, response_class=Response, openapi_extra=MESSAGE_IN)
    async def certificates(request: Request, caller: MerchantCaller, gateway: Served) -> Response:
        """What card data are to be sealed to: KwbpMessage with PCertReq in, with PCertRes or Error out."""
        return _message(await _exchange(request, caller, gateway, gateway.certificates))

    @app.get("/v1/orders/{xid}")
    async def order(
        xid: XidHex, caller: OrderReader, gateway: Served, merchant_id: Annotated[str | None, Query()] = None
    ) -> OrderDocument:
        """Where an order stands. A merchant sees its own; the operator says whose."""
        owner = caller.name if caller.kind == "merchant" else merchant_id
        found = await gateway.store.found(OrderKey(owner, bytes.fromhex(xid))) if owner is not None else None
        if found is None:
            raise Problem(404, "unknown-xid", "there is no order of this XID for this merchant")
        return _order_document(found)

    @app.get("/v1/orders/{xid}/evidence")
    async def evidence(
        xid: XidHex, _caller: OperatorCaller, gateway: Served, merchant_id: Annotated[str, Query()]
    ) -> EvidenceDocument:
        """What the gateway holds that proves its part of an order."""
        found = await gateway.store.found(OrderKey(merchant_id, bytes.fromhex(xid)))
        if found is None:
            raise Problem(404, "unknown-xid", "there is no order of this XID for this merchant")
        # Not in the event loop: the status lists of years are many, and orders do not wait for them.
        settled = await gateway.store.look(SettlingStore(gateway.store).of_order, found)
        held = await asyncio.to_thread(evidence_of, found, gateway.disclosures, settled)
        return EvidenceDocument(
            state=found.state,
            documents={name: _base64(der) for name, der in held.documents.items()},
            money=[{"request": _base64(asked), "answer": _base64(said)} for asked, said in held.movements],
            authorities=[_base64(der) for der in held.authorities],
            crls=[_base64(der) for der in held.crls],
        )

    @app.post("/v1/merchants", status_code=201)
    async def register(
        document: MerchantDocument, response: Response, _caller: OperatorCaller, gateway: Served
    ) -> MerchantDocument:
        """Register a merchant, or change a registration (200)."""
        try:
            new = await gateway.merchants.register(Merchant(**document.model_dump()), gateway.clock())
        except MerchantRegistryError as error:
            raise Problem(
                409 if isinstance(error, TerminalTakenError) else 422, "registration-refused", error.told
            ) from None
        response.status_code = 201 if new else 200
        return document

    @app.get("/v1/merchants")
    async def merchants(_caller: OperatorCaller, gateway: Served) -> list[MerchantDocument]:
        """All registered merchants."""
        await gateway.merchants.refresh()
        return [MerchantDocument.model_validate(each, from_attributes=True) for each in gateway.merchants.all()]

    @app.get("/v1/zone-keys")
    async def zone_keys(_caller: OperatorCaller, gateway: Served) -> list[ZoneKeyDocument]:
        """The zone keys in use, of all zones whose keys are exchanged."""
        return [ZoneKeyDocument.model_validate(each, from_attributes=True) for each in await gateway.zone_keys()]

    @app.post("/v1/zone-keys:change")
    async def change_zone_keys(
        _caller: OperatorCaller, gateway: Served, zone: str | None = None
    ) -> list[ZoneKeyDocument]:
        """Have the other end send new zone keys, of one zone or of all, and wait until they are in use."""
        changed = await gateway.change_zone_keys(zone)
        return [ZoneKeyDocument.model_validate(each, from_attributes=True) for each in changed]

    app.include_router(create_router())
    app.include_router(acquirer_routes.create_router())
    app.include_router(operating_routes())
    app.include_router(links_routes.create_router())
    app.include_router(status_routes())
    complete(app)
    return app


def _told(app: FastAPI) -> tuple[Callable[[], Mapping[str, object]], Callable[[], bool]]:
    """What `/health/ready` says beside its status, and whether somebody should look though it serves."""

    def details() -> Mapping[str, object]:
        gateway: Gateway = app.state.gateway
        return {"reasons": [*gateway.reasons, *gateway.watch.degraded], "lines": gateway.lines}

    return details, lambda: bool(app.state.gateway.watch.degraded)


async def _exchange(
    request: Request, caller: Caller, gateway: Gateway, answer: Callable[[str, bytes], Awaitable[A]]
) -> A:
    """The one way of protocol messages: read, then worked on when it is their turn."""
    with gateway.admission.reading(caller.name):
        body = await _body(request)
    async with gateway.admission.turn(caller.name):
        return await answer(caller.name, body)


async def _body(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise Problem(
            415, "unsupported-media-type", Message("the body must be {type}", type=MEDIA_TYPE), clause="KWBP rule 7"
        )
    return await request.body()


def _message(data: bytes) -> Response:
    return Response(data, media_type=MEDIA_TYPE)


def _order_document(order: Order) -> OrderDocument:
    return OrderDocument(
        xid=order.xid.hex(),
        merchant_id=order.merchant_id,
        kind=order.kind,
        state=order.state,
        amount=order.amount,
        received_at=order.received_at,
        changed_at=order.changed_at,
        masked_pan=order.masked_pan,
        stan=order.stan,
        rrn=order.rrn,
        rc=order.rc,
        approval=order.approval,
        settle_date=order.settle_date,
        auth_code=None if order.auth_code is None else AuthCode(order.auth_code).protocol_name,
        ack_by=order.ack_by,
        reversal_reason=order.reversal_reason,
        reversal_attempts=order.reversal_attempts,
        reversal_rc=order.reversal_rc,
        late_rc=order.late_rc,
        answer=None if order.answer is None else _base64(order.answer),
        auth_ack=None if order.auth_ack is None else _base64(order.auth_ack),
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


async def _on_store_failure(request: Request, _error: Exception) -> Response:
    told = "the order book cannot be written; send the same again"
    problem = Problem(503, "order-book-unavailable", told, headers={"retry-after": "1"})
    return problem.response(problems.reader_of(request.scope))
