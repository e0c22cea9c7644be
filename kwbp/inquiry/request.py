"""InqReq: what a party signs to ask, and how the asked one knows that it is a party."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import Draft, Received, check_live, instant, read_signed, require, verify_signer
from kwbp.errors import ProtocolError
from kwbp.inquiry.messages import InqReqTBS
from kwbp.parties import MerchantIdentity
from kwbp.wrapper import KwbpMessage, check_header
from pki.errors import CertificateError
from pki.names import common_name
from pki.oids import CT_INQ_REQ
from pki.path import Trust
from pki.roles import Role, role_of

_ASKERS: Final = (Role.CARDHOLDER, Role.MERCHANT)


def build_inquiry(*, rrpid: bytes, xid: bytes, merchant_id: str, chall: bytes, now: datetime) -> Draft[InqReqTBS]:
    """InqReq (row 18), to be signed by the card, or the merchant, of the purchase.

    :param rrpid: 20 fresh random bytes. :param chall: 32 fresh random bytes.
    """
    body = InqReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=xid,
        merchant_id=merchant_id,
        chall=chall,
        date=fields.to_time(now),
    )
    return Draft.of(CT_INQ_REQ, body, rrpid=rrpid, xid=xid)


@dataclass(frozen=True, slots=True)
class SentInquiry:
    """What the asker remembers of an inquiry, to judge the answer by."""

    h_inq_req: bytes
    rrpid: bytes
    xid: bytes
    merchant_id: str
    chall: bytes
    sent_at: datetime

    @classmethod
    def load(cls, signed: bytes) -> SentInquiry:
        """Read it out of the own SignedData as it was sent."""
        received = read_signed(InqReqTBS, CT_INQ_REQ, signed)
        body = received.body
        return cls(received.digest, body.rrpid, body.xid, body.merchant_id, body.chall, instant(body.date))


@dataclass(frozen=True, slots=True)
class CheckedInquiry:
    """An inquiry that its signer made just now. Whether the signer is a party to the purchase is not said (Q1)."""

    received: Received[InqReqTBS]
    role: Role

    @property
    def body(self) -> InqReqTBS:
        """What is asked."""
        return self.received.body

    @property
    def signer(self) -> x509.Certificate:
        """Who asks."""
        return self.received.signer


def check_inquiry(message: KwbpMessage, *, trust: Trust, now: datetime) -> CheckedInquiry:
    """InqReq (row 18): K1, K2, K4 to K7. Then comes Q1, which needs the purchase: `require_card`, `require_merchant`.

    :param message: from `unwrap(…, expected=[CT_INQ_REQ])`.
    :raises ProtocolError: see `kwbp.checks`; roleNotAllowed for a signer who is neither card nor merchant.
    """
    received = read_signed(InqReqTBS, CT_INQ_REQ, message.body)
    body = received.body
    check_header(message, CT_INQ_REQ, rrpid=body.rrpid, xid=body.xid)
    try:
        role = role_of(received.signer)
    except CertificateError as error:
        raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "K5", f"asker has no role ({error.reason})") from None
    require(role in _ASKERS, ErrorCode.ROLE_NOT_ALLOWED, "K5", "asker must be a card or a merchant")
    verify_signer(received, role=role, trust=trust, now=now)
    check_live(received, body.date, now=now)
    return CheckedInquiry(received, role)


def require_merchant(inquiry: CheckedInquiry, merchant_id: str) -> None:
    """Q1: the merchant of the purchase asks. It may have renewed its certificate since.

    :raises ProtocolError: roleNotAllowed.
    """
    require(
        inquiry.role is Role.MERCHANT
        and MerchantIdentity.of(inquiry.signer).merchant_id == inquiry.body.merchant_id == merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "Q1",
        "asker must be the merchant of the purchase",
    )


def require_card(inquiry: CheckedInquiry, card: x509.Certificate, *, merchant_id: str) -> None:
    """Q1: the card that the purchase was made with asks, at the merchant where it was made.

    Its certificate may be a newer one: the common name commits to the card (KWBP, "How the cardholder certificate
    commits to the card"), and the CA certifies it for the holder of the card alone.

    :param card: the certificate that signed the invoice request, and the order if there is one.
    :raises ProtocolError: roleNotAllowed.
    """
    require(
        inquiry.role is Role.CARDHOLDER
        and _commitment(inquiry.signer) == _commitment(card)
        and inquiry.body.merchant_id == merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "Q1",
        "asker must be the card of the purchase",
    )


def _commitment(certificate: x509.Certificate) -> str:
    try:
        return common_name(certificate.subject)
    except CertificateError as error:
        raise ProtocolError(
            ErrorCode.INVALID_CERTIFICATE, "Q1", f"a card's certificate has one common name ({error.reason})"
        ) from None
