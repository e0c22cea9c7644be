"""CertInqReq, RevReq and RenewReq: what a holder signs, and how the registration authority judges it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kwbp import fields
from kwbp.codes import ErrorCode, RevocationReason
from kwbp.common import Draft, Received, check_live, read_signed, require, verify_signer
from kwbp.errors import ProtocolError
from kwbp.holder.messages import CertInqReqTBS, RenewReqTBS, RevReqTBS
from kwbp.registration.signers import requested_keys
from kwbp.wrapper import KwbpMessage, check_header
from pki.cms_signed import parse_signed_data, verify_signature
from pki.errors import CertificateError, CmsError
from pki.keys import spki_sha256
from pki.oids import CT_CERT_INQ_REQ, CT_RENEW_REQ, CT_REV_REQ, CT_REVOCATION
from pki.path import Trust
from pki.roles import Role, role_of

HOLDERS: Final = (Role.CARDHOLDER, Role.MERCHANT, Role.GATEWAY_SIGNING)
"""Who holds a certificate with which messages of the protocol are signed."""
AnyRequest = CertInqReqTBS | RevReqTBS | RenewReqTBS
T = TypeVar("T", CertInqReqTBS, RevReqTBS, RenewReqTBS)
_CONTENT_TYPES: Final[dict[type[AnyRequest], x509.ObjectIdentifier]] = {
    CertInqReqTBS: CT_CERT_INQ_REQ,
    RevReqTBS: CT_REV_REQ,
    RenewReqTBS: CT_RENEW_REQ,
}


def build_status_request(
    certificate: x509.Certificate, *, rrpid: bytes, chall: bytes, now: datetime
) -> Draft[CertInqReqTBS]:
    """CertInqReq (row 6), to be signed by the holder of `certificate`. 20 and 32 fresh random bytes."""
    body = CertInqReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        chall=chall,
        serial=certificate.serial_number,
        cert_hash=certificate_hash(certificate),
        date=fields.to_time(now),
    )
    return Draft.of(CT_CERT_INQ_REQ, body, rrpid=rrpid, xid=None)


def build_revocation_request(
    certificate: x509.Certificate,
    reason: RevocationReason,
    *,
    order: bytes,
    rrpid: bytes,
    chall: bytes,
    now: datetime,
) -> Draft[RevReqTBS]:
    """RevReq (row 6), to be signed by the holder of `certificate`. 20 and 32 fresh random bytes.

    :param order: the order about it for this reason, signed with its key (CT_REVOCATION, DER).
    """
    body = RevReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        chall=chall,
        serial=certificate.serial_number,
        cert_hash=certificate_hash(certificate),
        reason=reason,
        order=order,
        date=fields.to_time(now),
    )
    return Draft.of(CT_REV_REQ, body, rrpid=rrpid, xid=None)


def build_renewal_request(
    certificate: x509.Certificate, request: bytes, *, rrpid: bytes, chall: bytes, now: datetime
) -> Draft[RenewReqTBS]:
    """RenewReq (row 6), to be signed with the key of `certificate`. 20 and 32 fresh random bytes.

    :param request: PKCS#10 (DER) of the new key.
    """
    body = RenewReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        chall=chall,
        serial=certificate.serial_number,
        cert_hash=certificate_hash(certificate),
        request=request,
        date=fields.to_time(now),
    )
    return Draft.of(CT_RENEW_REQ, body, rrpid=rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class SentHolderRequest:
    """What the holder remembers of its request, to judge the answer by."""

    h_request: bytes
    body: AnyRequest

    @classmethod
    def load(cls, signed: bytes, kind: type[AnyRequest]) -> SentHolderRequest:
        """Read it out of the own SignedData as it was sent."""
        received = read_signed(kind, _CONTENT_TYPES[kind], signed)
        return cls(received.digest, received.body)


@dataclass(frozen=True, slots=True)
class CheckedHolderRequest(Generic[T]):
    """A request that a holder signed. That the certificate is its own is said by `require_holder` (X1)."""

    received: Received[T]
    role: Role

    @property
    def body(self) -> T:
        """What is asked."""
        return self.received.body


def check_holder_request(
    message: KwbpMessage, kind: type[T], *, trust: Trust, now: datetime
) -> CheckedHolderRequest[T]:
    """CertInqReq, RevReq or RenewReq (row 6): K1, K2, K4 to K7. Then come X1 and, for RenewReq, X2.

    Whose certificate is suspended or revoked may ask how it stands, and have a suspended one revoked: for these two the
    CRLs are not asked. It may not renew.

    :param message: from `unwrap(…, expected=[…])`.
    :raises ProtocolError: see `kwbp.checks`; roleNotAllowed (K5) for a signer who is no holder.
    """
    received = read_signed(kind, _CONTENT_TYPES[kind], message.body)
    body = received.body
    check_header(message, _CONTENT_TYPES[kind], rrpid=body.rrpid, xid=None)
    try:
        role = role_of(received.signer)
    except CertificateError as error:
        raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "K5", f"holder has no role ({error.reason})") from None
    require(role in HOLDERS, ErrorCode.ROLE_NOT_ALLOWED, "K5", "holder must be a card, a merchant or a gateway")
    verify_signer(received, role=role, trust=trust, now=now, check_revocation=isinstance(body, RenewReqTBS))
    check_live(received, body.date, now=now)
    return CheckedHolderRequest(received, role)


def require_holder(request: CheckedHolderRequest[T], certificate: x509.Certificate) -> None:
    """X1: the request is about `certificate`, and its signer is the one whom that certificate names.

    The signer may hold a newer certificate, or an older one: same subject, same role.

    :param certificate: the one of the request's serial, from the register of certificates.
    :raises ProtocolError: roleNotAllowed, the same whichever it is: nobody learns which serials there are.
    """
    signer, body = request.received.signer, request.body
    try:
        role = role_of(certificate)
    except CertificateError:
        role = None
    require(
        (body.serial, body.cert_hash) == (certificate.serial_number, certificate_hash(certificate))
        and role is request.role
        and signer.subject == certificate.subject,
        ErrorCode.ROLE_NOT_ALLOWED,
        "X1",
        "request must be about a certificate of its signer",
    )


def renewed_key(request: CheckedHolderRequest[RenewReqTBS], certificate: x509.Certificate) -> bytes:
    """X2: PKCS#10 proves possession of a key that is another than the one in `certificate` and the signer's.

    :returns: SHA-256 of the new key's SubjectPublicKeyInfo; whether it was ever certified is for the register to say.
    :raises ProtocolError: signatureFailure, invalidCertificate.
    """
    key = requested_keys({"signing": request.body.request}, check="X2")["signing"]
    old = {spki_sha256(each.public_key()) for each in (certificate, request.received.signer)}
    require(key not in old, ErrorCode.INVALID_CERTIFICATE, "X2", "key must be a new one")
    return key


def own_order(request: CheckedHolderRequest[RevReqTBS], certificate: x509.Certificate) -> bytes:
    """X7: the order in a RevReq is signed with the key of `certificate`, the one that it is about.

    :returns: the content of the order (RevocationTBS, DER); whether it says what the request says is for its reader.
    :raises ProtocolError: signatureFailure.
    """
    try:
        order = parse_signed_data(request.body.order, content_type=CT_REVOCATION)
        verify_signature(order)
    except CmsError as error:
        raise ProtocolError(ErrorCode.SIGNATURE_FAILURE, "X7", f"order must be signed ({error.reason})") from None
    require(
        order.signer == certificate,
        ErrorCode.SIGNATURE_FAILURE,
        "X7",
        "order must be signed with the key of the certificate that it is about",
    )
    return order.content


def certificate_hash(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate's DER."""
    return certificate.fingerprint(hashes.SHA256())
