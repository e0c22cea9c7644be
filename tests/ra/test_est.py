"""EST beside what curl sees (tests/interop/test_est.py): codes, crashes, several processes, cases that come back."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cps.rekey_statement import parse_rekey
from cps.signatory import open_signed
from pki.keys import spki_sha256
from pki.oids import CT_REKEY
from ra.app import create_app
from ra.client import RaClient
from ra.errors import InvalidSubmissionError, NotAllowedError
from ra.est import EstDesk, OneTimeCode
from ra.est_answer import Given, Waiting
from ra.est_encoding import from_base64, to_base64
from ra.rate_limit import rate_limits
from ra.records import Application
from ra.states import State
from ra.submission import Submission
from runtime.client import TlsFiles, client_context, http_client
from runtime.problems import Problem
from runtime.server import start
from tests.support.ca_world import tls_files
from tests.support.cps_cases import BIN, OFFICER, Office, csr
from tests.support.pki_factory import Key, p256
from tests.support.ra_world import ANONYMOUS, OPERATOR, RaWorld, merchant_subject, officer


class Killed(BaseException):
    """The process is gone: nothing catches this."""


_numbers = count(1)


def fresh() -> str:
    """A merchant of their own for each test: they share an authority, because each takes a second to make."""
    return f"M-est-{next(_numbers)}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[RaWorld]:
    made = RaWorld(tmp_path_factory.mktemp("est"), office)
    yield made
    made.close()


@pytest.fixture(scope="module")
def desk(world: RaWorld) -> EstDesk:
    return EstDesk(world.workflow)


def prepare(world: RaWorld, desk: EstDesk, **changes: Any) -> OneTimeCode:
    draft = world.workflow.open(OPERATOR, "merchant")
    changes.setdefault("merchant_id", fresh())
    return desk.prepare(OPERATOR, draft.id, merchant_subject(**changes), None)


def certified(world: RaWorld) -> Application:
    return world.certified_merchant(merchant_id=fresh())


def enrol(desk: EstDesk, prepared: OneTimeCode, request: bytes) -> Given | Waiting:
    return desk.enrol("merchant", prepared.application_id, prepared.code, request)


def certificate_of(world: RaWorld, application_id: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(world.store.certificates(application_id)[0].der)


def next_request(old: x509.Certificate, key: Key) -> bytes:
    """A request that says what a certificate says."""
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateSigningRequestBuilder().subject_name(old.subject).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def rekeys(world: RaWorld, old: Application) -> list[Application]:
    return [each for each in world.store.applications(limit=1000) if each.replaces == old.id]


def refusal(call: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as caught:
        call()
    return caught.value


# one-time codes


def test_a_code_is_kept_as_its_digest_alone(tmp_path: Path, office: Office) -> None:
    world = RaWorld(tmp_path, office)
    prepared = prepare(world, EstDesk(world.workflow))
    world.close()
    assert len(prepared.code) * 5 >= 128  # base32
    assert prepared.code not in repr(prepared)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(prepared.code.encode() in each for each in kept)


def test_a_code_may_be_typed_with_hyphens_and_in_lower_case(world: RaWorld, desk: EstDesk) -> None:
    prepared = prepare(world, desk)
    typed = "-".join(prepared.code[at : at + 4] for at in range(0, 32, 4)).lower()
    assert isinstance(desk.enrol("merchant", prepared.application_id, typed, csr(p256())), Waiting)


def test_wrong_codes_are_counted_until_the_right_one_is_worthless(world: RaWorld, desk: EstDesk) -> None:
    prepared = prepare(world, desk)
    for _ in range(world.workflow.pack.one_time_code.tries):
        wrong = refusal(lambda: desk.enrol("merchant", prepared.application_id, "A" * 32, csr(p256())))
        assert wrong.status == 401
    assert refusal(lambda: enrol(desk, prepared, csr(p256()))).document() == wrong.document()


def test_a_new_code_makes_the_former_worthless(world: RaWorld, desk: EstDesk) -> None:
    prepared = prepare(world, desk)
    subject = merchant_subject(merchant_id=fresh())
    again = desk.prepare(OPERATOR, prepared.application_id, subject, None)
    assert refusal(lambda: enrol(desk, prepared, csr(p256()))).status == 401
    assert isinstance(enrol(desk, again, csr(p256())), Waiting)


def test_the_preparer_is_the_author(world: RaWorld, desk: EstDesk) -> None:
    vetter = officer(world.office.vetter)
    draft = world.workflow.open(vetter, "merchant")
    prepared = desk.prepare(vetter, draft.id, merchant_subject(merchant_id=fresh()), None)
    enrol(desk, prepared, csr(p256()))
    revision = world.workflow.dossier(world.store.application(draft.id)).revision
    assert [author.person for author in revision.authors] == ["officer-1"]


def test_only_whoever_opened_a_case_prepares_it_and_only_soundly(world: RaWorld, desk: EstDesk) -> None:
    draft = world.workflow.open(OPERATOR, "merchant")
    with pytest.raises(NotAllowedError):
        desk.prepare(ANONYMOUS, draft.id, merchant_subject(), None)
    with pytest.raises(InvalidSubmissionError) as caught:
        desk.prepare(OPERATOR, draft.id, merchant_subject(iban="IR820540102680020817909003"), None)
    assert caught.value.clause == "CPS 3.2.2"
    gateway = world.workflow.open(OPERATOR, "gateway")
    with pytest.raises(InvalidSubmissionError, match="two requests"):
        desk.prepare(OPERATOR, gateway.id, {}, None)
    old = certified(world)
    rekey = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    with pytest.raises(InvalidSubmissionError, match="simplereenroll"):
        desk.prepare(OPERATOR, rekey.id, merchant_subject(), None)


def test_a_code_is_for_its_class(world: RaWorld, desk: EstDesk) -> None:
    prepared = prepare(world, desk)
    with pytest.raises(InvalidSubmissionError, match="one of a merchant"):
        desk.enrol("officer", prepared.application_id, prepared.code, csr(p256()))


def test_a_request_that_names_another_member_is_not_what_the_code_is_for(world: RaWorld, desk: EstDesk) -> None:
    world.open_merchant(merchant_id="M-other")
    prepared = prepare(world, desk)
    with pytest.raises(InvalidSubmissionError, match="another member"):
        enrol(desk, prepared, csr(p256(), "M-other"))
    assert isinstance(enrol(desk, prepared, csr(p256())), Waiting)


def test_a_case_that_was_handed_in_otherwise_is_not_amended(world: RaWorld, desk: EstDesk) -> None:
    prepared = prepare(world, desk)
    submission = Submission(merchant_subject(merchant_id=fresh()), {"signing": csr(p256())})
    world.workflow.submit(OPERATOR, prepared.application_id, submission)
    assert refusal(lambda: enrol(desk, prepared, csr(p256()))).status == 409
    assert world.store.application(prepared.application_id).revision == 1


def test_who_was_amended_by_others_is_told_so(world: RaWorld, desk: EstDesk) -> None:
    prepared, request = prepare(world, desk, merchant_id="M-amended"), csr(p256())
    enrol(desk, prepared, request)
    submission = Submission(merchant_subject(merchant_id="M-amended"), {"signing": csr(p256())})
    world.workflow.amend(OPERATOR, prepared.application_id, submission)
    assert refusal(lambda: enrol(desk, prepared, request)).status == 409


def test_a_card_is_certified_at_once(world: RaWorld, desk: EstDesk) -> None:
    key, commitment = p256(), base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
    draft = world.workflow.open(ANONYMOUS, "cardholder")
    world.confirm(draft.id, key, commitment=commitment)
    prepared = desk.prepare(ANONYMOUS, draft.id, {"commitment": commitment, "bin": BIN}, None)
    given = desk.enrol("cardholder", prepared.application_id, prepared.code, csr(key))
    assert isinstance(given, Given)
    (certificate,) = pkcs7.load_der_pkcs7_certificates(given.message)
    assert certificate.public_key() == key.public_key()


def test_an_officer_enrols_with_a_code_and_is_decided_upon_as_any(world: RaWorld, desk: EstDesk) -> None:
    draft = world.workflow.open(OPERATOR, "officer")
    subject = OFFICER.model_copy(update={"person_id": "officer-est"}).model_dump(mode="json", by_alias=True)
    prepared = desk.prepare(OPERATOR, draft.id, subject, "0499370899")
    assert isinstance(desk.enrol("officer", prepared.application_id, prepared.code, csr(p256())), Waiting)
    case = world.store.application(draft.id)
    assert (case.state, case.national_code, case.waiting_for) == (State.VETTING, "0499370899", "security_officer")


# crashes, processes


def test_two_processes_with_the_same_request_are_in_one_case(world: RaWorld) -> None:
    old = certified(world)
    certificate = certificate_of(world, old.id)
    request = next_request(certificate, p256())
    desks = [EstDesk(world.workflow) for _ in range(4)]  # each with locks of its own, as processes have
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: each.reenrol("merchant", certificate, request), desks))
    assert all(isinstance(each, Waiting) for each in answers)
    (case,) = rekeys(world, old)
    assert (case.revision, len(world.store.evidence(case.id))) == (1, 1)
    assert isinstance(desks[0].reenrol("merchant", certificate, request), Waiting)


def test_a_crash_after_the_code_was_taken_loses_nothing(
    tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, request = RaWorld(tmp_path, office), csr(p256())
    desk = EstDesk(world.workflow)
    prepared = prepare(world, desk)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.workflow, "submit", killed)
        with pytest.raises(Killed):
            enrol(desk, prepared, request)
    world.close()
    after = RaWorld(tmp_path, office)
    again = EstDesk(after.workflow)
    assert refusal(lambda: enrol(again, prepared, csr(p256()))).status == 409  # another one's
    assert isinstance(enrol(again, prepared, request), Waiting)
    assert isinstance(enrol(again, prepared, request), Waiting)
    assert after.store.application(prepared.application_id).revision == 1
    after.close()


@pytest.mark.parametrize("step", ["add_evidence", "submit", "sign"])
def test_a_crash_in_a_re_key_goes_on_in_the_same_case(
    tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    world = RaWorld(tmp_path, office)
    old = certified(world)
    certificate = certificate_of(world, old.id)
    request = next_request(certificate, p256())

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.workflow.desk if step == "sign" else world.workflow, step, killed)
        with pytest.raises(Killed):
            EstDesk(world.workflow).reenrol("merchant", certificate, request)
    world.close()
    after = RaWorld(tmp_path, office)
    for _ in range(2):
        assert isinstance(EstDesk(after.workflow).reenrol("merchant", certificate, request), Waiting)
    (case,) = rekeys(after, old)
    assert [piece.kind for piece in after.store.evidence(case.id)] == ["old_key"]
    assert (case.state, case.revision) == (State.AWAITING_APPROVAL, 1) or case.state is State.VETTING
    after.close()


def test_a_token_that_is_away_keeps_a_re_key_waiting(world: RaWorld, desk: EstDesk) -> None:
    old = certified(world)
    certificate = certificate_of(world, old.id)
    request, sign = next_request(certificate, p256()), world.workflow.desk.sign

    def away(*_: object) -> bytes:
        raise Problem(503, "token-away", "the token is away")

    world.workflow.desk.sign = away  # type: ignore[misc]  # the key service, not ours
    assert refusal(lambda: desk.reenrol("merchant", certificate, request)).status == 503
    world.workflow.desk.sign = sign  # type: ignore[misc]
    assert isinstance(desk.reenrol("merchant", certificate, request), Waiting)
    assert len(rekeys(world, old)) == 1


# re-keys


def test_the_authority_says_that_it_saw_the_old_key(world: RaWorld, desk: EstDesk) -> None:
    old = certified(world)
    certificate, key = certificate_of(world, old.id), p256()
    desk.reenrol("merchant", certificate, next_request(certificate, key))
    (case,) = rekeys(world, old)
    (piece,) = world.store.evidence(case.id, with_bodies_of=["old_key"])
    assert piece.body is not None
    signed = open_signed(piece.body, CT_REKEY)
    said = parse_rekey(signed.content)
    assert (said.application_id, said.replaced, said.keys) == (case.id, certificate, (spki_sha256(key.public_key()),))
    assert signed.signer == world.office.ra.certificate
    assert case.opened_by == f"merchant:{old.subject_id}"


def test_a_returned_re_key_takes_another_request_into_the_same_case(world: RaWorld, desk: EstDesk) -> None:
    old = certified(world)
    certificate, key = certificate_of(world, old.id), p256()
    first = next_request(certificate, p256())
    desk.reenrol("merchant", certificate, first)
    (case,) = rekeys(world, old)
    assert refusal(lambda: desk.reenrol("merchant", certificate, next_request(certificate, key))).status == 409
    world.workflow.send_back(officer(world.office.vetter), case.id, "the key is too old")
    told = refusal(lambda: desk.reenrol("merchant", certificate, first))
    assert (told.status, "too old" in told.detail) == (409, True)

    assert isinstance(desk.reenrol("merchant", certificate, next_request(certificate, key)), Waiting)
    world.decide(case.id, "approve", world.office.approver)
    assert len(rekeys(world, old)) == 1
    assert certificate_of(world, case.id).public_key() == key.public_key()


def test_a_rejected_re_key_may_be_asked_for_anew(world: RaWorld, desk: EstDesk) -> None:
    old = certified(world)
    certificate = certificate_of(world, old.id)
    first = next_request(certificate, p256())
    desk.reenrol("merchant", certificate, first)
    (case,) = rekeys(world, old)
    world.reject(case.id, "approve", world.office.approver)
    assert refusal(lambda: desk.reenrol("merchant", certificate, first)).status == 403
    assert isinstance(desk.reenrol("merchant", certificate, next_request(certificate, p256())), Waiting)
    assert len(rekeys(world, old)) == 2


def test_what_the_workflow_would_refuse_opens_no_case(world: RaWorld, desk: EstDesk) -> None:
    old = certified(world)
    certificate = certificate_of(world, old.id)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificate.subject)
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    request = builder.sign(p256(), hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(InvalidSubmissionError, match="certificate of a CA"):
        desk.reenrol("merchant", certificate, request)
    assert rekeys(world, old) == []


def test_classes_without_re_keys_apply_anew(world: RaWorld, desk: EstDesk) -> None:
    key = p256()
    card = world.open_cardholder(key=key)
    certificate = certificate_of(world, card.id)
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificate.subject)
    request = builder.sign(p256(), hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(InvalidSubmissionError, match="apply anew"):
        desk.reenrol("cardholder", certificate, request)
    assert world.store.application(card.id).state is State.ACTIVE  # it was used


# acceptance by use


def test_using_a_certificate_accepts_it_once(world: RaWorld) -> None:
    case = certified(world)
    certificate = certificate_of(world, case.id)
    for _ in range(2):
        assert world.workflow.accept_by_use(certificate).state is State.ACTIVE
    passed = [each for each in world.store.transitions(case.id) if each.after is State.ACTIVE]
    assert [(each.actor, each.detail) for each in passed] == [
        (f"merchant:{case.subject_id}", {"used": f"{certificate.serial_number:x}"})
    ]


def test_using_a_revoked_or_strange_certificate_accepts_nothing(world: RaWorld, desk: EstDesk) -> None:
    case = certified(world)
    certificate = certificate_of(world, case.id)
    order = world.office.revocation(certificate, world.office.vetter, date=world.now)
    world.workflow.revoke(OPERATOR, order)
    with pytest.raises(NotAllowedError, match="REVOKED"):
        world.workflow.accept_by_use(certificate)
    desk.note_use(world.office.pki.merchant().certificate)
    assert world.store.application(case.id).state is State.REVOKED


# over HTTP


@pytest.fixture
def urls(world: RaWorld, tmp_path: Path) -> Iterator[tuple[str, TlsFiles]]:
    operator = tls_files(world.office.pki, "service", "operator", tmp_path / "tls")
    server = tls_files(world.office.pki, "service", "ra", tmp_path / "tls")
    with start(create_app(world.workflow), tls=server, client_certificate="optional") as url:
        yield url, operator


def test_a_code_comes_over_http_and_is_stored_by_nobody_on_the_way(urls: tuple[str, TlsFiles]) -> None:
    url, tls = urls
    client = RaClient(url, tls)
    draft = client.open("merchant")
    prepared = client.prepare_est(draft.id, merchant_subject())
    assert (prepared.application, prepared.path) == (draft.id, "/.well-known/est/merchant/simpleenroll")
    assert prepared.code not in repr(prepared)
    with http_client(tls, url) as http:
        answer = http.post(f"/v1/applications/{draft.id}/est", json={"subject": merchant_subject()})
    client.close()
    assert answer.headers["cache-control"] == "no-store"


ID_AND_CODE = "Basic " + base64.b64encode(b"0" * 32 + b":b").decode()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"authorization": "Bearer x"}, b"", 401),
        ({"authorization": "Basic ==="}, b"", 401),
        ({"authorization": "Basic " + "A" * 300}, b"", 401),
        ({"authorization": "Basic YWJj"}, b"", 401),  # no colon
        ({"authorization": "Basic éééé"}, b"", 401),
        ({"authorization": "Basic YQBiOmM=", "content-type": "application/pkcs10"}, b"AAAA", 401),  # NUL
        ({"authorization": ID_AND_CODE, "content-type": "application/pkcs10"}, b"!", 422),
        ({"authorization": ID_AND_CODE, "content-type": "text/plain"}, b"AAAA", 415),
        ({"authorization": ID_AND_CODE, "content-type": "application/pkcs10"}, b"A" * 40_000, 413),
        ({"authorization": ID_AND_CODE, "content-type": "application/pkcs10"}, b"AAAA", 401),
    ],
)
def test_bad_calls_are_told_apart(
    urls: tuple[str, TlsFiles], headers: dict[str, str], body: bytes, status: int
) -> None:
    url, tls = urls
    with httpx.Client(verify=client_context(None, ca=tls.ca)) as http:
        answer = http.post(
            f"{url}/.well-known/est/merchant/simpleenroll", headers=httpx.Headers(headers, "latin-1"), content=body
        )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_anonymous_clients_are_counted() -> None:
    line = next(each for each in rate_limits().addresses if "/.well-known/est/merchant".startswith(each.prefix))
    assert line.prefix == "/.well-known/est"


# RFC 8951 3.1


def test_white_space_in_base64_does_not_matter_and_everything_else_does() -> None:
    assert from_base64(b" QU\tJD\r\n") == b"ABC"
    assert from_base64(to_base64(bytes(range(256)))) == bytes(range(256))
    for bad in (b"", b"QUJ", b"QUJD=", b"QU-D", b"QR==", b"-----BEGIN CERTIFICATE REQUEST-----"):
        with pytest.raises(ValueError, match="base64"):
            from_base64(bad)
