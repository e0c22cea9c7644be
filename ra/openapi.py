"""The served OpenAPI document of the registration authority: every refusal that a route answers with is in it.

FastAPI describes what is asked and answered; who may ask is decided by the workflow, case by case, so every route may
answer with every problem (RFC 9457).
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from runtime.openapi import PROBLEM
from runtime.problems import MEDIA_TYPE

_STATUSES: Final = {
    400: "the request cannot be read",
    401: "a client certificate is needed",
    403: "the caller may not, or the statement forbids it",
    404: "there is no such thing on record, or none that the caller may see",
    408: "the body did not come in time",
    409: "it contradicts what is on record",
    413: "the body, or a document in it, is too large",
    422: "a field breaks its rule, or fits no certificate",
    429: "too many of these: try again",
    500: "a fault of the service",
    502: "the certification authority or the signing service refused",
    503: "the certification authority, the token or the database is busy or away: try again",
}
_UNUSED: Final = ("HTTPValidationError", "ValidationError")


def complete(app: FastAPI) -> None:
    """Have `app` serve its document with all problems."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = described()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = PROBLEM
        components["responses"] = {f"Problem{status}": _response(text) for status, text in _STATUSES.items()}
        for path, methods in document["paths"].items():
            for operation in methods.values() if path.startswith("/v1/") else ():
                for status in _STATUSES:
                    operation["responses"][str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
        for unused in _UNUSED:
            components["schemas"].pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _response(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "headers": {"Content-Language": {"description": "of `detail`", "schema": {"type": "string"}}},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
