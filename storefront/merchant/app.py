"""The merchant server: KWBP messages for wallets, a catalogue for everybody, the order book for the merchant's people.

    POST /kwbp/invoice-request   KwbpMessage → KwbpMessage   anyone (the message is signed)
    POST /kwbp/password          KwbpMessage → KwbpMessage   anyone (the message is sealed to the gateway)
    POST /kwbp/purchase          KwbpMessage → KwbpMessage   anyone (the message is signed)
    POST /kwbp/inquiry           KwbpMessage → KwbpMessage   anyone (the message is signed)
    POST /kwbp/receipt-ack       KwbpMessage → 204 or Error  anyone (the message is signed)
    POST /kwbp/contract          KwbpMessage → 204 or Error  anyone (the message is signed)
    GET  /catalogue              JSON                        anyone
    GET  /orders                 JSON, newest first          the operator
    GET  /orders/{xid}           JSON                        the operator
    GET  /orders/{xid}/evidence  JSON, objects in base64     the operator
    …                            JSON                        the operator: the money after the authorisation,
                                                             `storefront.merchant.money.routes`

HTTP status carries no business meaning for KWBP messages: an Error message comes with 200 like every other answer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request
from starlette.responses import Response

from kwbp.wrapper import MEDIA_TYPE
from runtime import health, problems
from runtime.group_writer import DatabaseUnavailableError
from runtime.identity import Caller, require
from runtime.problems import Problem
from storefront.exchange import is_message
from storefront.merchant.money import routes as money_routes
from storefront.merchant.shop import Shop
from storefront.merchant.store import Order

_OPERATOR: Final = "service:operator"
_XID: Final = re.compile(r"[0-9a-f]{40}")
_MESSAGE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {MEDIA_TYPE: {}}, "description": "KwbpMessage"}}

Operator = Annotated[Caller, Depends(require(_OPERATOR))]


async def _shop(request: Request) -> Shop:  # a plain function would run in a thread
    shop = request.app.state.shop
    assert isinstance(shop, Shop)
    return shop


Served = Annotated[Shop, Depends(_shop)]


def create_app(open_shop: Callable[[], AbstractAsyncContextManager[Shop]], merchant_id: str) -> FastAPI:
    """The ASGI application of one merchant; `open_shop` opens its lines when the server starts, and closes them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_shop() as shop:
            await shop.start()
            app.state.shop = shop
            try:
                yield
            finally:
                app.state.shop = None
                await shop.stop()

    app = FastAPI(title=f"KWBP merchant {merchant_id}", version="2", lifespan=lifespan)
    app.state.shop = None
    problems.install(app)
    health.install(app, f"merchant {merchant_id}", lambda: app.state.shop is not None)
    app.add_exception_handler(DatabaseUnavailableError, _on_store_failure)

    async def message(request: Request, shop: Served) -> Response:
        """A KwbpMessage in, a KwbpMessage out; for the same bytes, the same."""
        if not is_message(request.headers):
            raise Problem(415, "unsupported-media-type", f"the body must be {MEDIA_TYPE}", clause="KWBP rule 7")
        answer = await shop.answer(await request.body())
        return Response(status_code=204) if answer is None else Response(answer, media_type=MEDIA_TYPE)

    for kind in ("invoice-request", "password", "purchase", "inquiry", "receipt-ack", "contract"):
        path = f"/kwbp/{kind}"
        app.post(path, responses=_MESSAGE, response_class=Response, name=path)(message)

    @app.get("/catalogue")
    async def catalogue(shop: Served) -> dict[str, Any]:
        """What the shop sells; prices in rial."""
        return shop.catalogue.model_dump(mode="json")

    @app.get("/orders")
    async def orders(_caller: Operator, shop: Served, limit: int = 50) -> list[dict[str, Any]]:
        """The newest orders."""
        return [_document(order) for order in shop.store.newest(max(1, min(limit, 500)))]

    @app.get("/orders/{xid}")
    async def order(_caller: Operator, shop: Served, xid: str) -> dict[str, Any]:
        """One order."""
        return _document(_find(shop, xid))

    @app.get("/orders/{xid}/evidence")
    async def evidence(_caller: Operator, shop: Served, xid: str) -> dict[str, Any]:
        """Everything kept of one order, as it was signed, sent and received."""
        found = _find(shop, xid)
        return {
            "order": _document(found),
            "documents": {kind.value: _b64(der) for kind, der in shop.store.documents(found.xid).items()},
            "crls": [_b64(der) for der in shop.store.crls(found.xid)],
            "money": [
                {"request": _b64(each.der), "answer": _b64(each.answer)}
                for each in shop.money.book.answered(found.xid)
                if each.answer is not None
            ],
            "proofs": {name: _b64(der) for name, der in shop.store.proofs(found.xid).items()},
        }

    money_routes.install(app)
    return app


async def _on_store_failure(_request: Request, _error: Exception) -> Response:
    return Problem(503, "order-book-unavailable", "the order book cannot be written; send the same again").response()


def _find(shop: Shop, xid: str) -> Order:
    found = shop.store.find(bytes.fromhex(xid)) if _XID.fullmatch(xid) else None
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
