"""Errors over HTTP: RFC 9457 problem details, one shape for every service.

A `Problem` is raised where the refusal happens and rendered in one place. `type` is a stable slug under
`urn:kwbp:problem:`, `detail` is a sentence for people that names what was expected, `clause` the CPS clause or the
protocol check that refused. Input is never echoed: it may hold card data.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from runtime.logging import get_logger

if TYPE_CHECKING:
    from fastapi.exceptions import RequestValidationError

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:kwbp:problem:"

_log = get_logger("http")


class Problem(Exception):
    """A refusal or failure that a caller is told about."""

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002  # RFC 9457's own member name
        detail: str,
        *,
        title: str | None = None,
        clause: str | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.type = type
        self.title = title or HTTPStatus(status).phrase
        self.detail = detail
        self.clause = clause
        self.headers = headers or {}
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """The problem as the JSON object that goes over the wire."""
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.clause is not None:
            body["clause"] = self.clause
        return {**self.extra, **body}

    def response(self) -> Response:
        return Response(
            json.dumps(self.document(), ensure_ascii=False).encode(),
            self.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )

    @classmethod
    def from_document(cls, status: int, body: dict[str, Any]) -> Problem:
        """Rebuild a problem that another service answered with."""
        known = {"type", "title", "status", "detail", "clause"}
        return cls(
            status,
            str(body.get("type", "unknown")).removeprefix(TYPE_PREFIX),
            str(body.get("detail", "")),
            title=body.get("title"),
            clause=body.get("clause"),
            **{key: value for key, value in body.items() if key not in known},
        )

    def __str__(self) -> str:
        return f"{self.detail} ({self.clause})" if self.clause else self.detail


def install(app: Starlette) -> None:
    """Make `app` answer every error as problem details."""
    # Imported here: clients use this module too, and FastAPI takes half a second to load.
    from fastapi.exceptions import RequestValidationError

    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _on_validation(_request: Request, error: Exception) -> Response:
    error = cast("RequestValidationError", error)
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


async def _on_unexpected(request: Request, error: Exception) -> Response:
    # The exception's text may quote input; its class and place are enough to find the fault.
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else "unknown"
    _log.error("unexpected", error=type(error).__name__, place=place, method=request.method, path=request.url.path)
    return Problem(500, "internal", "the service failed; the operator finds the cause in its log").response()
