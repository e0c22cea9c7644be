"""OTPReq as the wallet makes it, and how it judges OTPRes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import check_answer, instant, read_signed, require, verify_signer
from kwbp.money import Money
from kwbp.parties import GatewayIdentity, gateway_data
from kwbp.password.messages import OTPReqTBS, OTPResTBS
from kwbp.structure import encode
from kwbp.wallet import Card, CheckedInvoice
from kwbp.wrapper import KwbpMessage, check_header, wrap
from pki.cms_enveloped import seal
from pki.der import sha256
from pki.oids import CT_OTP_REQ, CT_OTP_RES
from pki.path import Trust
from pki.roles import Role

LONGEST_VALIDITY: Final = timedelta(minutes=10)
"""How long a password may be good for, by the wallet's judgement; it is meant for the purchase under way."""


@dataclass(frozen=True, slots=True, repr=False)
class PasswordRequestDraft:
    """A content to be signed by the card and then sealed. Has no repr: the card number is in it."""

    content_type: x509.ObjectIdentifier
    body: OTPReqTBS
    content: bytes


def build_password_request(
    checked: CheckedInvoice, card: Card, *, rrpid: bytes, now: datetime, rng: Callable[[int], bytes]
) -> PasswordRequestDraft:
    """OTPReq (row 11), to be signed by the card and then sealed: `seal_password_request`.

    :param rrpid: 20 fresh random bytes. :param rng: gives n random bytes.
    :raises ProtocolError: invoiceExpired (W8).
    """
    invoice = checked.invoice
    require(now <= instant(invoice.not_after), ErrorCode.INVOICE_EXPIRED, "W8", "invoice must be in force")
    body = OTPReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=invoice.xid,
        merchant_id=invoice.merchant_id,
        gw_id=invoice.gw_id,
        gw_cert_hash=invoice.gw_cert_hash,
        amount=invoice.amount,
        invoice_hash=checked.invoice_hash,
        pan=card.pan.reveal(),
        expiry=card.expiry.reveal(),
        pan_secret=card.pan_secret,
        ex_nonce=rng(32),
        date=fields.to_time(now),
    )
    return PasswordRequestDraft(CT_OTP_REQ, body, encode(body))


@dataclass(frozen=True, slots=True)
class SentPasswordRequest:
    """What the wallet remembers of its request, to judge the answer by, and the message as it is sent."""

    message: bytes
    h_otp_req: bytes
    rrpid: bytes
    xid: bytes
    merchant_id: str
    amount: Money
    gw_id: str
    acquirer_bin: str
    sent_at: datetime


def seal_password_request(
    draft: PasswordRequestDraft, signed: bytes, gateway: GatewayIdentity, *, rng: Callable[[int], bytes]
) -> SentPasswordRequest:
    """Seal the card's SignedData to the gateway that the invoice names."""
    body = draft.body
    envelope = seal(signed, gateway.certificate, gateway.strongest_suite, rng=rng)
    return SentPasswordRequest(
        message=wrap(CT_OTP_REQ, envelope, rrpid=body.rrpid, xid=body.xid),
        h_otp_req=sha256(envelope),
        rrpid=body.rrpid,
        xid=body.xid,
        merchant_id=body.merchant_id,
        amount=body.amount,
        gw_id=gateway.gateway_id,
        acquirer_bin=gateway.acquirer_bin,
        sent_at=instant(body.date),
    )


def check_password_answer(message: KwbpMessage, *, sent: SentPasswordRequest, trust: Trust, now: datetime) -> OTPResTBS:
    """OTPRes (row 11): K1, K2, K4 to K7, then P5 to P7.

    :param message: from `unwrap(…, expected=[CT_OTP_RES])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(OTPResTBS, CT_OTP_RES, message.body)
    body = received.body
    check_header(message, CT_OTP_RES, rrpid=body.rrpid, xid=body.xid)
    require(
        (body.rrpid, body.xid, body.merchant_id, body.amount, body.h_otp_req)
        == (sent.rrpid, sent.xid, sent.merchant_id, sent.amount, sent.h_otp_req),
        ErrorCode.CHALLENGE_MISMATCH,
        "P5",
        "RRPID, XID, merchant, amount and hash must be those of the request",
    )
    verify_signer(received, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    check_answer(received, body.date, asked=sent.sent_at, now=now)
    signer = gateway_data(received.signer)
    require(
        (signer.gateway_id, signer.acquirer_bin) == (sent.gw_id, sent.acquirer_bin),
        ErrorCode.GATEWAY_MISMATCH,
        "P6",
        "answer must come from the gateway that the request was sealed to",
    )
    until = instant(body.valid_until)
    require(
        now < until <= instant(body.date) + LONGEST_VALIDITY,
        ErrorCode.INVOICE_EXPIRED,
        "P7",
        "password must be good now, and not for long",
    )
    return body
