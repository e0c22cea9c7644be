"""Registration messages over HTTP: one KwbpMessage each way (KWBP global rule 7).

| route                                          | for                        |
| ---------------------------------------------- | -------------------------- |
| POST /v1/registration                          | anybody                    |
| GET /v1/applications/{id}/registration-request | officers, service:operator |

A message is answered with a message. HTTP status carries no business meaning, but for 429: too many requests, with
Retry-After, and an Error of the protocol that says the same. Problem details are for what is no exchange (the bank or
the token is away): the same bytes may be sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.structure import SIZE_LIMIT
from kwbp.wrapper import MEDIA_TYPE
from ra.access import Act, require
from ra.acting import Acting
from ra.errors import UnknownError
from ra.rate_limit import TooManyRequests
from ra.registration import RegistrationDesk
from runtime.problems import Problem

PATH: Final = "/v1/registration"
ApplicationId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
_MESSAGE: Final[dict[int | str, dict[str, Any]]] = {
    code: {"content": {MEDIA_TYPE: {}}, "description": "KwbpMessage"} for code in (200, 429)
}


def install(app: FastAPI, desk: RegistrationDesk) -> None:
    """Add the routes."""
    app.add_exception_handler(TooManyRequests, _too_many(desk))

    @app.post(PATH, responses=_MESSAGE, response_class=Response)
    async def register(request: Request, actor: Acting) -> Response:
        """KwbpMessage with a request of rows 1 to 6 in, the answer or an Error out; for the same bytes, the same."""
        body = await request.body()
        if not _is_message(request) or len(body) > SIZE_LIMIT:
            raise Problem(415, "no-message", f"expected {MEDIA_TYPE} of at most {SIZE_LIMIT} bytes")
        try:
            answer = await run_in_threadpool(desk.answer, actor, body)
        except ProtocolError as error:
            answer = desk.refusal(error, body)
        return Response(answer, media_type=MEDIA_TYPE)

    @app.get("/v1/applications/{application_id}/registration-request", response_class=Response)
    def show(application_id: ApplicationId, actor: Acting) -> Response:
        """The signed request by which an application came in: SignedData, DER."""
        require(actor, Act.REVIEW)
        found = desk.store.of_application(application_id) or desk.holders.store.of_application(application_id)
        if found is None:
            raise UnknownError("the application did not come by a registration message")
        return Response(found.signed, media_type="application/cms")


def _is_message(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == MEDIA_TYPE


def _too_many(desk: RegistrationDesk) -> Callable[[Request, Exception], Any]:
    async def handler(request: Request, error: Exception) -> Response:
        assert isinstance(error, TooManyRequests)
        if not _is_message(request):
            return error.response()
        refused = ProtocolError(ErrorCode.RATE_LIMITED, error.check, "too many requests: ask again later")
        body = await request.body()
        return Response(desk.refusal(refused, body), 429, error.headers, MEDIA_TYPE)

    return handler
