"""Who may do what over the network: every route of the running server's own description × every kind of caller.

The expected answers come from `/openapi.json`, so a route that forgets to say whom it is for, or a server that does not
do what it says, fails here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import httpx
import msgspec
import pytest

from hsm_service import openapi
from hsm_service.app import _Handlers
from hsm_service.crl_routes import CrlRoutes
from hsm_service.key_life_routes import KeyLifeRoutes
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.operation_routes import OperationRoutes
from hsm_service.templates import built_in
from runtime.client import TlsFiles, client_context, http_client
from tests.support.plain_client import PlainClient
from tests.support.signing_site import AUTHORITIES, RAW, Served
from tests.support.tls import tls_issuer

OWNER = "M-1"
BENCH = "bench"
CALLERS = (
    "anonymous",
    "merchant:M-1",
    "merchant:M-2",
    "officer:officer-1",
    "gateway:GW-1",
    "service:ca",
    "service:ra",
    "service:hsm",
    "service:gateway",
    "service:operator",
    "service:repository",
    "service:ceremony",
    "service:bench",
)
"""Each kind of caller, with names that mean something and names that do not. No ceremony comes over the network."""

KEYS = {
    "brand-ca": "brand",
    "issuing-ca": "merchant-ca",
    "issuing-ca-ec": "merchant-ca-ec",
    "issuing-ca-p256": "merchant-ca-p256",
    "issuing-ca-recoverable": "lasting-ca",
    "issuing-ca-ec-recoverable": "lasting-ca-ec",
    "merchant-signing": "shop",
    "merchant-signing-ec": "shop-ec",
    "probe": "probe-ca",
    "probe-rsa": "probe-ca",  # made only where a token knows no curves; the same callers
}
"""A key of each template; for the others, their names are equal."""

JUNK = b64encode(b"\x05\x00").decode()  # NULL in DER: no structure that any key signs


def _table() -> Iterator[tuple[str, str, str, str, tuple[str, ...]]]:
    """Method, path, template, operation, patterns: as the server will describe itself."""
    handlers: Any = None
    keys = (
        _Handlers(handlers, handlers, handlers),
        KeyLifeRoutes(handlers, handlers, handlers),
        CrlRoutes(handlers, handlers),
    )
    for route in (route for each in keys for route in each.routes()):
        if route.name != "list":
            for template, operations in openapi.callers(route.operations).items():
                for operation, patterns in operations.items():
                    yield route.method, route.path.replace(":int}", "}"), template, operation, tuple(patterns)


TABLE = list(_table())


@pytest.fixture(scope="module")
def clients(served: Served) -> Iterator[dict[str, PlainClient]]:
    clients = {caller: PlainClient(served.identity(caller), served.url) for caller in CALLERS}
    yield clients
    for client in clients.values():
        client.close()


def _body(path: str, operation: str, template: str, name: str) -> Any:
    """A request that is right but for one thing which is looked at after who asks."""
    if path.endswith(":batchSign"):
        item = {key: value for key, value in _body("", operation, template, name).items() if key != "kind"}
        return {"kind": operation, "items": [item]}
    match operation:
        case "generate":
            owner = (BENCH if template in RAW else OWNER) if built_in()[template].owned else None
            return {"name": name, "template": template, "owner": owner}  # the name is in use
        case "attach":
            return {"chain": []}
        case "rotate":
            return {"activate_at": "1970-01-01T00:00:00Z"}  # it is past
        case "limits":
            return {"not_before": "2030-01-01T00:00:00Z", "not_after": "2029-01-01T00:00:00Z"}
        case "backup":
            return {"recipient": JUNK, "attestation": JUNK}
        case "enable" | "disable" | "destroy" | "keep":
            return {}  # a key that is ENABLED can only be disabled
        case "cms":
            content_type = built_in()[template].content_type_oids[0]
            return {"kind": "cms", "content_type": content_type, "content": JUNK}
        case "raw":
            return {"kind": "raw", "algorithm": "ecdsa-sha256", "content": JUNK}
        case "certificate" | "crl" | "ocsp" | "timestamp" | "request" | "checkpoint":
            return {"kind": operation, "content": JUNK}
    return None


def _may(caller: str, patterns: tuple[str, ...], template: str) -> bool:
    owner = BENCH if template in RAW else OWNER
    return any(fnmatchcase(caller, pattern.replace("{owner}", owner)) for pattern in patterns)


@pytest.mark.parametrize(
    ("method", "path", "template", "operation", "patterns"),
    TABLE,
    ids=[f"{operation}-{template}-{method} {path}" for method, path, template, operation, _ in TABLE],
)
def test_a_route_serves_those_it_names_and_nobody_else(
    method: str,
    path: str,
    template: str,
    operation: str,
    patterns: tuple[str, ...],
    served: Served,
    clients: dict[str, PlainClient],
) -> None:
    name = KEYS.get(template, template)
    url = path.replace("{name}", name).replace("{version}", "1")
    for caller, client in clients.items():
        uses = served.vault.describe_key("ceremony", name).uses
        answer = client.request(method, url, json=_body(path, operation, template, name))
        problem = answer.json().get("type", "").removeprefix("urn:kwbp:problem:")
        if _may(caller, patterns, template):
            assert problem not in {"caller-not-allowed", "client-certificate-required"}, f"{caller}: {answer.text}"
            assert answer.status_code in {200, 404, 409, 422}
            if operation == "disable":
                served.vault.life.enable("ceremony", name, 1)
            continue
        expected = (401, "client-certificate-required") if caller == "anonymous" else (403, "caller-not-allowed")
        assert (answer.status_code, problem) == expected, f"{caller}: {answer.text}"
        assert served.vault.describe_key("ceremony", name).uses == uses
        entry = served.world.last_entry()
        assert (entry["event"], entry["caller"], entry["operation"]) == ("refused", caller, operation)


def test_the_running_server_describes_itself_as_tested_above(served: Served, clients: dict[str, PlainClient]) -> None:
    document = clients["anonymous"].get("/openapi.json").json()
    described = {
        (method.upper(), path, template, operation, tuple(patterns))
        for path, methods in document["paths"].items()
        for method, route in methods.items()
        if route["operationId"] != "list" and isinstance(route[openapi.CALLERS], dict)
        for template, operations in route[openapi.CALLERS].items()
        for operation, patterns in operations.items()
    }
    assert described == set(TABLE)


def test_every_route_under_v1_is_described(served: Served) -> None:
    document = msgspec.json.decode(served.http("anonymous").get("/openapi.json").content)
    assert set(document["paths"]) == {
        "/v1/keys",
        "/v1/keys/{name}",
        "/v1/keys/{name}:sign",
        "/v1/keys/{name}/versions/{version}:sign",
        "/v1/keys/{name}:batchSign",
        "/v1/keys/{name}/versions",
        "/v1/keys/{name}/versions/{version}",
        "/v1/keys/{name}/versions/{version}:batchSign",
        "/v1/keys/{name}:signCrl",
        "/v1/keys/{name}/versions/{version}:signCrl",
        "/v1/keys/{name}:attest",
        "/v1/keys/{name}/certificate",
        "/v1/keys/{name}/chain",
        "/v1/keys/{name}:rotate",
        "/v1/keys/{name}/versions/{version}:enable",
        "/v1/keys/{name}/versions/{version}:disable",
        "/v1/keys/{name}/versions/{version}:destroy",
        "/v1/keys/{name}/versions/{version}:keep",
        "/v1/keys/{name}/limits",
        "/v1/keys/{name}/versions/{version}/limits",
        "/v1/keys/{name}:backup",
        "/v1/keys/{name}/versions/{version}:backup",
        "/v1/operations",
        "/v1/operations/{id}",
        "/v1/operations/{id}/approvals",
        "/v1/operations/{id}:execute",
    }


OPERATIONS = [
    (route.method, route.path, route.name, route.callers)
    for route in OperationRoutes(*[None] * 2).routes()  # type: ignore[arg-type]  # asked for its table alone
]


@pytest.fixture(scope="module")
def request_id(served: Served) -> str:
    """A request that the operator made."""
    with pytest.raises(ApprovalNeeded) as asked:
        served.vault.generate_key("service:operator", "asked-for", "merchant-signing-ec", owner=OWNER)
    return asked.value.operation.id


@pytest.mark.parametrize(("method", "path", "what", "patterns"), OPERATIONS, ids=[each[2] for each in OPERATIONS])
def test_requests_are_for_officers_and_for_who_asked(
    method: str,
    path: str,
    what: str,
    patterns: tuple[str, ...],
    served: Served,
    clients: dict[str, PlainClient],
    request_id: str,
) -> None:
    document = clients["anonymous"].get("/openapi.json").json()
    assert tuple(document["paths"][path][method.lower()][openapi.CALLERS]) == patterns
    body = {"approval": JUNK} if what == "approve" else None
    for caller, client in clients.items():
        answer = client.request(method, path.replace("{id}", request_id), json=body)
        problem = answer.json().get("type", "").removeprefix("urn:kwbp:problem:")
        if any(fnmatchcase(caller, pattern.replace("{requester}", "service:operator")) for pattern in patterns):
            assert (answer.status_code, problem) in {(200, ""), (409, "not-approved"), (422, "approval-refused")}
            continue
        expected = (401, "client-certificate-required") if caller == "anonymous" else (403, "caller-not-allowed")
        assert (answer.status_code, problem) == expected, f"{caller}: {answer.text}"
        entry = served.world.last_entry()
        assert (entry["event"], entry["caller"], entry["operation"]) == ("refused", caller, what)


def test_no_route_serves_the_root(served: Served, clients: dict[str, PlainClient]) -> None:
    assert "root" not in clients["anonymous"].get("/openapi.json").json()["paths"]["/v1/keys"]["post"][openapi.CALLERS]
    for client in clients.values():
        made = client.post("/v1/keys", json={"name": "root", "template": "root-ca"})
        assert made.status_code in {401, 403}


def test_a_list_holds_what_the_caller_may_touch(clients: dict[str, PlainClient]) -> None:
    listed = {
        caller: {key["name"] for key in client.get("/v1/keys").json()["keys"]} for caller, client in clients.items()
    }
    assert listed["merchant:M-1"] == {"shop", "shop-ec", "bare-shop"}
    assert listed["merchant:M-2"] == {"other-shop"}
    of_the_ca = {"log-ca", "bci", "self-audit", "ocsp-responder", "timestamp-authority"}
    assert listed["service:ca"] == of_the_ca | AUTHORITIES.keys()
    assert listed["service:bench"] == set(RAW)
    assert listed["service:hsm"] == {"attestation", "log-hsm", "probe-ca"}
    assert listed["service:repository"] == {"ocsp-responder", "timestamp-authority"}
    for nobody in ("anonymous", "officer:officer-1", "gateway:GW-1", "service:ceremony"):
        assert listed[nobody] == set()


def test_a_caller_without_any_certificate_gets_no_connection(served: Served) -> None:
    context = client_context(ca=served.tls("hsm").ca)
    with (
        httpx.Client(base_url=served.url, verify=context, trust_env=False) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.get("/v1/keys")


def test_a_caller_of_another_authority_gets_no_connection(served: Served, tmp_path: Any) -> None:
    forged = tls_issuer(tmp_path)("ca", uri="urn:kwbp:service:ca")
    files = TlsFiles(forged.certificate, forged.key, served.tls("hsm").ca)
    with http_client(files, served.url) as client, pytest.raises(httpx.TransportError):
        client.get("/v1/keys")
