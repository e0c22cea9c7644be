"""Certificate status by OCSP, as a client judges it (RFC 6960 3.2): may this answer be believed, about this, now?

An answer is believed only if the authority that issued the certificate signed it, or a responder that this very
authority certified for nothing else; if it speaks of this certificate, now; and, where a nonce was sent, if it echoes
it. Everything else fails closed. Whether the issuer itself is to be trusted is the business of `pki.path`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.algorithms import certificate_signature_identifier
from pki.der import decode, encode
from pki.errors import UNREADABLE, CertificateError, DerError, OcspError
from pki.extensions import extensions_of
from pki.keys import screen_public_key
from pki.ocsp_structures import (
    GOOD,
    ID_PKIX_OCSP_BASIC,
    ID_PKIX_OCSP_NONCE,
    REASONS,
    REVOKED_TAG,
    UNKNOWN,
    BasicOcspResponse,
    Extension,
    OcspResponse,
    ResponseData,
    SingleResponse,
    issuer_hashes,
    responder_ids,
    revoked_info,
)
from pki.roles import Role, role_of
from pki.signed import check_octets

MAX_RESPONSE: Final = 65_536
"""Largest OCSPResponse that is read, bytes."""

_RESPONSE_STATUS: Final = {
    1: "malformed_request",
    2: "internal_error",
    3: "try_later",
    5: "sig_required",
    6: "unauthorized",
}
_SUCCESSFUL: Final = b"\x0a\x01\x00"
_BASIC: Final = "RFC 6960 4.2.1"
_RESPONDER: Final = "RFC 6960 4.2.2.2"
_REQUIREMENTS: Final = "RFC 6960 3.2"

State = Literal["good", "revoked", "unknown"]


@dataclass(frozen=True, slots=True)
class OcspStatus:
    """What the authority says of a certificate, once it may be believed. Times are aware UTC.

    `revoked_at` is None unless the state is revoked; `reason` is a CRLReason of RFC 5280 5.3.1, if one was stated
    (certificateHold: suspended). `responder` signed: a delegated certificate or the issuer itself.
    """

    state: State
    revoked_at: datetime | None
    reason: str | None
    this_update: datetime
    next_update: datetime
    produced_at: datetime
    responder: x509.Certificate


def verify_ocsp(
    response: bytes,
    *,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    now: datetime,
    nonce: bytes | None = None,
) -> OcspStatus:
    """The status that the DER OCSPResponse `response` gives `certificate` of `issuer` at `now` (aware UTC).

    Raises OcspError: `malformed`; `malformed_request`, `internal_error`, `try_later`, `sig_required`, `unauthorized`
    (what the responder said instead of an answer); `unknown_critical_extension`; `unauthorised_responder` (neither the
    issuer nor certified by it for this, or not valid at `now`, or without ocsp-nocheck); `bad_signature`;
    `wrong_certificate` (it does not speak of this one, or twice); `not_yet_valid`, `expired` (also without nextUpdate);
    `nonce_mismatch` (a nonce was sent, and the answer has another or none).
    """
    try:
        basic, data = _read(response)
        responder = _responder(data, basic, issuer, now)
        _check_signature(basic, responder)
        single = _single(data.responses, certificate, issuer)
        _check_extensions(single.single_extensions)
        _check_nonce(data.response_extensions, nonce)
        return _status(single, data, responder, now)
    except DerError:
        raise OcspError("malformed", "not an OCSP response in DER", clause=_BASIC) from None
    except UNREADABLE:
        raise OcspError("malformed", "a member of the response cannot be read", clause=_BASIC) from None


def _read(response: bytes) -> tuple[BasicOcspResponse, ResponseData]:
    outer = decode(OcspResponse, response, limit=MAX_RESPONSE)
    status = encode(outer.response_status)
    if status != _SUCCESSFUL:
        if status[:2] != _SUCCESSFUL[:2] or status[2] not in _RESPONSE_STATUS:
            raise OcspError("malformed", "unknown response status", clause=_BASIC)
        raise OcspError(_RESPONSE_STATUS[status[2]], "the responder gave no answer", clause="RFC 6960 4.2.2")
    if outer.response_bytes is None or outer.response_bytes.response_type != ID_PKIX_OCSP_BASIC:
        raise OcspError("malformed", "not a basic response", clause=_BASIC)
    basic = decode(BasicOcspResponse, outer.response_bytes.response)
    if basic.signature.padding_bits():
        raise OcspError("malformed", "signature is not whole octets", clause=_BASIC)
    data = decode(ResponseData, encode(basic.tbs_response_data))
    _check_extensions(data.response_extensions)
    return basic, data


def _check_extensions(extensions: Iterable[Extension] | None) -> None:
    if any(extension.critical for extension in extensions or ()):
        raise OcspError("unknown_critical_extension", "the response has a critical extension", clause="RFC 6960 4.4")


def _responder(
    data: ResponseData, basic: BasicOcspResponse, issuer: x509.Certificate, now: datetime
) -> x509.Certificate:
    """Who signed: the issuer, or the certificate beside the answer that the issuer gave its responder."""
    named = encode(data.responder_id)
    if named in responder_ids(issuer):
        return issuer
    for candidate in basic.certificates or ():
        if named in responder_ids(candidate):
            _check_delegated(candidate, issuer, now)
            return candidate
    raise OcspError("unauthorised_responder", "the responder is nobody that we know", clause=_RESPONDER)


def _check_delegated(responder: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    try:
        check_octets(responder.public_bytes(Encoding.DER))
        responder.verify_directly_issued_by(issuer)
        role = role_of(responder)
        screen_public_key(responder.public_key())
    except (InvalidSignature, DerError, CertificateError, *UNREADABLE):
        raise OcspError(
            "unauthorised_responder", "the issuer did not certify this responder", clause=_RESPONDER
        ) from None
    extensions = extensions_of(responder)
    if role is not Role.OCSP_RESPONDER:
        raise OcspError("unauthorised_responder", f"{role} does not speak of status", clause=_RESPONDER)
    if any(e.critical and not isinstance(e.value, _PROCESSED) for e in extensions):
        raise OcspError("unauthorised_responder", "a critical extension is not processed", clause="RFC 5280 4.2")
    if not any(isinstance(e.value, x509.OCSPNoCheck) for e in extensions):
        # Its own status would have to be asked for, of itself.
        raise OcspError("unauthorised_responder", "its certificate may be revoked", clause="RFC 6960 4.2.2.2.1")
    if not responder.not_valid_before_utc <= now <= responder.not_valid_after_utc:
        raise OcspError("unauthorised_responder", "its certificate is not valid now", clause=_RESPONDER)


_PROCESSED: Final = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.CertificatePolicies)


def _check_signature(basic: BasicOcspResponse, responder: x509.Certificate) -> None:
    key, signature = responder.public_key(), basic.signature.as_bytes()
    tbs = encode(basic.tbs_response_data)
    try:
        if encode(basic.signature_algorithm) != certificate_signature_identifier(key):
            raise InvalidSignature
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, tbs, padding.PKCS1v15(), hashes.SHA256())
        else:
            assert isinstance(key, ec.EllipticCurvePublicKey)  # certificate_signature_identifier knows no third kind
            digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
            key.verify(signature, tbs, ec.ECDSA(digest))
    except (InvalidSignature, CertificateError):
        raise OcspError("bad_signature", "the responder did not sign this", clause=_REQUIREMENTS) from None


def _single(
    responses: Iterable[SingleResponse], certificate: x509.Certificate, issuer: x509.Certificate
) -> SingleResponse:
    found = [each for each in responses if _is_about(each, certificate, issuer)]
    if len(found) != 1 or certificate.issuer.public_bytes() != issuer.subject.public_bytes():
        raise OcspError("wrong_certificate", "not one answer about this certificate", clause=_REQUIREMENTS)
    return found[0]


def _is_about(response: SingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    named = response.cert_id
    return named.serial_number == certificate.serial_number and (
        named.issuer_name_hash,
        named.issuer_key_hash,
    ) == issuer_hashes(encode(named.hash_algorithm), issuer)


def _check_nonce(extensions: Iterable[Extension] | None, nonce: bytes | None) -> None:
    if nonce is None:
        return
    found = [each.value for each in extensions or () if each.id == ID_PKIX_OCSP_NONCE]
    if found != [encode(nonce)]:
        raise OcspError("nonce_mismatch", "the answer is not to this question", clause="RFC 9654 2.1")


def _status(single: SingleResponse, data: ResponseData, responder: x509.Certificate, now: datetime) -> OcspStatus:
    this_update = _utc(single.this_update)
    if now < this_update:
        raise OcspError("not_yet_valid", "the answer is from the future", clause=_REQUIREMENTS)
    if single.next_update is None or now > _utc(single.next_update):
        raise OcspError("expired", "the answer is past its nextUpdate", clause=_REQUIREMENTS)
    state, revoked_at, reason = _cert_status(single.cert_status)
    return OcspStatus(
        state=state,
        revoked_at=revoked_at,
        reason=reason,
        this_update=this_update,
        next_update=_utc(single.next_update),
        produced_at=_utc(data.produced_at),
        responder=responder,
    )


def _cert_status(status: asn1.TLV) -> tuple[State, datetime | None, str | None]:
    der = encode(status)
    if der == GOOD:
        return "good", None, None
    if der == UNKNOWN:
        return "unknown", None, None
    if der[0] != REVOKED_TAG:
        raise OcspError("malformed", "a certificate is good, revoked or unknown", clause=_BASIC)
    revoked = revoked_info(status)
    if revoked.reason is not None and revoked.reason not in REASONS:
        raise OcspError("malformed", "the reason is one of RFC 5280", clause="RFC 5280 5.3.1")
    return "revoked", _utc(revoked.time), None if revoked.reason is None else REASONS[revoked.reason]


def _utc(time: asn1.GeneralizedTime) -> datetime:
    return time.as_datetime().replace(tzinfo=UTC)
