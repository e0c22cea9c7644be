"""AuthRes, which the gateway signs, and AuthAck, which it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kwbp import fields
from kwbp.codes import AuthCode, ErrorCode
from kwbp.coherence import carries_references
from kwbp.common import (
    Draft,
    check_live,
    instant,
    read_signed,
    require,
    verify_signer,
)
from kwbp.gateway.request import ReceivedAuthReq, VerifiedAuthReq
from kwbp.messages import AuthAckTBS, AuthResTBS
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.wrapper import KwbpMessage, check_header
from pki.oids import CT_AUTH_ACK, CT_AUTH_RES
from pki.path import Trust
from pki.roles import Role


def build_auth_res(
    request: VerifiedAuthReq | ReceivedAuthReq,
    *,
    gateway: GatewayIdentity,
    auth_code: AuthCode,
    now: datetime,
    ack_by: datetime,
    rc: str | None = None,
    stan: str | None = None,
    rrn: str | None = None,
    approval: str | None = None,
    masked_pan: str | None = None,
    settle_date: str | None = None,
    cap_token: bytes | None = None,
) -> Draft[AuthResTBS]:
    """AuthRes (row 14), to be signed by the gateway's signature key.

    :param request: verified, or only received: an order that was never verified can be answered, but not approved.
    :param ack_by: until when the merchant must acknowledge an approval.
    :param rc: DE 39. :param stan: DE 11. :param rrn: DE 37. :param approval: DE 38. :param settle_date: DE 15, MMDD.
    :param masked_pan: `Pan.masked`.
    :raises ValueError: approval of an unverified order, or without `rc`, `stan`, `rrn` and `masked_pan`.
    """
    if auth_code is AuthCode.APPROVED and not isinstance(request, VerifiedAuthReq):
        raise ValueError("only a verified order can be approved")
    received = request.received if isinstance(request, VerifiedAuthReq) else request
    asked, invoice = received.request.body, received.invoice.body
    body = AuthResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        xid=asked.xid,
        chall_c=invoice.chall_c,
        merchant_id=asked.merchant_id,
        mer_cert_hash=invoice.mer_cert_hash,
        h_auth_req=received.digest,
        h_dual_sig=received.dual.digest,
        amount=asked.amount,
        auth_code=auth_code,
        rc=rc,
        stan=stan,
        rrn=rrn,
        approval=approval,
        masked_pan=masked_pan,
        settle_date=settle_date,
        gw_id=gateway.gateway_id,
        acquirer_id=gateway.acquirer_bin,
        date=fields.to_time(now),
        ack_by=fields.to_time(ack_by),
        cap_token=cap_token,
    )
    if not carries_references(body):
        raise ValueError("an approval carries rc, stan, rrn and masked_pan")
    return Draft.of(CT_AUTH_RES, body, rrpid=body.rrpid, xid=body.xid)


@dataclass(frozen=True, slots=True)
class SentAuthRes:
    """What the gateway remembers of an answer, to judge the acknowledgement by."""

    h_auth_res: bytes
    rrpid: bytes
    xid: bytes
    merchant_id: str
    ack_by: datetime

    @classmethod
    def load(cls, signed: bytes) -> SentAuthRes:
        """Read it out of the own SignedData as it was sent."""
        answer = read_signed(AuthResTBS, CT_AUTH_RES, signed)
        body = answer.body
        return cls(
            h_auth_res=answer.digest,
            rrpid=body.rrpid,
            xid=body.xid,
            merchant_id=body.merchant_id,
            ack_by=instant(body.ack_by),
        )


def check_auth_ack(message: KwbpMessage, *, sent: SentAuthRes, trust: Trust, now: datetime) -> AuthAckTBS:
    """AuthAck (row 15): K1, K2, K4 to K7, then B1 to B3. Look at `accepted`: False asks for a reversal at once.

    The merchant may have renewed its certificate since the request; its merchant id must be the same.

    :param message: from `unwrap(…, expected=[CT_AUTH_ACK])`.
    :raises ProtocolError: see `kwbp.checks`; ackTimeout after `ackBy`.
    """
    received = read_signed(AuthAckTBS, CT_AUTH_ACK, message.body)
    body = received.body
    check_header(message, CT_AUTH_ACK, rrpid=body.rrpid, xid=body.xid)
    verify_signer(received, role=Role.MERCHANT, trust=trust, now=now)
    check_live(received, body.date, now=now)
    require(
        MerchantIdentity.of(received.signer).merchant_id == body.merchant_id == sent.merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "B1",
        "acknowledgement must be signed by the merchant of the order",
    )
    require(
        (body.h_auth_res, body.rrpid, body.xid) == (sent.h_auth_res, sent.rrpid, sent.xid),
        ErrorCode.HASH_MISMATCH,
        "B2",
        "acknowledgement must be of the answer that was sent",
    )
    require(now <= sent.ack_by, ErrorCode.ACK_TIMEOUT, "B3", "acknowledgement must come before ackBy")
    return body
