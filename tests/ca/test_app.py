"""The CA over mutual TLS: who may ask what, and what a refusal says."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ca.app import LARGEST_BATCH, create_app, largest_body
from ca.client import CaClient
from cps.dossier import Dossier
from pki.path import validate_path
from pki.roles import Role
from runtime.client import http_client
from runtime.problems import Problem
from runtime.server import start
from tests.support.ca_world import CaWorld, tls_files
from tests.support.cps_cases import MERCHANT, Office
from tests.support.judges import openssl
from tests.support.pki_factory import pem


@pytest.fixture
def url(world: CaWorld, tmp_path: Path) -> Iterator[str]:
    server = tls_files(world.pki, "service", "ca", tmp_path / "tls")
    with start(create_app(world.authority), tls=server, client_certificate="optional") as address:
        yield address


def client(url: str, world: CaWorld, tmp_path: Path, kind: str = "service", who: str = "ra") -> CaClient:
    return CaClient(url, tls_files(world.pki, kind, who, tmp_path / "tls"))


@pytest.fixture
def ra(url: str, world: CaWorld, tmp_path: Path) -> Iterator[CaClient]:
    with client(url, world, tmp_path) as made:
        yield made


def test_the_ra_gets_certificates_for_an_approved_case(ra: CaClient, world: CaWorld) -> None:
    issued = ra.issue(world.approved_gateway())

    assert set(issued) == {"signing", "encryption"}
    answer = issued["signing"]
    assert (answer.issuer, answer.profile, answer.identity) == (
        "gateway-ca",
        "gateway-signing",
        "urn:kwbp:gateway:GW-1",
    )
    validate_path(
        answer.parsed(),
        answer.parsed_chain(),
        trust=world.authority.publisher.trust(),
        now=world.clock.now,
        roles=[Role.GATEWAY_SIGNING],
    )
    assert openssl("crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", stdin=answer.pem())


def test_asking_twice_gives_the_same_answer(ra: CaClient, world: CaWorld) -> None:
    case = world.approved_merchant()

    assert ra.issue(case) == ra.issue(case)


def test_many_cases_are_answered_each_for_itself_in_their_order(ra: CaClient, world: CaWorld, office: Office) -> None:
    undecided, card = office.merchant_case(application_id="undecided"), world.approved_gateway()

    refused, issued = ra.issue_many([undecided, card])

    assert isinstance(refused, Problem)
    assert (refused.status, refused.type) == (403, "not-approved")
    assert refused.extra["findings"]
    assert issued == ra.issue(card)


def test_only_the_ra_may_ask_for_many(url: str, world: CaWorld, tmp_path: Path) -> None:
    with client(url, world, tmp_path, who="operator") as other:
        assert problem(lambda: other.issue_many([world.approved_merchant()])).status == 403


def test_a_batch_may_be_larger_than_other_requests_and_no_other_may() -> None:
    assert largest_body({"path": "/v1/certificates:batch"}) == LARGEST_BATCH
    assert largest_body({"path": "/v1/certificates"}) is None


def test_the_case_travels_unchanged(ra: CaClient, world: CaWorld) -> None:
    case = world.approved_merchant()
    answer = ra.issue(case)["signing"]

    story = ra.look_up(answer.issuer, answer.serial)

    assert story.dossier is not None
    assert Dossier.model_validate(story.dossier) == case


def test_the_story_of_a_certificate_names_rules_decisions_and_log(ra: CaClient, world: CaWorld) -> None:
    answer = ra.issue(world.approved_merchant())["signing"]

    story = ra.look_up("merchant-ca", answer.serial.upper())

    assert story.status == "good"
    assert story.certificate == answer
    assert story.intent is not None
    assert [(each["step"], each["person"]) for each in story.intent.approvals] == [
        ("vet", "officer-1"),
        ("approve", "officer-3"),
    ]
    assert {"key", "role", "serial"} <= set(story.intent.lints)
    assert story.cps_digest == world.office.pack.digest.hex()
    assert set(story.log) == {"ca.intent", "ca.issued"}


def test_a_certificate_of_the_ceremony_has_a_story_without_a_case(ra: CaClient, world: CaWorld) -> None:
    brand = world.pki.brand.certificate

    story = ra.look_up("root", format(brand.serial_number, "x"))

    assert (story.certificate.profile, story.dossier, story.intent) == ("brand", None, None)


def test_certificates_are_found_by_identity_serial_and_digests(ra: CaClient, world: CaWorld) -> None:
    answer = ra.issue(world.approved_merchant())["signing"]

    for query in (
        {"identity": "urn:kwbp:merchant:M-1"},
        {"serial": answer.serial.upper()},
        {"sha256": answer.sha256},
        {"sha256": answer.sha256, "identity": "urn:kwbp:merchant:M-1"},
    ):
        assert [found.serial for found in ra.search(**query)] == [answer.serial]
    assert ra.search(identity="urn:kwbp:merchant:M-2") == ()


def test_an_officers_order_revokes_whoever_carries_it(
    url: str, ra: CaClient, world: CaWorld, office: Office, tmp_path: Path
) -> None:
    answer = ra.issue(world.approved_merchant())["signing"]
    order = office.revocation(answer.parsed(), office.vetter)

    with client(url, world, tmp_path, "service", "operator") as operator:
        revoked = operator.revoke(order)

    assert (revoked.issuer, revoked.serial, revoked.reason) == ("merchant-ca", answer.serial, "keyCompromise")
    assert revoked.crl_number is not None
    story = ra.look_up(answer.issuer, answer.serial)
    assert story.status == "revoked"
    assert story.revocation is not None
    assert story.revocation.order == order
    assert "ca.revoked" in story.log


def problem(call: object) -> Problem:
    with pytest.raises(Problem) as refused:
        call()  # type: ignore[operator]  # a lambda
    return refused.value


def test_a_refusal_names_every_finding_with_its_clause(ra: CaClient, office: Office) -> None:
    case = office.decided(office.merchant_case(), "vet", office.vetter, office.vetter)

    refused = problem(lambda: ra.issue(case))

    assert (refused.status, refused.type) == (403, "not-approved")
    assert {"code": "SOD-PERSON", "clause": "CPS 5.2.2"}.items() <= refused.extra["findings"][0].items()


def test_a_key_of_another_case_is_a_conflict(ra: CaClient, world: CaWorld) -> None:
    ra.issue(world.approved_merchant())

    refused = problem(lambda: ra.issue(world.approved_merchant(number=2)))

    assert (refused.status, refused.type, refused.clause) == (409, "key-refused", "CPS 6.1.1")


def test_what_does_not_fit_a_certificate_is_unprocessable(ra: CaClient, world: CaWorld) -> None:
    abroad = MERCHANT.model_copy(update={"country": 840})

    refused = problem(lambda: ra.issue(world.approved_merchant(subject=abroad)))

    assert (refused.status, refused.type, refused.clause) == (422, "request", "CPS 3.1.1")


def test_an_unknown_certificate_is_not_found(ra: CaClient) -> None:
    assert problem(lambda: ra.look_up("merchant-ca", "ab")).status == 404


def test_a_revocation_that_the_cps_refuses_is_forbidden(ra: CaClient) -> None:
    refused = problem(lambda: ra.revoke(b"no CMS"))

    assert (refused.status, refused.type, refused.clause) == (403, "revocation-refused", "CPS 4.9.3")


def test_only_the_ra_may_ask_for_certificates(url: str, world: CaWorld, tmp_path: Path) -> None:
    for kind, who in (("service", "operator"), ("service", "gateway"), ("merchant", "M-1"), ("officer", "officer-1")):
        with client(url, world, tmp_path, kind, who) as other:
            refused = problem(lambda other=other: other.issue(world.approved_merchant()))
            assert (refused.status, refused.type) == (403, "caller-not-allowed")


def test_merchants_and_strangers_may_not_read(url: str, world: CaWorld, tmp_path: Path) -> None:
    with client(url, world, tmp_path, "merchant", "M-1") as merchant:
        assert problem(lambda: merchant.search(identity="urn:kwbp:merchant:M-1")).status == 403
        assert problem(lambda: merchant.look_up("merchant-ca", "ab")).status == 403
        assert problem(lambda: merchant.revoke(b"")).status == 403
    (tmp_path / "root.pem").write_bytes(pem(world.pki.root.certificate))
    with http_client(None, url, ca=tmp_path / "root.pem") as stranger:
        for method, path in (("GET", "/v1/certificates"), ("POST", "/v1/certificates"), ("POST", "/v1/revocations")):
            assert stranger.request(method, path).status_code == 401


@pytest.fixture
def raw(url: str, world: CaWorld, tmp_path: Path) -> Iterator[httpx.Client]:
    with http_client(tls_files(world.pki, "service", "ra", tmp_path / "tls"), url) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/certificates", b"{}"),
        ("/v1/certificates", b'{"dossier": {"revision": "6037701000000007"}}'),
        ("/v1/certificates", b"not JSON 6037701000000007"),
        ("/v1/revocations", b'{"order": "not base64 6037701000000007!"}'),
        ("/v1/revocations", b'{"order": "", "more": 6037701000000007}'),
    ],
)
def test_bad_input_is_refused_and_never_echoed(raw: httpx.Client, path: str, body: bytes) -> None:
    answer = raw.post(path, content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"6037701000000007" not in answer.content


def test_an_order_beyond_any_size_is_refused(raw: httpx.Client) -> None:
    order = base64.b64encode(bytes(70_000)).decode()

    assert raw.post("/v1/revocations", json={"order": order}).status_code == 422


def test_paths_and_queries_are_narrow(raw: httpx.Client) -> None:
    assert raw.get("/v1/certificates/merchant-ca/xyz").status_code == 422
    assert raw.get("/v1/certificates/..%2F..%2Fetc/ab").status_code in {404, 422}
    assert raw.get("/v1/certificates", params={"sha256": "ab"}).status_code == 422


def test_the_service_says_how_it_is(raw: httpx.Client) -> None:
    assert raw.get("/health/live").json()["status"] == "live"
    assert raw.get("/health/ready").status_code == 200
    assert raw.get("/openapi.json").json()["info"]["title"] == "KWBP certificate authority"


def test_an_authority_that_is_away_is_told_as_a_problem(world: CaWorld, tmp_path: Path) -> None:
    with client("https://127.0.0.1:1", world, tmp_path) as nobody:
        assert problem(lambda: nobody.look_up("root", "1")).type == "ca-unreachable"
        assert problem(lambda: nobody.revoke(b"x")).type == "ca-unreachable"
