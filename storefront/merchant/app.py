"""The merchant server: KWBP messages for wallets, a catalogue for everybody, the order book for the merchant's people.

    POST /kwbp/invoice-request   KwbpMessage → KwbpMessage   anyone (the message is signed)
    POST /kwbp/purchase          KwbpMessage → KwbpMessage   anyone (the message is signed)
    GET  /catalogue              JSON                        anyone
    GET  /orders                 JSON, newest first          the operator
    GET  /orders/{xid}           JSON                        the operator
    GET  /orders/{xid}/evidence  JSON, objects in base64     the operator

HTTP status carries no business meaning for KWBP messages: an Error message comes with 200 like every other answer.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from starlette.responses import Response

from kwbp.wrapper import MEDIA_TYPE
from runtime import health, problems
from runtime.identity import Caller, require
from runtime.problems import Problem
from storefront.merchant.shop import Shop
from storefront.merchant.store import Order

OPERATOR = ("service:operator",)

Operator = Annotated[Caller, Depends(require(*OPERATOR))]


def create_app(open_shop: Callable[[], AbstractAsyncContextManager[Shop]], merchant_id: str) -> FastAPI:
    """The ASGI application of one merchant; `open_shop` opens its lines when the server starts."""
    opened: list[Shop] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with open_shop() as shop:
            await shop.start()
            opened.append(shop)
            try:
                yield
            finally:
                opened.clear()
                await shop.stop()
                shop.store.close()

    app = FastAPI(title=f"KWBP merchant {merchant_id}", version="2", lifespan=lifespan)
    problems.install(app)
    health.install(app, f"merchant {merchant_id}", lambda: bool(opened))

    async def message(request: Request) -> Response:
        (shop,) = opened
        if request.headers.get("content-type") != MEDIA_TYPE:
            raise Problem(415, "unsupported-media-type", f"expected {MEDIA_TYPE}", clause="KWBP K1")
        return Response(await shop.answer(await request.body()), media_type=MEDIA_TYPE)

    app.post("/kwbp/invoice-request", response_class=Response)(message)
    app.post("/kwbp/purchase", response_class=Response)(message)

    @app.get("/catalogue")
    async def catalogue() -> dict[str, Any]:
        """What the shop sells; prices in rial."""
        (shop,) = opened
        return shop.catalogue.model_dump(mode="json")

    @app.get("/orders")
    async def orders(_caller: Operator, limit: int = 50) -> list[dict[str, Any]]:
        """The newest orders."""
        (shop,) = opened
        return [_document(order) for order in shop.store.newest(max(1, min(limit, 500)))]

    @app.get("/orders/{xid}")
    async def order(_caller: Operator, xid: str) -> dict[str, Any]:
        """One order."""
        (shop,) = opened
        return _document(_find(shop, xid))

    @app.get("/orders/{xid}/evidence")
    async def evidence(_caller: Operator, xid: str) -> dict[str, Any]:
        """Everything kept of one order, as it was signed, sent and received."""
        (shop,) = opened
        found = _find(shop, xid)
        return {
            "order": _document(found),
            "documents": {kind.value: _b64(der) for kind, der in shop.store.documents(found.xid).items()},
            "crls": [_b64(der) for der in shop.store.crls(found.xid)],
        }

    return app


def _find(shop: Shop, xid: str) -> Order:
    try:
        found = shop.store.find(bytes.fromhex(xid))
    except ValueError:
        found = None
    if found is None:
        raise Problem(404, "unknown-xid", "this merchant has no order of that XID (40 hexadecimal digits)")
    return found


def _document(order: Order) -> dict[str, Any]:
    return {
        "xid": order.xid.hex(),
        "state": order.state.value,
        "paid": order.paid,
        "amount": order.amount,
        "rrn": order.rrn,
        "auth_code": order.auth_code,
        "created_at": order.created_at.isoformat(),
        "changed_at": order.changed_at.isoformat(),
    }


def _b64(der: bytes) -> str:
    return base64.b64encode(der).decode()
