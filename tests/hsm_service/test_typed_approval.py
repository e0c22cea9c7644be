"""A certificate rests on approvals: the service decides the case again, and signs exactly what was approved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from cps.decision import Choice
from cps.dossier import Dossier
from cps.model import load_pack
from cps.register import PackRegister
from hsm_service.judging import SigningKey
from hsm_service.service import Basis
from hsm_service.templates import built_in
from hsm_service.typed_approval import MAX_CRLS, MAX_DOSSIER, ApprovedOrder, Believed, check_approval
from hsm_service.typed_certificate import check_certificate
from pki.extensions import MerchantData
from pki.keys import spki_der
from pki.names import name
from pki.roles import Role
from runtime.problems import Problem
from tests.cps.test_model import TEXT
from tests.support.approved import Desk
from tests.support.cps_cases import MERCHANT, Office, csr
from tests.support.pki_factory import DAY, NOW, Authority, PkiFactory, p256, role_extensions

PKI = PkiFactory()
DESK = Desk(PKI)
OFFICE = DESK.office
MINUTE = timedelta(minutes=1)


def signing_key(authority: Authority) -> SigningKey:
    credential = authority.credential
    public: Any = credential.key.public_key()
    return SigningKey("ca", 1, built_in()["issuing-ca"], public, (credential.certificate, *credential.chain))


MERCHANT_CA, GATEWAY_CA, OPERATIONS_CA = map(signing_key, (PKI.merchant_ca, PKI.gateway_ca, PKI.operations_ca))
CASE = DESK.merchant()


def tbs(case: Dossier = CASE, key: SigningKey = MERCHANT_CA, **changes: Any) -> bytes:
    return DESK.tbs(case, key.certificate, key.public_key, **changes)


def judged(
    structure: bytes,
    basis: Basis | None,
    *,
    key: SigningKey = MERCHANT_CA,
    believed: Believed | None = None,
    now: datetime = NOW,
) -> ApprovedOrder:
    return check_approval(check_certificate(structure, key), key, basis, believed or DESK.believed(), now=now)


def refused(structure: bytes, basis: Basis | None, **changes: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        judged(structure, basis, **changes)
    assert caught.value.clause
    return caught.value


def test_what_two_officers_approved_may_be_signed() -> None:
    order = judged(tbs(), DESK.basis(CASE))

    assert order == ApprovedOrder(CASE.revision.digest.hex(), "signing", ("officer-1", "officer-3"))


def test_an_officers_certificate_rests_on_two_security_officers() -> None:
    case = OFFICE.decided(OFFICE.officer_case(), "sponsor", OFFICE.security)
    case = OFFICE.decided(case, "approve", OFFICE.security_2)

    order = judged(tbs(case, OPERATIONS_CA), DESK.basis(case), key=OPERATIONS_CA)
    assert order.approvers == ("officer-5", "officer-6")


def test_each_certificate_of_a_gateway_is_judged_by_its_own_purpose() -> None:
    case = OFFICE.decided(OFFICE.gateway_case(), "vet", OFFICE.vetter)
    case = OFFICE.decided(case, "approve", OFFICE.approver, OFFICE.approver_2)
    case = OFFICE.decided(case, "release", OFFICE.security)

    for purpose in ("signing", "encryption"):
        order = judged(tbs(case, GATEWAY_CA, purpose=purpose), DESK.basis(case), key=GATEWAY_CA)
        assert order.purpose == purpose
    swapped = tbs(case, GATEWAY_CA, public=DESK.entitlement(case, "encryption").holder.public_key)
    assert refused(swapped, DESK.basis(case), key=GATEWAY_CA).type == "role-not-approved"


def test_the_tls_certificate_of_a_merchant_is_judged_like_any_other() -> None:
    case = OFFICE.merchant_case({**DESK.merchant().csrs, "tls": csr(p256())})
    case = OFFICE.decided(OFFICE.decided(case, "vet", OFFICE.vetter), "approve", OFFICE.approver)
    structure = tbs(case, OPERATIONS_CA, purpose="tls")

    assert judged(structure, DESK.basis(case), key=OPERATIONS_CA).purpose == "tls"
    elsewhere = tbs(
        case,
        OPERATIONS_CA,
        purpose="tls",
        other={"subject_alternative_name": (x509.SubjectAlternativeName([x509.DNSName("bank.example")]), False)},
    )
    assert refused(elsewhere, DESK.basis(case), key=OPERATIONS_CA).type == "names-not-approved"


def test_a_certificate_without_its_approvals_is_not_signed() -> None:
    assert refused(tbs(), None).type == "approval-missing"


# -- the TBSCertificate says something else than what was approved -----------------------------------------------------


def _names(*uris: str) -> dict[str, tuple[x509.ExtensionType, bool]]:
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return {"subject_alternative_name": (x509.SubjectAlternativeName(names), False)}


def _merchant_data(**changes: Any) -> dict[str, tuple[x509.ExtensionType, bool]]:
    fields: dict[str, Any] = {"mer_id": "M-1", "acquirer_bin": MERCHANT.acquirer_bin, "name": "Bookshop"}
    fields |= {"country": 364, "auth_flag": True} | changes
    return {"MerchantData": (MerchantData(*fields.values()).to_extension(), False)}


OTHER_CERTIFICATES: dict[str, tuple[Callable[[], bytes], str]] = {
    "another key": (lambda: tbs(public=p256().public_key()), "foreign-subject-key"),
    "another common name": (lambda: tbs(subject=name(cn="Bank", o="Bookshop Co")), "subject-not-approved"),
    "another organisation": (lambda: tbs(subject=name(cn="Bookshop", o="Bank")), "subject-not-approved"),
    "another merchant's identity": (
        lambda: tbs(other=_names("urn:kwbp:merchant:M-2", "https://bookshop.example")),
        "names-not-approved",
    ),
    "another origin": (
        lambda: tbs(other=_names("urn:kwbp:merchant:M-1", "https://phishing.example")),
        "names-not-approved",
    ),
    "one origin more": (
        lambda: tbs(other=_names("urn:kwbp:merchant:M-1", "https://bookshop.example", "https://b.example")),
        "names-not-approved",
    ),
    "no names": (lambda: tbs(without="subject_alternative_name"), "names-not-approved"),
    "another merchant's data": (lambda: tbs(other=_merchant_data(mer_id="M-2")), "extension-not-approved"),
    "another acquirer": (lambda: tbs(other=_merchant_data(acquirer_bin="999999")), "extension-not-approved"),
    "no account binding": (lambda: tbs(without="AccountBinding"), "extension-not-approved"),
    "an extension more": (
        lambda: tbs(other={"x": (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), False)}),
        "extension-not-approved",
    ),
    "TLS usage": (
        lambda: tbs(other={"usages": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)}),
        "usage-not-approved",
    ),
    "ends later than the statement allows": (
        lambda: tbs(not_after=NOW + 398 * DAY + timedelta(minutes=6)),
        "validity-not-approved",
    ),
    "begins long before it was approved": (
        lambda: tbs(not_before=NOW - timedelta(minutes=61)),
        "validity-not-approved",
    ),
    "begins in the future": (lambda: tbs(not_before=NOW + timedelta(minutes=6)), "validity-not-approved"),
}


@pytest.mark.parametrize("twin", OTHER_CERTIFICATES)
def test_a_certificate_that_says_one_thing_else_is_not_signed(twin: str) -> None:
    make, slug = OTHER_CERTIFICATES[twin]
    assert refused(make(), DESK.basis(CASE)).type == slug


def test_an_approved_merchant_gets_no_officers_certificate_for_the_same_key() -> None:
    entitled = DESK.entitlement(CASE)
    extensions = {**DESK.extensions(entitled), **role_extensions(Role.OFFICER)}
    del extensions["certificate_type"]
    structure = tbs(key=OPERATIONS_CA, other=extensions, without="certificate_type")

    assert refused(structure, DESK.basis(CASE), key=OPERATIONS_CA).type == "role-not-approved"


def test_the_key_is_of_the_authority_that_the_statement_names() -> None:
    """A statement that has merchants certified by another authority: the merchants' own signs none of them."""
    twin = Desk(PKI)
    twin.office = Office(PKI, load_pack(TEXT.replace("{signing: merchant-ca, tls", "{signing: gateway-ca, tls")))
    case = twin.merchant()
    structure = twin.tbs(case, MERCHANT_CA.certificate, MERCHANT_CA.public_key)
    problem = refused(structure, twin.basis(case), believed=twin.believed())
    assert (problem.type, problem.clause) == ("issuer-not-approved", "CPS 7.1")
    assert "CERT-ISSUER" in str(problem)


# -- the case is not one that was approved -----------------------------------------------------------------------------


def _edited(change: Callable[[dict[str, Any]], None]) -> Basis:
    """The approved case with its revision forged afterwards."""
    fields = json.loads(CASE.to_json())
    change(fields)
    return Basis(json.dumps(fields).encode(), DESK.crls())


def _undecided() -> Dossier:
    return OFFICE.merchant_case(application_id="case-undecided")


def _by_one_person() -> Dossier:
    both = OFFICE.officer("officer-8", "vetting_officer", "approving_officer")
    return OFFICE.decided(OFFICE.decided(_undecided(), "vet", both), "approve", both)


def _by_strangers() -> Dossier:
    strangers = Desk(PkiFactory()).office
    return strangers.decided(strangers.decided(_undecided(), "vet", strangers.vetter), "approve", strangers.approver)


def _for_another_revision() -> Dossier:
    later = OFFICE.merchant_case(application_id=CASE.revision.application_id, number=2)
    return later.model_copy(update={"decisions": CASE.decisions})


def _rejected() -> Dossier:
    case = OFFICE.decided(_undecided(), "vet", OFFICE.vetter)
    return OFFICE.decided(case, "approve", OFFICE.approver, choice=Choice.REJECT, reason="no")


OTHER_CASES: dict[str, tuple[Callable[[], Dossier], str]] = {
    "decided by nobody": (_undecided, "misses"),
    "vetted, not approved": (lambda: OFFICE.decided(_undecided(), "vet", OFFICE.vetter), "approve misses 1"),
    "both steps by one person": (_by_one_person, "SOD"),
    "officers of another hierarchy": (_by_strangers, "DEC-CREDENTIAL"),
    "decisions over another revision": (_for_another_revision, "DEC-STALE"),
    "rejected": (_rejected, "DEC-REJECTED"),
    "evidence that came later": (
        lambda: CASE.model_copy(update={"evidence": CASE.evidence[:-1]}),
        "EVID",
    ),
}


@pytest.mark.parametrize("twin", OTHER_CASES)
def test_a_case_that_is_not_approved_gets_no_certificate(twin: str) -> None:
    make, why = OTHER_CASES[twin]
    case = make()

    problem = refused(tbs(case), DESK.basis(case))
    assert (problem.status, problem.type) == (422, "not-approved")
    assert why in problem.detail


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "subject": lambda fields: fields["revision"]["subject"].update(name="Bank"),
    "identity": lambda fields: fields["revision"]["subject"].update(merchant_id="M-2"),
    "account": lambda fields: fields["revision"]["subject"].update(iban="IR" + "1" * 24),
    "number": lambda fields: fields["revision"].update(number=7),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_row_of_the_cas_database_that_was_edited_afterwards_gets_no_certificate(forgery: str) -> None:
    problem = refused(tbs(), _edited(FORGERIES[forgery]))
    assert problem.type == "not-approved"
    assert "DEC-STALE" in problem.detail


def test_a_request_that_was_exchanged_afterwards_gets_no_certificate() -> None:
    key = p256()
    forged = CASE.model_copy(update={"csrs": {"signing": csr(key)}})

    problem = refused(tbs(public=key.public_key()), DESK.basis(forged))
    assert problem.type == "not-approved"
    assert "APP-CSR" in problem.detail


def test_an_approval_lapses() -> None:
    assert "DEC-EXPIRED" in refused(tbs(), DESK.basis(CASE), now=NOW + DAY).detail


def test_a_case_under_another_statement_gets_no_certificate() -> None:
    believed = replace(
        DESK.believed(), statements=PackRegister((OFFICE.pack.model_copy(update={"digest": b"\x01" * 32}),))
    )

    problem = refused(tbs(), DESK.basis(CASE), believed=believed)
    assert "PACK-PIN" in problem.detail


def test_only_the_pinned_root_is_believed() -> None:
    believed = replace(DESK.believed(), anchors=(PkiFactory().root.certificate,))
    assert "DEC-CREDENTIAL" in refused(tbs(), DESK.basis(CASE), believed=believed).detail


# -- CRLs --------------------------------------------------------------------------------------------------------------


def _with_crls(*crls: bytes) -> Basis:
    return msgspec.structs.replace(DESK.basis(CASE), crls=crls)


def test_the_decision_of_a_revoked_officer_does_not_count() -> None:
    revoked = DESK.crls(OFFICE.approver.certificate.serial_number)
    problem = refused(tbs(), _with_crls(*revoked))
    assert problem.type == "not-approved"
    assert "officer-3" in problem.detail


@pytest.mark.parametrize("missing", [0, 1, 2], ids=["root's", "brand's", "operations CA's"])
def test_without_a_crl_of_every_authority_nobody_is_believed(missing: int) -> None:
    crls = [crl for place, crl in enumerate(DESK.crls()) if place != missing]
    assert "DEC-CREDENTIAL" in refused(tbs(), _with_crls(*crls)).detail


def test_a_crl_that_has_ended_counts_for_nothing() -> None:
    # The decisions still count then; the CRLs, made for a day, do not.
    case = OFFICE.merchant_case(application_id="case-long")
    for step, officer in (("vet", OFFICE.vetter), ("approve", OFFICE.approver)):
        case = OFFICE.decided(case, step, officer, expires=NOW + 3 * DAY)
    late = NOW + DAY + MINUTE
    problem = refused(tbs(case, not_before=NOW), DESK.basis(case), now=late)
    assert "crl_expired" in problem.detail


def test_a_crl_that_was_followed_by_another_is_asked_for_again() -> None:
    issuer = x509.SubjectKeyIdentifier.from_public_key(OPERATIONS_CA.public_key).digest
    believed = DESK.believed({issuer: 5})

    problem = refused(tbs(), _with_crls(*DESK.crls(number=4)), believed=believed)
    assert (problem.status, problem.type) == (409, "crl-superseded")
    assert judged(tbs(), _with_crls(*DESK.crls(number=5)), believed=believed).purpose == "signing"


def test_a_crl_says_its_number_and_its_issuers_key() -> None:
    bare = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(OPERATIONS_CA.certificate.subject)
        .last_update(NOW)
        .next_update(NOW + DAY)
    )
    key: Any = PKI.operations_ca.credential.key
    crl = bare.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert refused(tbs(), _with_crls(*DESK.crls(), crl)).type == "crl-number-missing"


# -- what cannot be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("basis", "slug"),
    [
        (lambda: Basis(b"{}", DESK.crls()), "dossier-unreadable"),
        (lambda: Basis(b" " * (MAX_DOSSIER + 1), DESK.crls()), "too-big"),
        (lambda: _with_crls(*DESK.crls() * MAX_CRLS), "too-big"),
        (lambda: _with_crls(b"\x30\x00"), "malformed"),
    ],
    ids=["no dossier", "a dossier too large", "CRLs too many", "no CRL"],
)
def test_what_cannot_be_read_is_refused(basis: Callable[[], Basis], slug: str) -> None:
    assert refused(tbs(), basis()).type == slug


@given(st.binary(max_size=100))
def test_bytes_that_are_no_dossier_are_refused_and_break_nothing(data: bytes) -> None:
    assert refused(tbs(), Basis(data, DESK.crls())).status == 422


def test_the_key_of_the_certificate_is_the_one_that_proved_possession() -> None:
    (request,) = CASE.csrs.values()
    key: Any = x509.load_der_x509_csr(request).public_key()
    assert spki_der(DESK.entitlement(CASE).holder.public_key) == spki_der(key)
