"""The served OpenAPI document against what the service does: states of keys, approvals, statuses, headers, bounds."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway_keys.plugin import GatewayKeys
from hsm_service import openapi
from hsm_service.app import create_app
from hsm_service.key_states import Change, KeyState
from pki.roles import Role
from runtime.server import start
from tests.hsm_service.test_authorisation import CALLERS
from tests.support.signing_site import (
    ACK,
    CA,
    OPERATOR,
    Served,
    authority_chain,
    der,
    leaf_chain,
    merchant_chain,
    public_key,
)

JUNK = b64encode(b"\x05\x00").decode()
REMADE = {
    "merchant-signing-ec": "merchant:M-1",
    "issuing-ca-ec": CA,
    "timestamp-authority": CA,
    "raw-ec": "service:bench",
}
"""A template for each way of signing, quick to make, and who signs with its keys."""
CHANGES = (":enable", ":disable", ":destroy", ":keep", "/limits", ":backup")
STATES = tuple(state for state in KeyState if state is not KeyState.PENDING)


@pytest.fixture(scope="module")
def site(served: Served) -> Iterator[Served]:
    app = create_app(served.vault, plugins=[GatewayKeys.of(served.world.home)])
    with start(app, tls=served.tls("hsm")) as url:
        yield Served(url, served.world, served.vault, served.tls)


@pytest.fixture(scope="module")
def document(site: Served) -> dict[str, Any]:
    with site.http("anonymous") as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def described(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            yield method.upper(), path, route


@pytest.fixture(scope="module")
def in_states(site: Served) -> dict[tuple[str, KeyState], str]:
    """A key of each template in each state."""
    return {(template, state): _made(site, template, state) for template in REMADE for state in STATES}


def _made(site: Served, template: str, state: KeyState) -> str:
    name, ceremony = f"{template}-{state.value.lower()}", site.vault.as_caller("ceremony")
    owner = {"merchant-signing-ec": "M-1", "raw-ec": "bench"}.get(template)
    public = public_key(ceremony.generate_key(name, template, owner=owner).public_key)
    pki = site.world.pki
    chain = {
        "merchant-signing-ec": lambda: merchant_chain(pki, "M-1", public),
        "issuing-ca-ec": lambda: authority_chain(pki, name, Role.MERCHANT_CA, public),
        "timestamp-authority": lambda: leaf_chain(pki, template, public),
    }.get(template)
    if chain is not None:
        ceremony.attach_certificate(name, der(*chain()))
    if state is not KeyState.ENABLED:
        site.vault.life.disable("ceremony", name, 1)
    if state in {KeyState.DESTROY_SCHEDULED, KeyState.DESTROYED}:
        site.vault.life.destroy("ceremony", name, 1)
    if state is KeyState.DESTROYED:
        custody = site.vault._custody
        custody.change(custody.find(name, 1), Change.DESTROY)
    assert site.vault.describe_key("ceremony", name, 1).state == state.value
    return name


def _fits(caller: str, patterns: list[str]) -> bool:
    return any(pattern.replace("{owner}", caller.partition(":")[2]) == caller for pattern in patterns)


def _body(path: str, operation: str) -> Any:
    fields: dict[str, Any] = {"content": JUNK}
    if operation == "cms":
        fields["content_type"] = "1.3.6.1.4.1.55555.1"
    if operation == "raw":
        fields = {"content": b64encode(bytes(32)).decode(), "algorithm": "ecdsa-sha256"}
    if operation in {"rotate", "enable", "disable", "destroy", "keep", "limits"}:
        return {"reason": "a test"}
    if path.endswith("/certificate"):
        return {"chain": [JUNK]}
    return {"kind": operation, "items": [fields]} if path.endswith(":batchSign") else {"kind": operation, **fields}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("template", REMADE)
def test_a_version_does_in_each_state_what_the_document_says(
    template: str, state: KeyState, site: Served, document: dict[str, Any], in_states: dict[tuple[str, KeyState], str]
) -> None:
    name, asked = in_states[template, state], 0
    # What is done at once and changes the state comes last.
    routes = sorted(described(document), key=lambda each: each[1].endswith(":disable"))
    with site.http(REMADE[template]) as user, site.http(OPERATOR) as operator:
        clients = {REMADE[template]: user, OPERATOR: operator}
        for method, path, route in routes:
            if "{name}" not in path:
                continue
            for operation, patterns in route[openapi.CALLERS].get(template, {}).items():
                who = next((each for each in clients if _fits(each, patterns)), None)
                if who is None:
                    continue
                asked += 1
                before = site.vault.describe_key("ceremony", name, 1).uses
                url = path.replace("{name}", name).replace("{version}", "1")
                answer = clients[who].request(method, url, json=_body(path, operation))
                refused = answer.json().get("type", "").rpartition(":")[2] in {"key-not-enabled", "key-state"}
                allowed = state.value in route[openapi.STATES][operation]
                assert refused is not allowed, f"{method} {path} {operation} {state}: {answer.text}"
                assert answer.status_code < 500
                if refused:
                    assert answer.status_code == 409
                    assert site.vault.describe_key("ceremony", name, 1).uses == before
    assert asked >= 5


def test_every_operation_that_needs_a_version_names_its_states(document: dict[str, Any]) -> None:
    for method, path, route in described(document):
        callers = route[openapi.CALLERS]
        operations = {each for by in callers.values() for each in by} if isinstance(callers, dict) else set()
        operations |= set(route.get(openapi.KEYS, {}).values())
        needing = operations - {"generate"}
        assert set(route[openapi.STATES]) >= needing, f"{method} {path}"
        assert set(route[openapi.STANDINGS]) >= needing
        assert all("in use" in standings for standings in route[openapi.STANDINGS].values())


def test_what_needs_approvals_says_whose(document: dict[str, Any], site: Served) -> None:
    generate = document["paths"]["/v1/keys"]["post"]
    needed = {"by": ["security_officer"], "approvals": 2}
    assert generate[openapi.APPROVALS]["merchant-signing-ec"] == {"generate": needed}
    assert "202" in generate["responses"]
    with site.http(OPERATOR) as operator:
        body = {"name": "needs-two", "template": "merchant-signing-ec", "owner": "M-1"}
        asked = operator.post("/v1/keys", json=body)
    assert (asked.status_code, asked.json()["needed"], asked.json()["by"]) == (202, 2, ["security_officer"])


def test_every_route_has_its_problems_with_their_schema(document: dict[str, Any]) -> None:
    responses = document["components"]["responses"]
    for method, path, route in described(document):
        problems = {status: each for status, each in route["responses"].items() if int(status) >= 400}
        assert {"400", "403", "500", "503"} <= set(problems), f"{method} {path}"
        for status, each in problems.items():
            assert each == {"$ref": f"#/components/responses/Problem{status}"}
            [(media_type, content)] = responses[f"Problem{status}"]["content"].items()
            assert media_type == "application/problem+json"
            assert content["schema"]["$ref"].endswith("/Problem")
        assert ("413" in problems) == (method != "GET")
    for status in ("429", "503"):
        assert "Retry-After" in responses[f"Problem{status}"]["headers"]


def test_who_may_repeat_a_request_reads_it_in_the_document(document: dict[str, Any]) -> None:
    keyed = {
        path
        for _method, path, route in described(document)
        if any(each["name"] == "Idempotency-Key" for each in route["parameters"])
    }
    assert keyed == {
        "/v1/keys",
        "/v1/keys/{name}:sign",
        "/v1/keys/{name}:batchSign",
        "/v1/keys/{name}:attest",
        "/v1/keys/{name}/versions/{version}:sign",
        "/v1/keys/{name}/versions/{version}:batchSign",
        "/v1/keys/{name}:rotate",
        "/v1/keys/{name}/limits",
        "/v1/keys/{name}:backup",
        *(f"/v1/keys/{{name}}/versions/{{version}}{verb}" for verb in CHANGES),
    }


def test_limits_stand_in_the_schemas_and_are_enforced(document: dict[str, Any], site: Served) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["BatchCommand"]["properties"]["items"]["maxItems"] == 1000
    assert schemas["AttachCommand"]["properties"]["chain"]["maxItems"] == 8
    largest = schemas["SignCommand"]["x-kwbp-largest"]["cms"]
    assert schemas["SignCommand"]["properties"]["content"]["maxLength"] >= 4 * largest // 3
    assert schemas["ApproveCommand"]["properties"]["approval"]["maxLength"] == (16 * 1024 + 2) // 3 * 4
    with site.http("merchant:M-1") as client:
        for size, status in ((largest, 422), (largest + 1, 413)):
            body = {"kind": "cms", "content": b64encode(bytes(size)).decode(), "content_type": ACK}
            assert client.post("/v1/keys/shop-ec:sign", json=body).status_code == status


def test_routes_of_plug_ins_are_described_as_fully(document: dict[str, Any], site: Served) -> None:
    routes = {path: methods["post"] for path, methods in document["paths"].items() if path.startswith("/v1/gateway")}
    assert set(routes) == {
        "/v1/gateway/orders:open",
        "/v1/gateway/password-requests:open",
        "/v1/gateway/pans:unseal",
        "/v1/gateway/macs:generate",
        "/v1/gateway/macs:verify",
        "/v1/gateway/answers:sign",
        "/v1/gateway/zone-keys:receive",
        "/v1/gateway/zone-keys:tend",
    }
    for route in routes.values():
        assert route["summary"]
        assert route[openapi.CALLERS] == ["service:gateway"]
        body = route["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert document["components"]["schemas"][body.rpartition("/")[2]]["additionalProperties"] is False
        assert "422" in route["responses"]
    for caller in CALLERS:
        with site.http(caller) as client:
            for path in routes:
                entries = len(site.world.journal())
                status = client.post(path, json={}).status_code
                reasons = [each["reason"] for each in site.world.journal()[entries:]]
                if caller == "service:gateway":
                    assert status in {200, 422}, path  # looked at
                    continue
                # Of nobody there is nothing to record.
                expected = (401, []) if caller == "anonymous" else (403, ["caller-not-allowed"])
                assert (status, reasons) == expected, f"{caller}: {path}"
    signing = routes["/v1/gateway/answers:sign"]
    assert signing[openapi.KEYS] == {"zone-mac": "verify-mac", "gateway-signing": "cms"}
    opening = routes["/v1/gateway/orders:open"]
    assert opening[openapi.KEYS] == {
        "gateway-encryption": "open",
        "gateway-vault": "seal",
        "gateway-card-ids": "card-digest",
        "zone-pin": "pin-block",
    }
    assert opening[openapi.STANDINGS]["open"] == ["in use", "retired"]


def test_the_document_refers_to_nothing_that_is_not_there(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for kind in ("schemas", "responses"):
        named = {part.split('"')[0] for part in text.split(f"#/components/{kind}/")[1:]}
        assert named <= set(document["components"][kind])
    ids = [route["operationId"] for _method, _path, route in described(document)]
    assert len(ids) == len(set(ids))


def test_what_nobody_may_see_stands_in_no_description(site: Served) -> None:
    with site.http("anonymous") as client:
        page: httpx.Response = client.get("/docs")
    assert "/v1/gateway/orders:open" in page.text
    assert "root-ca" not in page.text
