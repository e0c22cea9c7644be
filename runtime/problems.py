"""Errors over HTTP: RFC 9457 problem details, one shape for every service.

A `Problem` is raised where the refusal happens and rendered in one place. `type` is a stable slug under
`urn:kwbp:problem:`, `detail` is a sentence for people that names what was expected, `clause` the CPS clause or the
protocol check that refused. Input is never echoed: it may hold card data.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:kwbp:problem:"


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
        self.noted = False
        """Nothing more is to be recorded of it: it is in an audit log, or of the transport and belongs in none."""

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
        """The problem as an answer."""
        # Imported here, like the handlers below: clients use this module too, and should not load a web framework.
        from starlette import responses

        return responses.Response(
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
    from runtime.problem_handlers import HANDLERS

    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
