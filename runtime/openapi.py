"""A served OpenAPI document, completed: who may call each route, and what refusals look like (RFC 9457).

FastAPI describes what is asked and answered; this adds to each route `x-kwbp-callers`, read from its guard
(`runtime.identity.require`), and every problem that the service answers with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from runtime.problems import MEDIA_TYPE, TYPE_PREFIX

CALLERS: Final = "x-kwbp-callers"

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": f"{TYPE_PREFIX}<slug>; the slug is stable"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "a sentence for people"},
        "clause": {"type": "string", "description": "of the CPS or a standard, by which it was refused"},
        "findings": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "clause", "message"],
                "properties": {name: {"type": "string"} for name in ("code", "clause", "message")},
            },
        },
    },
    "example": {
        "type": f"{TYPE_PREFIX}not-approved",
        "title": "Forbidden",
        "status": 403,
        "detail": "the case is not approved",
        "clause": "CPS 4.2",
        "findings": [{"code": "SOD-PERSON", "clause": "CPS 5.2.2", "message": "the same person signed both steps"}],
    },
}
STATUSES: Final[Mapping[int, str]] = {
    400: "the request cannot be read",
    401: "a client certificate is needed",
    403: "the caller may not, or the statement forbids it",
    404: "there is no such thing on record",
    409: "it contradicts what is on record",
    413: "the request is too long",
    422: "a field breaks its rule, or fits no certificate",
    500: "a fault of the service",
    502: "the signing service refused",
    503: "the token, the database or another replica is busy or away: try again",
}
"""Every status of a problem that a service answers with, unless it says otherwise."""
_RETRY: Final = frozenset({429, 503})


def complete(app: FastAPI, statuses: Mapping[int, str] = STATUSES) -> None:
    """Have `app` serve its document with callers and problems, of these `statuses` each with what it says."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = described()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = PROBLEM
        components["responses"] = {f"Problem{status}": _response(status, text) for status, text in statuses.items()}
        for route in api_routes(app):
            for method in route.methods or ():
                _complete(document["paths"][route.path_format][method.lower()], route, statuses)
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def api_routes(app: FastAPI) -> list[APIRoute]:
    """The routes that the document describes; routers are included without a prefix."""
    routes = (each.original_route for each in iter_route_contexts(app.routes))
    return [each for each in routes if isinstance(each, APIRoute) and each.include_in_schema]


def callers(route: APIRoute) -> tuple[str, ...]:
    """The patterns of those who may call a route; empty: anybody."""
    return tuple(dict.fromkeys(_patterns(route.dependant)))


def _patterns(dependant: Dependant) -> list[str]:
    own = list(getattr(dependant.call, "patterns", ()))
    return own + [pattern for each in dependant.dependencies for pattern in _patterns(each)]


def _complete(operation: dict[str, Any], route: APIRoute, statuses: Mapping[int, str]) -> None:
    patterns = callers(route)
    operation[CALLERS] = list(patterns)
    if not patterns:
        return
    for status in statuses:
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/Problem{status}"}


def _response(status: int, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in _RETRY:
        found["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found
