"""Documents over HTTP, and documents in the database: what is hashed, sent and kept is one thing, or it is refused."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import text

from ra import evidence_routes
from ra.access import Actor
from ra.app import create_app
from ra.errors import EvidenceChangedError, InvalidSubmissionError
from ra.openers import name_of
from ra.records import Application
from ra.states import State
from ra.workflow import NewEvidence
from runtime.client import TlsFiles, client_context
from runtime.server import start
from tests.support.ca_world import tls_files
from tests.support.cps_cases import Office
from tests.support.documents import PDF, PNG, TEXT
from tests.support.ra_world import RaWorld, officer

CLIENT = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
MIB = 1 << 20


@dataclass
class Counter:
    """An RA that listens, and a vetting officer who calls it."""

    world: RaWorld
    url: str
    vetter: httpx.Client
    anonymous: httpx.Client
    context: ssl.SSLContext

    def put(
        self, case: Application, body: Any = TEXT, *, by: httpx.Client | None = None, **change: Any
    ) -> httpx.Response:
        digest = base64.b64encode(hashlib.sha256(body if isinstance(body, bytes) else b"").digest()).decode()
        headers = {"content-type": "text/plain", "content-digest": f"sha-256=:{digest}:"} | change.pop("headers", {})
        params = {"source": "the bank"} | change.pop("params", {})
        headers = {name: value for name, value in headers.items() if value is not None}
        kind = change.pop("kind", "acquirer_agreement")
        path = f"/v1/applications/{case.id}/evidence/{kind}"
        return (by or self.vetter).post(path, content=body, headers=headers, params=params)

    def refused(self, case: Application, status: int, clause: str | None, answer: httpx.Response) -> str:
        """The sentence of a refusal that left the case as it was."""
        problem = answer.json()
        assert (answer.status_code, problem.get("clause")) == (status, clause), problem
        assert self.world.store.application(case.id) == case
        assert self.world.store.evidence(case.id) == ()
        return str(problem["detail"])


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[Counter]:
    folder = tmp_path_factory.mktemp("evidence")
    world = RaWorld(folder, office)
    server = tls_files(office.pki, "service", "ra", folder / "tls")
    credential = office.officer("officer-1", "vetting_officer", replace={"extended_key_usage": CLIENT})
    context = client_context(TlsFiles(*credential.write(folder / "tls", "vetter"), server.ca))
    app = create_app(world.workflow)
    with start(app, tls=server, client_certificate="optional", larger=evidence_routes.larger) as url:
        with httpx.Client(base_url=url, verify=context) as vetter:
            with httpx.Client(base_url=url, verify=client_context(ca=server.ca)) as anonymous:
                yield Counter(world, url, vetter, anonymous, context)
    world.close()


@pytest.fixture
def case(counter: Counter, request: pytest.FixtureRequest) -> Application:
    number = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return counter.world.open_merchant(documents=(), merchant_id=f"M-{number}")


def test_a_document_is_on_file_byte_for_byte(counter: Counter, case: Application) -> None:
    headers = {"content-type": "application/pdf", "accept-language": "fa"}
    answer = counter.put(case, PDF, headers=headers, params={"source": "بانك ۲", "expires_at": "۲۰۹۹-01-01T00:00:00Z"})
    assert answer.status_code == 201, answer.text
    (piece,) = answer.json()["evidence"]
    assert (piece["sha256"], piece["source"]) == (hashlib.sha256(PDF).hexdigest(), "بانک 2")
    assert piece["expires_at"].startswith("2099-01-01")
    read = counter.vetter.get(f"/v1/applications/{case.id}/evidence/{piece['sha256']}")
    assert read.content == PDF


def test_a_document_larger_than_any_other_message_is_taken_in_pieces(counter: Counter, case: Application) -> None:
    body = b"x" * (3 * MIB)
    assert counter.put(case, body).status_code == 201
    assert counter.world.store.evidence_size(case.id) == len(body)


def test_fifty_megabytes_are_refused_before_they_are_read(counter: Counter, case: Application) -> None:
    host, port = counter.url.removeprefix("https://").split(":")
    digest = base64.b64encode(bytes(32)).decode()
    head = (
        f"POST /v1/applications/{case.id}/evidence/acquirer_agreement?source=x HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Digest: sha-256=:{digest}:\r\nContent-Length: {50 * MIB}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        with counter.context.wrap_socket(raw, server_hostname=host) as connection:
            connection.sendall(head.encode())  # and not one byte of the body
            answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"clause": "CPS 4.2.1"' in answer
    assert counter.world.store.application(case.id) == case


def test_whoever_announces_nothing_is_cut_off_at_the_limit(counter: Counter, case: Application) -> None:
    pieces = (b"x" * MIB for _ in range(50))
    told = counter.refused(case, 413, "CPS 4.2.1", counter.put(case, pieces))
    assert told == "a document has at most 10 MiB"


def test_the_documents_of_a_case_have_a_limit_together(counter: Counter, case: Application) -> None:
    largest = counter.world.office.pack.evidence_files.largest_bytes
    vetter = officer(counter.world.office.vetter)
    for number in range(5):
        body = str(number).encode() * largest
        counter.world.workflow.add_evidence(vetter, case.id, NewEvidence("acquirer_agreement", body, "bank"))
    answer = counter.put(case, b"x")
    assert (answer.status_code, answer.json()["clause"]) == (413, "CPS 4.2.1")
    assert "of a case" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"headers": {"content-digest": None}}, "comes with Content-Digest", id="no-digest"),
        pytest.param({"headers": {"content-digest": "sha-256=:AA==:"}}, "comes with Content-Digest", id="short-digest"),
        pytest.param({"headers": {"content-digest": "sha-256=AA"}}, "comes with Content-Digest", id="no-bytes"),
        pytest.param({"headers": {"content-digest": "md5=:AA==:"}}, "comes with Content-Digest", id="other-digest"),
        pytest.param({"headers": {"content-digest": "sha-256=:AAA:"}}, "comes with Content-Digest", id="no-base64"),
        pytest.param(
            {"headers": {"content-digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"}},
            "not the one that Content-Digest is of",
            id="changed-after-hashing",
        ),
        pytest.param({"headers": {"content-type": "image/png"}}, "not what it was called", id="wrong-type"),
        pytest.param({"body": b"MZ\x90\x00"}, "a document is one of these", id="program"),
        pytest.param(
            {"body": PNG + b"x", "headers": {"content-type": "image/png"}}, "something follows", id="something-behind"
        ),
        pytest.param({"params": {"source": "bank\u202e"}}, "source: U+202E RIGHT-TO-LEFT OVERRIDE", id="source"),
    ],
)
def test_one_thing_wrong_is_refused_and_nothing_changes(
    counter: Counter, case: Application, change: dict[str, Any], told: str
) -> None:
    assert told in counter.refused(case, 422, "CPS 4.2.1", counter.put(case, **change))


def test_the_refusal_is_told_in_persian(counter: Counter, case: Application) -> None:
    answer = counter.put(case, b"MZ\x90\x00", headers={"accept-language": "fa"})
    assert "سند یکی از این‌هاست" in counter.refused(case, 422, "CPS 4.2.1", answer)


def test_a_signed_form_is_cut_off_at_its_own_limit(counter: Counter) -> None:
    """Anybody may hand in a form for their own case, and many at once: little of each is held in memory."""
    secret = "s" * 43
    case = counter.world.workflow.open(Actor(name_of(secret)), "merchant")
    by = {"by": counter.anonymous, "kind": "iban_owner", "headers": {"authorization": f"Bearer {secret}"}}
    answer = counter.put(case, (b"x" * MIB for _ in range(50)), **by)
    assert counter.refused(case, 422, "CPS 4.2.1", answer) == "a signed form has at most 16384 bytes"
    answer = counter.put(case, b"x" * 16_385, **by)
    assert counter.refused(case, 422, "CPS 4.2.1", answer) == "a signed form has at most 16384 bytes"


@pytest.mark.parametrize("beyond", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_does_not_have_is_refused(counter: Counter, case: Application, beyond: str) -> None:
    answer = counter.put(case, params={"expires_at": beyond})
    counter.refused(case, 422, "CPS 4.2.1", answer)


def test_whoever_may_not_add_evidence_is_told_so_whatever_they_send(counter: Counter, case: Application) -> None:
    assert counter.put(case, b"x", by=counter.anonymous).status_code == 401
    assert counter.world.store.application(case.id) == case


# In the database


def change_in_the_database(world: RaWorld, sha256: bytes) -> None:
    with world.engine.begin() as db:
        db.execute(text("DROP TRIGGER IF EXISTS evidence_bodies_no_update"))
        db.execute(text("UPDATE evidence_bodies SET body = :body WHERE sha256 = :sha256"),
                   {"body": b"another agreement", "sha256": sha256.hex()})  # fmt: skip


def test_a_document_changed_in_the_database_is_never_served_and_no_case_goes_on_with_it(world: RaWorld) -> None:
    application = world.open_merchant()
    world.decide(application.id, "vet", world.office.vetter)
    signed = world.sign(application.id, "approve", world.office.approver)
    before = world.store.application(application.id)
    piece = world.store.evidence(application.id)[0]
    change_in_the_database(world, piece.sha256)
    with pytest.raises(EvidenceChangedError) as refused:
        world.store.evidence_body(application.id, piece.sha256)
    assert refused.value.clause == "CPS 4.2.1"
    with pytest.raises(EvidenceChangedError):
        world.workflow.decide(officer(world.office.approver), application.id, signed)
    with pytest.raises(EvidenceChangedError):
        world.workflow.dossier(before)
    assert world.store.application(application.id) == before
    assert before.state is State.AWAITING_APPROVAL


def test_a_document_changed_in_the_database_is_answered_with_the_clause(counter: Counter, case: Application) -> None:
    answer = counter.put(case, b"a letter of this case alone")
    sha256 = answer.json()["evidence"][0]["sha256"]
    change_in_the_database(counter.world, bytes.fromhex(sha256))
    for path in (f"/v1/applications/{case.id}/evidence/{sha256}", f"/v1/applications/{case.id}/dossier"):
        read = counter.vetter.get(path)
        assert (read.status_code, read.json()["clause"]) == (409, "CPS 4.2.1")
        assert "another agreement" not in read.text


# Reasons


@pytest.mark.parametrize("act", ["hold", "send_back"])
def test_reasons_of_officers_are_folded_or_refused(counter: Counter, case: Application, act: str) -> None:
    workflow, vetter = counter.world.workflow, officer(counter.world.office.vetter)
    for bad in ("closed\u202e", "approved\nby nobody", " \u200c ", "x" * 501, "Bооk"):
        with pytest.raises(InvalidSubmissionError) as refused:
            getattr(workflow, act)(vetter, case.id, bad)
        assert refused.value.clause == "CPS 4.2"
    assert counter.world.store.application(case.id) == case
    changed = getattr(workflow, act)(vetter, case.id, "مدرك  ۲ ناقص است")
    assert counter.world.store.transitions(changed.id)[-1].detail["reason"] == "مدرک 2 ناقص است"


@pytest.mark.parametrize("expires", ["0001-01-01T00:00:00Z", "۲۰۲۰-01-01T00:00:00Z"])
def test_a_document_that_has_expired_is_not_taken(counter: Counter, case: Application, expires: str) -> None:
    answer = counter.put(case, params={"expires_at": expires})
    assert "would count for nothing" in counter.refused(case, 422, "CPS 4.2.1", answer)


def test_an_officer_who_is_revoked_while_the_document_comes_puts_nothing_on_file(
    counter: Counter, case: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, pki = counter.world, counter.world.office.pki
    credential = world.office.officer("officer-9", "vetting_officer", replace={"extended_key_usage": CLIENT})
    ca = tls_files(pki, "service", "ra", tmp_path).ca
    source, judged = world.trust_source, threading.Event()
    expect = world.workflow.expect_evidence

    def expected(*arguments: Any) -> bool:
        found = expect(*arguments)
        judged.set()
        return found

    monkeypatch.setattr(world.workflow, "expect_evidence", expected)

    def pieces() -> Iterator[bytes]:
        yield TEXT[:1]
        assert judged.wait(60)
        pki.operations_ca.revoked[credential.certificate.serial_number] = world.now - timedelta(days=1)
        world.trust_source = pki.trust
        world.clock.forward(timedelta(seconds=2))
        yield TEXT[1:]

    digest = base64.b64encode(hashlib.sha256(TEXT).digest()).decode()
    context = client_context(TlsFiles(*credential.write(tmp_path, "officer"), ca))
    try:
        with httpx.Client(base_url=counter.url, verify=context) as officer:
            body: Any = pieces()
            answer = counter.put(case, body, by=officer, headers={"content-digest": f"sha-256=:{digest}:"})
    finally:
        world.trust_source = source
        del pki.operations_ca.revoked[credential.certificate.serial_number]
    assert "revoked" in counter.refused(case, 403, "CPS 5.2.1", answer)
