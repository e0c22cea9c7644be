"""Golden answers about status and time, made as the responder and the time-stamp authority make them.

    ocsp_response(golden, "merchant-signing", CertificateStatus("good"))        OCSPResponse, DER
    timestamp(golden, b"what was there")                                       TimeStampToken, DER

The token boundary's own judges (`check_ocsp`, `check_timestamp`) pass them before they are signed.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ca.ocsp_answer import CertificateStatus, ResponderKey, Times, response_data, single_response
from ca.tsa import Numbers, read_request, tst_info
from hsm_service.judging import SigningKey
from hsm_service.templates import built_in
from hsm_service.typed_ocsp import assemble_ocsp, check_ocsp
from hsm_service.typed_timestamp import check_timestamp
from pki.der import encode
from pki.ocsp_structures import cert_id, wrap_response
from pki.oids import CT_TST_INFO
from pki.timestamp import build_query
from tests.support.golden import Golden


def _signing_key(golden: Golden, profile_name: str, template: str) -> SigningKey:
    made = golden[profile_name]
    chain = (made.certificate, *golden.chain(profile_name)[:-1])
    public = made.key.public_key()
    return SigningKey(profile_name, 1, built_in()[template], public, chain)


def _sign(golden: Golden, profile_name: str, data: bytes) -> bytes:
    key = golden[profile_name].key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def ocsp_response(golden: Golden, profile_name: str, status: CertificateStatus, nonce: bytes | None = None) -> bytes:
    """The OCSPResponse (DER) about a golden certificate, by the responder of its issuer; `nonce` in octets."""
    subject, issuer = golden[profile_name], golden[golden[profile_name].profile.issuer]
    responder = f"ocsp-{issuer.profile.name}"
    key = _signing_key(golden, responder, "ocsp-responder")
    key_hash = x509.SubjectKeyIdentifier.from_public_key(key.public_key).digest
    ends = key.certificate.not_valid_after_utc
    asked = encode(cert_id(subject.certificate.serial_number, issuer.certificate))
    when = Times(golden.now - timedelta(minutes=1), golden.now + timedelta(hours=1))
    single = single_response(asked, status, when, issuer.certificate.not_valid_before_utc)
    named = ResponderKey(responder, key_hash, ends, ends)
    data = response_data(named, golden.now, [single], None if nonce is None else encode(nonce))
    order = check_ocsp(data, key, now=golden.now)
    return wrap_response(assemble_ocsp(order, _sign(golden, responder, order.tbs), key))


def timestamp(golden: Golden, data: bytes) -> bytes:
    """The TimeStampToken (DER) over `data`."""
    key = _signing_key(golden, "timestamp-authority", "timestamp-authority")
    question = read_request(build_query(data, nonce=7))
    serial = Numbers(bytes).next(golden.now)
    info = tst_info(question, moment=golden.now, serial=serial, authority=key.certificate.subject)
    order = check_timestamp(info, key, now=golden.now)
    signature = _sign(golden, "timestamp-authority", order.signed_attributes)
    return key.writer.assemble(CT_TST_INFO, order.content, order.signed_attributes, signature)
