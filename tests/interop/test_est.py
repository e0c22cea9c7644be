"""EST (RFC 7030), judged by curl and openssl: enrolment by one-time code, re-enrolment with the old certificate."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ra.states import State
from tests.support.cps_cases import Office
from tests.support.est_client import PREFIX, EstClient, EstSite
from tests.support.judges import openssl
from tests.support.pki_factory import PkiFactory
from tests.support.ra_world import OPERATOR, merchant_subject, officer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EstSite]:
    office = Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))
    made = EstSite(tmp_path_factory.mktemp("est"), office)
    with made.serving():
        yield made
    made.world.close()


@pytest.fixture
def client(site: EstSite, tmp_path: Path) -> EstClient:
    return EstClient(site, tmp_path / "client")


def test_a_machine_enrols_by_a_code_and_accepts_by_use(site: EstSite, client: EstClient) -> None:
    authorities = client.fetch_authorities()
    assert authorities.read_bytes().count(b"BEGIN CERTIFICATE") == len(site.world.office.pki.authorities)

    prepared = site.prepare(merchant_id="M-first")
    waiting = client.enrol(prepared)
    assert (waiting.status, waiting.headers["retry-after"]) == (202, "900")
    assert b"VETTING" in waiting.body
    site.vet(prepared.application_id)
    assert client.enrol(prepared).status == 202
    site.approve(prepared.application_id)

    client.keep(client.enrol(prepared))
    verified = openssl("verify", "-CAfile", client / "root.pem", "-untrusted", authorities, client / "shop.pem")
    assert verified.strip().endswith(b"OK")
    assert site.state(prepared.application_id) is State.ISSUED

    used = client.curl(f"{PREFIX}/cacerts", *client.as_holder("shop"), ca="ca.pem")
    assert (used.status, site.state(prepared.application_id)) == (200, State.ACTIVE)


def test_a_member_re_enrols_with_the_old_certificate(site: EstSite, client: EstClient) -> None:
    old = client.enrolled(merchant_id="M-renews")
    before = len(site.cases())

    waiting = client.reenrol()
    assert (waiting.status, waiting.headers["retry-after"]) == (202, "900")
    assert client.reenrol().status == 202
    opened = [each for each in site.cases() if each.replaces == old]
    assert (len(site.cases()), len(opened)) == (before + 1, 1)
    assert site.state(old) is State.ACTIVE  # by use

    site.approve(opened[0].id)  # one officer: a re-key has fewer steps
    renewed = client.keep(client.reenrol(), "next")
    assert openssl("verify", "-CAfile", client / "root.pem", "-untrusted", client / "ca.pem", client / "next.pem")
    assert client.keep(client.reenrol(), "next") == renewed
    client.curl(f"{PREFIX}/merchant/csrattrs", *client.as_holder("next"), ca="ca.pem")
    assert site.state(opened[0].id) is State.ACTIVE


def test_what_keys_a_class_allows_is_told(client: EstClient) -> None:
    answer = client.curl(f"{PREFIX}/merchant/csrattrs")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/csrattrs")
    told = openssl("asn1parse", "-inform", "DER", stdin=openssl("base64", "-d", stdin=answer.body)).decode()
    assert [
        word for word in ("prime256v1", "secp384r1", "rsaEncryption", "INTEGER           :0C00") if word in told
    ] == [
        "prime256v1",
        "secp384r1",
        "rsaEncryption",
        "INTEGER           :0C00",
    ]
    assert "challengePassword" not in told


# hostile twins


def test_whatever_is_wrong_with_a_code_the_answer_is_the_same(site: EstSite, client: EstClient) -> None:
    prepared, late = site.prepare(merchant_id="M-wrong"), site.prepare(merchant_id="M-late")
    wrong = client.enrol(prepared, code="A" * 32)
    unknown = client.curl(
        f"{PREFIX}/merchant/simpleenroll", "-u", f"{'0' * 32}:{'A' * 32}", "-X", "POST",
        "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{client / 'shop.b64'}",
    )  # fmt: skip
    nobody = client.curl(f"{PREFIX}/merchant/simpleenroll", "-X", "POST", "-H", "Content-Type: application/pkcs10")
    site.pass_time(days=8)
    try:
        expired = client.enrol(late)
    finally:
        site.pass_time(days=-8)
    answers = {(each.status, each.headers["www-authenticate"], each.body) for each in (wrong, unknown, nobody, expired)}
    assert len(answers) == 1
    assert wrong.status == 401
    assert site.state(prepared.application_id) is site.state(late.application_id) is State.DRAFT


def test_a_code_is_good_for_few_tries(site: EstSite, client: EstClient) -> None:
    prepared = site.prepare(merchant_id="M-tries")
    for _ in range(site.world.workflow.pack.one_time_code.tries):
        site.desk._store.missed(prepared.application_id)
    assert client.enrol(prepared).status == 401


def test_a_code_is_good_for_one_request(site: EstSite, client: EstClient) -> None:
    prepared = site.prepare(merchant_id="M-one")
    assert client.enrol(prepared).status == 202
    other = client.enrol(prepared, "other")
    assert (other.status, other.problem["clause"]) == (409, "RFC 7030 4.2.3")
    assert client.enrol(prepared).status == 202


def test_a_code_is_worthless_soon_after_the_certificate_was_fetched(site: EstSite, client: EstClient) -> None:
    prepared = site.prepare(merchant_id="M-fetched")
    client.enrol(prepared)
    site.vet(prepared.application_id)
    site.approve(prepared.application_id)
    client.keep(client.enrol(prepared))
    client.keep(client.enrol(prepared))  # an answer may be lost
    site.pass_time(minutes=10)
    assert client.enrol(prepared).status == 401
    site.pass_time(minutes=-10)


def test_a_bad_request_leaves_the_code_good(site: EstSite, client: EstClient) -> None:
    prepared = site.prepare(merchant_id="M-bad")
    client.make_request("names", "-addext", "subjectAltName=DNS:other.example")
    refused = client.enrol(prepared, "names")
    assert (refused.status, refused.problem["clause"]) == (422, "CPS 4.1.2")
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", client / "small.key")
    client.make_request("small")
    assert client.enrol(prepared, "small").problem["clause"] == "CPS 6.1.5"
    (client / "pem.b64").write_bytes(openssl("req", "-inform", "DER", "-in", client / "small.der"))
    assert client.enrol(prepared, "pem").problem["clause"] == "RFC 8951 3.1"
    assert client.enrol(prepared).status == 202


def test_no_request_is_linked_to_its_connection(site: EstSite, client: EstClient) -> None:
    config = (
        "[req]\nprompt=no\ndistinguished_name=dn\nattributes=a\n[dn]\nCN=x\n[a]\nchallengePassword=dGxzLXVuaXF1ZQ==\n"
    )
    (client / "challenge.cnf").write_text(config)
    client.make_request("linked")
    openssl(
        "req", "-new", "-config", client / "challenge.cnf", "-key", client / "linked.key",
        "-outform", "DER", "-out", client / "linked.der",
    )  # fmt: skip
    (client / "linked.b64").write_bytes(openssl("base64", "-in", client / "linked.der"))
    refused = client.enrol(site.prepare(merchant_id="M-linked"), "linked")
    assert (refused.status, refused.problem["clause"]) == (422, "RFC 7030 3.5")


def test_who_is_refused_is_told_why_in_their_language(site: EstSite, client: EstClient) -> None:
    prepared = site.prepare(merchant_id="M-rejected")
    client.enrol(prepared)
    site.world.reject(prepared.application_id, "vet", site.world.office.vetter)
    refused = client.enrol(prepared, "shop", "-H", "Accept-Language: fa")
    assert (refused.status, refused.headers["content-language"], refused.problem["clause"]) == (403, "fa", "CPS 4.2.2")
    ended = site.prepare(merchant_id="M-ended")
    client.enrol(ended, "ended")
    site.world.workflow.withdraw(OPERATOR, ended.application_id, "")
    assert client.enrol(ended, "ended").status == 410


def test_a_returned_case_is_prepared_again_for_another_request(site: EstSite, client: EstClient) -> None:
    prepared = site.prepare(merchant_id="M-returned")
    client.enrol(prepared)
    vetter = officer(site.world.office.vetter)
    site.world.workflow.send_back(vetter, prepared.application_id, "the name is not that of the shop")
    told = client.enrol(prepared)
    assert (told.status, "not that of the shop" in told.problem["detail"]) == (409, True)
    subject = merchant_subject(merchant_id="M-returned", name="Another shop")
    again = site.desk.prepare(OPERATOR, prepared.application_id, subject, None)
    assert client.enrol(prepared).status == 401
    assert client.enrol(again).status == 202


def test_two_clients_with_one_code_get_one_case(site: EstSite, client: EstClient, tmp_path: Path) -> None:
    prepared = site.prepare(merchant_id="M-two")
    rival = EstClient(site, tmp_path / "rival")
    for each in (client, rival):
        each.make_request()
    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(each.status for each in pool.map(lambda who: who.enrol(prepared), (client, rival)))
    assert statuses == [202, 409]


def test_two_clients_with_one_certificate_get_one_case(site: EstSite, client: EstClient, tmp_path: Path) -> None:
    old = client.enrolled(merchant_id="M-twins")
    rival = EstClient(site, tmp_path / "rival")
    for name in ("ca.pem", "shop.pem", "shop.key"):
        (rival / name).write_bytes((client / name).read_bytes())
    for each in (client, rival):
        each.make_next_request()
    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(each.status for each in pool.map(lambda who: who.reenrol(), (client, rival)))
    assert statuses == [202, 409]
    assert [each.replaces for each in site.cases()].count(old) == 1


def test_a_re_enrolment_asks_for_nothing_new_but_the_key(site: EstSite, client: EstClient) -> None:
    client.enrolled(merchant_id="M-same")
    before = len(site.cases())
    client.make_request("next", subject="/CN=Another shop")
    refused = client.reenrol()
    assert (refused.status, refused.problem["clause"]) == (422, "RFC 7030 4.2.2")
    (client / "again.key").write_bytes((client / "shop.key").read_bytes())
    assert client.reenrol("again").problem["clause"] == "CPS 4.7"
    assert client.reenrol(label="officer").problem["clause"] == "RFC 7030 4.2.2"
    assert len(site.cases()) == before


def test_a_revoked_certificate_renews_nothing(site: EstSite, client: EstClient) -> None:
    client.enrolled(merchant_id="M-revoked")
    certificate = x509.load_pem_x509_certificate((client / "shop.pem").read_bytes())
    order = site.world.office.revocation(certificate, site.world.office.vetter, date=site.world.now)
    site.world.workflow.revoke(OPERATOR, order)
    refused = client.reenrol()
    assert (refused.status, refused.problem["clause"]) == (403, "CPS 5.2.1")


def test_an_expired_certificate_does_not_get_through_tls(site: EstSite, client: EstClient) -> None:
    client.fetch_authorities()
    pki = site.world.office.pki
    expired = pki.merchant(not_before=pki.now - timedelta(days=730), not_after=pki.now - timedelta(days=365))
    certificate, key = expired.write(client.folder, "expired")
    assert client.is_cut_off(f"{PREFIX}/cacerts", "--cert", certificate, "--key", key)


def test_a_certificate_that_no_application_led_to_renews_nothing(site: EstSite, client: EstClient) -> None:
    client.fetch_authorities()
    certificate, key = site.world.office.pki.merchant().write(client.folder, "stray")
    client.make_request("next")
    refused = client.curl(
        f"{PREFIX}/merchant/simplereenroll", "--cert", certificate, "--key", key, "-X", "POST",
        "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{client / 'next.b64'}",
    )  # fmt: skip
    assert (refused.status, refused.problem["clause"]) == (403, "CPS 5.2.1")


def test_what_is_not_offered_says_why(client: EstClient) -> None:
    for path, status in (
        ("merchant/fullcmc", 501),
        ("merchant/serverkeygen", 501),
        ("gateway/simpleenroll", 422),
        ("nobody/simpleenroll", 404),
    ):
        assert client.curl(f"{PREFIX}/{path}", "-X", "POST").status == status
    assert client.curl(f"{PREFIX}/merchant/simplereenroll", "-X", "POST").status == 401
