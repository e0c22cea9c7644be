"""The RA's API by its own description: made-up requests are answered as described, and nothing is a fault of ours.

schemathesis is derandomised: what it tries is the same in every run. Made-up submissions seldom get far, so a second
test damages sound ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
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

from ra import evidence_routes
from ra.app import create_app
from runtime.client import TlsFiles, http_client
from runtime.server import start
from tests.support.ca_world import tls_files
from tests.support.cps_cases import Office, csr
from tests.support.pki_factory import p256
from tests.support.ra_world import RaWorld, merchant_subject

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BOUNDED: Final = settings(
    max_examples=5,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CASE: Final = "/v1/applications/{application_id}"


@dataclass
class Served:
    """An RA that listens, its document, and who calls it."""

    url: str
    document: dict[str, Any]
    operator: httpx.Client
    files: TlsFiles
    draft: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("api")
    world = RaWorld(folder, office)
    files = tls_files(office.pki, "service", "operator", folder / "tls")
    server = tls_files(office.pki, "service", "ra", folder / "server")
    app = create_app(world.workflow)
    with start(app, tls=server, client_certificate="optional", larger=evidence_routes.larger) as url:
        with http_client(files, url) as operator:
            draft = operator.post("/v1/applications", json={"class": "merchant"}).json()["id"]
            yield Served(url, operator.get("/openapi.json").json(), operator, files, draft)
    world.close()


def test_every_refusal_of_every_route_is_described(served: Served) -> None:
    for path, methods in served.document["paths"].items():
        for operation in methods.values() if path.startswith("/v1/") else ():
            assert operation["description"]
            for status in ("401", "403", "404", "409", "413", "422", "500", "503"):
                assert operation["responses"][status] == {"$ref": f"#/components/responses/Problem{status}"}


def test_made_up_requests_are_answered_as_described(served: Served) -> None:
    seen: dict[int, int] = {}
    schema = schemathesis.openapi.from_dict(served.document)
    with requests.Session() as session:
        session.trust_env = False
        session.cert = (str(served.files.certificate), str(served.files.key))
        session.verify = str(served.files.ca)
        for path, methods in served.document["paths"].items():
            for method in methods if path.startswith("/v1/") else ():
                for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                    operation = schema[path][method]
                    described = served.document["paths"][path][method]
                    if mode is schemathesis.GenerationMode.NEGATIVE and not (
                        described.get("parameters") or described.get("requestBody")
                    ):
                        continue

                    @BOUNDED
                    @given(case=operation.as_strategy(generation_mode=mode))
                    def run(case: Any) -> None:
                        if "application_id" in (case.path_parameters or {}) and len(seen) % 2:
                            case.path_parameters["application_id"] = served.draft
                        answer = case.call(base_url=served.url, session=session, verify=session.verify)
                        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
                        case.validate_response(answer, checks=CHECKS)

                    run()
    assert {200, 201, 404, 422} <= set(seen)
    assert max(seen) < 500


ODD: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=80),
    st.sampled_from(["\ud800", "\x00", "\u202e", "۱" * 400, "IR" + "0" * 24, "https://", "xn--", "\u200c", "9" * 5000]),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_submission_is_refused_and_no_fault_of_ours(served: Served, data: st.DataObject) -> None:
    subject: dict[str, Any] = merchant_subject(merchant_id="M-500")
    field = data.draw(st.one_of(st.sampled_from(sorted(subject)), st.text(max_size=8)))
    subject[field] = data.draw(ODD)
    body: dict[str, Any] = {"subject": subject, "csrs": {"signing": "AAAA"}}
    if data.draw(st.booleans()):
        body[data.draw(st.sampled_from(["version", "national_code", "csrs", "6037991234567893"]))] = data.draw(ODD)
    content = json.dumps(body).encode()
    path = CASE.format(application_id=served.draft) + "/submit"
    answer = served.operator.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 409, 422}, answer.text
    assert "6037991234567893" not in answer.text
    assert served.operator.get(CASE.format(application_id=served.draft)).json()["state"] == "DRAFT"


def test_a_sound_submission_is_taken_beside_them(served: Served) -> None:
    draft = served.operator.post("/v1/applications", json={"class": "merchant"}).json()["id"]
    encoded = base64.b64encode(csr(p256())).decode()
    body = {"subject": merchant_subject(merchant_id="M-501"), "csrs": {"signing": encoded}}
    answer = served.operator.post(CASE.format(application_id=draft) + "/submit", json=body)
    assert (answer.status_code, answer.json()["state"]) == (200, "VETTING")
