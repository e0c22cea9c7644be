"""OCSP answers: whose word counts about a certificate, and each way in which one may not be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from pki.algorithms import SHA256_IDENTIFIER, certificate_signature_identifier
from pki.der import any_value, encode, tlv
from pki.errors import DerError, OcspError
from pki.names import name
from pki.ocsp import OcspStatus, verify_ocsp
from pki.ocsp_structures import (
    ID_PKIX_OCSP_NONCE,
    SHA1_IDENTIFIER,
    BasicOcspResponse,
    Extension,
    OcspResponse,
    ResponseBytes,
    ResponseData,
    SingleResponse,
    cert_id,
    compose_request,
    issuer_hashes,
    key_bits,
    responder_ids,
    revoked_info,
    wrap_response,
)
from pki.roles import Role
from tests.support.der_surgery import with_unused_bit
from tests.support.pki_factory import DAY, NOW, Authority, Credential, PkiFactory, p256, role_extensions, rsa_key
from tests.support.software_signing import raw_signature

PKI = PkiFactory()
USAGE = {"extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)}
NO_CHECK = {"no_check": (x509.OCSPNoCheck(), False)}
UNUSED = {k: v for k, v in role_extensions(Role.OCSP_RESPONDER).items() if k != "extended_key_usage"}
RESPONDING = {**role_extensions(Role.OCSP_RESPONDER), **USAGE, **NO_CHECK}
ISSUER = PKI.merchant_ca
RESPONDER = PKI.issue(ISSUER, name(cn="Status"), RESPONDING)
SHOP = PKI.merchant("M-1").certificate
OTHER_SHOP = PKI.merchant("M-2").certificate
MINUTE = timedelta(minutes=1)
GOOD, UNKNOWN = b"\x80\x00", b"\x82\x00"
NONCE = bytes(range(16))


def time(moment: datetime) -> asn1.GeneralizedTime:
    return asn1.GeneralizedTime(moment)


def revoked(reason: bytes = b"") -> bytes:
    return tlv(0xA1, encode(time(NOW - DAY)) + reason)


def single(status: bytes = GOOD, certificate: x509.Certificate = SHOP, **changes: Any) -> SingleResponse:
    fields: dict[str, Any] = {
        "cert_id": cert_id(certificate.serial_number, ISSUER.certificate),
        "cert_status": any_value(status),
        "this_update": time(NOW),
        "next_update": time(NOW + DAY),
        "single_extensions": None,
    }
    return SingleResponse(**{**fields, **changes})


def nonce(value: bytes, *, critical: bool = False) -> Extension:
    return Extension(id=ID_PKIX_OCSP_NONCE, critical=critical, value=encode(value))


@dataclass(frozen=True)
class Answer:
    """An answer, signed; each argument is one thing otherwise than in a sound one."""

    responses: tuple[SingleResponse, ...] = (single(),)
    extensions: tuple[Extension, ...] | None = None
    responder: Credential = RESPONDER
    names: x509.Certificate | None = None  # whom responderID names, if another than the responder
    by_name: bool = False
    carries: tuple[x509.Certificate, ...] | None = (RESPONDER.certificate,)
    signs: Credential | None = None
    algorithm: bytes | None = None

    def der(self) -> bytes:
        data = ResponseData(
            responder_id=any_value(responder_ids(self.names or self.responder.certificate)[0 if self.by_name else 1]),
            produced_at=time(NOW),
            responses=list(self.responses),
            response_extensions=None if self.extensions is None else list(self.extensions),
        )
        key = (self.signs or self.responder).key
        algorithm = self.algorithm or certificate_signature_identifier(self.responder.key.public_key())
        basic = BasicOcspResponse(
            tbs_response_data=any_value(encode(data)),
            signature_algorithm=any_value(algorithm),
            signature=asn1.BitString(raw_signature(key, encode(data)), 0),
            certificates=None if self.carries is None else list(self.carries),
        )
        return wrap_response(encode(basic))


def judged(der: bytes, *, now: datetime = NOW, **changes: Any) -> OcspStatus:
    subject: dict[str, Any] = {"certificate": SHOP, "issuer": ISSUER.certificate, **changes}
    return verify_ocsp(der, now=now, **subject)


def refused(der: bytes, **changes: Any) -> OcspError:
    with pytest.raises(OcspError) as caught:
        judged(der, **changes)
    assert caught.value.clause
    return caught.value


def by(authority: Authority = ISSUER, extensions: Any = RESPONDING, **changes: Any) -> Callable[[], bytes]:
    """An answer by a responder that `authority` certified with these extensions."""

    def make() -> bytes:
        responder = PKI.issue(authority, name(cn="Status"), extensions, **changes)
        return Answer(responder=responder, carries=(responder.certificate,)).der()

    return make


# What may be believed


def test_a_delegated_responder_speaks_for_the_authority_that_certified_it() -> None:
    status = judged(Answer().der())
    assert (status.state, status.revoked_at, status.reason) == ("good", None, None)
    assert (status.this_update, status.next_update, status.produced_at) == (NOW, NOW + DAY, NOW)
    assert status.responder == RESPONDER.certificate
    assert judged(Answer(by_name=True).der()).state == "good"


def test_the_issuer_itself_may_answer_without_a_certificate_beside_it() -> None:
    status = judged(Answer(responder=ISSUER.credential, carries=None).der())
    assert status.responder == ISSUER.certificate


def test_a_revoked_certificate_says_when_and_why() -> None:
    status = judged(Answer((single(revoked(b"\xa0\x03\x0a\x01\x06")),)).der())
    assert (status.state, status.revoked_at, status.reason) == ("revoked", NOW - DAY, "certificateHold")
    bare = judged(Answer((single(revoked()),)).der())
    assert (bare.state, bare.revoked_at, bare.reason) == ("revoked", NOW - DAY, None)


def test_an_unknown_certificate_is_unknown() -> None:
    assert judged(Answer((single(UNKNOWN),)).der()).state == "unknown"


def test_the_answer_about_this_certificate_is_found_among_several_by_either_hash() -> None:
    named = cert_id(SHOP.serial_number, ISSUER.certificate, SHA256_IDENTIFIER)
    several = (single(UNKNOWN, OTHER_SHOP), single(revoked(), cert_id=named))
    assert judged(Answer(several).der()).state == "revoked"


def test_an_answer_counts_from_this_update_to_next_update_inclusive() -> None:
    answer, second = Answer().der(), timedelta(seconds=1)
    assert judged(answer, now=NOW + DAY).state == "good"
    assert refused(answer, now=NOW - second).reason == "not_yet_valid"
    assert refused(answer, now=NOW + DAY + second).reason == "expired"


def test_a_nonce_is_echoed() -> None:
    answer = Answer(extensions=(nonce(NONCE),)).der()
    assert judged(answer, nonce=NONCE).state == "good"
    assert judged(answer).state == "good"  # nobody asked


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_responders_sign_with_either_curve(curve: ec.EllipticCurve) -> None:
    assert judged(by(key=ec.generate_private_key(curve))()).state == "good"


def test_responders_sign_with_rsa() -> None:
    assert judged(by(key=rsa_key())()).state == "good"


def test_answers_of_the_library_are_read() -> None:
    built = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=SHOP,
            issuer=ISSUER.certificate,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.REVOKED,
            this_update=NOW,
            next_update=NOW + DAY,
            revocation_time=NOW,
            revocation_reason=x509.ReasonFlags.key_compromise,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, RESPONDER.certificate)
        .certificates([RESPONDER.certificate])
        .sign(RESPONDER.key, hashes.SHA256())
    )
    assert judged(built.public_bytes(Encoding.DER)).reason == "keyCompromise"


# What may not: each has one thing wrong

NOT_AN_ANSWER = {1: "malformed_request", 2: "internal_error", 3: "try_later", 5: "sig_required", 6: "unauthorized"}


@pytest.mark.parametrize(("code", "reason"), NOT_AN_ANSWER.items())
def test_what_a_responder_says_instead_of_an_answer_is_no_status(code: int, reason: str) -> None:
    assert refused(tlv(0x30, bytes((0x0A, 1, code)))).reason == reason


def _outer(status: bytes, content: ResponseBytes | None) -> bytes:
    return encode(OcspResponse(response_status=any_value(status), response_bytes=content))


MALFORMED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "trailing byte": lambda: Answer().der() + b"\x00",
    "unknown response status": lambda: tlv(0x30, b"\x0a\x01\x04"),
    "status that is an INTEGER": lambda: tlv(0x30, b"\x02\x01\x00"),
    "successful without an answer": lambda: _outer(b"\x0a\x01\x00", None),
    "another type of answer": lambda: _outer(
        b"\x0a\x01\x00", ResponseBytes(response_type=ID_PKIX_OCSP_NONCE, response=b"\x05\x00")
    ),
    "an answer that is no structure": lambda: wrap_response(b"\x05\x00"),
    "unknown status of the certificate": lambda: Answer((single(b"\x83\x00"),)).der(),
    "a reason that is none": lambda: Answer((single(revoked(b"\xa0\x03\x0a\x01\x08")),)).der(),
    "a reason that is an INTEGER": lambda: Answer((single(revoked(b"\xa0\x03\x02\x01\x01")),)).der(),
    "revoked without time": lambda: Answer((single(b"\xa1\x00"),)).der(),
    "too big": lambda: wrap_response(bytes(70_000)),
}


@pytest.mark.parametrize("twin", MALFORMED)
def test_what_is_no_answer_in_der_is_malformed(twin: str) -> None:
    assert refused(MALFORMED[twin]()).reason == "malformed"


def test_a_signature_that_is_not_whole_octets_is_malformed() -> None:
    basic = encode(
        BasicOcspResponse(
            tbs_response_data=any_value(b"\x05\x00"),
            signature_algorithm=any_value(b"\x05\x00"),
            signature=asn1.BitString(b"\x00", 1),
            certificates=None,
        )
    )
    assert refused(wrap_response(basic)).reason == "malformed"


OTHER_ISSUER = PKI.authority(Role.MERCHANT_CA, PKI.brand, path_length=0, label="other")
CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True)
SERVICE_LIKE = role_extensions(Role.SERVICE)

TWINS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no certificate beside it": (lambda: Answer(carries=None).der(), "unauthorised_responder"),
    "another certificate beside it": (lambda: Answer(carries=(SHOP,)).der(), "unauthorised_responder"),
    "names a stranger": (lambda: Answer(names=SHOP).der(), "unauthorised_responder"),
    "a responder of another authority": (by(PKI.gateway_ca), "unauthorised_responder"),
    "a responder of the authority above": (by(PKI.brand), "unauthorised_responder"),
    "a merchant answers": (
        lambda: Answer(responder=PKI.merchant("M-3"), carries=(PKI.merchant("M-3").certificate,)).der(),
        "unauthorised_responder",
    ),
    "without ocspSigning": (
        by(extensions={**UNUSED, **NO_CHECK}),
        "unauthorised_responder",
    ),
    "certified as a service": (by(extensions={**SERVICE_LIKE, **NO_CHECK}), "unauthorised_responder"),
    "without ocsp-nocheck": (
        by(extensions={**role_extensions(Role.OCSP_RESPONDER), **USAGE}),
        "unauthorised_responder",
    ),
    "with an unknown critical extension": (by(extensions={**RESPONDING, "more": CRITICAL}), "unauthorised_responder"),
    "a responder that lapsed": (by(not_after=NOW - MINUTE), "unauthorised_responder"),
    "a responder not yet valid": (by(not_before=NOW + MINUTE), "unauthorised_responder"),
    "a responder with a weak key": (by(key=rsa_key(9, 2048)), "unauthorised_responder"),
    "signed by another key": (lambda: Answer(signs=Credential(SHOP, p256(), ())).der(), "bad_signature"),
    "another algorithm is named": (
        lambda: Answer(algorithm=certificate_signature_identifier(rsa_key().public_key())).der(),
        "bad_signature",
    ),
    "about another certificate": (lambda: Answer((single(certificate=OTHER_SHOP),)).der(), "wrong_certificate"),
    "about it twice": (lambda: Answer((single(), single(revoked()))).der(), "wrong_certificate"),
    "about a namesake of another authority": (
        lambda: Answer((single(cert_id=cert_id(SHOP.serial_number, OTHER_ISSUER.certificate)),)).der(),
        "wrong_certificate",
    ),
    "an unknown hash": (
        lambda: Answer((single(cert_id=_hashed_with_nothing()),)).der(),
        "wrong_certificate",
    ),
    "without end": (lambda: Answer((single(next_update=None),)).der(), "expired"),
    "a critical extension of the answer": (
        lambda: Answer(extensions=(nonce(NONCE, critical=True),)).der(),
        "unknown_critical_extension",
    ),
    "a critical extension of its own": (
        lambda: Answer((single(single_extensions=[nonce(NONCE, critical=True)]),)).der(),
        "unknown_critical_extension",
    ),
}


def _hashed_with_nothing() -> Any:
    named = cert_id(SHOP.serial_number, ISSUER.certificate)
    return type(named)(
        hash_algorithm=any_value(tlv(0x30, bytes.fromhex("0609608648016503040202"))),
        issuer_name_hash=named.issuer_name_hash,
        issuer_key_hash=named.issuer_key_hash,
        serial_number=named.serial_number,
    )


@pytest.mark.parametrize("twin", TWINS)
def test_an_answer_with_one_wrong_thing_is_not_believed(twin: str) -> None:
    make, reason = TWINS[twin]
    assert refused(make()).reason == reason


def test_a_responder_certificate_with_another_spelling_of_its_signature_is_not_believed() -> None:
    made = with_unused_bit(lambda: PKI.issue(ISSUER, name(cn="Status"), RESPONDING, key=RESPONDER.key).der)
    answer = Answer(carries=(x509.load_der_x509_certificate(made),)).der()
    assert refused(answer).reason == "unauthorised_responder"


def test_an_answer_about_a_certificate_of_another_name_is_not_believed() -> None:
    stranger = PKI.merchant("M-4", issuer=PKI.gateway_ca, serial=SHOP.serial_number).certificate
    assert refused(Answer().der(), certificate=stranger).reason == "wrong_certificate"


def test_another_nonce_or_none_is_the_answer_to_another_question() -> None:
    for extensions in (None, (nonce(b"another nonce"),), (nonce(NONCE), nonce(NONCE))):
        assert refused(Answer(extensions=extensions).der(), nonce=NONCE).reason == "nonce_mismatch"


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_no_bit_of_an_answer_can_be_flipped(place: int, bit: int) -> None:
    der = bytearray(_SOUND)
    der[place % len(der)] ^= 1 << bit
    try:
        status = judged(bytes(der))
    except OcspError:
        return
    # What is not signed and not looked at: the certificate beside an answer is found by what it says of itself.
    assert status == judged(_SOUND)


_SOUND = Answer().der()


@given(st.binary(max_size=200))
def test_bytes_that_are_nothing_are_refused_and_break_nothing(content: bytes) -> None:
    with pytest.raises(OcspError):
        judged(content)


# The structures


def test_requests_are_read_by_the_library() -> None:
    request = ocsp.load_der_ocsp_request(compose_request(SHOP.serial_number, ISSUER.certificate, nonce=NONCE))
    assert request.serial_number == SHOP.serial_number
    assert isinstance(request.hash_algorithm, hashes.SHA1)
    assert request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == NONCE
    bare = compose_request(SHOP.serial_number, ISSUER.certificate, hash_algorithm=SHA256_IDENTIFIER)
    model = ocsp.OCSPRequestBuilder().add_certificate(SHOP, ISSUER.certificate, hashes.SHA256()).build()
    read = ocsp.load_der_ocsp_request(bare)
    assert (read.issuer_name_hash, read.issuer_key_hash) == (model.issuer_name_hash, model.issuer_key_hash)


def test_issuers_are_named_by_two_hashes_alone() -> None:
    assert issuer_hashes(SHA1_IDENTIFIER, ISSUER.certificate) is not None
    assert issuer_hashes(b"\x05\x00", ISSUER.certificate) is None
    with pytest.raises(ValueError, match="SHA-1 or SHA-256"):
        cert_id(1, ISSUER.certificate, b"\x05\x00")
    assert len(key_bits(ISSUER.certificate)) == 65


def test_revoked_info_is_read_strictly() -> None:
    assert revoked_info(any_value(revoked(b"\xa0\x03\x0a\x01\x01"))).reason == 1
    with pytest.raises(DerError):
        revoked_info(any_value(b"\xa1\x02\x05\x00"))
