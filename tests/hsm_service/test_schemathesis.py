"""schemathesis makes requests up from the served OpenAPI document and judges the answers of the real server by it.

It is told who calls, so that requests come further than the first refusal. It finds no 5xx, no status, content type,
header or body that the document does not have, and nothing accepted that the document excludes. Derandomised: what it
tries is the same in every run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway_keys.plugin import GatewayKeys
from hsm_service.app import create_app
from runtime.server import start
from tests.support.signing_site import CA, GATEWAY, OPERATOR, SHOP, Served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OFFICER = "officer:officer-1"
BENCH = "service:bench"
EXAMPLES = 10
"""Requests for each route as described, and as many with something wrong."""
LIFE = (":rotate", ":enable", ":disable", ":destroy", ":keep", "/limits", ":backup", "/certificate")
KEYS = {SHOP: "shop-ec", CA: "merchant-ca-ec", BENCH: "raw-ec", OPERATOR: "bare-shop", GATEWAY: "gateway-vault"}
"""Whose name is a key of a caller's own: made-up names are of nobody."""


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    app = create_app(served.vault, plugins=[GatewayKeys.of(served.world.home)])
    with start(app, tls=served.tls("hsm")) as url:
        yield url


@pytest.fixture(scope="module")
def session(served: Served) -> Iterator[dict[str, requests.Session]]:
    with contextlib.ExitStack() as stack:
        sessions = {}
        for caller in (*KEYS, OFFICER):
            files, session = served.identity(caller), stack.enter_context(requests.Session())
            session.trust_env = False
            session.cert, session.verify = (str(files.certificate), str(files.key)), str(files.ca)
            sessions[caller] = session
        yield sessions


def routes() -> list[tuple[str, str]]:
    """Method and path of every route, from the same table that the server describes itself by."""
    from hsm_service.app import _Handlers
    from hsm_service.crl_routes import CrlRoutes
    from hsm_service.key_life_routes import KeyLifeRoutes
    from hsm_service.operation_routes import OperationRoutes

    nothing: Any = None
    api = [*_Handlers(nothing, nothing, nothing).routes(), *KeyLifeRoutes(nothing, nothing, nothing).routes()]
    api += [*CrlRoutes(nothing, nothing).routes(), *OperationRoutes(nothing, nothing).routes()]
    plugin = GatewayKeys(lambda: ()).routes(nothing)
    return [(route.method, route.plain_path) for route in (*api, *plugin)]


def _callers(path: str) -> list[str]:
    if path.startswith("/v1/gateway"):
        return [GATEWAY]
    if path.startswith("/v1/operations"):
        return [OFFICER, OPERATOR]
    if path == "/v1/keys":
        return [OPERATOR, SHOP]
    return [OPERATOR, SHOP] if path.endswith(LIFE) else [SHOP, CA, BENCH]


@pytest.mark.parametrize(("method", "path"), routes(), ids=[f"{method} {path}" for method, path in routes()])
def test_what_is_made_up_from_the_description_is_answered_as_described(
    method: str, path: str, url: str, session: dict[str, requests.Session]
) -> None:
    document = session[SHOP].get(f"{url}/openapi.json", timeout=30).json()
    schema = schemathesis.openapi.from_dict(document)
    operation = schema[path][method]
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    seen: set[int] = set()

    for mode in modes:

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), caller=st.sampled_from(_callers(path)))
        def run(case: Any, caller: str) -> None:
            if "name" in (case.path_parameters or {}):
                case.path_parameters["name"] = KEYS[caller]
            answer = case.call(base_url=url, session=session[caller], verify=session[caller].verify)
            seen.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        if mode is schemathesis.GenerationMode.NEGATIVE and not list(operation.iter_parameters()):
            continue  # nothing to have wrong
        run()
    assert seen
