"""A request proves a key; whoever asks with it for more than the certificate will have is told so, clause and all."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from cps.dossier import Subject
from cps.rules import Rule
from pki.extensions import AccountBinding, MerchantData
from pki.names import identity_uri, name
from ra.errors import InvalidSubmissionError
from ra.request_contents import check_contents, names_in
from ra.submission import Submission, understand
from tests.support.cps_cases import CARDHOLDER, GATEWAY, MERCHANT, OFFICER, Office
from tests.support.pki_factory import p256

KEY = p256()
OTHER = x509.UniformResourceIdentifier(identity_uri("merchant", "M-2"))
OWN = x509.UniformResourceIdentifier(identity_uri("merchant", MERCHANT.merchant_id))
TEMPLATE = ObjectIdentifier("1.3.6.1.4.1.311.20.2")  # what Windows adds to its requests
DATA = MerchantData("M-1", MERCHANT.acquirer_bin, MERCHANT.name, MERCHANT.country, MERCHANT.online)


def usage(**also: bool) -> x509.KeyUsage:
    flags = dict.fromkeys(
        ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"], False,
    )  # fmt: skip
    return x509.KeyUsage(**{**flags, "digital_signature": True, **also})


def request(*extensions: tuple[x509.ExtensionType, bool], challenge: bytes | None = None, **subject: Any) -> Any:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(**{"cn": "anything", **subject}))
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    if challenge is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge)
    return builder.sign(KEY, hashes.SHA256())


ASKED_TOO_MUCH = {
    "a CA": (x509.BasicConstraints(ca=True, path_length=None), True, "it asks for a certificate of a CA"),
    "a CA, not critical": (x509.BasicConstraints(ca=True, path_length=0), False, "it asks for a certificate of a CA"),
    "to sign certificates": (usage(key_cert_sign=True), True, "the key usages of a CA"),
    "to sign lists": (usage(crl_sign=True), False, "the key usages of a CA"),
    "another member's identity": (x509.SubjectAlternativeName([OTHER]), False, "it asks for a name"),
    "its own identity and another": (x509.SubjectAlternativeName([OWN, OTHER]), False, "it asks for a name"),
    "a host": (x509.SubjectAlternativeName([x509.DNSName("bank.example")]), False, "it asks for a name"),
    "a mail address": (x509.SubjectAlternativeName([x509.RFC822Name("a@bank.example")]), False, "it asks for a name"),
    "a server's usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False, "it asks for a usage"),
    "time-stamping": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True, "it asks for a usage"),
    "any usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False, "it asks for a usage"),
    "another account": (AccountBinding.of("IR" + "0" * 24, bytes(16)).to_extension(), False, "an extension of KWBP"),
    "a critical extension": (x509.UnrecognizedExtension(TEMPLATE, b"\x05\x00"), True, "the critical extension 1.3"),
    "critical constraints": (x509.PolicyConstraints(0, None), True, "the critical extension 2.5.29.36"),
}  # fmt: skip

HARMLESS = {
    "its own names": (x509.SubjectAlternativeName([OWN, x509.UniformResourceIdentifier(str(MERCHANT.origin))]), False),
    "no CA": (x509.BasicConstraints(ca=False, path_length=None), True),
    "a signature's usage": (usage(), True),
    "its own data": (DATA.to_extension(), False),
    "a key identifier": (x509.SubjectKeyIdentifier(b"\x01" * 20), False),
    "a template of Windows": (x509.UnrecognizedExtension(TEMPLATE, b"\x05\x00"), False),
}


@pytest.mark.parametrize(("value", "critical", "told"), ASKED_TOO_MUCH.values(), ids=ASKED_TOO_MUCH)
def test_whoever_asks_for_more_is_refused_with_the_clause(
    office: Office, value: x509.ExtensionType, critical: bool, told: str
) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        check_contents(request((value, critical)), MERCHANT, "signing", office.pack)
    assert refused.value.clause == office.pack.clause(Rule.APP_REQUEST) == "CPS 4.1.2"
    assert str(refused.value).startswith("the signing request: ")
    assert told in str(refused.value)


@pytest.mark.parametrize(("value", "critical"), HARMLESS.values(), ids=HARMLESS)
def test_what_the_certificate_has_or_nobody_misses_is_taken(
    office: Office, value: x509.ExtensionType, critical: bool
) -> None:
    check_contents(request((value, critical)), MERCHANT, "signing", office.pack)


def test_a_challenge_password_is_refused_and_not_shown(office: Office) -> None:
    with pytest.raises(InvalidSubmissionError, match="challengePassword is a secret") as refused:
        check_contents(request(challenge=b"open sesame"), MERCHANT, "signing", office.pack)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("subject", [CARDHOLDER, MERCHANT, GATEWAY, OFFICER])
def test_a_request_that_asks_for_nothing_is_taken_for_every_class(office: Office, subject: Subject) -> None:
    check_contents(request(), subject, "signing", office.pack)


def test_usages_are_those_of_the_very_certificate(office: Office) -> None:
    client = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    hosts = (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    check_contents(request(client, hosts), MERCHANT, "tls", office.pack)
    check_contents(request(client), OFFICER, "signing", office.pack)
    for subject in (MERCHANT, CARDHOLDER):
        with pytest.raises(InvalidSubmissionError, match="it asks for a usage"):
            check_contents(request(client), subject, "signing", office.pack)


def test_a_purpose_or_subject_that_fits_no_certificate_is_left_to_its_own_rule(office: Office) -> None:
    ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    check_contents(request(ca), MERCHANT, "encryption", office.pack)
    check_contents(request(ca), MERCHANT.model_copy(update={"country": 1}), "signing", office.pack)


def test_every_text_of_the_subject_is_known_by_name() -> None:
    found = names_in(request(cn="M-2", o="Other Shop", c="IR"))
    assert found == {"M-2", "Other Shop", "IR"}
    assert NameOID.COMMON_NAME in {each.oid for each in request().subject}


def test_a_submission_is_refused_for_its_request_before_anything_is_kept(office: Office) -> None:
    asked = request((x509.BasicConstraints(ca=True, path_length=None), True)).public_bytes(Encoding.DER)
    fields = MERCHANT.model_dump(mode="json", by_alias=True)
    with pytest.raises(InvalidSubmissionError, match="the signing request: it asks for a certificate of a CA"):
        understand(Submission(fields, {"signing": asked}), "merchant", office.pack, rng=bytes)
