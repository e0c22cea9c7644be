"""The banks' counter for the registration authority, beside the simulator's controls.

| route           | for                                              |
| --------------- | ------------------------------------------------ |
| GET /forms/{bin} | anybody: what a bank asks, signed by it          |
| POST /confirm   | anybody: a request that the authority signed     |

No token is asked for: a form is public, and a request says by its signature who it is from (F1). Card data come sealed
and leave not at all.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import FastAPI, Path, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from kwbp.errors import ProtocolError
from kwbp.structure import SIZE_LIMIT
from kwbp.wrapper import MEDIA_TYPE
from runtime import problems
from runtime.problems import Problem
from switch.errors import BankError
from switch.registration import CardRegistration

PREFIX: Final = "/registration"
"""Where the application is mounted."""
STATUS: Final = {"unknown_issuer": 404, "issuer_identity": 503}

Bin = Annotated[str, Path(pattern=r"^[0-9]{6,8}$")]


def create_app(registration: CardRegistration) -> FastAPI:
    """The counter as an ASGI application."""
    app = FastAPI(title="Issuing banks: registration of cardholders")
    problems.install(app)
    app.add_exception_handler(BankError, _on_bank_error)
    app.add_exception_handler(ProtocolError, _on_protocol_error)

    @app.get("/forms/{bin_}", response_class=Response)
    def form(bin_: Bin) -> Response:
        """SignedData (DER) of the bank's form."""
        return Response(registration.form(bin_), media_type=MEDIA_TYPE)

    @app.post("/confirm", response_class=Response)
    async def confirm(request: Request) -> Response:
        """KwbpMessage with CardConfirmReq in, with CardConfirmation or Error out; 429 if the card waits."""
        body = await request.body()
        if len(body) > SIZE_LIMIT:
            raise Problem(413, "too-big", f"a message has at most {SIZE_LIMIT} bytes")
        reply = await run_in_threadpool(registration.confirm, body)
        if reply.retry_after is None:
            return Response(reply.message, media_type=MEDIA_TYPE)
        return Response(reply.message, 429, {"Retry-After": str(reply.retry_after)}, MEDIA_TYPE)

    return app


async def _on_bank_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BankError)
    return Problem(STATUS[error.reason], error.reason.replace("_", "-"), error.detail).response()


async def _on_protocol_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProtocolError)
    return Problem(400, "unreadable", error.detail, clause=f"KWBP {error.check}").response()
