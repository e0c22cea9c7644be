"""InqRes: where a purchase stands, said by the gateway or the merchant, and how the asker judges that.

The gateway's word is the one that counts: it alone knows what the network did. A merchant passes it on; about money
that goes back it can say nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from kwbp import fields
from kwbp.codes import ErrorCode, PurchaseStatus
from kwbp.coherence import tells_one_story
from kwbp.common import Draft, Received, check_answer, check_not_future, instant, read_signed, require, verify_signer
from kwbp.inquiry.messages import InqResTBS
from kwbp.inquiry.request import CheckedInquiry, SentInquiry
from kwbp.messages import AuthResTBS
from kwbp.parties import MerchantIdentity, gateway_data
from kwbp.wrapper import KwbpMessage, check_header, unwrap
from pki.oids import CT_AUTH_RES, CT_ERROR, CT_INQ_RES
from pki.path import Trust
from pki.roles import Role

GIVEN_BACK: Final = frozenset({PurchaseStatus.REVERSING, PurchaseStatus.REVERSED, PurchaseStatus.UNSETTLED})
"""What a merchant may say only with the gateway's own InqRes beside it."""


def build_inquiry_answer(
    inquiry: CheckedInquiry,
    *,
    status: PurchaseStatus,
    now: datetime,
    result: bytes | None = None,
    gateway_status: bytes | None = None,
) -> Draft[InqResTBS]:
    """InqRes (row 18), to be signed by the gateway or the merchant that was asked.

    :param result: the KwbpMessage (DER) that answered the order. :param gateway_status: see `InqResTBS`.
    """
    asked = inquiry.body
    body = InqResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        xid=asked.xid,
        merchant_id=asked.merchant_id,
        chall=asked.chall,
        h_inq_req=inquiry.received.digest,
        status=status,
        result=result,
        gateway_status=gateway_status,
        date=fields.to_time(now),
    )
    return Draft.of(CT_INQ_RES, body, rrpid=body.rrpid, xid=body.xid)


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """What the gateway says of a purchase. `signed` is its SignedData; `result` the answer that it gave the order.

    `auth_res` is None where there is no answer yet, or the order was refused with an Error.
    """

    status: PurchaseStatus
    signed: bytes
    result: KwbpMessage | None
    auth_res: AuthResTBS | None
    date: datetime


def check_gateway_status(
    message: KwbpMessage, *, sent: SentInquiry, gateway_id: str, acquirer_bin: str, trust: Trust, now: datetime
) -> GatewayStatus:
    """InqRes from a gateway (row 18): K1, K2, K4 to K7, then U1 to U3.

    :param message: from `unwrap(…, expected=[CT_INQ_RES])`.
    :param gateway_id: with `acquirer_bin` the gateway that the invoice names; nobody else's word counts.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(InqResTBS, CT_INQ_RES, message.body)
    _check_asked(message, received, sent)
    return read_gateway_status(
        message.body,
        xid=sent.xid,
        merchant_id=sent.merchant_id,
        gateway_id=gateway_id,
        acquirer_bin=acquirer_bin,
        asked=sent.sent_at,
        trust=trust,
        now=now,
    )


def read_gateway_status(
    signed: bytes,
    *,
    xid: bytes,
    merchant_id: str,
    gateway_id: str,
    acquirer_bin: str,
    asked: datetime,
    trust: Trust,
    now: datetime,
) -> GatewayStatus:
    """A gateway's InqRes (SignedData) that somebody else asked for: K4 to K7, U2 and U3, and what it is about.

    :param asked: an instant that the answer must not be older than.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(InqResTBS, CT_INQ_RES, signed)
    body = received.body
    verify_signer(received, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    check_answer(received, body.date, asked=asked, now=now)
    require(
        (body.xid, body.merchant_id) == (xid, merchant_id),
        ErrorCode.INVOICE_MISMATCH,
        "U1",
        "answer must be about this purchase and merchant",
    )
    _require_gateway(received.signer, gateway_id, acquirer_bin)
    result, auth_res = _result(body, gateway_id, acquirer_bin, trust=trust, now=now)
    require(
        body.gateway_status is None and tells_one_story(body.status, has_result=result is not None, auth_res=auth_res),
        ErrorCode.INVOICE_MISMATCH,
        "U3",
        "status must agree with the answer that was given",
    )
    return GatewayStatus(body.status, signed, result, auth_res, instant(body.date))


@dataclass(frozen=True, slots=True)
class MerchantStatus:
    """What the merchant says of a purchase, and the gateway's word that it rests on.

    `result` is the answer that the merchant gave the order, a Receipt or an Error, to be judged as when it came.
    """

    status: PurchaseStatus
    signed: bytes
    result: bytes | None
    gateway: GatewayStatus | None


def check_merchant_status(
    message: KwbpMessage,
    *,
    sent: SentInquiry,
    gateway_id: str,
    acquirer_bin: str,
    ordered_at: datetime,
    trust: Trust,
    now: datetime,
) -> MerchantStatus:
    """InqRes from a merchant (row 18): K1, K2, K4 to K7 on its signature and on the gateway's inside, then U1 to U3.

    :param message: from `unwrap(…, expected=[CT_INQ_RES])`.
    :param gateway_id: with `acquirer_bin` the gateway that the card data were sealed to.
    :param ordered_at: when the order was signed: the gateway cannot have said anything about it before.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(InqResTBS, CT_INQ_RES, message.body)
    body = received.body
    _check_asked(message, received, sent)
    verify_signer(received, role=Role.MERCHANT, trust=trust, now=now)
    check_answer(received, body.date, asked=sent.sent_at, now=now)
    require(
        MerchantIdentity.of(received.signer).merchant_id == sent.merchant_id,
        ErrorCode.INVOICE_MISMATCH,
        "U2",
        "answer must be signed by the merchant of the purchase",
    )
    gateway = None
    if body.gateway_status is not None:
        gateway = read_gateway_status(
            body.gateway_status,
            xid=sent.xid,
            merchant_id=sent.merchant_id,
            gateway_id=gateway_id,
            acquirer_bin=acquirer_bin,
            asked=ordered_at,
            trust=trust,
            now=now,
        )
    told = gateway.status if gateway is not None else None
    require(
        body.status == told if body.status in GIVEN_BACK else (body.status is PurchaseStatus.CONCLUDED) == _has(body),
        ErrorCode.INVOICE_MISMATCH,
        "U3",
        "merchant must say what the gateway says, and show its own answer once there is one",
    )
    return MerchantStatus(body.status, message.body, body.result, gateway)


def _has(body: InqResTBS) -> bool:
    return body.result is not None


def _check_asked(message: KwbpMessage, received: Received[InqResTBS], sent: SentInquiry) -> None:
    """K2 and U1: it answers this inquiry."""
    body = received.body
    check_header(message, CT_INQ_RES, rrpid=body.rrpid, xid=body.xid)
    require(
        (body.rrpid, body.xid, body.merchant_id, body.chall, body.h_inq_req)
        == (sent.rrpid, sent.xid, sent.merchant_id, sent.chall, sent.h_inq_req),
        ErrorCode.CHALLENGE_MISMATCH,
        "U1",
        "RRPID, XID, merchant, challenge and hash must be those of the inquiry",
    )


def _require_gateway(signer: x509.Certificate, gateway_id: str, acquirer_bin: str) -> None:
    data = gateway_data(signer)
    require(
        (data.gateway_id, data.acquirer_bin) == (gateway_id, acquirer_bin),
        ErrorCode.GATEWAY_MISMATCH,
        "U2",
        "answer must come from the gateway that the invoice names",
    )


def _result(
    body: InqResTBS, gateway_id: str, acquirer_bin: str, *, trust: Trust, now: datetime
) -> tuple[KwbpMessage | None, AuthResTBS | None]:
    """The answer that the gateway gave the order: signed by the same gateway, about the same purchase (U3)."""
    if body.result is None:
        return None, None
    message = unwrap(body.result, expected=(CT_AUTH_RES, CT_ERROR))
    if message.msg_type == CT_ERROR:
        return message, None
    answer = read_signed(AuthResTBS, CT_AUTH_RES, message.body)
    verify_signer(answer, role=Role.GATEWAY_SIGNING, trust=trust, now=now, path_check="U3", signature_check="U3")
    check_not_future(answer, now=now, check="U3")
    _require_gateway(answer.signer, gateway_id, acquirer_bin)
    require(
        (answer.body.xid, answer.body.merchant_id) == (body.xid, body.merchant_id),
        ErrorCode.INVOICE_MISMATCH,
        "U3",
        "answer that was given must be about the same purchase",
    )
    return message, answer.body
