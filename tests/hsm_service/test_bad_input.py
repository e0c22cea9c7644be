"""Input that is wrong, over the real server: a clear refusal, nothing changed, one entry of the journal where it names.

Each row of the tables has one thing wrong. What an authenticated caller is refused on a route of the API is recorded
exactly once; what is wrong with the transport is recorded nowhere.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from gateway_keys.plugin import GatewayKeys
from hsm_service.app import create_app
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.operation_request import parse_request
from pki.names import name
from runtime.client import client_context, http_client
from runtime.database import open_database
from runtime.problems import MEDIA_TYPE
from runtime.server import start
from tests.support.key_officers import KeyOfficers
from tests.support.signing_site import (
    ACK,
    CA,
    GATEWAY,
    OPERATOR,
    SHOP,
    Served,
    acknowledgement,
    crl,
    der,
    merchant_chain,
    public_key,
    tbs,
)

BENCH = "service:bench"
OFFICER = "officer:officer-1"
CANARY = "6219861034529007"
"""Stands for card data that somebody sends where it does not belong: no answer and no record repeats it."""


def b64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


@pytest.fixture(scope="module")
def site(served: Served) -> Iterator[Served]:
    """The API with the gateway's plug-in, patient for half a second."""
    app = create_app(served.vault, plugins=[GatewayKeys.of(served.world.home)])
    with start(app, tls=served.tls("hsm"), patience=0.5, max_body=256 * 1024) as url:
        yield Served(url, served.world, served.vault, served.tls)


@pytest.fixture(scope="module")
def clients(site: Served) -> Iterator[dict[str, httpx.Client]]:
    clients = {caller: site.http(caller) for caller in (SHOP, CA, OPERATOR, GATEWAY, BENCH, OFFICER, "anonymous")}
    yield clients
    for client in clients.values():
        client.close()


def state(site: Served) -> Any:
    """All that a refusal must not change: the registry, the requests, how often keys were used."""
    engine = open_database(site.world.home.db / "keys.db")
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        rows = {name: connection.execute(text(f'SELECT * FROM "{name}"')).all() for name in tables}  # noqa: S608
    engine.dispose()
    uses = [(key.name, key.version, key.uses, key.state) for key in site.vault.list_keys(CA)]
    uses += [(key.name, key.version, key.uses, key.state) for key in site.vault.list_keys(SHOP)]
    return rows, uses


@dataclass(frozen=True)
class Bad:
    """One request with one thing wrong, and what it is answered."""

    what: str
    method: str
    path: str
    status: int
    slug: str
    body: Any = None
    caller: str = SHOP
    headers: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = True


GOOD = {"kind": "cms", "content": b64(acknowledgement()), "content_type": ACK}
SIGN = "/v1/keys/shop-ec:sign"
BATCH = "/v1/keys/shop-ec:batchSign"
ITEM = {"content": b64(acknowledgement()), "content_type": ACK}
NONE = "0" * 64


def twice(body: str, member: str) -> bytes:
    """The JSON object with another member in front."""
    return ("{" + member + "," + body[1:]).encode()


def deep(levels: int) -> bytes:
    return b'{"kind": ' + b"[" * levels + b"]" * levels + b"}"


FORM = [
    ("no body", b""),
    ("no JSON", b"{"),
    ("two documents", json.dumps(GOOD).encode() * 2),
    ("UTF-16", json.dumps(GOOD).encode("utf-16")),
    ("bad UTF-8", b'{"kind": "cms", "content": "", "content_type": "\xff\xfe"}'),
    ("overlong UTF-8", b'{"kind": "cms", "content": "", "content_type": "\xc0\xaf"}'),
    ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
    ("a list", b"[]"),
    ("null", b"null"),
    ("a huge number", b'{"kind": ' + b"9" * 5_000 + b"}"),
    ("an infinite number", b'{"kind": 1e99999}'),
    ("not a number", b'{"kind": NaN}'),
    ("deep nesting", deep(20_000)),
    ("deep nesting of an unknown member", b'{"x": ' + b'{"x":' * 20_000 + b"1" + b"}" * 20_001),
    ("an unknown member", json.dumps({**GOOD, "digest": CANARY}).encode()),
    ("a member twice", twice(json.dumps(GOOD), '"kind": "cms"')),
    ("a member twice, once escaped", twice(json.dumps(GOOD), '"k\\u0069nd": "cms"')),
    ("a member at its default twice", twice(json.dumps(GOOD), '"basis": null, "basis": null')),
    ("content as number", json.dumps({**GOOD, "content": int(CANARY)}).encode()),
    ("content as list of bytes", json.dumps({**GOOD, "content": [1, 2, 3]}).encode()),
    ("content missing", b'{"kind": "cms"}'),
    ("bad base64", json.dumps({**GOOD, "content": f"{CANARY} not base64"}).encode()),
    ("base64url", json.dumps({**GOOD, "content": "-_-_"}).encode()),
    ("base64 of a wrong length", json.dumps({**GOOD, "content": "AAAAA"}).encode()),
    ("another kind", json.dumps({**GOOD, "kind": "digest"}).encode()),
    ("a kind with a NUL", json.dumps({**GOOD, "kind": "cms\x00"}).encode()),
    ("no content type", json.dumps({**GOOD, "content_type": None}).encode()),
    ("a member for another kind", json.dumps({**GOOD, "algorithm": "ecdsa-sha256"}).encode()),
]

TABLE = [
    *(Bad(f"sign: {what}", "POST", SIGN, 422, "invalid-request", body) for what, body in FORM),
    # -- other bodies of another form
    Bad("batch: no items", "POST", BATCH, 422, "invalid-request", {"kind": "cms", "items": []}),
    Bad("batch: too many", "POST", BATCH, 422, "invalid-request", {"kind": "cms", "items": [{"content": ""}] * 1001}),
    Bad(
        "batch: a long ref",
        "POST",
        BATCH,
        422,
        "invalid-request",
        {"kind": "cms", "items": [{**ITEM, "ref": "x" * 129}]},
    ),
    Bad(
        "batch: an item's member twice",
        "POST",
        BATCH,
        422,
        "invalid-request",
        b'{"kind":"cms","items":[{"content":"","content":"","ref":"a"}]}',
    ),
    Bad("batch: of a kind that has none", "POST", BATCH, 422, "invalid-request", {"kind": "crl", "items": [ITEM]}),
    Bad("generate: no name", "POST", "/v1/keys", 422, "invalid-request", {"template": "x"}, OPERATOR),
    Bad(
        "generate: a name twice",
        "POST",
        "/v1/keys",
        422,
        "invalid-request",
        b'{"name":"a","name":"b","template":"merchant-signing-ec","owner":"M-1"}',
        OPERATOR,
    ),
    *(
        Bad(
            f"generate: the name {name[:12]!r}",
            "POST",
            "/v1/keys",
            422,
            "bad-name",
            {"name": name, "template": "merchant-signing-ec", "owner": "M-1"},
            OPERATOR,
        )
        for name in ("", "a/b", "a\x00b", "..\n", "-x", "x" * 65, "فروشگاه", "x" * 100_000)
    ),
    Bad(
        "generate: an owner that is a pattern",
        "POST",
        "/v1/keys",
        422,
        "bad-name",
        {"name": "new", "template": "merchant-signing-ec", "owner": "*"},
        OPERATOR,
    ),
    Bad(
        "generate: no owner",
        "POST",
        "/v1/keys",
        422,
        "bad-owner",
        {"name": "new", "template": "merchant-signing-ec"},
        OPERATOR,
    ),
    Bad("generate: no template", "POST", "/v1/keys", 422, "template-unknown", {"name": "n", "template": "x"}, OPERATOR),
    Bad(
        "generate: a long reason",
        "POST",
        "/v1/keys",
        422,
        "invalid-request",
        {"name": "n", "template": "merchant-signing-ec", "owner": "M-1", "reason": "x" * 501},
        OPERATOR,
    ),
    Bad(
        "generate: a key that is there",
        "POST",
        "/v1/keys",
        409,
        "key-exists",
        {"name": "shop", "template": "merchant-signing-ec", "owner": "M-1"},
        OPERATOR,
    ),
    Bad("attach: no certificates", "PUT", "/v1/keys/shop/certificate", 422, "bad-chain", {"chain": []}, OPERATOR),
    Bad("attach: no certificate", "PUT", "/v1/keys/shop/certificate", 422, "malformed", {"chain": ["BQA="]}, OPERATOR),
    Bad("attach: too many", "PUT", "/v1/keys/shop/certificate", 422, "bad-chain", {"chain": ["BQA="] * 9}, OPERATOR),
    Bad(
        "attach: another form", "PUT", "/v1/keys/shop/certificate", 422, "invalid-request", {"chain": "BQA="}, OPERATOR
    ),
    Bad("approve: another form", "POST", f"/v1/operations/{NONE}/approvals", 422, "invalid-request", b"{}", OFFICER),
    Bad(
        "approve: no such request",
        "POST",
        f"/v1/operations/{NONE}/approvals",
        404,
        "operation-not-found",
        {"approval": "BQA="},
        OFFICER,
    ),
    Bad(
        "approve: no id",
        "POST",
        "/v1/operations/x/approvals",
        404,
        "operation-not-found",
        {"approval": "BQA="},
        OFFICER,
    ),
    Bad(
        "execute: no such request", "POST", f"/v1/operations/{NONE}:execute", 404, "operation-not-found", None, OFFICER
    ),
    Bad("open: another form", "POST", "/v1/gateway/orders:open", 422, "invalid-request", {"hod": int(CANARY)}, GATEWAY),
    Bad(
        "open: a member twice",
        "POST",
        "/v1/gateway/macs:generate",
        422,
        "invalid-request",
        b'{"data":"","data":""}',
        GATEWAY,
    ),
    Bad(
        "open: a zone twice",
        "POST",
        "/v1/gateway/macs:verify",
        422,
        "invalid-request",
        b'{"data":"","mac":"","zone":"switch","zone":"melli"}',
        GATEWAY,
    ),
    Bad(
        "answers: no key",
        "POST",
        "/v1/gateway/answers:sign",
        422,
        "invalid-request",
        b'{"data":"","mac":"","content":""}',
        GATEWAY,
    ),
    Bad(
        "open: a hash of another length",
        "POST",
        "/v1/gateway/orders:open",
        422,
        "invalid-request",
        {"pi_envelope": "", "dual_signature": "", "hod": "AA=="},
        GATEWAY,
    ),
    Bad(
        "unseal: an XID of another length",
        "POST",
        "/v1/gateway/pans:unseal",
        422,
        "invalid-request",
        {"xid": "AA==", "pan_sealed": ""},
        GATEWAY,
    ),
    Bad("mac: not for this caller", "POST", "/v1/gateway/macs:generate", 403, "caller-not-allowed", {"data": ""}),
    # -- names and versions
    *(
        Bad(f"{method} a key named {name[:16]!r}", method, f"/v1/keys/{name}{verb}", 404, "key-not-found", body)
        for name in (
            "nobody",
            "%00",
            "shop%00",
            "a%0d%0ab",
            "%FF%FE",
            "%F3%A0%81%81",
            "x" * 2_000,
            "x" * 20_000,
            "SHOP",
        )
        for method, verb, body in (("GET", "", None), ("POST", ":sign", GOOD), ("GET", "/chain", None))
    ),
    *(
        Bad(f"version {version[:12]}", method, f"/v1/keys/shop-ec/versions/{version}{verb}", 404, "key-not-found", body)
        for version in ("0", "9", "999999999", "9" * 10, "9" * 40)
        for method, verb, body in (
            ("GET", "", None),
            ("POST", ":sign", GOOD),
            ("POST", ":batchSign", {"kind": "cms", "items": [ITEM]}),
        )
    ),
    Bad("a version beyond every integer", "GET", f"/v1/keys/shop-ec/versions/{'9' * 40}", 404, "key-not-found"),
    # -- headers and queries
    *(
        Bad(
            f"idempotency key {key[:8]!r}",
            "POST",
            SIGN,
            400,
            "bad-idempotency-key",
            GOOD,
            headers={"idempotency-key": key},
        )
        for key in ("", "a b", "x" * 129, "caf\u00e9")
    ),
    *(
        Bad(f"query {query}", "POST", f"{SIGN}?{query}", 422, "invalid-request", GOOD)
        for query in ("dry_run=false", "dry_run=true&dry_run=true", "x=1", "%00")
    ),
    Bad(
        "a dry run of a batch",
        "POST",
        f"{BATCH}?dry_run=true",
        422,
        "invalid-request",
        {"kind": "cms", "items": [ITEM]},
    ),
    # -- the key is for something else
    Bad("wrong purpose: a message by a CA", "POST", "/v1/keys/merchant-ca-ec:sign", 409, "key-misused", GOOD, CA),
    Bad("wrong purpose: a CRL by a shop", "POST", SIGN, 409, "key-misused", {"kind": "crl", "content": "BQA="}),
    Bad(
        "wrong purpose: a digest by a shop",
        "POST",
        SIGN,
        409,
        "key-misused",
        {"kind": "raw", "content": b64(bytes(32)), "algorithm": "ecdsa-sha256"},
    ),
    Bad("wrong purpose: a message by a raw key", "POST", "/v1/keys/raw-ec:sign", 409, "key-misused", GOOD, BENCH),
    Bad(
        "a digest of another length",
        "POST",
        "/v1/keys/raw-ec:sign",
        422,
        "digest-length",
        {"kind": "raw", "content": b64(bytes(31)), "algorithm": "ecdsa-sha256"},
        BENCH,
    ),
    Bad("somebody else's key", "POST", "/v1/keys/other-shop:sign", 403, "caller-not-allowed", GOOD),
    Bad("a key without certificate", "POST", "/v1/keys/bare-shop:sign", 409, "key-has-no-certificate", GOOD),
    Bad("a structure too large", "POST", SIGN, 413, "structure-too-large", {**GOOD, "content": b64(bytes(70_000))}),
    Bad(
        "another shop's message", "POST", SIGN, 422, "content-refused", {**GOOD, "content": b64(acknowledgement("M-2"))}
    ),
    Bad("no DER", "POST", SIGN, 422, "content-refused", {**GOOD, "content": b64(b"\x30\x80\x00\x00")}),
    Bad("an approval that is none", "POST", "/v1/keys/merchant-ca-ec:sign", 422, "dossier-unreadable", None, CA),
    # -- no route of the API: recorded nowhere
    Bad("an encoded slash", "GET", "/v1/keys/shop-ec%2Fversions%2F1", 404, "not-found", recorded=False),
    Bad(
        "an encoded slash, to sign",
        "POST",
        "/v1/keys/shop-ec%2fversions%2f1:sign",
        404,
        "not-found",
        GOOD,
        recorded=False,
    ),
    Bad(
        "a version that is no number",
        "POST",
        "/v1/keys/shop-ec/versions/-1:sign",
        404,
        "not-found",
        GOOD,
        recorded=False,
    ),
    Bad("another method", "DELETE", "/v1/keys/shop", 405, "method-not-allowed", recorded=False),
    Bad("ten megabytes", "POST", SIGN, 413, "message-too-big", b"{" + b" " * 10_000_000 + b"}", recorded=False),
    Bad("nobody's body", "POST", SIGN, 422, "invalid-request", b"{", "anonymous", recorded=False),
]


@pytest.mark.parametrize("bad", TABLE, ids=[bad.what for bad in TABLE])
def test_bad_input_is_refused_clearly_changes_nothing_and_is_recorded_once(
    bad: Bad, site: Served, clients: dict[str, httpx.Client]
) -> None:
    body = bad.body
    if bad.what == "an approval that is none":
        body = {"kind": "certificate", "content": b64(tbs(site.vault, "merchant-ca-ec")), "basis": {"dossier": "e30="}}
    before, entries = state(site), len(site.world.journal())
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = [(name.encode(), value.encode("latin-1")) for name, value in bad.headers.items()]
    answer = clients[bad.caller].request(bad.method, bad.path, content=content, headers=headers)
    assert_refused(answer, bad.status, bad.slug)
    assert state(site) == before
    recorded = site.world.journal()[entries:]
    assert CANARY not in json.dumps(recorded)
    if not bad.recorded:
        assert recorded == []
        return
    assert [(each["event"], each["caller"], each["reason"]) for each in recorded] == [("refused", bad.caller, bad.slug)]
    assert all(len(key) <= 64 for key in recorded[0].get("keys", []))


def assert_refused(answer: httpx.Response, status: int, slug: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"urn:kwbp:problem:{slug}"), answer.text[:300]
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert problem["detail"]
    assert CANARY not in answer.text
    assert len(answer.content) < 2_000


# -- what needs a site of its own making -------------------------------------------------------------------------------


def refused_once(site: Served, answer: httpx.Response, entries: int, status: int, slug: str) -> None:
    assert_refused(answer, status, slug)
    assert [each.get("reason") for each in site.world.journal()[entries:]] == [slug]


@pytest.mark.parametrize("kind", ["certificate", "crl"])
def test_a_structure_of_a_foreign_issuer(kind: str, site: Served, clients: dict[str, httpx.Client]) -> None:
    foreign = name(cn="Another CA", o="KWBP Test")
    structure = {
        "certificate": lambda: tbs(site.vault, "merchant-ca-ec", issuer_name=foreign),
        "crl": lambda: crl(site.vault, 90, "merchant-ca-ec", issuer_name=foreign),
    }[kind]()
    entries, before = len(site.world.journal()), state(site)
    answer = clients[CA].post("/v1/keys/merchant-ca-ec:sign", json={"kind": kind, "content": b64(structure)})
    refused_once(site, answer, entries, 422, "issuer-mismatch")
    assert answer.json()["clause"].startswith("RFC 5280")
    assert state(site) == before


def test_a_disabled_version_is_not_used(site: Served, clients: dict[str, httpx.Client]) -> None:
    ceremony = site.vault.as_caller("ceremony")
    spki = ceremony.generate_key("out-of-use", "merchant-signing-ec", owner="M-1").public_key
    ceremony.attach_certificate("out-of-use", der(*merchant_chain(site.world.pki, "M-1", public_key(spki))))
    site.vault.life.disable("ceremony", "out-of-use", 1)
    for path in ("/v1/keys/out-of-use:sign", "/v1/keys/out-of-use/versions/1:sign"):
        entries = len(site.world.journal())
        refused_once(site, clients[SHOP].post(path, json=GOOD), entries, 409, "key-not-enabled")
    assert site.vault.describe_key(SHOP, "out-of-use").uses == 0


def test_an_approval_counts_once_and_for_its_own_request(site: Served, clients: dict[str, httpx.Client]) -> None:
    officers = KeyOfficers(site.world.pki)
    requests = []
    for key in ("approved-a", "approved-b"):
        with pytest.raises(ApprovalNeeded) as asked:
            site.vault.generate_key(OPERATOR, key, "merchant-signing-ec", owner="M-1")
        requests.append(parse_request(asked.value.operation.request))
    first, other = requests
    approval = {"approval": b64(officers.approve(first, officers.first))}

    entries, before = len(site.world.journal()), state(site)
    answer = clients[OFFICER].post(f"/v1/operations/{other.id}/approvals", json=approval)
    refused_once(site, answer, entries, 422, "approval-refused")
    assert answer.json()["clause"] == "CPS 5.2.2 APR-REQUEST"
    assert state(site) == before

    path = f"/v1/operations/{first.id}/approvals"
    assert clients[OFFICER].post(path, json=approval).json()["state"] == "PENDING"
    entries, before = len(site.world.journal()), state(site)
    again = clients[OFFICER].post(path, json=approval)  # replayed: it counts no second time
    assert (again.status_code, again.json()["state"], len(again.json()["approvals"])) == (200, "PENDING", 1)
    assert state(site) == before
    assert len(site.world.journal()) == entries
    second = {"approval": b64(officers.approve(first, officers.second))}
    assert clients[OFFICER].post(path, json=second).json()["state"] == "DONE"
    late = {"approval": b64(officers.approve(first, officers.third))}
    entries = len(site.world.journal())
    refused_once(site, clients[OFFICER].post(path, json=late), entries, 409, "operation-decided")


def test_an_idempotency_key_of_another_request(site: Served, clients: dict[str, httpx.Client]) -> None:
    headers = {"idempotency-key": "once"}
    assert clients[SHOP].post(SIGN, json=GOOD, headers=headers).status_code == 200
    entries, before = len(site.world.journal()), state(site)
    answer = clients[SHOP].post("/v1/keys/shop:sign", json=GOOD, headers=headers)
    refused_once(site, answer, entries, 422, "idempotency-key-reused")
    assert state(site) == before


@pytest.mark.parametrize("reason", ["expired", "revoked", "crl_missing"])
def test_a_caller_whose_certificate_does_not_count_is_refused_on_every_route(reason: str, site: Served) -> None:
    app = create_app(site.vault)
    with start(app, tls=site.tls("hsm"), refusal=lambda _caller: reason) as url:
        with http_client(site.identity(SHOP), url) as client:
            entries, before = len(site.world.journal()), state(site)
            for method, path in (("POST", SIGN), ("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/v1/operations")):
                assert_refused(client.request(method, path, content=json.dumps(GOOD)), 403, "certificate-refused")
            assert state(site) == before
            assert len(site.world.journal()) == entries  # it came to no route: the server's log names the caller


# -- the transport: bytes as they come ---------------------------------------------------------------------------------


class Wire:
    """A TLS connection of a caller, byte by byte."""

    def __init__(self, site: Served, caller: str = SHOP) -> None:
        context = client_context(site.identity(caller))
        port = httpx.URL(site.url).port
        assert port is not None
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket: ssl.SSLSocket = context.wrap_socket(plain, server_hostname="localhost")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answers(self, count: int) -> list[tuple[int, bytes]]:
        """So many answers: status and body."""
        file, found = self.socket.makefile("rb"), []
        for _ in range(count):
            status = int(file.readline().split()[1])
            headers = {}
            while line := file.readline().strip():
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            found.append((status, file.read(int(headers[b"content-length"]))))
        return found

    def ended(self) -> bool:
        """Whether the server closed it; waits for that."""
        try:
            return self.socket.recv(1) == b""
        except (ConnectionResetError, ssl.SSLError):
            return True

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def wire(site: Served) -> Iterator[Wire]:
    wire = Wire(site)
    yield wire
    wire.close()


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def signed(content: bytes) -> bytes:
    return head(SIGN, f"Content-Length: {len(content)}") + content


BODY = json.dumps(GOOD).encode()


def test_a_body_that_drips_is_answered_408_and_the_connection_ends(site: Served, wire: Wire) -> None:
    entries, before = len(site.world.journal()), state(site)
    wire.send(head(SIGN, f"Content-Length: {len(BODY)}"))
    began = time.monotonic()
    for byte in BODY[:4]:
        wire.send(bytes([byte]))
        time.sleep(0.1)  # each byte is early enough; all of them are not
    [(status, problem)] = wire.answers(1)
    assert (status, json.loads(problem)["type"]) == (408, "urn:kwbp:problem:body-too-slow")
    assert wire.ended()
    assert time.monotonic() - began >= 0.3  # it was given its time
    assert (len(site.world.journal()), state(site)) == (entries, before)


@pytest.mark.parametrize("path", ["/v1/keys/shop-ec:attest", "/v1/operations/x/approvals", "/v1/gateway/macs:generate"])
def test_a_body_that_never_comes_is_answered_408_on_other_routes(path: str, site: Served, wire: Wire) -> None:
    entries = len(site.world.journal())
    caller = {"/v1/gateway/macs:generate": GATEWAY, "/v1/operations/x/approvals": OFFICER}.get(path, SHOP)
    slow = Wire(site, caller)
    slow.send(head(path.replace("/x/", f"/{NONE}/"), "Content-Length: 10", "Idempotency-Key: slow") + b"{")
    [(status, _problem)] = slow.answers(1)
    assert (status, slow.ended()) == (408, True)
    slow.close()
    assert len(site.world.journal()) == entries


@pytest.mark.parametrize(
    "sent", [b"", b"POST", head(SIGN, "Content-Length: 3")[:-2]], ids=["nothing", "a word", "a head"]
)
def test_a_connection_on_which_no_head_comes_is_ended(sent: bytes, site: Served, wire: Wire) -> None:
    entries = len(site.world.journal())
    wire.send(sent)
    assert wire.ended()
    assert len(site.world.journal()) == entries


def test_a_half_open_connection_harms_nobody(site: Served, wire: Wire, clients: dict[str, httpx.Client]) -> None:
    entries = len(site.world.journal())
    wire.send(head(SIGN, f"Content-Length: {len(BODY)}") + BODY[:10])
    wire.socket.shutdown(socket.SHUT_WR)
    wire.close()
    for path in ("/v1/keys/shop-ec/certificate", "/v1/keys"):
        cut = Wire(site)
        cut.send(head(path, "Content-Length: 100") + b"{")
        cut.close()
    assert clients[SHOP].get("/v1/keys").status_code == 200
    assert len(site.world.journal()) == entries


def test_requests_in_a_row_without_waiting_are_answered_in_their_order(site: Served, wire: Wire) -> None:
    entries = len(site.world.journal())
    wire.send(signed(BODY) + signed(b"{") + signed(BODY))
    assert [status for status, _body in wire.answers(3)] == [200, 422, 200]
    events = [each["event"] for each in site.world.journal()[entries:]]
    assert events == ["intent", "outcome", "refused", "intent", "outcome"]


def test_a_body_in_chunks_is_the_same_body(wire: Wire) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:1], BODY[1:50], BODY[50:]))
    wire.send(head(SIGN, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
    assert [status for status, _body in wire.answers(1)] == [200]


@pytest.mark.parametrize(
    "sent",
    [
        head(SIGN, "Transfer-Encoding: chunked") + b"zz\r\n",
        head(SIGN, "Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n",
        head(SIGN, "Content-Length: 4", "Content-Length: 5") + b"{}{}",
        head(SIGN, "Content-Length: -1"),
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"POST " + SIGN.encode() + b" HTTP/9.9\r\n\r\n",
    ],
    ids=["a chunk without length", "two lengths", "two other lengths", "less than nothing", "TLS in TLS", "HTTP 9.9"],
)
def test_what_is_no_http_is_answered_400_or_nothing_and_recorded_nowhere(sent: bytes, site: Served, wire: Wire) -> None:
    entries, before = len(site.world.journal()), state(site)
    wire.send(sent)
    answer = wire.socket.recv(65536)
    assert answer == b"" or b" 400 " in answer.split(b"\r\n", 1)[0]
    assert (len(site.world.journal()), state(site)) == (entries, before)


def test_chunks_beyond_the_limit_are_refused_before_they_end(site: Served, wire: Wire) -> None:
    entries = len(site.world.journal())
    chunk = b"%x\r\n%s\r\n" % (65536, bytes(65536))
    wire.send(head(SIGN, "Transfer-Encoding: chunked") + chunk * 5)
    [(status, problem)] = wire.answers(1)
    assert (status, json.loads(problem)["type"]) == (413, "urn:kwbp:problem:message-too-big")
    assert len(site.world.journal()) == entries
