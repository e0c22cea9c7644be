"""The CA's API by its own description: who may call each route, and that made-up requests are answered as described.

Routes and callers come from the served OpenAPI document, so a route that forgets its guard, or a server that does not
do what it says, fails here. schemathesis is derandomised: what it tries is the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import httpx
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

from ca import app as ca_app
from ca.app import create_app
from ca.crl_routes import OPERATORS
from ca.status_routes import READERS
from runtime.client import TlsFiles, http_client
from runtime.openapi import CALLERS, api_routes, callers
from runtime.server import start
from tests.support.ca_world import CaWorld, tls_files
from tests.support.cps_cases import Office
from tests.support.pki_factory import pem

KINDS: Final = (
    "service:ra",
    "service:operator",
    "service:gateway",
    "service:repository",
    "officer:officer-1",
    "merchant:M-1",
    "gateway:GW-1",
)
RA: Final = ("service:ra",)
TABLE: Final = {
    ("POST", "/v1/certificates"): RA,
    ("POST", "/v1/certificates:batch"): ("service:ra",),
    ("GET", "/v1/certificates"): READERS,
    ("GET", "/v1/certificates/{issuer}/{serial}"): READERS,
    ("GET", "/v1/certificates:export"): OPERATORS,
    ("POST", "/v1/revocations"): READERS,
    ("GET", "/v1/revocations"): READERS,
    ("POST", "/v1/denylist"): READERS,
    ("GET", "/v1/denylist"): READERS,
    ("GET", "/v1/crls"): OPERATORS,
    ("GET", "/v1/crls/{issuer}/{scope}"): OPERATORS,
    ("POST", "/v1/crls/{issuer}"): OPERATORS,
    ("POST", "/v1/self-audits"): OPERATORS,
    ("GET", "/v1/self-audits"): OPERATORS,
    ("GET", "/v1/self-audits/{sha256}"): OPERATORS,
    ("GET", "/v1/self-audits/{sha256}/signature"): OPERATORS,
}
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES: Final = 10
VALUES: Final = {"issuer": "merchant-ca", "serial": "ab", "scope": "full", "sha256": "00" * 32}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[tuple[str, dict[str, TlsFiles]]]:
    """The CA's address, and the TLS files of each caller."""
    folder = tmp_path_factory.mktemp("api")
    world = CaWorld(folder, office)
    world.authority.issuance.issue(world.approved_merchant())
    world.authority.self_audit.audit(until=None, seed="00" * 8)
    names = [(each, *each.split(":")) for each in KINDS]
    files = {each: tls_files(world.pki, kind, who, folder / "tls") for each, kind, who in names}
    server = tls_files(world.pki, "service", "ca", folder / "server")
    (folder / "root.pem").write_bytes(pem(world.pki.root.certificate))
    with start(create_app(world.authority), tls=server, client_certificate="optional") as url:
        yield url, files
    world.close()


@pytest.fixture(scope="module")
def clients(served: tuple[str, dict[str, TlsFiles]]) -> Iterator[dict[str, httpx.Client]]:
    url, files = served
    made = {caller: http_client(tls, url) for caller, tls in files.items()}
    made["anonymous"] = http_client(None, url, ca=next(iter(files.values())).ca)
    yield made
    for each in made.values():
        each.close()


def test_the_table_at_the_top_of_the_application_names_every_route(clients: dict[str, httpx.Client]) -> None:
    described = clients["service:ra"].get("/openapi.json").json()["paths"]
    routes = {(method.upper(), path): route for path, methods in described.items() for method, route in methods.items()}
    assert {key: tuple(route[CALLERS]) for key, route in routes.items()} == TABLE
    assert ca_app.__doc__ is not None
    for method, path in routes:
        assert f"| {method} {path}" in ca_app.__doc__


def test_every_route_has_a_summary_a_description_and_its_problems(clients: dict[str, httpx.Client]) -> None:
    document = clients["service:ra"].get("/openapi.json").json()
    for methods in document["paths"].values():
        for route in methods.values():
            assert route["summary"]
            assert route["description"]
            for status in ("401", "403", "404", "409", "422", "500", "503"):
                assert route["responses"][status] == {"$ref": f"#/components/responses/Problem{status}"}
    assert document["components"]["schemas"]["Problem"]["example"]["clause"]


@pytest.mark.parametrize(("method", "path"), TABLE, ids=[f"{method} {path}" for method, path in TABLE])
def test_who_may_call_a_route_and_nobody_else(method: str, path: str, clients: dict[str, httpx.Client]) -> None:
    url = path
    for name, value in VALUES.items():
        url = url.replace(f"{{{name}}}", value)
    for caller, client in clients.items():
        # Nothing that a guard that was forgotten would carry out: the body breaks a rule of every route with one.
        answer = client.request(method, url, json={"unknown": 1} if method == "POST" else None)
        problem = answer.json().get("type", "") if answer.is_error else ""
        if any(fnmatchcase(caller, pattern) for pattern in TABLE[method, path]):
            assert answer.status_code not in {401, 403}, f"{caller}: {answer.text}"
        elif caller == "anonymous":
            assert (answer.status_code, problem) == (401, "urn:kwbp:problem:client-certificate-required")
        else:
            assert (answer.status_code, problem) == (403, "urn:kwbp:problem:caller-not-allowed"), caller


def test_no_route_is_without_a_guard(office: Office, tmp_path: Path) -> None:
    world = CaWorld(tmp_path, office, start=False)
    routes = api_routes(create_app(world.authority))
    assert len(routes) == len(TABLE)
    assert all(callers(route) for route in routes)
    world.close()


@pytest.mark.parametrize(("method", "path"), TABLE, ids=[f"{method} {path}" for method, path in TABLE])
def test_what_is_made_up_from_the_description_is_answered_as_described(
    method: str, path: str, served: tuple[str, dict[str, TlsFiles]], clients: dict[str, httpx.Client]
) -> None:
    url, files = served
    caller = "service:ra" if TABLE[method, path] == RA else "service:operator"
    document = clients[caller].get("/openapi.json").json()
    operation = schemathesis.openapi.from_dict(document)[path][method]
    seen: set[int] = set()
    with requests.Session() as session:
        session.trust_env = False
        session.cert = (str(files[caller].certificate), str(files[caller].key))
        session.verify = str(files[caller].ca)
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(
                max_examples=EXAMPLES,
                derandomize=True,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def run(case: Any) -> None:
                answer = case.call(base_url=url, session=session, verify=session.verify)
                seen.add(answer.status_code)
                case.validate_response(answer, checks=CHECKS)

            nothing_wrong = not list(operation.iter_parameters()) and not document["paths"][path][method.lower()].get(
                "requestBody"
            )
            if mode is schemathesis.GenerationMode.NEGATIVE and nothing_wrong:
                continue
            run()
    assert seen


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_in_utc_is_refused(clients: dict[str, httpx.Client], moment: str) -> None:
    client = clients["service:operator"]
    for answer in (
        client.get("/v1/certificates", params={"expires_before": moment}),
        client.post("/v1/self-audits", json={"since": moment}),
    ):
        assert (answer.status_code, answer.json()["status"]) == (422, 422), answer.text
