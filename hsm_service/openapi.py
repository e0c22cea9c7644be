"""The API's description for people and tools, made from its route table and the key templates.

Who may do what stands here as the templates have it, so that nobody has to read code for it; the tests of authorisation
read it back from the running server.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hsm_service.operation_info import OperationInfo
from hsm_service.templates import Operation, Template, built_in
from runtime.problems import MEDIA_TYPE

CALLERS: Final = "x-kwbp-callers"
"""Extension field of an operation: template → operation → caller patterns; `{owner}` is the key's owner."""

_REFERENCE: Final = "#/components/schemas/{name}"
_HIDDEN: Final = frozenset({"root"})  # tokens that no service opens


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One route: what it does with a key, what it takes and answers.

    A route that is not about a key of a template says in `callers` for whom it is. One that `asks` may answer 202 with
    the request that officers must approve first.
    """

    method: str
    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    name: str
    summary: str
    operations: tuple[Operation, ...]
    answer: type[msgspec.Struct]
    body: type[msgspec.Struct] | None = None
    status: int = 200
    callers: tuple[str, ...] = ()
    asks: bool = False


def document(api: Sequence[ApiRoute], extra: Sequence[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes."""
    types = list(dict.fromkeys(each for route in api for each in (route.body, route.answer) if each is not None))
    types = list(dict.fromkeys((*types, OperationInfo)))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in api:
        paths.setdefault(_plain(route.path), {})[route.method.lower()] = _operation(route, schema_of)
    for other in _described(extra):
        for method in sorted((other.methods or set()) - {"HEAD"}):
            paths.setdefault(other.path, {})[method.lower()] = {
                "summary": _summary(other),
                CALLERS: list(getattr(other.endpoint, "callers", ())),
                "responses": {"200": {"description": "done"}, "default": {"$ref": "#/components/responses/Problem"}},
            }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "KWBP HSM service",
            "version": "1",
            "description": "Typed signing with token keys. The caller is the TLS client certificate. Bytes are base64.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "Refused or failed (RFC 9457); `type` is stable, `clause` the rule that refused",
                    "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(name="Problem")}}},
                }
            },
        },
    }


_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:kwbp:problem:<slug>"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "clause": {"type": "string"},
    },
}


def _operation(route: ApiRoute, schema_of: Mapping[type[msgspec.Struct], Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": kind}}
            for name, kind in (("name", "string"), ("version", "integer"), ("id", "string"))
            if f"{{{name}" in route.path
        ],
        CALLERS: list(route.callers) if route.callers else callers(route.operations),
        "responses": {
            str(route.status): {
                "description": "done",
                "content": {"application/json": {"schema": schema_of[route.answer]}},
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if route.asks:
        operation["responses"]["202"] = {
            "description": "nothing was done yet: officers must approve it first",
            "content": {"application/json": {"schema": schema_of[OperationInfo]}},
        }
    if route.body is not None:
        content = {"application/json": {"schema": schema_of[route.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def callers(operations: Sequence[Operation]) -> dict[str, dict[str, list[str]]]:
    """Template → operation → caller patterns, for the keys that a service can reach."""
    table = {
        template.name: {
            operation.value: list(_patterns(template, operation))
            for operation in operations
            if template.offers(operation) and not (operation is Operation.GENERATE and template.imported)
        }
        for template in built_in().templates.values()
        if template.token not in _HIDDEN
    }
    return {name: by_operation for name, by_operation in table.items() if by_operation}


def _patterns(template: Template, operation: Operation) -> tuple[str, ...]:
    return template.allowed(operation, "{owner}" if template.owned else None)


def page(api: Sequence[ApiRoute], extra: Sequence[BaseRoute]) -> str:
    """The same as a page for people, without scripts and without anything fetched from elsewhere."""
    rows = []
    for route in api:
        who = " or ".join(route.callers) or "; ".join(
            f"{template}: " + ", ".join(f"{operation} by {' or '.join(by)}" for operation, by in operations.items())
            for template, operations in callers(route.operations).items()
        )
        rows.append((route.method, _plain(route.path), route.summary, who))
    for other in _described(extra):
        who = " or ".join(getattr(other.endpoint, "callers", ()))
        rows.append((", ".join(sorted((other.methods or set()) - {"HEAD"})), other.path, _summary(other), who))
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>KWBP HSM service</title>'
        "<style>body{font:15px sans-serif;margin:2em}td,th{border:1px solid #999;padding:.4em;text-align:left;"
        "vertical-align:top}table{border-collapse:collapse}</style><h1>KWBP HSM service</h1>"
        "<p>The caller is the TLS client certificate. Structures are described in "
        '<a href="/openapi.json">openapi.json</a>.</p>'
        f"<table><tr><th>Method<th>Path<th>What it does<th>For whom</tr>{body}</table></html>"
    )


def _described(extra: Sequence[BaseRoute]) -> list[Route]:
    return [route for route in extra if isinstance(route, Route) and route.include_in_schema]


def _summary(route: Route) -> str:
    return (route.endpoint.__doc__ or route.name).strip().split("\n", 1)[0]


def _plain(path: str) -> str:
    return path.replace(":int}", "}")
