"""Issuance: an approved case becomes one certificate for each request, once, and nothing else ever does."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authorisation import IssuanceToken
from ca.errors import (
    AlreadyRedeemedError,
    ClockError,
    CompareError,
    KeyRefusedError,
    NotApprovedError,
    RandomnessError,
    RequestError,
    SigningRefusedError,
    TokenUnavailableError,
)
from ca.status_store import Wanted
from ca.store import CertificateRecord
from cps.dossier import Dossier, MerchantSubject
from cps.model import Purpose, load_pack
from cps.verdict import Status, Verdict
from hsm_service.service import Basis
from pki.extensions import AccountBinding, MerchantData, OfficerData, SealingSuites
from pki.names import common_name, identity_uris
from pki.path import validate_path
from pki.roles import Role, role_of
from runtime.problems import Problem
from tests.cps.test_model import TEXT
from tests.support.ca_world import CaWorld, Clock
from tests.support.cps_cases import COMMITMENT, MERCHANT, Office, csr, csr_digest
from tests.support.judges import attime, certtool, openssl
from tests.support.many_cases import merchant_cases
from tests.support.pki_factory import IBAN, p256, pem, rsa_key
from tests.support.software_signing import SoftwareSigning


def verify_with_openssl(world: CaWorld, record: CertificateRecord, folder: Path) -> None:
    """`openssl verify -crl_check_all` from the pinned root, under the CRLs that the CA published."""
    crls = [x509.load_der_x509_crl(path.read_bytes()) for path in (world.folder / "crls").glob("*.crl")]
    (folder / "leaf.pem").write_bytes(pem(record.certificate))
    (folder / "crls.pem").write_bytes(pem(*crls))
    (folder / "cas.pem").write_bytes(pem(*world.authority.hierarchy.intermediates))
    openssl(
        "verify", "-x509_strict", "-CAfile", world.folder / "root.pem", "-untrusted", folder / "cas.pem",
        "-crl_check_all", "-CRLfile", folder / "crls.pem", *attime(world.clock.now), folder / "leaf.pem",
    )  # fmt: skip


CASES: dict[str, tuple[Callable[[CaWorld], Dossier], dict[str, Role]]] = {
    "merchant": (CaWorld.approved_merchant, {"signing": Role.MERCHANT}),
    "cardholder": (CaWorld.approved_cardholder, {"signing": Role.CARDHOLDER}),
    "officer": (CaWorld.approved_officer, {"signing": Role.OFFICER}),
    "gateway": (
        CaWorld.approved_gateway,
        {"signing": Role.GATEWAY_SIGNING, "encryption": Role.GATEWAY_ENCRYPTION},
    ),
}


@pytest.mark.parametrize("member", CASES)
def test_an_approved_case_becomes_certificates_that_every_judge_accepts(
    world: CaWorld, tmp_path: Path, member: str
) -> None:
    case, roles = CASES[member]

    issued = world.authority.issuance.issue(case(world))

    assert {purpose: role_of(record.certificate) for purpose, record in issued.items()} == roles
    for purpose, record in issued.items():
        trust = world.authority.publisher.trust()
        validate_path(record.certificate, trust=trust, now=world.clock.now, roles=[roles[purpose]])
        verify_with_openssl(world, record, tmp_path)
        openssl("x509", "-inform", "DER", "-noout", "-text", stdin=record.der)
        certtool("--inder", "--certificate-info", stdin=record.der)
        chain = (
            record.certificate,
            *world.authority.hierarchy.chain(record.issuer),
            *world.authority.hierarchy.anchors,
        )
        assert b"Verified" in certtool("--verify-chain", stdin=pem(*chain))


def test_a_merchant_certificate_says_who_the_merchant_is(world: CaWorld) -> None:
    certificate = world.authority.issuance.issue(world.approved_merchant())["signing"].certificate

    assert MerchantData.from_certificate(certificate) == MerchantData("M-1", "603799", "Bookshop", 364, True)
    assert AccountBinding.from_certificate(certificate) == AccountBinding.of(IBAN, MERCHANT.iban_salt)
    assert identity_uris(certificate) == ("urn:kwbp:merchant:M-1", "https://bookshop.example")
    assert certificate.subject.rfc4514_string() == "CN=Bookshop,O=Bookshop Co,C=IR"


def test_a_cardholder_certificate_says_nothing_but_the_commitment_and_ends_in_time(world: CaWorld) -> None:
    certificate = world.authority.issuance.issue(world.approved_cardholder())["signing"].certificate

    assert common_name(certificate.subject) == COMMITMENT
    assert identity_uris(certificate) == ()
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=90)


def test_a_gateway_names_its_sealing_suites_in_the_encryption_certificate_only(world: CaWorld) -> None:
    issued = world.authority.issuance.issue(world.approved_gateway())

    assert SealingSuites.from_certificate(issued["encryption"].certificate) == SealingSuites(("oaep-sha256",))
    assert SealingSuites.from_certificate(issued["signing"].certificate) is None


def test_an_officer_certificate_grants_exactly_the_approved_roles(world: CaWorld) -> None:
    certificate = world.authority.issuance.issue(world.approved_officer())["signing"].certificate

    assert OfficerData.from_certificate(certificate) == OfficerData("officer-9", "RA", ("vetting_officer",))


def test_a_merchants_tls_key_gets_a_service_certificate_that_names_the_merchant(world: CaWorld, office: Office) -> None:
    tls = csr(p256())
    requests: dict[Purpose, bytes] = {"signing": office.signing_csr, "tls": tls}
    case = office.merchant_case()
    revision = case.revision.model_copy(
        update={"csrs": tuple(csr_digest(purpose, der) for purpose, der in requests.items())}
    )
    case = case.model_copy(update={"revision": revision, "csrs": requests})
    case = office.decided(office.decided(case, "vet", office.vetter), "approve", office.approver)

    issued = world.authority.issuance.issue(case)

    names = issued["tls"].certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert issued["tls"].issuer == "operations-ca"
    assert role_of(issued["tls"].certificate) is Role.SERVICE
    assert list(names) == [x509.UniformResourceIdentifier("urn:kwbp:merchant:M-1"), x509.DNSName("localhost")]


def test_the_certificate_tells_where_its_status_and_its_issuer_are(world: CaWorld) -> None:
    record = world.authority.issuance.issue(world.approved_merchant())["signing"]

    text = openssl("x509", "-inform", "DER", "-noout", "-text", stdin=record.der).decode()
    assert "URI:http://repository.example/crls/merchant-ca.crl" in text
    assert "CA Issuers - URI:http://repository.example/cas/merchant-ca.cer" in text
    assert "CPS: urn:kwbp:cps:1.0.0" in text


def test_asking_again_gives_the_same_certificate_and_calls_no_token(world: CaWorld) -> None:
    case = world.approved_merchant()
    first = world.authority.issuance.issue(case)
    uses = world.keys.describe_key("merchant-ca").uses

    assert world.authority.issuance.issue(case) == first
    assert world.keys.describe_key("merchant-ca").uses == uses


def test_a_case_without_its_second_decision_is_refused_naming_the_step(world: CaWorld, office: Office) -> None:
    case = office.decided(office.merchant_case(), "vet", office.vetter)

    with pytest.raises(NotApprovedError, match="approve") as refusal:
        world.authority.issuance.issue(case)
    assert any(finding.clause == "CPS 4.2.2" for finding in refusal.value.findings)


def test_the_ca_decides_again_and_refuses_when_an_approver_was_revoked_meanwhile(
    tmp_path: Path, fresh_office: Office
) -> None:
    office = fresh_office
    world = CaWorld(tmp_path, office)
    case = world.approved_merchant()
    office.pki.revoke(office.approver)
    newer = office.pki.operations_ca.crl(office.now, number=int(office.now.timestamp()) + 1)
    (world.folder / "crls" / "operations-ca.crl").write_bytes(newer.public_bytes(Encoding.DER))
    world.authority.publisher.load()

    with pytest.raises(NotApprovedError, match="DEC-CREDENTIAL"):
        world.authority.issuance.issue(case)
    world.close()


def test_an_approval_that_lapsed_is_refused(world: CaWorld) -> None:
    case = world.approved_merchant()
    world.clock.forward(timedelta(days=6))

    with pytest.raises(NotApprovedError):
        world.authority.issuance.issue(case)


def test_a_key_that_is_certified_in_one_case_is_refused_in_another(world: CaWorld) -> None:
    world.authority.issuance.issue(world.approved_merchant())
    other = MERCHANT.model_copy(update={"merchant_id": "M-2", "name": "Other shop"})

    with pytest.raises(NotApprovedError, match="KEY-REUSED"):
        world.authority.issuance.issue(world.approved_merchant(application_id="case-2", subject=other))


def test_a_key_is_certified_once_even_for_a_later_revision_of_the_same_case(world: CaWorld) -> None:
    world.authority.issuance.issue(world.approved_merchant())

    with pytest.raises(KeyRefusedError):
        world.authority.issuance.issue(world.approved_merchant(number=2))


def test_two_purposes_of_one_case_cannot_share_a_key(world: CaWorld, office: Office) -> None:
    case = office.gateway_case()
    shared: dict[Purpose, bytes] = {"signing": office.encryption_csr, "encryption": office.encryption_csr}
    revision = case.revision.model_copy(
        update={"csrs": tuple(csr_digest(purpose, der) for purpose, der in shared.items())}
    )
    case = case.model_copy(update={"revision": revision, "csrs": shared})

    with pytest.raises(NotApprovedError, match="KEY-REUSED"):
        world.authority.issuance.issue(case)


def test_a_merchant_from_a_country_without_acquirers_is_refused(world: CaWorld) -> None:
    with pytest.raises(RequestError, match="country"):
        world.authority.issuance.issue(world.approved_merchant(subject=MERCHANT.model_copy(update={"country": 840})))


def test_serials_are_drawn_again_until_one_is_fresh(tmp_path: Path, office: Office) -> None:
    draws = [b"\x01" * 16, b"\x01" * 16, b"\x00" * 16, b"\x02" * 16]
    world = CaWorld(tmp_path, office, rng=lambda _n: draws.pop(0))
    first = world.authority.issuance.issue(world.approved_gateway())

    assert {record.serial for record in first.values()} == {"1" + "01" * 15, "2" + "02" * 15}
    world.close()


def test_a_random_number_generator_that_repeats_itself_ends_in_an_error_not_in_a_loop(
    tmp_path: Path, office: Office
) -> None:
    world = CaWorld(tmp_path, office, rng=lambda n: b"\x07" * n)
    case = world.approved_gateway()  # two certificates of one issuer

    with pytest.raises(RandomnessError, match="in a row"):
        world.authority.issuance.issue(case)

    assert world.authority.store.unfinished() == []
    world.close()


@pytest.mark.parametrize("repeated", [b"\x00", b"\x07"])
def test_nothing_is_half_done_when_no_serial_can_be_drawn(tmp_path: Path, office: Office, repeated: bytes) -> None:
    draw = [os.urandom]
    world = CaWorld(tmp_path, office, rng=lambda n: draw[0](n))
    world.authority.store.reserve_serials([("merchant-ca", "7" + "07" * 15)], world.clock.now)
    case = world.approved_merchant()
    draw[0] = lambda n: repeated * n

    with pytest.raises(RandomnessError):
        world.authority.issuance.issue(case)
    draw[0] = os.urandom

    assert len(world.authority.issuance.issue(case)) == 1
    world.close()


def test_a_class_is_issued_by_the_authority_that_the_statement_names_and_by_no_other(
    tmp_path: Path, office: Office
) -> None:
    """A statement and a profile that name different authorities: nothing is signed, and the rule is named."""
    twin = load_pack(TEXT.replace("{signing: merchant-ca, tls", "{signing: gateway-ca, tls"))
    world = CaWorld(tmp_path, Office(office.pki, twin))
    uses = world.keys.describe_key("merchant-ca").uses, world.keys.describe_key("gateway-ca").uses
    with pytest.raises(NotApprovedError, match="CERT-ISSUER") as refusal:
        world.authority.issuance.issue(world.approved_merchant())
    assert "issued by gateway-ca, and not by merchant-ca" in str(refusal.value)
    assert "CPS 7.1" in str(refusal.value)
    assert uses == (world.keys.describe_key("merchant-ca").uses, world.keys.describe_key("gateway-ca").uses)
    world.close()


def test_the_common_name_is_the_one_that_the_statement_names(tmp_path: Path, office: Office) -> None:
    twin = load_pack(TEXT.replace('cn: "{name}"', 'cn: "{merchant_id}"', 1))
    world = CaWorld(tmp_path, Office(office.pki, twin))
    case = world.approved_merchant()
    issued = world.authority.issuance.issue(case)
    assert isinstance(case.revision.subject, MerchantSubject)
    assert common_name(issued["signing"].certificate.subject) == case.revision.subject.merchant_id
    world.close()


def test_a_clock_that_went_back_issues_nothing_until_it_is_right_again(tmp_path: Path, office: Office) -> None:
    early, late, other = merchant_cases(office, 3)
    clock = Clock(office.now)
    world = CaWorld(tmp_path, office, clock=clock)
    clock.forward(timedelta(hours=2))
    world.authority.issuance.issue(early)
    clock.forward(-timedelta(hours=1))

    with pytest.raises(ClockError, match="the clock says"):
        world.authority.issuance.issue(late)
    world.close()
    world = CaWorld(tmp_path, office, clock=clock)
    with pytest.raises(ClockError):  # it is not forgotten over a restart
        world.authority.issuance.issue(late)

    clock.forward(timedelta(minutes=59, seconds=30))  # the clocks of replicas differ by as much
    assert len(world.authority.issuance.issue(late)) == 1
    assert len(world.authority.issuance.issue(other)) == 1
    world.close()


def test_crl_numbers_grow_when_the_clock_goes_back(world: CaWorld) -> None:
    world.clock.forward(timedelta(hours=2))
    first = world.authority.publisher.publish("merchant-ca")
    world.clock.forward(-timedelta(hours=1))

    assert world.authority.publisher.publish("merchant-ca").number > first.number


def test_what_a_wrong_clock_issued_no_longer_counts_when_it_is_revoked(tmp_path: Path, office: Office) -> None:
    early, late = merchant_cases(office, 2)
    clock = Clock(office.now)
    world = CaWorld(tmp_path, office, clock=clock)
    clock.forward(timedelta(hours=2))
    wrong = world.authority.issuance.issue(early)["signing"]
    clock.forward(-timedelta(hours=1))
    order = Wanted(wrong.issuer, wrong.serial, "superseded", clock.now, "officer-3", None, None, None)
    world.authority.store.status.apply(order, clock.now)

    assert len(world.authority.issuance.issue(late)) == 1
    world.close()


# --- nothing is signed twice, lost or unknown


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Between:
    """Stands between the CA and its keys and does what a test says before and after a certificate is signed."""

    keys: SoftwareSigning
    before: Callable[[], None] = lambda: None
    after: Callable[[bytes], bytes] = lambda signed: signed
    signed: int = 0

    def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        self.before()
        answer = self.keys.sign_certificate(name, tbs, basis)
        self.signed += 1
        return self.after(answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.keys, name)


def raises(error: BaseException) -> Callable[..., Any]:
    def act(*_arguments: Any) -> Any:
        raise error

    return act


DEATHS: dict[str, Callable[[SoftwareSigning], Any]] = {
    "before the token is called": lambda keys: Between(keys, before=raises(Killed())),
    "after the token signed": lambda keys: Between(keys, after=raises(Killed())),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_killed_issuance_is_finished_at_the_next_start_with_the_bytes_that_were_intended(
    tmp_path: Path, office: Office, death: str
) -> None:
    dying = CaWorld(tmp_path, office, signer=DEATHS[death])
    case = dying.approved_merchant()
    with pytest.raises(Killed):
        dying.authority.issuance.issue(case)
    intent = dying.authority.store.unfinished()[0]
    dying.close()

    world = CaWorld(tmp_path, office)

    record = world.authority.store.certificate(intent.issuer, intent.serial)
    assert record.certificate.tbs_certificate_bytes == intent.tbs
    assert world.authority.store.unfinished() == []
    assert world.authority.issuance.issue(case)["signing"] == record
    assert len(world.authority.store.search(identity="urn:kwbp:merchant:M-1")) == 1
    world.close()


def test_a_process_killed_between_storing_and_logging_logs_once_at_the_next_request(
    tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = CaWorld(tmp_path, office)
    case = dying.approved_merchant()
    note = dying.record.note_many
    monkeypatch.setattr(
        dying.record,
        "note_many",
        lambda event, noted: raises(Killed())() if event == "ca.issued" else note(event, noted),
    )
    with pytest.raises(Killed):
        dying.authority.issuance.issue(case)
    dying.close()

    world = CaWorld(tmp_path, office)
    first, again = world.authority.issuance.issue(case), world.authority.issuance.issue(case)

    assert first == again
    assert (tmp_path / "audit" / "ca.jsonl").read_text().count('"ca.issued"') == 1
    world.close()


def test_kill_dash_nine_in_the_token_call_leaves_one_certificate(tmp_path: Path, office: Office) -> None:
    child = os.fork()
    if child == 0:  # a process of its own, which dies without any clean-up
        dying = CaWorld(tmp_path, office, signer=lambda keys: Between(keys, after=lambda _signed: os._exit(9)))
        dying.authority.issuance.issue(dying.approved_merchant())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    world = CaWorld(tmp_path, office)

    assert len(world.authority.store.search(identity="urn:kwbp:merchant:M-1")) == 1
    assert world.authority.store.unfinished() == []
    world.close()


def test_a_token_that_is_away_leaves_the_intent_open_and_the_next_request_finishes_it(
    tmp_path: Path, office: Office
) -> None:
    between = []

    def put(keys: SoftwareSigning) -> Any:
        between.append(Between(keys, before=raises(Problem(503, "token-unavailable", "no token"))))
        return between[0]

    world = CaWorld(tmp_path, office, signer=put)
    case = world.approved_merchant()
    with pytest.raises(TokenUnavailableError):
        world.authority.issuance.issue(case)
    assert world.authority.issuance.resume() == 0
    intended = world.authority.store.unfinished()[0].serial

    between[0].before = lambda: None

    assert world.authority.issuance.issue(case)["signing"].serial == intended
    world.close()


def test_a_refused_signature_ends_the_intent_frees_the_key_and_a_new_try_has_a_new_serial(
    tmp_path: Path, office: Office
) -> None:
    between = []

    def put(keys: SoftwareSigning) -> Any:
        between.append(Between(keys, before=raises(Problem(422, "role-not-allowed", "not by this key"))))
        return between[0]

    world = CaWorld(tmp_path, office, signer=put)
    case = world.approved_merchant()
    with pytest.raises(SigningRefusedError):
        world.authority.issuance.issue(case)
    assert world.authority.store.unfinished() == []
    assert world.authority.store.status.revocations("merchant-ca") == []

    between[0].before = lambda: None

    assert len(world.authority.issuance.issue(case)) == 1
    world.close()


def test_another_certificate_than_the_linted_one_is_never_stored_and_its_serial_is_revoked(
    tmp_path: Path, office: Office
) -> None:
    foreign = office.pki.merchant("M-9").der
    world = CaWorld(tmp_path, office, signer=lambda keys: Between(keys, after=lambda _signed: foreign))

    with pytest.raises(CompareError):
        world.authority.issuance.issue(world.approved_merchant())

    assert world.authority.store.search(identity="urn:kwbp:merchant:M-1") == []
    revoked = world.authority.store.status.revocations("merchant-ca")
    assert [(entry.reason, entry.published) for entry in revoked] == [("unspecified", True)]
    world.close()


def test_an_intent_whose_case_is_no_longer_approved_is_abandoned_and_its_serial_revoked(
    tmp_path: Path, office: Office
) -> None:
    dying = CaWorld(tmp_path, office, signer=lambda keys: Between(keys, after=raises(Killed())))
    with pytest.raises(Killed):
        dying.authority.issuance.issue(dying.approved_merchant())
    serial = dying.authority.store.unfinished()[0].serial
    dying.close()
    dying.clock.forward(timedelta(days=6))  # the approval lapses after five

    world = CaWorld(tmp_path, office, clock=dying.clock)

    assert world.authority.store.unfinished() == []
    assert world.authority.store.status.revocation("merchant-ca", serial) is not None
    crl = x509.load_der_x509_crl((world.folder / "crls" / "merchant-ca.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
    world.close()


def test_an_issuance_token_is_redeemed_once(world: CaWorld) -> None:
    world.authority.issuance.issue(world.approved_merchant())
    intent = world.authority.store.intent(1)
    assert intent is not None
    token = IssuanceToken(intent, Verdict(Status.APPROVED, None, (), (), 0, None))

    assert token.redeem() is intent
    with pytest.raises(AlreadyRedeemedError):
        token.redeem()


def test_no_issuance_token_without_an_approving_verdict(world: CaWorld) -> None:
    world.authority.issuance.issue(world.approved_merchant())
    intent = world.authority.store.intent(1)
    assert intent is not None

    with pytest.raises(NotApprovedError):
        IssuanceToken(intent, Verdict(Status.PENDING, None, (), (), 0, None))


def test_rsa_merchants_are_certified_too(world: CaWorld, office: Office) -> None:
    case = office.merchant_case({"signing": csr(rsa_key(1))}, application_id="case-rsa")
    case = office.decided(office.decided(case, "vet", office.vetter), "approve", office.approver)

    assert role_of(world.authority.issuance.issue(case)["signing"].certificate) is Role.MERCHANT


def test_many_requests_for_one_case_at_once_get_the_same_certificate(world: CaWorld) -> None:
    case = world.approved_gateway()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(world.authority.issuance.issue, [case] * 24))

    assert all(answer == answers[0] for answer in answers)
    assert len(world.authority.store.search(identity="urn:kwbp:gateway:GW-1")) == 2


def test_cases_that_claim_one_key_at_once_get_one_certificate(world: CaWorld) -> None:
    cases = [
        world.approved_merchant(
            application_id=f"case-{n}", subject=MERCHANT.model_copy(update={"merchant_id": f"M-{n}"})
        )
        for n in range(8)
    ]

    def attempt(case: Dossier) -> int:
        try:
            return len(world.authority.issuance.issue(case))
        except (KeyRefusedError, NotApprovedError):
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, cases)) == 1
