"""The API's description for people and tools, made from its route table, the key templates and the policies.

Who may do what, in which states of a key and with whose approvals stands here as the service decides it, so that nobody
has to read code for it; the tests of authorisation and of states read it back from the running server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from hsm_service import openapi_access as access
from hsm_service import openapi_parts as parts
from hsm_service.openapi_access import APPROVALS, CALLERS, STANDINGS, STATES, callers
from hsm_service.openapi_route import ApiRoute
from hsm_service.operation_info import OperationInfo
from hsm_service.service import Checked
from hsm_service.templates import built_in

__all__ = ["APPROVALS", "CALLERS", "KEYS", "STANDINGS", "STATES", "ApiRoute", "callers", "document"]

KEYS: Final = "x-kwbp-keys"
"""Name of a key → operation, for routes that use keys of their own."""

_JSON: Final = "application/json"


def document(api: Sequence[ApiRoute]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes."""
    types = [each for route in api for each in (route.body, route.answer) if each is not None]
    types = list(dict.fromkeys((*types, OperationInfo, Checked)))
    schemas, components = msgspec.json.schema_components(types, ref_template=parts.REFERENCE)
    parts.bound(components)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in api:
        paths.setdefault(route.plain_path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "KWBP HSM service",
            "version": "1",
            "description": "Typed signing with token keys. The caller is the TLS client certificate. Bytes are base64. "
            "A body in which a member comes twice is refused.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": parts.PROBLEM},
            "responses": parts.responses(),
        },
    }


def _operation(route: ApiRoute, schema_of: Mapping[type[msgspec.Struct], Any]) -> dict[str, Any]:
    answer = {"anyOf": [schema_of[route.answer], schema_of[Checked]]} if route.dry else schema_of[route.answer]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parts.parameters(route),
        **_access(route),
        "responses": {
            str(route.status): {"description": "done", "content": {_JSON: {"schema": answer}}},
            **parts.refusals(route),
        },
    }
    if route.asks:
        operation["responses"]["202"] = {
            "description": "nothing was done yet: officers must approve it first",
            "content": {_JSON: {"schema": schema_of[OperationInfo]}},
        }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema_of[route.body]}}}
    if route.stream is not None:
        operation["requestBody"] = {"required": True, "content": {route.stream: {"schema": parts.BINARY}}}
    return operation


def _access(route: ApiRoute) -> dict[str, Any]:
    operations = route.operations or tuple(dict.fromkeys(route.keys.values()))
    found: dict[str, Any] = {
        CALLERS: list(route.callers) if route.callers else callers(route.operations),
        STATES: access.states(operations),
        STANDINGS: access.standings(operations),
        APPROVALS: {} if route.callers else access.approvals(route.operations),
    }
    if route.keys:
        templates = built_in()
        assert all(templates[name].offers(operation) for name, operation in route.keys.items())
        found[KEYS] = {name: operation.value for name, operation in route.keys.items()}
    return found
