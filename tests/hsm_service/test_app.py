"""The signing API over HTTP with mutual TLS, on real tokens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import httpx
import msgspec
import pytest
from cryptography import x509
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from audit import read, verify
from hsm_service.app import create_app
from hsm_service.client import HsmClient
from hsm_service.kinds import KINDS
from hsm_service.openapi_route import ApiRoute
from hsm_service.request import request_info
from hsm_service.service import SignKind
from hsm_service.templates import Operation
from hsm_service.tokens import Token
from hsm_service.vault import Vault
from pki import oids
from pki.cms_signed import parse_signed_data, verify_signature
from pki.csr import parse_csr
from pki.names import name
from runtime.client import http_client
from runtime.identity import caller_of
from runtime.server import start
from tests.support.approved import Desk
from tests.support.judges import attime, openssl, openssl_accepts
from tests.support.pki_factory import NOW, pem
from tests.support.ready_python import Python
from tests.support.signing_site import ACK, CA, GATEWAY, SHOP, Served, World, acknowledgement, crl
from tests.support.tls import tls_issuer


def sign(client: httpx.Client, key: str, kind: str, content: bytes, **more: Any) -> httpx.Response:
    return client.post(f"/v1/keys/{key}:sign", json={"kind": kind, "content": b64encode(content).decode(), **more})


def message(client: httpx.Client, key: str = "shop-ec", content: bytes | None = None) -> httpx.Response:
    return sign(client, key, "cms", acknowledgement() if content is None else content, content_type=ACK)


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"urn:kwbp:problem:{slug}")
    assert problem["title"]
    assert problem["detail"]
    return problem


# -- signing -----------------------------------------------------------------------------------------------------------


def test_a_message_is_signed_and_the_answer_says_by_which_key_how_and_where_it_is_recorded(served: Served) -> None:
    with served.http(SHOP) as client:
        answer = message(client, "shop").json()
    signed = parse_signed_data(b64decode(answer["signed"]), content_type=oids.CT_AUTH_ACK)
    verify_signature(signed)
    assert signed.content == acknowledgement()
    assert (answer["key"], answer["version"], answer["algorithm"]) == ("shop", 1, "rsa-pss-sha256")
    recorded = list(read(served.world.home.audit / "hsm.jsonl"))[answer["log_index"]].entry
    assert (recorded["event"], recorded["result"]) == ("outcome", "done")


def test_each_kind_of_structure_is_signed(served: Served) -> None:
    key = served.vault.key("merchant-ca-ec").pair()
    info = request_info(name(cn="x").public_bytes(), (), served.vault.describe_key(CA, "merchant-ca-ec").public_key)
    structure, basis = Desk(served.world.pki).approved(key)
    rests_on = {"dossier": b64encode(basis.dossier).decode(), "crls": [b64encode(each).decode() for each in basis.crls]}
    with served.http(CA) as client:
        signed = {
            kind: b64decode(sign(client, "merchant-ca-ec", kind, content, **fields).json()["signed"])
            for kind, content, fields in (
                ("certificate", structure, {"basis": rests_on}),
                ("crl", crl(served.vault, 1, "merchant-ca-ec"), {}),
                ("request", info, {}),
            )
        }
        assert_problem(sign(client, "merchant-ca-ec", "certificate", structure), 422, "approval-missing")
    x509.load_der_x509_certificate(signed["certificate"]).verify_directly_issued_by(key.certificate)
    assert x509.load_der_x509_crl(signed["crl"]).is_signature_valid(key.public_key)
    assert parse_csr(signed["request"]).public_key() == key.public_key


@pytest.mark.parametrize("key", ["merchant-ca", "merchant-ca-ec"])
def test_openssl_accepts_certificates_and_lists_that_came_over_the_network(
    key: str, served: Served, tmp_path: Path
) -> None:
    desk, issuer = Desk(served.world.pki), served.vault.key(key).pair()
    with HsmClient.connect(served.url, served.identity(CA)) as ca:
        good, revoked = (
            x509.load_der_x509_certificate(ca.sign_certificate(key, *desk.approved(issuer))) for _ in range(2)
        )
        structure = crl(served.vault, 10, key, revoked=[(revoked.serial_number, NOW)])
        signed_list = x509.load_der_x509_crl(ca.sign_crl(key, structure))
    write(tmp_path / "root", served.world.pki.root.certificate)
    write(tmp_path / "chain", *served.vault.key(key).pair().chain)
    write(tmp_path / "crls", signed_list, *served.world.pki.crls())
    command = (
        "verify", "-crl_check_all", *attime(NOW),
        "-CAfile", tmp_path / "root", "-untrusted", tmp_path / "chain", "-CRLfile", tmp_path / "crls",
    )  # fmt: skip
    openssl(*command, write(tmp_path / "good", good))
    assert not openssl_accepts(*command, write(tmp_path / "revoked", revoked))


@pytest.mark.parametrize("key", ["shop", "shop-ec"])
def test_openssl_accepts_messages_that_came_over_the_network(key: str, served: Served, tmp_path: Path) -> None:
    with HsmClient.connect(served.url, served.identity(SHOP)) as shop:
        signed = shop.sign_cms(key, ACK, acknowledgement())
    (tmp_path / "message").write_bytes(signed)
    root = write(tmp_path / "root", served.world.pki.root.certificate)
    command = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", root, *attime(NOW))
    assert openssl(*command, "-in", tmp_path / "message") == acknowledgement()


def write(path: Path, *objects: x509.Certificate | x509.CertificateRevocationList) -> Path:
    path.write_bytes(pem(*objects))
    return path


def test_a_version_can_be_named(served: Served) -> None:
    body = {"kind": "cms", "content": b64encode(acknowledgement()).decode(), "content_type": ACK}
    with served.http(SHOP) as client:
        assert client.post("/v1/keys/shop-ec/versions/1:sign", json=body).json()["version"] == 1
        assert_problem(client.post("/v1/keys/shop-ec/versions/2:sign", json=body), 404, "key-not-found")


def test_many_callers_at_once_get_each_their_own_signature(served: Served) -> None:
    def work(number: int) -> tuple[bytes, bytes]:
        with served.http(SHOP) as client:
            content = acknowledgement()
            answer = message(client, ("shop", "shop-ec")[number % 2], content)
            return content, b64decode(answer.json()["signed"])

    with ThreadPoolExecutor(8) as pool:
        for content, der in pool.map(work, range(24)):
            signed = parse_signed_data(der, content_type=oids.CT_AUTH_ACK)
            verify_signature(signed)
            assert signed.content == content


def test_others_are_served_while_the_token_works(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()
    genuine = Token.sign_ecdsa_digest

    def slow(self: Token, *arguments: Any) -> bytes:
        entered.set()
        assert go_on.wait(30)
        return genuine(self, *arguments)

    monkeypatch.setattr(Token, "sign_ecdsa_digest", slow)
    with served.http(SHOP) as client, served.http(GATEWAY) as other, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(message, client)
        assert entered.wait(30)
        assert other.get("/health/ready").status_code == 200
        assert not waiting.done()
        go_on.set()
        assert waiting.result(30).status_code == 200


# -- no digest is signed but by a key that was made for it -------------------------------------------------------------


def test_the_description_has_one_way_to_sign_a_digest_and_says_so(served: Served) -> None:
    with served.http(SHOP) as client:
        document = client.get("/openapi.json").json()
    command = document["components"]["schemas"]["SignCommand"]
    assert command["additionalProperties"] is False
    assert set(command["properties"]) == {"kind", "content", "content_type", "basis", "algorithm"}
    assert set(command["properties"]["kind"]["enum"]) == set(get_args(SignKind)) == {*KINDS}
    assert {kind for kind in KINDS if "algorithm" in KINDS[kind].takes} == {"raw"}
    assert not [path for path in document["paths"] if "digest" in path or "raw" in path or "hash" in path]


@pytest.mark.parametrize("kind", ["digest", "hash", "prehashed", "data", ""])
def test_a_kind_that_would_be_a_digest_is_refused(kind: str, served: Served) -> None:
    with served.http(SHOP) as client:
        problem = assert_problem(sign(client, "shop-ec", kind, bytes(32)), 422, "invalid-request")
    assert "kind" in problem["detail"]


@pytest.mark.parametrize("key", ["shop-ec", "merchant-ca", "attestation", "gateway-encryption", "timestamp-authority"])
@pytest.mark.parametrize("kind", KINDS)
def test_thirty_two_bytes_are_signed_by_no_key_as_anything(key: str, kind: str, served: Served) -> None:
    caller = served.vault.describe_key("ceremony", key).callers[0]
    fields = {"cms": {"content_type": ACK}, "raw": {"algorithm": "ecdsa-sha256"}}.get(kind, {})
    uses = served.vault.describe_key("ceremony", key).uses
    with served.http(caller) as client:
        assert sign(client, key, kind, os.urandom(32), **fields).status_code in {403, 409, 422}
    assert served.vault.describe_key("ceremony", key).uses == uses


# -- requests that are wrong -------------------------------------------------------------------------------------------

GOOD = {"kind": "cms", "content": b64encode(b"\x05\x00").decode(), "content_type": ACK}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b"[]", "body"),
        (b"null", "body"),
        (json.dumps({**GOOD, "digest": "AAAA"}).encode(), "body"),
        (json.dumps({**GOOD, "content": "6219861034529007 not base64"}).encode(), "content"),
        (json.dumps({**GOOD, "content": 6219861034529007}).encode(), "content"),
        (json.dumps({**GOOD, "content": None}).encode(), "content"),
        (json.dumps({"kind": "cms"}).encode(), "body"),
        (json.dumps({**GOOD, "kind": 1}).encode(), "kind"),
        (json.dumps({**GOOD, "content_type": None}).encode(), "content_type"),
        (json.dumps({**GOOD, "kind": "request"}).encode(), "content_type"),
    ],
)
def test_a_body_of_another_form_is_refused_by_its_field_and_not_repeated(
    body: bytes, field: str, served: Served
) -> None:
    with served.http(SHOP) as client:
        problem = assert_problem(client.post("/v1/keys/shop-ec:sign", content=body), 422, "invalid-request")
    assert f"the field {field} " in problem["detail"]
    assert "6219861034529007" not in json.dumps(problem)


def test_a_refusal_is_a_problem_that_names_the_rule(served: Served) -> None:
    with served.http(SHOP) as client:
        problem = assert_problem(message(client, content=acknowledgement("M-2")), 422, "content-refused")
        assert problem["clause"] == "KWBP S1"
        assert "M-2" not in json.dumps(problem)
        assert_problem(sign(client, "nobody", "request", b"\x05\x00"), 404, "key-not-found")
    with served.http("merchant:M-2") as client:
        problem = assert_problem(message(client), 403, "caller-not-allowed")
        assert "merchant:M-2" in problem["detail"]


def test_a_body_that_is_too_big_is_refused(served: Served) -> None:
    with served.http(SHOP) as client:
        assert_problem(message(client, content=bytes(300_000)), 413, "message-too-big")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/keys/shop", 405),
        ("POST", "/v1/keys/shop", 405),
        ("POST", "/v1/keys/shop:open", 405),
        ("GET", "/v1/keys/shop:sign", 404),
        ("POST", "/v1/keys/shop/versions/one:sign", 404),
    ],
)
def test_a_route_that_is_not_there_is_a_problem(method: str, path: str, status: int, served: Served) -> None:
    with served.http(SHOP) as client:
        answer = client.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"


# -- what it says about itself -----------------------------------------------------------------------------------------


def test_the_description_page_says_for_whom_each_route_is_and_loads_nothing(served: Served) -> None:
    with served.http(SHOP) as client:
        page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/keys/{name}:sign" in page.text
    assert "merchant:{owner}" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_the_description_is_complete_enough_to_generate_from(served: Served) -> None:
    with served.http(SHOP) as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    references = [part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]]
    assert set(references) <= set(schemas)
    for methods in document["paths"].values():
        for route in methods.values():
            assert route["summary"]
            assert {"400", "403", "500", "503"} < set(route["responses"])


def test_token_operations_are_counted_for_the_operator(served: Served) -> None:
    def signatures(client: httpx.Client) -> float:
        lines = client.get("/metrics").text.splitlines()
        values = [
            float(line.split()[-1]) for line in lines if line.startswith('kwbp_token_operations_total{operation="sign"')
        ]
        return sum(values)

    with served.http(SHOP) as client:
        before = signatures(client)
        message(client)
        message(client, content=b"")  # refused: the token is not called
        assert signatures(client) == before + 1


# -- plug-ins ----------------------------------------------------------------------------------------------------------


class Mac(msgspec.Struct):
    """What it answers."""

    mac: str


class Macs:
    """A plug-in as the gateway's is one."""

    def routes(self, vault: Vault) -> list[ApiRoute]:
        def work(caller: str) -> str:
            with vault.lending.operation(caller, "mac", {"zone-mac": Operation.MAC}, input_sha256=None) as running:
                key = running.keys["zone-mac"]
                return key.token.aes_cmac(key.ref, b"data").hex()

        async def mac(request: Request) -> Response:
            caller = str(caller_of(request.scope))
            return JSONResponse({"mac": await request.app.state.workers.run(work, caller)})

        keys = {"zone-mac": Operation.MAC}
        return [
            ApiRoute(
                "POST", "/v1/test:mac", mac, "mac", "The MAC of something.", (), Mac, callers=(GATEWAY,), keys=keys
            )
        ]


def test_a_plug_in_has_its_routes_its_description_and_its_record(served: Served) -> None:
    app = create_app(served.vault, plugins=[Macs()])
    with start(app, tls=served.tls("hsm")) as url:
        with http_client(served.identity(GATEWAY), url) as gateway:
            assert len(gateway.post("/v1/test:mac").json()["mac"]) == 32
            described = gateway.get("/openapi.json").json()["paths"]["/v1/test:mac"]["post"]
            assert (described["summary"], described["x-kwbp-callers"]) == ("The MAC of something.", [GATEWAY])
            assert "The MAC of something." in gateway.get("/docs").text
        assert served.world.last_entry()["result"] == "done"
        with http_client(served.identity(SHOP), url) as shop:
            assert_problem(shop.post("/v1/test:mac"), 403, "caller-not-allowed")


# -- a server that is killed -------------------------------------------------------------------------------------------

_SERVER = """
import os, signal, sys
from pathlib import Path
from hsm_service.app import create_app
from hsm_service.tokens import Token
from runtime.client import TlsFiles
from runtime.server import start
from runtime.settings import Home
from tests.support.signing_site import World

home, tls, mode = Home(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
sign = Token.sign_ecdsa_digest
def killed_with_the_signature_made(self, *arguments):
    sign(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "dies":
    Token.sign_ecdsa_digest = killed_with_the_signature_made
with World(home, None).vault() as vault:
    with start(create_app(vault), tls=TlsFiles(tls / "hsm.pem", tls / "hsm.key", tls / "root.pem")) as url:
        print(url, flush=True)
        sys.stdin.read()
"""


def test_a_server_killed_between_intent_and_outcome_leaves_a_readable_journal(founded: World, tmp_path: Path) -> None:
    world = founded.copy(tmp_path)
    tls = tls_issuer(tmp_path)
    tls("hsm")
    shop = tls("shop", uri="urn:kwbp:merchant:M-1")
    path = world.home.audit / "hsm.jsonl"

    def server(mode: str) -> subprocess.Popen[str]:
        command = ["-c", _SERVER, world.home.path, tmp_path, mode]
        return Python(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with server("dies") as process:
        assert process.stdout is not None
        with http_client(shop, process.stdout.readline().strip()) as client:
            assert message(client, "shop").status_code == 200
            with pytest.raises(httpx.TransportError):
                message(client, "shop-ec")
        assert process.wait(30) == -signal.SIGKILL
    assert verify(path).torn == b""
    entries = [dict(entry.entry) for entry in read(path)]
    assert (entries[-2]["event"], entries[-2]["result"]) == ("outcome", "done")
    assert (entries[-1]["event"], entries[-1]["keys"]) == ("intent", ["shop-ec/1"])
    with server("lives") as process:
        assert process.stdout is not None
        with http_client(shop, process.stdout.readline().strip()) as client:
            assert message(client, "shop-ec").status_code == 200
            assert client.get("/v1/keys/shop-ec").json()["uses"] == 2
        process.communicate("")
    assert verify(path).head.size == len(entries) + 3
    left = dict(next(entry.entry for entry in read(path) if entry.index == len(entries)))
    assert (left["intent"], left["result"], left["reason"]) == (len(entries) - 1, "unknown", "process-ended")
