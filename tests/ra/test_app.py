"""The RA over TLS, by its own client: every class from application to certificate, and refusals as problem details."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.errors import StatusError
from cps.decision import Choice
from pki.keys import spki_sha256
from pki.names import common_name
from pki.roles import Role, role_of
from ra.app import create_app
from ra.client import ApplicationView, RaClient, State
from ra.officer import draft_decision, draft_revocation, officer_of
from ra.openers import SIZE, name_of, written
from runtime.client import TlsFiles, client_context
from runtime.problems import Problem
from runtime.server import start
from tests.support.ca_world import tls_files
from tests.support.cps_cases import BIN, COMMITMENT, DAY, Office, csr
from tests.support.pki_factory import Credential, Key, p256
from tests.support.ra_world import DOCUMENTS, RaWorld, merchant_subject

CLIENT = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)


@dataclass
class Person:
    """An officer with a certificate that logs in and signs, as the CA's profile makes it."""

    credential: Credential
    client: RaClient


@dataclass
class Service:
    """An RA that listens, and those who call it."""

    world: RaWorld
    url: str
    root: Path
    operator: RaClient
    anonymous: RaClient
    vetter: Person
    approver: Person
    security: Person
    login: Callable[[Credential, str], RaClient]

    def sign(self, application: ApplicationView, step: str, by: Person, choice: Choice = Choice.APPROVE) -> bytes:
        view = by.client.dossier(application.id)
        officer = officer_of(by.credential.certificate, by.credential.chain, by.credential.key)
        draft = draft_decision(view.dossier, step, choice, pack=self.world.office.pack, now=self.world.now)
        return officer.sign(draft, now=self.world.now)

    def decide(
        self, application: ApplicationView, step: str, by: Person, choice: Choice = Choice.APPROVE
    ) -> ApplicationView:
        return by.client.decide(application.id, self.sign(application, step, by, choice))

    def apply_merchant(self, key: Key, **changes: Any) -> ApplicationView:
        application = self.operator.apply("merchant", merchant_subject(**changes), {"signing": csr(key)})
        for kind in DOCUMENTS:
            self.world.add_document(application.id, kind)
        return self.operator.show(application.id)

    def enrol_merchant(self, **changes: Any) -> ApplicationView:
        application = self.apply_merchant(p256(), **changes)
        self.decide(application, "vet", self.vetter)
        return self.decide(application, "approve", self.approver)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("ra")
    world = RaWorld(folder, office)
    server = tls_files(office.pki, "service", "ra", folder / "tls")
    clients: list[RaClient] = []

    def login(credential: Credential, stem: str) -> RaClient:
        certificate, key = credential.write(folder / "tls", stem)
        clients.append(RaClient(url, TlsFiles(certificate, key, server.ca)))
        return clients[-1]

    def person(person_id: str, role: str) -> Person:
        credential = office.officer(person_id, role, replace={"extended_key_usage": CLIENT})
        return Person(credential, login(credential, person_id))

    with start(create_app(world.workflow), tls=server, client_certificate="optional") as url:
        operator = RaClient(url, tls_files(office.pki, "service", "operator", folder / "tls"))
        anonymous = RaClient(url, ca=server.ca)
        clients += [operator, anonymous]
        yield Service(
            world=world,
            url=url,
            root=server.ca,
            operator=operator,
            anonymous=anonymous,
            vetter=person("officer-1", "vetting_officer"),
            approver=person("officer-3", "approving_officer"),
            security=person("officer-5", "security_officer"),
            login=login,
        )
        for client in clients:
            client.close()
    world.close()


def problem_of(call: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as caught:
        call()
    return caught.value


# Enrolment


def test_a_merchant_is_enrolled_by_two_officers(service: Service) -> None:
    key = p256()
    application = service.apply_merchant(key, merchant_id="M-10")
    assert application.state is State.VETTING
    assert application.next_step is not None
    assert application.next_step.name == "vet"
    application = service.decide(application, "vet", service.vetter)
    assert application.next_step is not None
    assert (application.state, application.next_step.by) == (State.AWAITING_APPROVAL, ("approving_officer",))
    application = service.decide(application, "approve", service.approver)
    assert application.state is State.ISSUED
    (issued,) = application.certificates
    certificate = x509.load_der_x509_certificate(issued.certificate)
    assert role_of(certificate) is Role.MERCHANT
    assert spki_sha256(certificate.public_key()) == spki_sha256(key.public_key())
    assert [role_of(x509.load_der_x509_certificate(above)) for above in issued.chain] == [Role.MERCHANT_CA, Role.BRAND]
    assert service.operator.show(application.id) == application


def test_an_anonymous_wallet_gets_a_certificate_for_its_card(service: Service) -> None:
    key = p256()
    draft = service.anonymous.open("cardholder")
    assert draft.nonce is not None
    assert len(draft.nonce.nonce_cca) == 32
    issuer = service.world.office.pki.cardholder_ca.certificate
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert draft.nonce.ca_key_id == ski
    body = service.world.office.confirmation(spki_sha256=spki_sha256(key.public_key()), date=service.world.now)
    service.anonymous.add_evidence(draft.id, "issuer_bank_confirmation", body, source="issuer")
    application = service.anonymous.submit(draft.id, {"commitment": COMMITMENT, "bin": BIN}, {"signing": csr(key)})
    assert application.state is State.ISSUED
    certificate = x509.load_der_x509_certificate(application.certificates[0].certificate)
    assert common_name(certificate.subject) == COMMITMENT
    assert service.anonymous.show(application.id).certificates == application.certificates
    assert application.opened_by == "anonymous"


def test_whoever_knows_the_id_of_a_case_but_not_its_secret_reads_and_changes_nothing(service: Service) -> None:
    draft = service.anonymous.open("cardholder")
    confirmation = service.world.office.confirmation(date=service.world.now)
    another = written(os.urandom(SIZE))
    for secret in (None, another, "short", f"{another}="):
        with RaClient(service.url, ca=service.root, secret=secret) as stranger:
            for act in (
                lambda: stranger.show(draft.id),  # called at once
                lambda: stranger.submit(draft.id, {"commitment": COMMITMENT, "bin": BIN}, {"signing": csr(p256())}),
                lambda: stranger.withdraw(draft.id),
                lambda: stranger.add_evidence(draft.id, "issuer_bank_confirmation", confirmation, source="x"),
            ):
                with pytest.raises(Problem) as refused:
                    act()
                assert (refused.value.status, refused.value.type) == (401, "client-certificate-required")
    assert service.operator.show(draft.id).version == draft.version
    again = draft.secret or service.anonymous._http.headers["authorization"].removeprefix("Bearer ")
    with RaClient(service.url, ca=service.root, secret=again) as holder:
        assert holder.withdraw(draft.id).state is State.WITHDRAWN


def test_a_secret_is_shown_once_to_whoever_opens_without_a_certificate_and_is_kept_nowhere(service: Service) -> None:
    with RaClient(service.url, ca=service.root) as applicant:
        draft = applicant.open("merchant")
        assert draft.secret is not None
        assert applicant.open("merchant").secret is None, "one applicant, one secret"
        assert not hasattr(applicant.show(draft.id), "secret")
    assert service.operator.open("merchant").secret is None
    assert draft.secret not in repr(draft)
    with service.world.engine.connect() as db:
        told = " ".join(map(str, db.connection.iterdump()))  # type: ignore[attr-defined]  # of sqlite3
    assert draft.id in told
    assert name_of(draft.secret) in told
    assert draft.secret not in told + service.world.journal.read_text()


def test_a_request_in_pem_and_a_national_code_are_taken(service: Service) -> None:
    request = x509.load_der_x509_csr(csr(p256()))
    subject = merchant_subject(merchant_id="M-11")
    application = service.operator.apply(
        "merchant", subject, {"signing": request.public_bytes(Encoding.PEM)}, national_code="0010350829"
    )
    assert (application.state, application.national_code) == (State.VETTING, "0010350829")


def test_an_application_is_amended_withdrawn_and_listed(service: Service) -> None:
    application = service.apply_merchant(p256(), merchant_id="M-12")
    assert application.revision is not None
    subject = application.revision.subject.model_copy(update={"name": "Bookshop Two"})
    amended = service.operator.amend(application.id, subject, {"signing": csr(p256())}, version=application.version)
    assert amended.revision is not None
    assert (amended.revision.number, getattr(amended.revision.subject, "name", None)) == (2, "Bookshop Two")
    listed = service.vetter.client.list(states=[State.VETTING], member_class="merchant")
    assert (application.id, "vet") in [(each.id, each.next_step and each.next_step.name) for each in listed]
    assert service.operator.withdraw(application.id, "closed").state is State.WITHDRAWN
    assert application.id not in [each.id for each in service.operator.list(states=[State.VETTING])]


def test_documents_are_read_back_byte_for_byte(service: Service) -> None:
    application = service.apply_merchant(p256(), merchant_id="M-13")
    piece = application.evidence[0]
    body = f"{piece.kind} of {application.id}".encode()
    assert service.approver.client.evidence(application.id, piece.sha256) == body


def test_the_statement_in_force_is_public(service: Service) -> None:
    pack = service.world.office.pack
    shown = service.anonymous.statement()
    assert (shown.id, shown.version, shown.digest) == (pack.cps.id, pack.cps.version, pack.digest)


def test_the_ca_is_asked_again_on_request_only_while_there_is_something_to_ask(service: Service) -> None:
    application = service.enrol_merchant(merchant_id="M-14")
    problem = problem_of(lambda: service.operator.issue(application.id))
    assert (problem.status, problem.type) == (409, "wrong-state")


# Refusals


def test_self_approval_is_answered_with_the_clause(service: Service) -> None:
    application = service.vetter.client.apply(
        "merchant", merchant_subject(merchant_id="M-20"), {"signing": csr(p256())}
    )
    problem = problem_of(lambda: service.decide(application, "vet", service.vetter))
    assert (problem.status, problem.type, problem.clause) == (403, "refused", "CPS 5.2.4")
    assert problem.extra["findings"] == [
        {"code": "SOD-AUTHOR", "clause": "CPS 5.2.4", "message": "officer-1 is an author of the case"}
    ]


def refusal(call: Callable[[], object]) -> tuple[int, str, str | None]:
    """Status, rule and clause of a refusal."""
    problem = problem_of(call)
    return problem.status, problem.extra["findings"][0]["code"], problem.clause


def test_the_same_person_twice_is_answered_with_the_clause(service: Service) -> None:
    application = service.operator.show(service.world.open_gateway(gateway_id="GW-20").id)
    service.decide(application, "vet", service.vetter)
    service.decide(application, "approve", service.approver)
    again = refusal(lambda: service.decide(application, "approve", service.approver))
    assert again == (403, "SOD-PERSON", "CPS 5.2.2")
    assert service.operator.show(application.id).state is State.AWAITING_APPROVAL
    service.operator.withdraw(application.id)


def test_a_decision_over_an_older_revision_is_answered_with_the_clause(service: Service) -> None:
    application = service.apply_merchant(p256(), merchant_id="M-22")
    signed = service.sign(application, "vet", service.vetter)
    amended = merchant_subject(merchant_id="M-22", name="Another Shop")
    service.operator.amend(application.id, amended, {"signing": csr(p256())})
    stale = refusal(lambda: service.vetter.client.decide(application.id, signed))
    assert stale == (403, "DEC-STALE", "CPS 4.2.2")


def test_an_expired_decision_is_answered_with_the_clause(service: Service) -> None:
    application = service.apply_merchant(p256(), merchant_id="M-23")
    view = service.vetter.client.dossier(application.id)
    vetter, now = service.vetter.credential, service.world.now
    officer = officer_of(vetter.certificate, vetter.chain, vetter.key)
    earlier, pack = now - timedelta(hours=1), service.world.office.pack
    draft = draft_decision(view.dossier, "vet", Choice.APPROVE, pack=pack, now=earlier, lasts=timedelta(minutes=30))
    signed = officer.sign(draft, now=earlier)
    late = refusal(lambda: service.vetter.client.decide(application.id, signed))
    assert late == (403, "DEC-EXPIRED", "CPS 4.2.2")


def test_a_decision_by_somebody_else_than_who_hands_it_in_is_judged_by_its_signature(service: Service) -> None:
    application = service.vetter.client.apply(
        "merchant", merchant_subject(merchant_id="M-24"), {"signing": csr(p256())}
    )
    signed = service.sign(application, "vet", service.vetter)
    assert refusal(lambda: service.operator.decide(application.id, signed)) == (403, "SOD-AUTHOR", "CPS 5.2.4")


def test_a_refusal_is_problem_details_as_rfc_9457_has_them(service: Service) -> None:
    application = service.apply_merchant(p256(), merchant_id="M-21")
    signed = service.sign(application, "vet", service.approver)
    with httpx.Client(base_url=service.url, verify=client_context(ca=service.root)) as plain:
        answer = plain.post(f"/v1/applications/{application.id}/decisions", json={"decision": "AA=="})
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 401
    problem = problem_of(lambda: service.approver.client.decide(application.id, signed))
    assert (problem.status, problem.clause, problem.extra["findings"][0]["code"]) == (403, "CPS 5.2.1", "DEC-ROLE")


def test_a_field_without_end_is_refused_and_not_echoed(service: Service) -> None:
    body = {"subject": {}, "csrs": {}, "national_code": "6037701000000007"}
    with httpx.Client(base_url=service.url, verify=client_context(ca=service.root)) as plain:
        answer = plain.post(f"/v1/applications/{'0' * 32}/submit", json=body)
    assert (answer.status_code, answer.json()["faults"]) == (
        422,
        [
            {
                "field": "body.national_code",
                "rule": "string_too_long",
                "message": "the field body.national_code breaks the rule string_too_long",
            }
        ],
    )
    assert "6037701000000007" not in answer.text
    with pytest.raises(ValueError, match="at most 10 characters") as caught:
        service.operator.submit("0" * 32, {}, {}, national_code="6037701000000007")
    assert "6037701000000007" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        pytest.param(lambda s, a: s.anonymous.list(), 401, id="list"),
        pytest.param(lambda s, a: s.anonymous.show(a.id), 401, id="show"),
        pytest.param(lambda s, a: s.anonymous.dossier(a.id), 401, id="dossier"),
        pytest.param(lambda s, a: s.anonymous.evidence(a.id, b"\x00" * 32), 401, id="evidence"),
        pytest.param(lambda s, a: s.anonymous.decide(a.id, b"x"), 401, id="decide"),
        pytest.param(lambda s, a: s.anonymous.revoke(b"x"), 401, id="revoke"),
        pytest.param(lambda s, a: s.anonymous.explain("1"), 401, id="explain"),
        pytest.param(lambda s, a: s.anonymous.issue(a.id), 401, id="issue"),
        pytest.param(lambda s, a: s.anonymous.withdraw(a.id), 401, id="withdraw"),
        pytest.param(lambda s, a: s.anonymous.officers(), 401, id="officers"),
        pytest.param(lambda s, a: s.anonymous.officer("officer-1"), 401, id="officer"),
        pytest.param(lambda s, a: s.operator.officer("nobody"), 404, id="no-such-officer"),
        pytest.param(lambda s, a: s.operator.officer("no body"), 422, id="no-such-person-id"),
        pytest.param(lambda s, a: s.operator.show("0" * 32), 404, id="no-such-application"),
        pytest.param(lambda s, a: s.operator.show("../etc"), 404, id="no-such-path"),
        pytest.param(lambda s, a: s.operator.show("z" * 32), 422, id="no-such-id"),
        pytest.param(lambda s, a: s.operator.explain("abcdef"), 404, id="no-such-certificate"),
        pytest.param(lambda s, a: s.operator.submit(a.id, {}, {}), 409, id="submitted-twice"),
        pytest.param(lambda s, a: s.operator.amend(a.id, {"x": 1}, {}), 422, id="bad-subject"),
        pytest.param(lambda s, a: s.operator.amend(a.id, {}, {}, version=99), 409, id="changed-meanwhile"),
        pytest.param(lambda s, a: s.operator.decide(a.id, b"x"), 403, id="no-decision"),
        pytest.param(lambda s, a: s.operator.revoke(b"x"), 403, id="no-order"),
        pytest.param(
            lambda s, a: s.operator.add_evidence(a.id, "acquirer_agreement", b"x", source="y"),
            403,
            id="no-vetting-officer",
        ),
    ],
)
def test_what_is_not_allowed_or_not_there_is_a_problem(
    service: Service, call: Callable[[Service, ApplicationView], object], status: int
) -> None:
    known = service.operator.list(member_class="merchant", states=[State.VETTING])
    wanted = [each for each in known if each.subject_id == "M-30"]
    application = service.operator.show(wanted[0].id) if wanted else service.apply_merchant(p256(), merchant_id="M-30")
    assert problem_of(lambda: call(service, application)).status == status


def test_a_revoked_officer_can_no_longer_log_in(service: Service) -> None:
    office = service.world.office
    credential = office.officer("officer-50", "vetting_officer", replace={"extended_key_usage": CLIENT})
    client = service.login(credential, "officer-50")
    client.list()
    source = service.world.trust_source
    office.pki.operations_ca.revoked[credential.certificate.serial_number] = service.world.now - DAY
    service.world.trust_source = office.pki.trust
    try:
        problem = problem_of(client.list)
    finally:
        service.world.trust_source = source
        del office.pki.operations_ca.revoked[credential.certificate.serial_number]
    assert (problem.status, problem.clause) == (403, "CPS 5.2.1")


def test_without_certificate_status_nobody_is_believed(service: Service) -> None:
    def no_status() -> Any:
        raise StatusError("the repository does not answer", clause="CPS 4.9.6")

    source = service.world.trust_source
    service.world.trust_source = no_status
    try:
        problem = problem_of(service.operator.list)
    finally:
        service.world.trust_source = source
    assert (problem.status, problem.type, problem.clause) == (503, "status-unavailable", "CPS 4.9.6")


def test_a_registration_authority_that_is_not_there_is_a_problem(service: Service) -> None:
    with RaClient("http://127.0.0.1:1", timeout=2) as nobody:
        assert problem_of(lambda: nobody.open("merchant")).type == "ra-unreachable"
        assert problem_of(nobody.statement).type == "ra-unreachable"


# Revocation and stories


def test_an_officer_revokes_what_the_story_then_tells(service: Service) -> None:
    application = service.enrol_merchant(merchant_id="M-40")
    (issued,) = application.certificates
    story = service.approver.client.explain(issued.serial.upper())
    assert story.certificate is not None
    assert story.certificate.certificate == issued.certificate
    assert story.application is not None
    assert (story.application.id, story.application.state) == (application.id, State.ISSUED)
    assert story.policy is not None
    assert (story.policy.version, story.policy.section) == ("1.0.0", "4.2/merchant")
    assert [(rule.step, rule.count) for rule in story.rules] == [("vet", 1), ("approve", 1)]
    assert {piece.kind for piece in story.evidence} == set(DOCUMENTS)
    assert [(said.step, said.choice, said.person, said.signature_verifies) for said in story.decisions] == [
        ("vet", "approve", "officer-1", True),
        ("approve", "approve", "officer-3", True),
    ]
    assert all(said.counts and said.revision_digest == story.revision_digest for said in story.decisions)
    assert [step.after for step in story.transitions][-1] is State.ISSUED
    assert all(step.journal_index is not None for step in story.transitions)
    assert story.ca is not None
    assert story.ca.status == "good"
    assert story.ca.intent is not None
    assert story.ca.intent.lints

    officer = officer_of(
        service.vetter.credential.certificate, service.vetter.credential.chain, service.vetter.credential.key
    )
    certificate = x509.load_der_x509_certificate(issued.certificate)
    order = draft_revocation(certificate, "keyCompromise", now=service.world.now)
    revoked = service.vetter.client.revoke(officer.sign(order, now=service.world.now))
    assert (revoked.issuer, revoked.serial, revoked.ordered_by) == ("merchant-ca", issued.serial, "officer-1")
    assert revoked.crl_number is not None
    story = service.operator.explain(issued.serial)
    assert story.certificate is not None
    assert story.certificate.revocation is not None
    assert story.certificate.revocation.reason == "keyCompromise"
    assert story.ca is not None
    assert story.ca.status == "revoked"


def test_the_story_of_what_a_ceremony_made_is_the_cas(service: Service) -> None:
    brand = service.world.office.pki.brand.certificate
    story = service.operator.explain(f"{brand.serial_number:x}")
    assert (story.issuer, story.application, story.decisions) == ("root", None, ())
    assert story.ca is not None
    assert story.ca.certificate.profile == "brand"


def test_decisions_over_an_older_revision_stay_in_the_story_but_do_not_count(service: Service) -> None:
    application = service.apply_merchant(p256(), merchant_id="M-41")
    service.decide(application, "vet", service.vetter)
    application = service.operator.amend(application.id, merchant_subject(merchant_id="M-41"), {"signing": csr(p256())})
    assert [said.counts for said in application.decisions] == [False]
    service.decide(application, "vet", service.vetter)
    application = service.decide(application, "approve", service.approver)
    story = service.operator.explain(application.certificates[0].serial)
    assert [said.counts for said in story.decisions] == [False, True, True]


def test_a_gateway_is_released_by_a_security_officer(service: Service) -> None:
    application = service.world.open_gateway()
    second = service.world.office.approver_2
    service.world.decide(application.id, "vet", service.vetter.credential)
    service.world.decide(application.id, "approve", service.approver.credential)
    service.world.decide(application.id, "approve", second)
    view = service.decide(service.operator.show(application.id), "release", service.security)
    assert {issued.purpose for issued in view.certificates} == {"signing", "encryption"}


def test_the_api_describes_itself(service: Service) -> None:
    with httpx.Client(base_url=service.url, verify=client_context(ca=service.root)) as plain:
        paths = plain.get("/openapi.json").json()["paths"]
        assert plain.get("/health/ready").json() == {"service": "ra", "status": "ready"}
    assert "/v1/applications/{application_id}/decisions" in paths
