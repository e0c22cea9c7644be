"""What a server does with an error: see `runtime.problems`, which installs these."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from runtime.language import Message, Term, ToldError
from runtime.logging import get_logger
from runtime.problems import Problem, reader_of

_log = get_logger("http")

_OURS: Final = re.compile(r"(?!.*[0-9]{4})[A-Za-z0-9_.,()\[\]-]{1,60}", re.ASCII)
"""Names of fields as we write them. Callers may make one up, even of a card number: that is not echoed."""

Handler = Callable[[Request, Exception], Awaitable[Response]]


def _told(problem: Problem, request: Request) -> Response:
    return problem.response(reader_of(request.scope))


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _told(error, request)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(fault) for fault in error.errors()]
    said = faults[0]["message"] if faults else _breaks("body", "invalid")
    return _told(Problem(422, "invalid-request", said, faults=faults), request)


def _named(part: object) -> str:
    return str(part) if _OURS.fullmatch(str(part)) else "…"


def _fault(fault: dict[str, Any]) -> dict[str, Any]:
    """The field and the rule it breaks, for programs and in a sentence; never what the field holds."""
    field = ".".join(map(_named, fault["loc"]))
    why = fault.get("ctx", {}).get("error")
    return {"field": field, "rule": fault["type"], "message": _breaks(field, fault["type"], why)}


def _breaks(field: str, rule: str, why: object = None) -> Message:
    if isinstance(why, ToldError):  # a validator of ours, whose sentence quotes no input
        return Message(
            "the field {field} breaks the rule {rule}: {fault}", field=field, rule=Term("rule", rule), fault=why
        )
    return Message("the field {field} breaks the rule {rule}", field=field, rule=Term("rule", rule))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    slug = status.phrase.lower().replace(" ", "-")
    # What the framework says of itself is the phrase of the status.
    detail = Message("{status}", status=Term("status", str(status.value), status.phrase))
    problem = Problem(
        error.status_code,
        slug,
        detail if error.detail == status.phrase else str(error.detail),
        headers=dict(error.headers or {}),
    )
    return _told(problem, request)


async def _on_cut_off(request: Request, _error: Exception) -> Response:
    # The caller's doing, and nobody reads the answer: no fault of the service, and nothing for its log.
    return _told(Problem(400, "client-gone", Message("the request was cut off")), request)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    # The exception's text may quote input; its class and place are enough to find the fault.
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else "unknown"
    _log.error("unexpected", error=type(error).__name__, place=place, method=request.method, path=request.url.path)
    said = Message("the service failed; the operator finds the cause in its log")
    return _told(Problem(500, "internal", said), request)


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
