"""The gateway's description of itself: complete, in step with the code and the docs, and true (schemathesis)."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway import openapi
from gateway.app import create_app
from kwbp.wrapper import MEDIA_TYPE
from pki.names import identity_uri
from runtime.client import TlsFiles, http_client
from runtime.openapi import CALLERS
from tests.support.payment_site import Site

REPOSITORY: Final = Path(openapi.__file__).parents[1]
EVERYWHERE: Final = {"caller-not-allowed", "certificate-refused", "message-too-big", "invalid-request"}
"""Problems of what every service is built of (`runtime`)."""


def _never() -> Any:
    raise AssertionError("nothing is served")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(_never).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_route_says_who_may_call_it_what_it_does_and_what_it_refuses(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert operation[CALLERS], (method, path)
        assert set(operation[CALLERS]) <= set(openapi.VIEWS.values()), (method, path)
        assert operation["description"], (method, path)
        assert operation["tags"], (method, path)
        for status in openapi.STATUSES:
            assert str(status) in operation["responses"], (method, path, status)


def test_messages_of_the_protocol_have_their_media_type_both_ways(document: dict[str, Any]) -> None:
    messages = [each for _, _, each in operations(document) if MEDIA_TYPE in str(each.get("requestBody"))]
    assert len(messages) >= 6
    for each in messages:
        assert list(each["requestBody"]["content"]) == [MEDIA_TYPE]
        assert MEDIA_TYPE in each["responses"]["200"]["content"]


def _answered(document: dict[str, Any]) -> set[str]:
    """Names of the schemas that are bodies, as such or in a list."""
    found = set()
    for _, _, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            schema = body.get("content", {}).get("application/json", {}).get("schema", {})
            schema = schema.get("items", schema)
            if "$ref" in schema:
                found.add(schema["$ref"].rpartition("/")[2])
    return found


def test_every_document_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    for name in sorted(_answered(document)):
        schema = document["components"]["schemas"][name]
        assert schema.get("examples"), f"{name} needs an example in gateway/openapi.yaml"
        whole = {**schema, "components": document["components"]}
        for example in schema["examples"]:
            jsonschema_rs.validate(whole, example)


def slugs() -> set[str]:
    """Types of the problems that the gateway's code raises, as it stands."""
    found = set()
    for path in (REPOSITORY / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called not in ("Problem", "_away"):
                continue
            assert isinstance(node, ast.Call)
            slug = node.args[{"Problem": 1, "_away": 2}[called]]
            if isinstance(slug, ast.Constant):
                found.add(str(slug.value))
    return found


def test_every_problem_that_is_raised_is_described_and_no_other() -> None:
    assert slugs() | EVERYWHERE == set(openapi.problems())


@pytest.mark.parametrize(("view", "pattern"), openapi.VIEWS.items())
def test_a_view_has_what_its_callers_may_call_and_nothing_dangling(
    document: dict[str, Any], view: str, pattern: str
) -> None:
    part = openapi.of_view(document, view)
    shown = {(method, path) for method, path, _ in operations(part)}
    assert shown == {(method, path) for method, path, each in operations(document) if pattern in each[CALLERS]}
    named = set(openapi._references(part))
    assert named <= part["components"]["schemas"].keys()


def test_the_documents_of_the_docs_are_those_that_are_served() -> None:
    """Not in step? `python -m gateway.openapi docs/openapi` writes them anew."""
    for name, text in openapi.written().items():
        assert (REPOSITORY / "docs" / "openapi" / name).read_text("utf-8") == text, name


schemathesis.serializer.alias(MEDIA_TYPE, "application/octet-stream")

# --- against a gateway ------------------------------------------------------------------------------------------------

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BOUNDED: Final = settings(
    max_examples=3,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PATHS: Final = {
    "xid": "0" * 40, "day": "2026-03-21", "business_day": "2026-03-21", "merchant_id": "M-NOBODY", "name": "switch",
}  # fmt: skip


@pytest.fixture(scope="module")
def served(gateway: str, site: Site) -> dict[str, Any]:
    with http_client(site.tls("operator"), gateway) as client:
        document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def standings(site: Site) -> dict[str, tuple[str, TlsFiles]]:
    return {
        "merchant": ("merchant:CALLER", site.tls("merchant-caller", identity_uri("merchant", "CALLER"))),
        "operator": ("service:operator", site.tls("operator")),
        "service": ("service:ra", site.tls("ra")),
        "officer": ("officer:officer-1", site.tls("officer-1", identity_uri("officer", "officer-1"))),
        "gateway": ("gateway:GW-2", site.tls("gateway-2", identity_uri("gateway", "GW-2"))),
    }


def test_a_route_lets_in_whom_its_description_names_and_nobody_else(
    site: Site, gateway: str, served: dict[str, Any]
) -> None:
    """Generated from the routes: a new one is judged here without a line of test."""
    for text, tls in standings(site).values():
        with http_client(tls, gateway) as client:
            for method, path, operation in operations(served):
                if "zone-keys:change" in path and text == "service:operator":
                    continue  # it would change the keys of the line for all tests
                answer = client.request(method, path.format_map(_Filled(PATHS)))
                allowed = any(fnmatchcase(text, pattern) for pattern in operation[CALLERS])
                refused = answer.status_code == 403 and answer.json()["type"].endswith("caller-not-allowed")
                assert refused != allowed, (text, method, path, answer.text)
                assert answer.status_code != 500, (text, method, path, answer.text)


class _Filled(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "1"


@pytest.mark.parametrize("view", openapi.VIEWS)
def test_views_are_served(site: Site, gateway: str, served: dict[str, Any], view: str) -> None:
    with http_client(site.tls("operator"), gateway) as client:
        assert client.get(f"/openapi/{view}.json").json() == openapi.of_view(served, view)


@pytest.mark.parametrize("view", openapi.VIEWS)
def test_made_up_requests_are_answered_as_described(
    site: Site, gateway: str, served: dict[str, Any], view: str
) -> None:
    part = openapi.of_view(served, view)
    schema = schemathesis.openapi.from_dict(part)
    files = standings(site)["merchant" if view == "merchants" else "operator"][1]
    seen: set[int] = set()
    with requests.Session() as session:
        session.trust_env = False
        session.cert = (str(files.certificate), str(files.key))
        session.verify = str(files.ca)
        for method, path, operation in operations(part):
            if "zone-keys:change" in path:
                continue
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                if mode is schemathesis.GenerationMode.NEGATIVE and not (
                    operation.get("parameters") or "application/json" in str(operation.get("requestBody"))
                ):
                    continue

                @BOUNDED
                @given(case=schema[path][method].as_strategy(generation_mode=mode))
                def run(case: Any) -> None:
                    answer = case.call(base_url=gateway, session=session, verify=session.verify)
                    seen.add(answer.status_code)
                    case.validate_response(answer, checks=CHECKS)

                run()
    assert seen & {200, 201, 404}
    assert 500 not in seen


def test_the_document_is_a_document(served: dict[str, Any]) -> None:
    assert served["openapi"].startswith("3.1")
    assert json.dumps(served)
    assert httpx.URL(served["components"]["schemas"]["Problem"]["example"]["type"]).scheme == "urn"
