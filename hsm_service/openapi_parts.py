"""What recurs in the OpenAPI document: problems by status, headers, parameters, and the bounds of fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hsm_service.chain import LONGEST_CHAIN
from hsm_service.kinds import KINDS
from hsm_service.openapi_route import ApiRoute
from hsm_service.operations import MAX_APPROVAL
from hsm_service.templates import OWNER
from runtime.problems import MEDIA_TYPE

REFERENCE: Final = "#/components/schemas/{name}"

BINARY: Final = {"type": "string", "format": "binary", "description": "DER"}

PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:kwbp:problem:", "description": "stable"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "for people; repeats nothing of what came but names of keys"},
        "clause": {"type": "string", "description": "the rule that refused"},
    },
}

STATUSES: Final[Mapping[int, str]] = {
    400: "the request cannot be read, or its Idempotency-Key is none",
    401: "the client certificate names no caller",
    403: "not for this caller, or not within the limits of the key, or the certificate does not count any more",
    404: "there is no such key, version or request",
    408: "the body did not come in time",
    409: "the key is for something else or in another state, or it was done already",
    413: "too large",
    422: "the body is not as described, or the structure is not one that this key signs; `clause` names the rule",
    429: "too often, or too many requests are open",
    500: "the service failed; its log says why",
    503: "the token or the journal does not serve now; nothing is known to have been done",
}
"""Every status of a problem (RFC 9457), and what it says."""

_RETRY: Final = frozenset({429, 503})


def responses() -> dict[str, Any]:
    """The components: one response for each status of a problem."""
    made = {}
    for status, description in STATUSES.items():
        response: dict[str, Any] = {
            "description": description,
            "content": {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(name="Problem")}}},
        }
        if status in _RETRY:
            response["headers"] = {
                "Retry-After": {
                    "description": "seconds after which it may be asked again; absent where waiting does not help",
                    "schema": {"type": "integer", "minimum": 0},
                }
            }
        made[f"Problem{status}"] = response
    return made


def refusals(route: ApiRoute) -> dict[str, Any]:
    """Status → response, for the problems that a route can answer."""
    found = {400, 403, 500, 503}  # 403: a certificate that was revoked is refused on every route
    if route.operations or route.callers:
        found.add(401)
    if "{" in route.path or route.keys:
        found.add(404)
    if route.method != "GET":
        found |= {408, 409, 413, 422, 429}
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(found)}


_NAME: Final = {"type": "string", "pattern": f"^{OWNER.pattern}$"}
_PATH: Final[Mapping[str, dict[str, Any]]] = {
    "name": _NAME,
    "version": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    "id": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the request, hex"},
}


def parameters(route: ApiRoute) -> list[dict[str, Any]]:
    """Of path, query and headers."""
    found = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PATH.items()
        if f"{{{name}" in route.path
    ]
    if route.dry:
        found.append(
            {
                "name": "dry_run",
                "in": "query",
                "description": "everything is checked, nothing signed; the answer is a Checked",
                "schema": {"enum": ["true"]},
            }
        )
    if route.keyed:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "the same request under the same key gets the answer of the first, for a day",
                "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            }
        )
    return found


def _base64(size: int) -> int:
    return (size + 2) // 3 * 4


def bound(schemas: Mapping[str, Any]) -> None:
    """Writes into the schemas what is enforced beyond their types."""
    largest = max(kind.largest for kind in KINDS.values())
    in_batch = max(kind.largest for kind in KINDS.values() if kind.batch)
    for component, field, limits in (
        ("SignCommand", "content", {"maxLength": _base64(largest)}),
        ("BatchItem", "content", {"maxLength": _base64(in_batch)}),
        ("ApproveCommand", "approval", {"maxLength": _base64(MAX_APPROVAL)}),
        ("AttachCommand", "chain", {"minItems": 1, "maxItems": LONGEST_CHAIN}),
        ("GenerateCommand", "name", _NAME),
    ):
        schemas[component]["properties"][field].update(limits)
    schemas["SignCommand"]["x-kwbp-largest"] = {name: kind.largest for name, kind in KINDS.items()}
