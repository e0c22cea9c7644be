"""Rows 1 and 4: CardCInitReq/Res and MerInitReq/Res: which authority this is, which statement holds, a challenge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import Draft, check_answer, read_signed, require, verify_path
from kwbp.registration.certificates import read_certificate
from kwbp.registration.messages import InitReq, InitResTBS
from kwbp.registration.signers import RA, verify_service
from kwbp.structure import decode, encode
from kwbp.wrapper import KwbpMessage, check_header, wrap
from pki.oids import CT_CARD_INIT_RES, CT_MER_INIT_RES, MT_CARD_INIT_REQ, MT_MER_INIT_REQ
from pki.path import Trust
from pki.roles import Role

_ANSWERS: Final = {MT_CARD_INIT_REQ: CT_CARD_INIT_RES, MT_MER_INIT_REQ: CT_MER_INIT_RES}
_ISSUERS: Final = {MT_CARD_INIT_REQ: Role.CARDHOLDER_CA, MT_MER_INIT_REQ: Role.MERCHANT_CA}


@dataclass(frozen=True, slots=True)
class InitRequest:
    """An InitReq as it was sent or came in; `message` is the whole DER, `message_type` says whose it is."""

    message_type: x509.ObjectIdentifier
    body: InitReq
    message: bytes

    @property
    def issuer_role(self) -> Role:
        """Of the CA that certifies this kind of applicant."""
        return _ISSUERS[self.message_type]


def build_init_request(
    message_type: x509.ObjectIdentifier, *, rrpid: bytes, chall_ee: bytes, brand_id: str, thumbs: Sequence[bytes]
) -> InitRequest:
    """CardCInitReq (MT_CARD_INIT_REQ) or MerInitReq (MT_MER_INIT_REQ); not signed.

    :param thumbs: SHA-256 of the root certificates that the asker holds.
    :raises ProtocolError: a field is out of form (K1).
    """
    body = InitReq(version=fields.VERSION, rrpid=rrpid, chall_ee=chall_ee, brand_id=brand_id, thumbs=list(thumbs))
    return InitRequest(message_type, body, wrap(message_type, encode(body), rrpid=rrpid))


def receive_init_request(message: KwbpMessage, *, brands: Collection[str], roots: Collection[bytes]) -> InitRequest:
    """InitReq: K1, K2, then C1.

    :param message: from `unwrap(…, expected=[MT_CARD_INIT_REQ, MT_MER_INIT_REQ])`.
    :param roots: SHA-256 of the root certificates of this authority.
    :raises ProtocolError: messageNotSupported for another brand, thumbsMismatch if the asker trusts none of our roots.
    """
    body = decode(InitReq, message.body)
    check_header(message, message.msg_type, rrpid=body.rrpid, xid=None)
    require(body.brand_id in brands, ErrorCode.MESSAGE_NOT_SUPPORTED, "C1", "brand must be one that is served here")
    require(
        not set(roots).isdisjoint(body.thumbs), ErrorCode.THUMBS_MISMATCH, "C1", "asker must hold a root of this brand"
    )
    return InitRequest(message.msg_type, body, encode(message))


def build_init_response(
    request: InitRequest,
    *,
    chall_ca: bytes,
    issuer: x509.Certificate,
    cps: tuple[str, str, bytes],
    now: datetime,
) -> Draft[InitResTBS]:
    """InitRes, to be signed by the registration authority.

    :param cps: id, version and digest (32 bytes) of the statement in force.
    """
    cps_id, cps_version, cps_digest = cps
    body = InitResTBS(
        version=fields.VERSION,
        rrpid=request.body.rrpid,
        chall_ee=request.body.chall_ee,
        chall_ca=chall_ca,
        issuer_certificate=issuer.public_bytes(Encoding.DER),
        cps_id=cps_id,
        cps_version=cps_version,
        cps_digest=cps_digest,
        date=fields.to_time(now),
    )
    return Draft.of(_ANSWERS[request.message_type], body, rrpid=request.body.rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class CheckedInit:
    """An InitRes that holds; `issuer` is the CA that will certify."""

    body: InitResTBS
    issuer: x509.Certificate


def check_init_response(
    message: KwbpMessage, *, request: InitRequest, asked: datetime, trust: Trust, now: datetime
) -> CheckedInit:
    """InitRes: K1, K2, K4 to K7, then D1, D2, D6.

    :param message: from `unwrap(…, expected=[CT_CARD_INIT_RES])`, or of a merchant.
    :raises ProtocolError: see `kwbp.checks`.
    """
    content_type = _ANSWERS[request.message_type]
    received = read_signed(InitResTBS, content_type, message.body)
    body = received.body
    issuer = read_certificate(body.issuer_certificate)
    check_header(message, content_type, rrpid=body.rrpid, xid=None)
    verify_service(received, RA, trust=trust, now=now, check="D2")
    check_answer(received, body.date, asked=asked, now=now)
    require(
        (body.rrpid, body.chall_ee) == (request.body.rrpid, request.body.chall_ee),
        ErrorCode.CHALLENGE_MISMATCH,
        "D1",
        "RRPID and challenge must be those of the request",
    )
    verify_path(issuer, (), role=request.issuer_role, trust=trust, now=now, check="D6")
    return CheckedInit(body, issuer)
