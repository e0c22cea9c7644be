"""What a server does with an error: see `runtime.problems`, which installs these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from runtime.logging import get_logger
from runtime.problems import Problem

_log = get_logger("http")

Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        {"field": ".".join(str(part) for part in fault["loc"]), "rule": fault["type"]} for fault in error.errors()
    ]
    first = faults[0] if faults else {"field": "body", "rule": "invalid"}
    return Problem(
        422,
        "invalid-request",
        f"the field {first['field']} breaks the rule {first['rule']}",
        faults=faults,
    ).response()


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return Problem(error.status_code, slug, str(error.detail), headers=dict(error.headers or {})).response()


async def _on_cut_off(_request: Request, _error: Exception) -> Response:
    # The caller's doing, and nobody reads the answer: no fault of the service, and nothing for its log.
    return Problem(400, "client-gone", "the request was cut off").response()


async def _on_unexpected(request: Request, error: Exception) -> Response:
    # The exception's text may quote input; its class and place are enough to find the fault.
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else "unknown"
    _log.error("unexpected", error=type(error).__name__, place=place, method=request.method, path=request.url.path)
    return Problem(500, "internal", "the service failed; the operator finds the cause in its log").response()


async def answer_error(request: Request, error: Exception) -> Response:
    """The answer to an error, for an application that catches its errors itself."""
    handler = HANDLERS.get(type(error)) or (_on_problem if isinstance(error, Problem) else _on_unexpected)
    return await handler(request, error)


HANDLERS: Final[dict[type[Exception], Handler]] = {
    Problem: _on_problem,
    RequestValidationError: _on_validation,
    HTTPException: _on_http,
    ClientDisconnect: _on_cut_off,
    Exception: _on_unexpected,
}
