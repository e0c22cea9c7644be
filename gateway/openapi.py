"""The gateway's OpenAPI documents: all of it, and the two views of it, for merchants and for the operator.

What is asked and answered, and by whom, is read from the routes (`runtime.openapi`); problem types and examples are
data (`openapi.yaml`). `python -m gateway.openapi FOLDER` writes the views for people who have no gateway at hand; a
test holds `docs/openapi` to what is served.

| document                     | for                                        |
| ---------------------------- | ------------------------------------------ |
| GET /openapi.json            | whoever has a certificate: everything      |
| GET /openapi/merchants.json  | who writes a merchant's server             |
| GET /openapi/operators.json  | who writes for the gateway's operator      |
| GET /openapi/officers.json   | who writes for officers                    |
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from fastapi import FastAPI

from kwbp.wrapper import MEDIA_TYPE
from runtime import openapi
from runtime.problems import TYPE_PREFIX

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from gateway.gateway import Gateway

VIEWS: Final[Mapping[str, str]] = {
    "merchants": "merchant:*",
    "operators": "service:operator",
    "officers": "officer:*",
}
"""Name of a view to the pattern of its callers."""
PROBLEMS: Final = "x-kwbp-problems"
"""Extension field of the document: slug of a problem's type to what it says."""

MESSAGE_IN: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary", "description": "DER KwbpMessage"}}},
    }
}
"""For routes whose body is a message of the protocol."""
STATUSES: Final[Mapping[int, str]] = {
    400: "the request cannot be read",
    401: "a client certificate is needed",
    403: "not for this caller, or its certificate does not count any more",
    404: "there is no such thing on record",
    408: "the body did not come in time",
    409: "it contradicts what is on record",
    413: "the body is too large",
    415: "the body is of another media type",
    422: "a field breaks its rule",
    429: "this merchant asks too often: nothing was judged, send the same again",
    500: "a fault of the gateway",
    503: "something that is needed is away or busy: nothing was judged, send the same again",
}


@cache
def _data() -> Mapping[str, Any]:
    loaded: dict[str, Any] = yaml.load(
        files("gateway").joinpath("openapi.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader
    )
    return loaded


def problems() -> Mapping[str, str]:
    """Slug of each problem's type to what it says."""
    found: Mapping[str, str] = _data()["problems"]
    return found


def complete(app: FastAPI) -> None:
    """Have `app` serve its documents."""
    openapi.complete(app, STATUSES)
    described = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        made = described()
        made[PROBLEMS] = {f"{TYPE_PREFIX}{slug}": says for slug, says in problems().items()}
        for name, example in _data()["examples"].items():
            if name in made["components"]["schemas"]:
                made["components"]["schemas"][name]["examples"] = [_as_json(example)]
        for operation in _operations(made):
            operation["tags"] = [
                view for view, pattern in VIEWS.items() if pattern in operation.get(openapi.CALLERS, ())
            ]
        return made

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI documents it
    for view in VIEWS:
        app.add_api_route(f"/openapi/{view}.json", _served(app, view), include_in_schema=False, response_model=None)


def of_view(document: Mapping[str, Any], view: str) -> dict[str, Any]:
    """The part of a complete document that callers of a view may call, and what it refers to."""
    made: dict[str, Any] = copy.deepcopy(dict(document))
    made["info"]["title"] += f", for {view}"
    made["paths"] = {
        path: kept
        for path, methods in made["paths"].items()
        if (kept := {method: each for method, each in methods.items() if view in each["tags"]})
    }
    schemas = made["components"]["schemas"]
    wanted, used = {"Problem"}, set[str]()
    wanted |= set(_references(made["paths"]))
    while wanted - used:
        name = (wanted - used).pop()
        used.add(name)
        wanted |= set(_references(schemas[name]))
    made["components"]["schemas"] = {name: each for name, each in schemas.items() if name in used}
    return made


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/components/schemas/"):
            yield reference.rpartition("/")[2]
        for each in part.values():
            yield from _references(each)
    elif isinstance(part, list):
        for each in part:
            yield from _references(each)


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _served(app: FastAPI, view: str) -> Any:
    async def served() -> dict[str, Any]:
        return of_view(app.openapi(), view)

    return served


def _as_json(example: Any) -> Any:
    """YAML reads dates; JSON has their text."""
    return json.loads(json.dumps(example, default=lambda each: each.isoformat().replace("+00:00", "Z")))


def written() -> dict[str, str]:
    """Name of each file of `docs/openapi` to its text."""
    from gateway.app import create_app

    def never() -> AbstractAsyncContextManager[Gateway]:
        raise AssertionError("nothing is served")

    document = create_app(never).openapi()
    return {
        f"gateway-{view}.json": json.dumps(of_view(document, view), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        for view in VIEWS
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in written().items():
        (folder / file).write_text(content, "utf-8")
