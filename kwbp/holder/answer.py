"""CertInqRes and RenewRes: what the registration authority signs, and how the holder judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509

from kwbp import fields
from kwbp.codes import CertificateStatus, ErrorCode, RegistrationStatus, RevocationReason
from kwbp.common import Draft, Received, check_answer, instant, read_signed, require, verify_path
from kwbp.errors import ProtocolError
from kwbp.holder.messages import CertInqReqTBS, CertInqResTBS, RenewReqTBS, RenewResTBS, RevReqTBS
from kwbp.holder.request import CheckedHolderRequest, SentHolderRequest
from kwbp.registration.signers import RA, requested_keys, verify_service
from kwbp.wrapper import KwbpMessage, check_header
from pki.der import decode
from pki.errors import DerError
from pki.keys import spki_sha256
from pki.oids import CT_CERT_INQ_RES, CT_RENEW_RES
from pki.path import Trust
from pki.roles import role_of

A = TypeVar("A", CertInqResTBS, RenewResTBS)


def build_status_answer(
    request: CheckedHolderRequest[CertInqReqTBS] | CheckedHolderRequest[RevReqTBS],
    *,
    status: CertificateStatus,
    now: datetime,
    since: datetime | None = None,
    reason: RevocationReason | None = None,
) -> Draft[CertInqResTBS]:
    """CertInqRes (row 6), to be signed by the registration authority.

    :param since: since when it is suspended or revoked, and :param reason: why.
    """
    asked = request.body
    body = CertInqResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        chall=asked.chall,
        h_request=request.received.digest,
        serial=asked.serial,
        cert_hash=asked.cert_hash,
        status=status,
        since=None if since is None else fields.to_time(since),
        reason=reason,
        date=fields.to_time(now),
    )
    return Draft.of(CT_CERT_INQ_RES, body, rrpid=body.rrpid, xid=None)


def build_renewal_answer(
    request: CheckedHolderRequest[RenewReqTBS],
    *,
    application: str,
    status: RegistrationStatus,
    now: datetime,
    chain: Sequence[bytes] = (),
) -> Draft[RenewResTBS]:
    """RenewRes (row 6), to be signed by the registration authority; `chain` (DER, leaf first) once it is issued."""
    asked = request.body
    body = RenewResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        chall=asked.chall,
        h_request=request.received.digest,
        application=application,
        status=status,
        chain=list(chain),
        date=fields.to_time(now),
    )
    return Draft.of(CT_RENEW_RES, body, rrpid=body.rrpid, xid=None)


def check_status_answer(message: KwbpMessage, *, sent: SentHolderRequest, trust: Trust, now: datetime) -> CertInqResTBS:
    """CertInqRes (row 6): K1, K2, K4 to K7, then X3, X4 and, to a RevReq, X5.

    :param message: from `unwrap(…, expected=[CT_CERT_INQ_RES])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(CertInqResTBS, CT_CERT_INQ_RES, message.body)
    body = received.body
    _check_answer(message, received, CT_CERT_INQ_RES, sent, trust=trust, now=now)
    require(
        (body.serial, body.cert_hash) == (sent.body.serial, sent.body.cert_hash),
        ErrorCode.CHALLENGE_MISMATCH,
        "X3",
        "answer must be about the certificate that was asked about",
    )
    require(
        not isinstance(sent.body, RevReqTBS) or body.status is not CertificateStatus.GOOD,
        ErrorCode.UNSPECIFIED_FAILURE,
        "X5",
        "certificate that is to be revoked must not be good any more",
    )
    return body


@dataclass(frozen=True, slots=True)
class CheckedRenewal:
    """How a renewal stands; `chain` (leaf first) once it is issued, else empty."""

    body: RenewResTBS
    chain: tuple[x509.Certificate, ...]


def check_renewal_answer(
    message: KwbpMessage, *, sent: SentHolderRequest, certificate: x509.Certificate, trust: Trust, now: datetime
) -> CheckedRenewal:
    """RenewRes (row 6): K1, K2, K4 to K7, then X3, X4 and X6.

    :param message: from `unwrap(…, expected=[CT_RENEW_RES])`. :param certificate: the one to be renewed.
    :raises ProtocolError: see `kwbp.checks`. :raises ValueError: `sent` is no RenewReq.
    """
    if not isinstance(sent.body, RenewReqTBS):
        raise ValueError("a renewal answers a RenewReq")
    received = read_signed(RenewResTBS, CT_RENEW_RES, message.body)
    _check_answer(message, received, CT_RENEW_RES, sent, trust=trust, now=now)
    try:
        chain = tuple(decode(x509.Certificate, der) for der in received.body.chain)
    except DerError:
        raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "X6", "must be certificates in DER") from None
    if chain:
        leaf, *above = chain
        verify_path(leaf, tuple(above), role=role_of(certificate), trust=trust, now=now, check="X6")
        key = requested_keys({"signing": sent.body.request}, check="X6")["signing"]
        require(
            spki_sha256(leaf.public_key()) == key and leaf.subject == certificate.subject,
            ErrorCode.INVALID_CERTIFICATE,
            "X6",
            "new certificate must be for the own key and name",
        )
    return CheckedRenewal(received.body, chain)


def _check_answer(
    message: KwbpMessage,
    received: Received[A],
    content_type: x509.ObjectIdentifier,
    sent: SentHolderRequest,
    *,
    trust: Trust,
    now: datetime,
) -> None:
    """K2, X3 (it answers this request), K5 and K6, X4 (signed by the registration authority), K7."""
    body, asked = received.body, sent.body
    check_header(message, content_type, rrpid=body.rrpid, xid=None)
    require(
        (body.rrpid, body.chall, body.h_request) == (asked.rrpid, asked.chall, sent.h_request),
        ErrorCode.CHALLENGE_MISMATCH,
        "X3",
        "RRPID, challenge and hash must be those of the request",
    )
    verify_service(received, RA, trust=trust, now=now, check="X4")
    check_answer(received, body.date, asked=instant(asked.date), now=now)
