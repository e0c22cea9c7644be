"""OTPReq on its way through the merchant and at the gateway, OTPRes, and what a password is good for."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.commitment import commitment_cn
from kwbp.common import Draft, Received, check_live, instant, read_envelope, read_signed, require, verify_signer
from kwbp.errors import CommitmentError, ProtocolError, SealedPasswordRequestError
from kwbp.messages import InvoiceTBS
from kwbp.money import Money
from kwbp.parties import GatewayIdentity
from kwbp.password.messages import OTPReqTBS, OTPResTBS
from kwbp.wrapper import KwbpMessage, check_header
from pki.cms_enveloped import AuthEnveloped
from pki.der import sha256
from pki.errors import CertificateError
from pki.names import common_name
from pki.oids import CT_OTP_REQ, CT_OTP_RES
from pki.path import Trust
from pki.roles import Role
from shetab.errors import ValueFormatError
from shetab.types import Expiry, Pan


def check_passed_on(message: KwbpMessage, *, invoice: InvoiceTBS, gateway: GatewayIdentity, now: datetime) -> None:
    """P1: what the merchant can see of an OTPReq: it is about its invoice, and sealed to the gateway of that.

    :param message: from `unwrap(…, expected=[CT_OTP_REQ])`. :param invoice: the one of the message's XID.
    :raises ProtocolError: K4 for another structure; unknownXID, invoiceExpired, envelopeMismatch at P1.
    """
    envelope = read_envelope(message.body)
    require(message.xid == invoice.xid, ErrorCode.UNKNOWN_XID, "P1", "request must be about the invoice")
    require(now <= instant(invoice.not_after), ErrorCode.INVOICE_EXPIRED, "P1", "invoice must be in force")
    require(
        envelope.is_for(gateway.certificate),
        ErrorCode.ENVELOPE_MISMATCH,
        "P1",
        "request must be sealed to the gateway that the invoice names",
    )


def receive_password_request(message: KwbpMessage, gateway: GatewayIdentity) -> AuthEnveloped:
    """K4 and P2: an envelope for this gateway. It is opened next, by the token.

    :param message: from `unwrap(…, expected=[CT_OTP_REQ])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    envelope = read_envelope(message.body)
    require(
        envelope.is_for(gateway.certificate),
        ErrorCode.ENVELOPE_MISMATCH,
        "P2",
        "request must be sealed to this gateway's certificate",
    )
    return envelope


@dataclass(frozen=True, slots=True)
class PasswordBinding:
    """What a password is good for. `valid_until` aware UTC."""

    xid: bytes
    merchant_id: str
    amount: Money
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class AskedPassword:
    """What a request asks a password for, without the card. `h_otp_req` is SHA-256 of the envelope."""

    rrpid: bytes
    xid: bytes
    merchant_id: str
    amount: Money
    h_otp_req: bytes


@dataclass(frozen=True, slots=True, repr=False)
class CheckedPasswordRequest:
    """A request of the card that it names. Has no repr. `chain` are the certificates that came with it."""

    asked: AskedPassword
    pan: Pan
    expiry: Expiry
    card_certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


def check_password_request(
    plaintext: bytes,
    message: KwbpMessage,
    *,
    gateway: GatewayIdentity,
    tls_merchant_id: str,
    accepts_bin: Callable[[str], bool],
    trust: Trust,
    now: datetime,
    check_revocation: bool = True,
) -> CheckedPasswordRequest:
    """OTPReq (row 11) as it was opened: K1, K4, K2, K5 to K7, then P3 and P4.

    :param plaintext: what the envelope held: the card's SignedData.
    :param tls_merchant_id: the merchant that passed it on.
    :param accepts_bin: whether the issuer of a card, by its first six digits, is served.
    :param check_revocation: False where CRLs are not at hand; then revocation is the caller's to check.
    :raises SealedPasswordRequestError: it is no SignedData, or about another card: the same to outsiders, as if it had
        not opened. :raises ProtocolError: see `kwbp.checks`.
    """
    try:
        received = read_signed(OTPReqTBS, CT_OTP_REQ, plaintext)
    except ProtocolError as error:
        raise SealedPasswordRequestError(error.code, "P3", "opened data must be a signed OTPReq") from None
    body = received.body
    check_header(message, CT_OTP_REQ, rrpid=body.rrpid, xid=body.xid)
    verify_signer(received, role=Role.CARDHOLDER, trust=trust, now=now, check_revocation=check_revocation)
    check_live(received, body.date, now=now)
    require(
        (body.gw_id, body.gw_cert_hash) == (gateway.gateway_id, gateway.cert_hash),
        ErrorCode.GATEWAY_MISMATCH,
        "P3",
        "request must name this gateway and the certificate that it was sealed to",
    )
    require(
        body.merchant_id == tls_merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "P3",
        "request must be passed on by the merchant that it names",
    )
    pan, expiry = _card_of(received, accepts_bin)
    asked = AskedPassword(body.rrpid, body.xid, body.merchant_id, body.amount, sha256(message.body))
    return CheckedPasswordRequest(asked, pan, expiry, received.signer, received.signed.certificates)


def _card_of(received: Received[OTPReqTBS], accepts_bin: Callable[[str], bool]) -> tuple[Pan, Expiry]:
    """P4: the card is the one that the certificate commits to, as G10 asks it of an order."""
    body = received.body
    try:
        pan, expiry = Pan(body.pan), Expiry(body.expiry)
        expected = commitment_cn(body.pan_secret, pan, expiry)
        named = common_name(received.signer.subject)
    except (ValueFormatError, CommitmentError, CertificateError):
        raise SealedPasswordRequestError(ErrorCode.ACCOUNT_BINDING_FAILURE, "P4", "card data must be in form") from None
    if not hmac.compare_digest(expected.encode(), named.encode()) or not accepts_bin(pan.bin):
        raise SealedPasswordRequestError(
            ErrorCode.ACCOUNT_BINDING_FAILURE, "P4", "card must be the one in the certificate, of a served issuer"
        )
    return pan, expiry


def build_password_answer(
    asked: AskedPassword, *, sent_to: str, valid_until: datetime, now: datetime
) -> Draft[OTPResTBS]:
    """OTPRes (row 11), to be signed by the gateway once the card's bank has sent the password.

    :param sent_to: the masked telephone number, as the bank gave it.
    :raises ProtocolError: decodingFailure (K1): what the bank gave is in no form that may be passed on.
    """
    body = OTPResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        xid=asked.xid,
        merchant_id=asked.merchant_id,
        amount=asked.amount,
        h_otp_req=asked.h_otp_req,
        sent_to=sent_to,
        valid_until=fields.to_time(valid_until),
        date=fields.to_time(now),
    )
    body.validate()
    return Draft.of(CT_OTP_RES, body, rrpid=body.rrpid, xid=body.xid)


def require_bound(binding: PasswordBinding, *, xid: bytes, merchant_id: str, amount: Money, now: datetime) -> None:
    """P8: a payment that offers a password in the place of PIN2 is the one that the password was given for.

    Judged by the card's bank, which alone knows the password; XID, merchant and amount are those of the order that the
    gateway has verified (G7).

    :raises ProtocolError: invoiceMismatch, amountMismatch; invoiceExpired for a password that is no longer good.
    """
    require(
        (xid, merchant_id) == (binding.xid, binding.merchant_id),
        ErrorCode.INVOICE_MISMATCH,
        "P8",
        "password must be used for the purchase and merchant that it was given for",
    )
    require(amount == binding.amount, ErrorCode.AMOUNT_MISMATCH, "P8", "password must be used for the amount")
    require(now < binding.valid_until, ErrorCode.INVOICE_EXPIRED, "P8", "password must still be good")
