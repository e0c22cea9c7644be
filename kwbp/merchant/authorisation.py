"""AuthReq and AuthAck, which the merchant signs, and AuthRes, which it judges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kwbp import fields
from kwbp.codes import AuthCode, ErrorCode, SaleKind
from kwbp.coherence import carries_references
from kwbp.common import (
    Draft,
    check_answer,
    instant,
    read_signed,
    require,
    verify_signer,
)
from kwbp.merchant.order import CheckedPurchase
from kwbp.messages import (
    AuthAckTBS,
    AuthReqTBS,
    AuthResTBS,
    InvoiceTBS,
)
from kwbp.money import Money
from kwbp.parties import gateway_data
from kwbp.wrapper import KwbpMessage, check_header
from pki.der import sha256
from pki.oids import (
    CT_AUTH_ACK,
    CT_AUTH_REQ,
    CT_AUTH_RES,
    CT_INVOICE,
)
from pki.path import Trust
from pki.roles import Role


def build_auth_req(
    purchase: CheckedPurchase, *, terminal_id: str, rrpid: bytes, now: datetime, attempt: int = 1
) -> Draft[AuthReqTBS]:
    """AuthReq (row 13), to be signed by the merchant. `captureNow` is what the buyer agreed to (`saleKind`).

    To repeat a request, send the same SignedData again; another one for the same XID is refused by the gateway (G3).

    :param rrpid: 20 fresh random bytes. :param terminal_id: DE 41.
    """
    invoice = purchase.issued.invoice
    body = AuthReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=invoice.xid,
        merchant_id=invoice.merchant_id,
        terminal_id=terminal_id,
        amount=invoice.amount,
        capture_now=purchase.dual.sale_kind is SaleKind.SALE,
        h_oi_data=purchase.h_oi_data,
        hod=invoice.hod,
        invoice=purchase.issued.signed,
        dual_sig=purchase.dual_signature,
        pi_envelope=purchase.pi_envelope,
        date=fields.to_time(now),
        attempt=attempt,
    )
    return Draft.of(CT_AUTH_REQ, body, rrpid=rrpid, xid=invoice.xid)


@dataclass(frozen=True, slots=True)
class SentAuthReq:
    """What the merchant remembers of an AuthReq, to judge the answer by."""

    h_auth_req: bytes
    h_dual_sig: bytes
    rrpid: bytes
    xid: bytes
    chall_c: bytes
    amount: Money
    merchant_id: str
    mer_cert_hash: bytes
    gw_id: str
    acquirer_bin: str
    sent_at: datetime

    @classmethod
    def load(cls, signed: bytes) -> SentAuthReq:
        """Read it out of the own SignedData as it was sent, for instance from the database after a restart."""
        request = read_signed(AuthReqTBS, CT_AUTH_REQ, signed)
        invoice = read_signed(InvoiceTBS, CT_INVOICE, request.body.invoice).body
        return cls._from(request.body, request.digest, sha256(request.body.dual_sig), invoice)

    @classmethod
    def of(cls, body: AuthReqTBS, signed: bytes, purchase: CheckedPurchase) -> SentAuthReq:
        """As `load`, from what is at hand when the request is sent; `signed` is the merchant's SignedData of `body`."""
        return cls._from(body, sha256(signed), purchase.h_dual_sig, purchase.issued.invoice)

    @classmethod
    def _from(cls, body: AuthReqTBS, h_auth_req: bytes, h_dual_sig: bytes, invoice: InvoiceTBS) -> SentAuthReq:
        return cls(
            h_auth_req=h_auth_req,
            h_dual_sig=h_dual_sig,
            rrpid=body.rrpid,
            xid=body.xid,
            chall_c=invoice.chall_c,
            amount=body.amount,
            merchant_id=body.merchant_id,
            mer_cert_hash=invoice.mer_cert_hash,
            gw_id=invoice.gw_id,
            acquirer_bin=invoice.acquirer_bin,
            sent_at=instant(body.date),
        )


@dataclass(frozen=True, slots=True)
class CheckedAuthRes:
    """An AuthRes that passed every check of row 14. `signed` is the gateway's SignedData, `digest` its SHA-256."""

    body: AuthResTBS
    signed: bytes
    digest: bytes

    @property
    def approved(self) -> bool:
        """The money is on its way, provided that the gateway gets the AuthAck in time."""
        return self.body.auth_code is AuthCode.APPROVED


def check_auth_res(message: KwbpMessage, *, sent: SentAuthReq, trust: Trust, now: datetime) -> CheckedAuthRes:
    """AuthRes (row 14): K1, K2, K4 to K6, then A1 to A7.

    The gateway sends a stored answer again, byte for byte; therefore its age has no limit but the request. An approval
    whose `ackBy` has passed is refused with ackTimeout: the gateway has reversed it, or will.

    :param message: from `unwrap(…, expected=[CT_AUTH_RES])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(AuthResTBS, CT_AUTH_RES, message.body)
    body = received.body
    check_header(message, CT_AUTH_RES, rrpid=body.rrpid, xid=body.xid)
    verify_signer(received, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    require(
        body.h_auth_req == sent.h_auth_req, ErrorCode.HASH_MISMATCH, "A1", "hAuthReq must be the hash of the request"
    )
    require(
        (body.merchant_id, body.mer_cert_hash) == (sent.merchant_id, sent.mer_cert_hash),
        ErrorCode.INVOICE_MISMATCH,
        "A2",
        "answer must name this merchant and its certificate",
    )
    require(
        (body.rrpid, body.xid, body.chall_c, body.h_dual_sig) == (sent.rrpid, sent.xid, sent.chall_c, sent.h_dual_sig),
        ErrorCode.CHALLENGE_MISMATCH,
        "A3",
        "RRPID, XID, Chall-C and hDualSig must be those of the request",
    )
    require(body.amount == sent.amount, ErrorCode.AMOUNT_MISMATCH, "A4", "amount must be that of the request")
    require(
        carries_references(body),
        ErrorCode.DECODING_FAILURE,
        "A5",
        "an approval must carry rc, stan, rrn and maskedPan",
    )
    signer = gateway_data(received.signer)
    require(
        (signer.gateway_id, signer.acquirer_bin) == (body.gw_id, body.acquirer_id) == (sent.gw_id, sent.acquirer_bin),
        ErrorCode.GATEWAY_MISMATCH,
        "A6",
        "answer must come from the gateway that the invoice names",
    )
    check_answer(received, body.date, asked=sent.sent_at, now=now, check="A7")
    require(
        body.auth_code is not AuthCode.APPROVED or now <= instant(body.ack_by),
        ErrorCode.ACK_TIMEOUT,
        "A7",
        "an approval must still be open for acknowledgement",
    )
    return CheckedAuthRes(body=body, signed=message.body, digest=received.digest)


def build_auth_ack(answer: CheckedAuthRes, *, accepted: bool, now: datetime) -> Draft[AuthAckTBS]:
    """AuthAck (row 15), to be signed by the merchant. It closes the exchange, therefore has its RRPID.

    :param accepted: False to have an approval reversed at once: the merchant cannot deliver after all.
    """
    body = AuthAckTBS(
        version=fields.VERSION,
        rrpid=answer.body.rrpid,
        xid=answer.body.xid,
        merchant_id=answer.body.merchant_id,
        h_auth_res=answer.digest,
        accepted=accepted,
        date=fields.to_time(now),
    )
    return Draft.of(CT_AUTH_ACK, body, rrpid=body.rrpid, xid=body.xid)
