"""Officers whose key is in a token sign their requests: each with one thing wrong is refused, and changes nothing.

A real server, real TLS: what is signed is what travelled. The console's connection carries the requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import func, insert, select

from ra import evidence_routes, request_nonces
from ra.app import create_app
from ra.client import RaClient
from ra.records import Application
from ra.request_nonces import RequestNonces
from ra.request_nonces import request_nonces as table
from ra.signed_requests import AHEAD, OLDEST
from ra.states import State
from runtime.client import TlsFiles, client_context
from runtime.database import open_database
from runtime.problems import Problem
from runtime.server import start
from tests.support.ca_world import tls_files
from tests.support.cps_cases import DAY, Office
from tests.support.databases import ra_database
from tests.support.documents import PDF
from tests.support.pki_factory import NOW, Credential
from tests.support.ra_world import RaWorld, merchant_subject
from tests.support.signed_requests import (
    NONCE,
    head_of,
    key_id,
    officer_who_logs_in,
    put_on_register,
    signed_by,
    signer,
)

SECOND: Final = timedelta(seconds=1)
REASON: Final = {"reason": "asked the bank"}


@dataclass
class Site:
    """An RA that listens; the operator's console; officers of the register, whose keys may be in tokens."""

    world: RaWorld
    url: str
    console: httpx.Client
    operator: TlsFiles
    folder: Path
    vetter: Credential
    other: Credential

    def case(self, number: int | str) -> Application:
        return self.world.open_merchant(documents=(), merchant_id=f"M-{number}")

    def request(self, method: str, path: str, **content: Any) -> httpx.Request:
        return self.console.build_request(method, path, **content)

    def hold(self, case: Application, by: Credential | None = None, **changes: Any) -> httpx.Request:
        """A signed request to hold a case."""
        request = self.request("POST", f"/v1/applications/{case.id}/hold", json=REASON)
        nonce = hashlib.sha256(case.id.encode()).hexdigest()[:32]
        at = changes.pop("at", self.world.now)
        return signed_by(request, by or self.vetter, at, nonce=changes.pop("nonce", nonce), **changes)

    def carried(self, request: httpx.Request, credential: Credential | None) -> httpx.Response:
        """The answer over another connection than the console's: of this credential, or anonymous."""
        if credential is None:
            context = client_context(ca=self.operator.ca)
        else:
            written = credential.write(self.folder, f"{credential.certificate.serial_number:x}")
            context = client_context(TlsFiles(*written, self.operator.ca))
        with httpx.Client(base_url=self.url, verify=context) as client:
            return client.send(request)

    def refused(self, case: Application, answer: httpx.Response, clause: str, said: str = "") -> None:
        """The request was refused with the clause, and the case is as it was."""
        problem = answer.json()
        assert (answer.status_code, problem["type"].rpartition(":")[2]) == (401, "request-signature"), problem
        assert problem["clause"] == clause, problem
        assert said in problem["detail"]
        assert self.world.store.application(case.id) == case


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("signed")
    world = RaWorld(folder, office)
    server = tls_files(office.pki, "service", "ra", folder / "tls")
    operator = tls_files(office.pki, "service", "operator", folder / "tls")
    vetter = officer_who_logs_in(office, "token-1", "vetting_officer")
    other = officer_who_logs_in(office, "token-2", "vetting_officer")
    put_on_register(world, (vetter, other))
    app = create_app(world.workflow)
    with start(app, tls=server, client_certificate="optional", larger=evidence_routes.larger) as url:
        with httpx.Client(base_url=url, verify=client_context(operator)) as console:
            yield Site(world, url, console, operator, folder / "tls", vetter, other)
    world.close()


@pytest.fixture
def case(site: Site, request: pytest.FixtureRequest) -> Application:
    return site.case(hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12])


@pytest.fixture
def client(site: Site) -> Iterator[RaClient]:
    """As `kwbp` calls for an officer with a token."""
    with RaClient(site.url, site.operator, signer=signer(site.vetter, site.world.clock)) as made:
        yield made


# What an officer with a token does


def test_whoever_signs_is_who_acts(site: Site, client: RaClient, case: Application) -> None:
    assert client.hold(case.id, "asked the bank").state is State.ON_HOLD
    assert client.release(case.id, "the bank knows").state is State.VETTING
    document = hashlib.sha256(PDF)
    pieces = (PDF[at : at + 100] for at in range(0, len(PDF), 100))
    view = client.upload_evidence(
        case.id, "acquirer_agreement", pieces, sha256=document.digest(), size=len(PDF), source="بانک"
    )
    assert [(each.kind, each.collected_by) for each in view.evidence] == [("acquirer_agreement", "token-1")]
    assert client.evidence(case.id, document.digest()) == PDF
    assert client.add_evidence(case.id, "contract", b"a contract", source="the shop").evidence[-1].kind == "contract"
    assert client.send_back(case.id, "not signed").state is State.RETURNED
    acted = {each.actor for each in site.world.store.transitions(case.id)} - {"service:operator", "service:ra"}
    assert acted == {"officer:token-1"}


def test_an_officer_with_a_token_opens_on_behalf_and_sees_the_queue_as_themselves(
    site: Site, client: RaClient, case: Application
) -> None:
    opened = client.open("merchant")
    assert opened.opened_by == "officer:token-1"
    assert client.prepare_est(opened.id, merchant_subject(merchant_id="M-behalf")).application == opened.id
    waiting = client.queue(mine=True, limit=200).applications
    assert case.id in {each.id for each in waiting}
    assert all(each.next_step is not None and "vetting_officer" in each.next_step.by for each in waiting)
    assert client.reviews() == ()


def test_the_console_alone_still_holds_nothing(site: Site, case: Application) -> None:
    answer = site.console.post(f"/v1/applications/{case.id}/hold", json=REASON)
    assert (answer.status_code, answer.json()["clause"]) == (403, "CPS 5.2.1")


def test_who_signs_does_not_do_what_the_console_may(site: Site, client: RaClient, case: Application) -> None:
    """The connection gives no right: the case was opened by the operator, who could withdraw it."""
    with pytest.raises(Problem) as refused:
        client.withdraw(case.id)
    assert refused.value.status == 403
    assert site.world.store.application(case.id) == case


def test_an_officers_own_connection_carries_what_they_signed(site: Site, case: Application) -> None:
    renewed = officer_who_logs_in(site.world.office, "token-1", "vetting_officer")
    assert site.carried(site.hold(case), renewed).status_code == 200


# One thing wrong


def test_for_another_method_path_or_query_it_does_not_count(site: Site, case: Application) -> None:
    other = site.case("other-path")
    request = site.hold(case)
    for method, path in (
        ("POST", f"/v1/applications/{other.id}/hold"),
        ("POST", f"/v1/applications/{case.id}/return"),
        ("POST", f"/v1/applications/{case.id}/hold?version=1"),
        ("GET", f"/v1/applications/{case.id}"),
    ):
        moved = site.request(method, path, content=request.content, headers=dict(request.headers))
        site.refused(case, site.console.send(moved), "RFC 9421 3.2")
    opening = signed_by(
        site.request("POST", "/v1/applications", json={"class": "merchant"}), site.vetter, site.world.now
    )
    as_get = site.request("GET", "/v1/applications", content=opening.content, headers=dict(opening.headers))
    site.refused(case, site.console.send(as_get), "RFC 9421 3.2")
    assert site.world.store.application(other.id) == other
    listing = signed_by(site.request("GET", "/v1/applications?state=VETTING"), site.vetter, site.world.now)
    wider = site.request("GET", "/v1/applications?state=VETTING&state=DRAFT", headers=dict(listing.headers))
    site.refused(other, site.console.send(wider), "RFC 9421 3.2")


def test_a_get_is_no_signed_post(site: Site, case: Application) -> None:
    path = f"/v1/applications/{case.id}/issue"
    signed = signed_by(site.request("GET", f"/v1/applications/{case.id}"), site.vetter, site.world.now)
    answer = site.console.send(site.request("POST", path, headers=dict(signed.headers)))
    site.refused(case, answer, "RFC 9421 7.2.1", "content-digest")


def test_another_authority_is_not_this_one(site: Site, case: Application) -> None:
    request = site.hold(case)
    request.headers["host"] = "ra.elsewhere.example"
    site.refused(case, site.console.send(request), "RFC 9421 3.2")


def test_a_changed_body_is_refused_and_so_is_one_with_its_own_digest(site: Site, case: Application) -> None:
    path = f"/v1/applications/{case.id}/hold"
    request = site.hold(case)
    changed = site.request("POST", path, json={"reason": "something else"})
    headers = dict(request.headers) | {"content-length": changed.headers["content-length"]}
    forged = site.request("POST", path, content=changed.content, headers=headers)
    site.refused(case, site.console.send(forged), "RFC 9530 2")
    digest = head_of(signed_by(changed, site.other, site.world.now)).fields["content-digest"]
    forged = site.request("POST", path, content=changed.content, headers=headers | {"content-digest": digest})
    site.refused(case, site.console.send(forged), "RFC 9421 3.2")


def test_a_changed_content_type_is_refused(site: Site, case: Application) -> None:
    request = site.hold(case)
    request.headers["content-type"] = "application/merge-patch+json"
    site.refused(case, site.console.send(request), "RFC 9421 3.2")


def test_a_document_of_another_digest_is_refused(site: Site, case: Application) -> None:
    path = f"/v1/applications/{case.id}/evidence/acquirer_agreement"
    request = site.request("POST", path, params={"source": "x"}, content=PDF, headers={"content-type": "text/plain"})
    signed_by(request, site.vetter, site.world.now, nonce="d" * 22)
    headers = dict(request.headers) | {"content-length": "3"}
    forged = site.request("POST", path, params={"source": "x"}, content=b"abc", headers=headers)
    answer = site.console.send(forged)
    assert (answer.status_code, answer.json()["clause"]) == (422, "CPS 4.2.1")
    assert site.world.store.application(case.id) == case
    unsigned = site.request("POST", path, params={"source": "x"}, content=PDF, headers={"content-type": "text/plain"})
    covered = unsigned.headers.copy()
    signed_by(unsigned, site.vetter, site.world.now, nonce="e" * 22)
    stripped = unsigned.headers["signature-input"].replace('"content-digest" ', "")
    unsigned.headers["signature-input"] = stripped
    assert "content-digest" not in covered
    site.refused(case, site.console.send(unsigned), "RFC 9421 7.2.1", "content-digest")


def test_the_signing_time_is_now(site: Site, case: Application) -> None:
    now = site.world.now
    for at in (now - OLDEST - SECOND, now + AHEAD + SECOND):
        site.refused(case, site.console.send(site.hold(case, at=at)), "RFC 9421 7.2.2")
    request = site.hold(case)
    stated = request.headers["signature-input"].replace(f"created={int(now.timestamp())}", f"created={10**14}")
    request.headers["signature-input"] = stated
    site.refused(case, site.console.send(request), "RFC 9421 2.3")
    later = site.hold(case)
    moved = int((now + SECOND).timestamp())
    later.headers["signature-input"] = later.headers["signature-input"].replace(
        f"created={int(now.timestamp())}", f"created={moved}"
    )
    site.refused(case, site.console.send(later), "RFC 9421 3.2")
    for number, at in enumerate((now - OLDEST, now + AHEAD)):
        held = site.case(f"edge-{number}")
        assert site.console.send(site.hold(held, at=at)).status_code == 200


def test_the_same_request_counts_once(site: Site, case: Application) -> None:
    request = site.hold(case)
    assert site.console.send(request).status_code == 200
    held = site.world.store.application(case.id)
    site.refused(held, site.console.send(request), "RFC 9421 7.2.2", "came before")
    release = site.request("POST", f"/v1/applications/{case.id}/release", json=REASON)
    nonce = hashlib.sha256(case.id.encode()).hexdigest()[:32]
    reused = site.console.send(signed_by(release, site.vetter, site.world.now, nonce=nonce))
    site.refused(held, reused, "RFC 9421 7.2.2", "came before")
    another = site.console.send(signed_by(release, site.other, site.world.now, nonce=nonce))
    assert another.status_code == 200  # a nonce is its signer's


def test_of_the_same_request_twice_at_once_one_passes(site: Site) -> None:
    listing = [
        signed_by(site.request("GET", "/v1/reviews"), site.vetter, site.world.now, nonce="same" * 6) for _ in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(site.console.send, listing))
    assert sorted(each.status_code for each in answers) == [200] + [401] * 7


def test_what_failed_uses_up_no_nonce(site: Site, case: Application) -> None:
    wrong = site.hold(case)
    wrong.headers["content-type"] = "text/json"
    site.refused(case, site.console.send(wrong), "RFC 9421 3.2")
    assert site.console.send(site.hold(case)).status_code == 200


def test_the_key_id_of_another_officer_is_refused(site: Site, case: Application) -> None:
    request = site.hold(case, site.other, named=key_id(site.vetter))
    site.refused(case, site.console.send(request), "RFC 9421 3.2")


def test_a_credential_that_is_not_in_the_register_is_refused(site: Site, case: Application) -> None:
    office = site.world.office
    stranger = officer_who_logs_in(office, "token-9", "vetting_officer")
    member = office.pki.merchant("M-1")
    for credential in (stranger, member):
        site.refused(case, site.console.send(site.hold(case, credential)), "CPS 5.2.1", "no officer of the register")


def test_a_credential_that_logs_nobody_in_is_refused(site: Site, case: Application) -> None:
    mute = site.world.office.officer("token-3", "vetting_officer")  # without clientAuth
    put_on_register(site.world, [mute])
    site.refused(case, site.console.send(site.hold(case, mute)), "CPS 5.2.1", "does not log in")


def test_an_expired_or_revoked_credential_is_refused(site: Site, case: Application) -> None:
    pki = site.world.office.pki
    old = officer_who_logs_in(site.world.office, "token-4", "vetting_officer", not_after=site.world.now - SECOND)
    revoked = officer_who_logs_in(site.world.office, "token-5", "vetting_officer")
    put_on_register(site.world, (old, revoked))
    source = site.world.trust_source
    pki.operations_ca.revoked[revoked.certificate.serial_number] = site.world.now - DAY
    site.world.trust_source = pki.trust
    try:
        for credential, why in ((old, "expired"), (revoked, "revoked")):
            answer = site.console.send(site.hold(case, credential))
            assert (answer.status_code, answer.json()["clause"]) == (403, "CPS 5.2.1")
            assert why in answer.json()["detail"]
            assert site.world.store.application(case.id) == case
    finally:
        site.world.trust_source = source
        del pki.operations_ca.revoked[revoked.certificate.serial_number]


def test_who_is_revoked_while_a_document_comes_puts_nothing_on_file(
    site: Site, case: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, pki = site.world, site.world.office.pki
    credential = officer_who_logs_in(world.office, "token-9", "vetting_officer")
    put_on_register(world, [credential])
    path = f"/v1/applications/{case.id}/evidence/acquirer_agreement"
    request = site.request("POST", path, params={"source": "x"}, content=PDF, headers={"content-type": "text/plain"})
    signed_by(request, credential, world.now, nonce="z" * 22)
    source, expect = world.trust_source, world.workflow.expect_evidence

    def revoked_then(*arguments: Any) -> bool:
        found = expect(*arguments)
        pki.operations_ca.revoked[credential.certificate.serial_number] = world.now - DAY
        world.trust_source = pki.trust
        world.clock.forward(2 * SECOND)
        return found

    monkeypatch.setattr(world.workflow, "expect_evidence", revoked_then)
    try:
        answer = site.console.send(request)
    finally:
        world.trust_source = source
        del pki.operations_ca.revoked[credential.certificate.serial_number]
    assert (answer.status_code, answer.json()["clause"], "revoked" in answer.json()["detail"]) == (
        403,
        "CPS 5.2.1",
        True,
    )
    assert world.store.evidence(case.id) == ()


def test_an_officer_without_the_role_is_told_so(site: Site, case: Application) -> None:
    auditor = officer_who_logs_in(site.world.office, "token-6", "auditor")
    put_on_register(site.world, [auditor])
    answer = site.console.send(site.hold(case, auditor))
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "not-allowed")
    assert "officer:token-6" in answer.json()["detail"]


@pytest.mark.parametrize("carrier", ["anonymous", "service", "merchant", "another officer"])
def test_over_a_connection_of_somebody_else_it_does_not_count(site: Site, case: Application, carrier: str) -> None:
    """Borrowed: whoever got hold of a signed request hands it in as what it is, nothing."""
    office = site.world.office
    credential = {
        "anonymous": None,
        "service": office.pki.service("gateway"),
        "merchant": office.pki.merchant("M-2"),
        "another officer": site.other,
    }[carrier]
    if carrier == "service":
        assert credential is not None
        written = tls_files(office.pki, "service", "gateway", site.folder)
        with httpx.Client(base_url=site.url, verify=client_context(written)) as client:
            answer = client.send(site.hold(case))
    else:
        answer = site.carried(site.hold(case), credential)
    site.refused(case, answer, "CPS 5.2.1")
    assert site.console.send(site.hold(case)).status_code == 200  # and it used up nothing


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda headers: headers.pop("signature"), id="no-signature"),
        pytest.param(lambda headers: headers.pop("signature-input"), id="no-input"),
        pytest.param(lambda headers: headers.update({"signature": "officer=:AAAA:"}), id="empty-signature"),
        pytest.param(
            lambda headers: headers.update(
                {each: f"{headers[each]}, b{headers[each]}" for each in ("signature", "signature-input")}
            ),
            id="two-signatures",
        ),
        pytest.param(
            lambda headers: headers.update(
                {"signature-input": headers["signature-input"].replace("ecdsa-p256-sha256", "ed25519")}
            ),
            id="unknown-algorithm",
        ),
        pytest.param(
            lambda headers: headers.update(
                {"signature-input": headers["signature-input"].replace("ecdsa-p256-sha256", "ecdsa-p384-sha384")}
            ),
            id="algorithm-of-another-kind-of-key",
        ),
    ],
)
def test_half_a_signature_is_never_the_console(
    site: Site, case: Application, edit: Callable[[httpx.Headers], object]
) -> None:
    """The console itself may read the case: had the request no signature, it would be answered."""
    request = signed_by(site.request("GET", f"/v1/applications/{case.id}"), site.vetter, site.world.now)
    edit(request.headers)
    answer = site.console.send(request)
    assert answer.status_code == 401
    assert answer.json()["clause"].startswith("RFC 9421 ")
    assert site.console.get(f"/v1/applications/{case.id}").status_code == 200


def test_a_header_that_stands_twice_is_refused(site: Site, case: Application) -> None:
    for name in ("content-digest", "content-type", "signature", "signature-input"):
        request = site.hold(case)
        lines = [*request.headers.items(), (name, request.headers[name])]
        doubled = site.request("POST", request.url.path, content=request.content, headers=httpx.Headers(lines))
        answer = site.console.send(doubled)
        assert answer.status_code == 401, (name, answer.text)
        assert site.world.store.application(case.id) == case


def test_a_signature_is_nowhere_ignored(site: Site) -> None:
    """Also where nobody is asked for: who signs wants to be somebody."""
    headers = {"signature": "officer=:AAAA:", "signature-input": "officer=()"}
    for path in ("/v1/cps", "/.well-known/est/cacerts"):
        assert site.console.get(path).status_code == 200
        assert site.console.get(path, headers=headers).status_code == 401


# Nonces


def test_nonces_are_kept_as_long_as_their_signatures_could_count_and_then_dropped(world: RaWorld) -> None:
    nonces, now = world.workflow.request_nonces, world.now
    assert nonces.take("k", "n", good_until=now)
    again = RequestNonces(world.engine)  # another replica, or the next process
    assert not again.take("k", "n", good_until=now)
    world.workflow.sweep()
    assert not again.take("k", "n", good_until=now)
    world.clock.now = now + SECOND
    world.workflow.sweep()
    with world.engine.begin() as db:
        assert db.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_of_replicas_on_one_database_one_takes_a_nonce(tmp_path: Path) -> None:
    """PostgreSQL, four replicas, two requests each: the second waits for the first, and is told."""
    url = ra_database("postgresql", tmp_path)
    engines = [open_database(url) for _ in range(4)]
    try:
        replicas = [RequestNonces(engine) for engine in engines] * 2
        with ThreadPoolExecutor(len(replicas)) as pool:
            took = list(pool.map(lambda each: each.take("k", "n", good_until=NOW), replicas))
        assert sorted(took) == [False] * 7 + [True]
        assert replicas[0].forget(NOW + SECOND) == 1
    finally:
        for engine in engines:
            engine.dispose()


def test_a_credential_has_so_many_nonces_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = officer_who_logs_in(site.world.office, "token-7", "vetting_officer")
    put_on_register(site.world, [busy])
    monkeypatch.setattr(request_nonces, "MOST", 2)
    with site.world.engine.begin() as db:
        for each in ("a", "b"):
            db.execute(insert(table).values(key_id=key_id(busy), nonce=each, good_until=site.world.now))
    answer = site.console.send(signed_by(site.request("GET", "/v1/reviews"), busy, site.world.now, nonce=NONCE))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "120")
    assert site.console.get("/v1/reviews").status_code == 200
