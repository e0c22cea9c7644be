"""The gateway's public address: one route, for cards, over TLS without a client certificate.

| route            | for                             |                             |
| ---------------- | ------------------------------- | --------------------------- |
| POST /v1/inquiry | anybody; a card's InqReq counts | InqReq in, InqRes or Error  |

It is a listener and an application of its own: no route of merchants or operators can be reached here, whatever is
asked for. Requests are counted by address before anything of them is judged.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Response
from starlette.requests import Request

from gateway.gateway import Gateway
from kwbp.wrapper import MEDIA_TYPE
from runtime import problems
from runtime.group_writer import DatabaseUnavailableError
from runtime.language import Message
from runtime.minute_budget import MinuteBudget
from runtime.problems import Problem

REQUESTS_OF_AN_ADDRESS: Final = 60
"""In a minute."""


def create_public_app(gateway: Gateway) -> FastAPI:
    """The application; the gateway is opened and closed by whoever made it."""
    app = FastAPI(title="KWBP payment gateway, for cards", version="1", openapi_url=None)  # nor pages about itself
    problems.install(app)
    app.add_exception_handler(DatabaseUnavailableError, _on_store_failure)
    budget = MinuteBudget(REQUESTS_OF_AN_ADDRESS, clock=gateway.clock)

    @app.post("/v1/inquiry", response_class=Response)
    async def inquire(request: Request) -> Response:
        """Where a purchase stands: KwbpMessage with a card's InqReq in, with InqRes or Error out."""
        if gateway.admission.ended:
            raise Problem(503, "stopping", "the gateway is about to end", headers={"retry-after": "5"})
        if not budget.take(request.client.host if request.client is not None else ""):
            raise Problem(
                429,
                "too-many-requests",
                "too many requests came from this address",
                headers={"retry-after": "60"},
            )
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
            raise Problem(
                415, "unsupported-media-type", Message("the body must be {type}", type=MEDIA_TYPE), clause="KWBP rule 7"
            )
        return Response(await gateway.inquire_as_card(await request.body()), media_type=MEDIA_TYPE)

    return app


async def _on_store_failure(request: Request, _error: Exception) -> Response:
    problem = Problem(503, "order-book-unavailable", "the order book cannot be written; send the same again")
    return problem.response(problems.reader_of(request.scope))
