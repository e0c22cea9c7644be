"""What an application itself must fulfil: each rule broken alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from cps.decide import Finding, KnownKeys, Status, decide
from cps.dossier import CpsPin, CsrDigest, Dossier
from cps.entitlement import entitlement
from cps.model import load_pack
from cps.rules import Rule
from pki.keys import spki_sha256
from pki.names import name
from pki.path import Trust
from tests.cps.test_model import TEXT
from tests.support.cps_cases import GATEWAY, MERCHANT, OFFICER, Office, csr, csr_digest
from tests.support.pki_factory import NOW, Key, p256, rsa_key

Refusal = Callable[..., Finding]


@pytest.fixture(scope="session")
def refusal(office: Office, trust: Trust) -> Refusal:
    """The one finding for which a dossier is refused."""

    def judge(dossier: Dossier, **known: frozenset[bytes]) -> Finding:
        verdict = decide(dossier, office.pack, trust=trust, now=NOW, known_keys=KnownKeys(**known))
        assert verdict.status is Status.REFUSED
        assert len(verdict.findings) == 1, verdict.findings
        return verdict.findings[0]

    return judge


# The statement


def test_a_revision_made_under_another_statement_is_amended_first(office: Office, refusal: Refusal) -> None:
    pin = CpsPin(id="kwbp-cps", version="0.9.0", digest=b"\x00" * 32)
    finding = refusal(office.merchant_case(cps=pin))
    assert (finding.code, finding.clause) == (Rule.PACK_PIN, "CPS 9.12.1")


def test_a_statement_does_not_bind_before_it_is_effective(office: Office, trust: Trust) -> None:
    pack = load_pack(TEXT.replace("2026-01-01", "2027-01-01"))
    verdict = decide(Office(office.pki, pack).merchant_case(), pack, trust=trust, now=NOW)
    assert verdict.status is Status.REFUSED
    assert [(finding.code, finding.clause) for finding in verdict.findings] == [(Rule.PACK_EFFECTIVE, "CPS 9.10.1")]


def test_an_observation_that_the_statement_does_not_weigh_refuses(office: Office, refusal: Refusal) -> None:
    finding = refusal(office.cardholder_case(signals=("full_moon",)))
    assert (finding.code, finding.clause) == (Rule.APP_SIGNAL, "CPS 4.2.1")


# Names


@pytest.mark.parametrize(
    "text", ["6037991234567893", "card 6037 9912 3456 7893", "6037-9912-3456-7893", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳"]
)
def test_a_card_number_is_no_name(office: Office, refusal: Refusal, text: str) -> None:
    finding = refusal(office.merchant_case(subject=MERCHANT.model_copy(update={"name": text})))
    assert (finding.code, finding.clause) == (Rule.NAME_FORBIDDEN, "CPS 3.1.3")


@pytest.mark.parametrize("text", ["6037991234567890", "60379912345678931234567", "Shop 24"])
def test_digits_that_are_no_card_number_may_be_in_a_name(office: Office, trust: Trust, text: str) -> None:
    dossier = office.merchant_case(subject=MERCHANT.model_copy(update={"name": text}))
    assert decide(dossier, office.pack, trust=trust, now=NOW).findings == ()


def test_a_random_salt_is_not_read_as_a_card_number(office: Office, trust: Trust) -> None:
    salt = bytes.fromhex("6037991234567893" + "ab" * 8)
    dossier = office.merchant_case(subject=MERCHANT.model_copy(update={"iban_salt": salt}))
    assert decide(dossier, office.pack, trust=trust, now=NOW).findings == ()


def test_an_email_address_stays_out_of_a_cardholders_subject(office: Office, trust: Trust) -> None:
    dossier = office.cardholder_case()
    subject = dossier.revision.subject.model_copy(update={"commitment": "cardholder@example"})
    with_email = dossier.model_copy(update={"revision": dossier.revision.model_copy(update={"subject": subject})})
    verdict = decide(with_email, office.pack, trust=trust, now=NOW)
    assert (Rule.NAME_FORBIDDEN, "CPS 3.1.3") in [(finding.code, finding.clause) for finding in verdict.findings]


@pytest.mark.parametrize("roles", [("king",), ("applicant",), ("auditor", "auditor")])
def test_an_officer_asks_for_trusted_roles_once_each(office: Office, refusal: Refusal, roles: tuple[str, ...]) -> None:
    finding = refusal(office.officer_case(OFFICER.model_copy(update={"roles": roles})))
    assert (finding.code, finding.clause) == (Rule.NAME_FORM, "CPS 3.1.4")


def test_an_officer_does_not_ask_for_exclusive_roles(office: Office, refusal: Refusal) -> None:
    roles = ("vetting_officer", "approving_officer")
    finding = refusal(office.officer_case(OFFICER.model_copy(update={"roles": roles})))
    assert (finding.code, finding.clause) == (Rule.SOD_EXCLUSIVE, "CPS 5.2.4")


# Requests


def _with_csrs(dossier: Dossier, csrs: dict[Any, bytes], named: tuple[CsrDigest, ...] | None = None) -> Dossier:
    """The dossier with other requests; the revision names them unless it is told what to name."""
    entries = named if named is not None else tuple(csr_digest(purpose, der) for purpose, der in csrs.items())
    revision = dossier.revision.model_copy(update={"csrs": entries})
    return dossier.model_copy(update={"csrs": csrs, "revision": revision})


def test_a_required_request_is_not_left_out(office: Office, refusal: Refusal) -> None:
    finding = refusal(_with_csrs(office.gateway_case(), {"signing": office.signing_csr}))
    assert (finding.code, finding.clause) == (Rule.APP_CSR, "CPS 4.1.2")


def test_a_class_gets_no_certificate_for_a_purpose_it_does_not_have(office: Office, refusal: Refusal) -> None:
    csrs = {"signing": office.signing_csr, "encryption": office.encryption_csr}
    assert refusal(_with_csrs(office.merchant_case(), csrs)).code is Rule.APP_CSR


def test_an_optional_request_may_come_along(office: Office, trust: Trust) -> None:
    dossier = _with_csrs(office.merchant_case(), {"signing": office.signing_csr, "tls": csr(p256())})
    assert decide(dossier, office.pack, trust=trust, now=NOW).findings == ()


def test_a_revision_names_each_purpose_once(office: Office, refusal: Refusal) -> None:
    entry = csr_digest("signing", office.signing_csr)
    assert (
        refusal(_with_csrs(office.merchant_case(), {"signing": office.signing_csr}, (entry, entry))).code
        is Rule.APP_CSR
    )


def test_the_dossier_carries_what_the_revision_names(office: Office, refusal: Refusal) -> None:
    entry = csr_digest("signing", office.signing_csr)
    assert refusal(_with_csrs(office.merchant_case(), {"tls": office.signing_csr}, (entry,))).code is Rule.APP_CSR


def test_another_request_of_the_same_key_is_not_the_one_named(office: Office, refusal: Refusal) -> None:
    entry = csr_digest("signing", office.signing_csr)
    other = csr(office.signing_key, "other words")
    assert refusal(_with_csrs(office.merchant_case(), {"signing": other}, (entry,))).code is Rule.APP_CSR


def test_the_key_named_is_the_key_of_the_request(office: Office, refusal: Refusal) -> None:
    named = CsrDigest(purpose="signing", sha256=hashlib.sha256(office.signing_csr).digest(), spki_sha256=b"\x07" * 32)
    assert refusal(_with_csrs(office.merchant_case(), {"signing": office.signing_csr}, (named,))).code is Rule.APP_CSR


def test_bytes_that_are_no_request_are_refused(office: Office, refusal: Refusal) -> None:
    entry = csr_digest("signing", office.signing_csr)
    dossier = _with_csrs(office.merchant_case(), {"signing": office.signing_csr[:-1]}, (entry,))
    assert refusal(dossier).code is Rule.APP_CSR


def test_possession_of_the_key_is_proven(office: Office, refusal: Refusal) -> None:
    """A request of one key with the signature of another: the last bytes of a DER ECDSA signature changed."""
    forged = office.signing_csr[:-1] + bytes([office.signing_csr[-1] ^ 1])
    finding = refusal(_with_csrs(office.merchant_case(), {"signing": forged}))
    assert (finding.code, finding.clause) == (Rule.APP_POP, "CPS 3.2.1")


# Keys


def _fermat_key() -> rsa.RSAPrivateKey:
    """An RSA-3072 key whose primes are neighbours, the first two above 3 * 2^1534: Fermat finds them in one round."""
    p, q = ((3 << 1534) + above for above in (1_837, 2_617))
    assert all(pow(base, prime - 1, prime) == 1 for prime in (p, q) for base in (2, 3))
    e = 65_537
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public)
    return numbers.private_key()


@pytest.mark.parametrize(
    ("key", "rule", "clause"),
    [
        pytest.param(lambda: rsa_key(0, 2048), Rule.KEY_SIZE, "CPS 6.1.5", id="rsa-2048"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), Rule.KEY_SIZE, "CPS 6.1.5", id="p-521"),
        pytest.param(lambda: rsa.generate_private_key(3, 3072), Rule.KEY_SIZE, "CPS 6.1.5", id="exponent-3"),
        pytest.param(_fermat_key, Rule.KEY_QUALITY, "CPS 6.1.6", id="close-primes"),
    ],
)
def test_a_weak_key_is_not_certified(
    office: Office, refusal: Refusal, key: Callable[[], Key], rule: Rule, clause: str
) -> None:
    finding = refusal(_with_csrs(office.merchant_case(), {"signing": csr(key())}))
    assert (finding.code, finding.clause) == (rule, clause)


@pytest.mark.parametrize("key", [lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa_key(0)])
def test_a_strong_key_is_certified(office: Office, trust: Trust, key: Callable[[], Key]) -> None:
    dossier = _with_csrs(office.merchant_case(), {"signing": csr(key())})
    assert decide(dossier, office.pack, trust=trust, now=NOW).findings == ()


def test_a_pack_may_ask_for_more_than_the_profile(office: Office, trust: Trust) -> None:
    pack = load_pack(TEXT.replace("- ec: [P-256, P-384]", "- ec: [P-384]"))
    verdict = decide(Office(office.pki, pack).merchant_case(), pack, trust=trust, now=NOW)
    assert [finding.code for finding in verdict.findings] == [Rule.KEY_SIZE]


def test_an_encryption_key_is_an_rsa_key(office: Office, trust: Trust) -> None:
    dossier = _with_csrs(office.gateway_case(), {"signing": office.signing_csr, "encryption": csr(p256())})
    verdict = decide(dossier, office.pack, trust=trust, now=NOW)
    assert verdict.status is Status.REFUSED
    assert verdict.findings[0].code is Rule.KEY_SIZE
    assert "RSAES-OAEP" in verdict.findings[0].message


def test_one_key_does_not_serve_two_purposes(office: Office, refusal: Refusal) -> None:
    dossier = _with_csrs(office.merchant_case(), {"signing": office.signing_csr, "tls": office.signing_csr})
    finding = refusal(dossier)
    assert (finding.code, finding.clause) == (Rule.KEY_REUSED, "CPS 6.1.1")


def test_a_key_that_was_certified_before_is_not_certified_again(office: Office, refusal: Refusal) -> None:
    finding = refusal(office.merchant_case(), certified=frozenset({spki_sha256(office.signing_key.public_key())}))
    assert (finding.code, finding.clause) == (Rule.KEY_REUSED, "CPS 6.1.1")


def test_a_key_that_was_reported_compromised_is_never_certified_again(office: Office, refusal: Refusal) -> None:
    finding = refusal(office.merchant_case(), denylisted=frozenset({spki_sha256(office.signing_key.public_key())}))
    assert (finding.code, finding.clause) == (Rule.KEY_DENYLISTED, "CPS 4.9.12")


def test_a_pack_that_does_not_look_for_reused_keys_does_not_refuse_them(office: Office, trust: Trust) -> None:
    pack = load_pack(TEXT.replace("reject: [roca, fermat, denylisted, reused]", "reject: [roca, fermat]"))
    spki = frozenset({spki_sha256(office.signing_key.public_key())})
    dossier = _with_csrs(
        Office(office.pki, pack).merchant_case(), {"signing": office.signing_csr, "tls": office.signing_csr}
    )
    verdict = decide(dossier, pack, trust=trust, now=NOW, known_keys=KnownKeys(spki, spki))
    assert verdict.findings == ()


def test_the_subject_of_a_request_is_never_used(office: Office) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(cn="Somebody else", o="Central Bank"))
    der = builder.sign(office.signing_key, hashes.SHA256()).public_bytes(Encoding.DER)
    certified = entitlement(office.case(GATEWAY, {"signing": der}), office.pack, "signing", not_after=None)
    assert certified.holder.subject == name(cn="Gateway One", o="Acquirer")
