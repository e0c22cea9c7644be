"""Row 17: ReceiptAck: the buyer says, signed, that it has the receipt. C → M, once, and nothing hangs on it.

The merchant keeps it: with it nobody can say later that the buyer never learnt how the purchase ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import Draft, check_answer, instant, read_signed, require, verify_signer
from kwbp.fields import Hash32, Id20
from kwbp.messages import ReceiptTBS
from kwbp.structure import Structure
from kwbp.wrapper import KwbpMessage, check_header
from pki.oids import CT_RECEIPT, CT_RECEIPT_ACK
from pki.path import Trust
from pki.roles import Role


@asn1.sequence
class ReceiptAckTBS(Structure):
    """id-kwbp-ct-receiptAck, signed by the card: "I have this receipt." `h_receipt` is SHA-256 of its SignedData.

    `rrpid` is that of the receipt.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    h_receipt: Hash32
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_times(("date", self.date))


@dataclass(frozen=True, slots=True)
class SentReceipt:
    """What there is to acknowledge: a receipt as it was sent, and by which merchant."""

    h_receipt: bytes
    rrpid: bytes
    xid: bytes
    merchant_id: str
    sent_at: datetime

    @classmethod
    def load(cls, signed: bytes, merchant_id: str) -> SentReceipt:
        """Read it out of the SignedData of the receipt. Both sides do; who verifies it is the wallet."""
        received = read_signed(ReceiptTBS, CT_RECEIPT, signed)
        body = received.body
        return cls(received.digest, body.rrpid, body.xid, merchant_id, instant(body.date))


def build_receipt_ack(receipt: SentReceipt, *, now: datetime) -> Draft[ReceiptAckTBS]:
    """ReceiptAck (row 17), to be signed by the card, after `kwbp.wallet.check_receipt` has passed."""
    body = ReceiptAckTBS(
        version=fields.VERSION,
        rrpid=receipt.rrpid,
        xid=receipt.xid,
        merchant_id=receipt.merchant_id,
        h_receipt=receipt.h_receipt,
        date=fields.to_time(now),
    )
    return Draft.of(CT_RECEIPT_ACK, body, rrpid=body.rrpid, xid=body.xid)


def check_receipt_ack(
    message: KwbpMessage, *, sent: SentReceipt, card: x509.Certificate, trust: Trust, now: datetime
) -> ReceiptAckTBS:
    """ReceiptAck (row 17): K1, K2, K4 to K7, then V1 and V2. Its signing time has no upper age: it may come late.

    :param message: from `unwrap(…, expected=[CT_RECEIPT_ACK])`.
    :param card: the certificate that signed the order.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(ReceiptAckTBS, CT_RECEIPT_ACK, message.body)
    body = received.body
    check_header(message, CT_RECEIPT_ACK, rrpid=body.rrpid, xid=body.xid)
    verify_signer(received, role=Role.CARDHOLDER, trust=trust, now=now)
    check_answer(received, body.date, asked=sent.sent_at, now=now)
    require(
        received.signer == card,
        ErrorCode.ROLE_NOT_ALLOWED,
        "V1",
        "acknowledgement must be signed by the card that signed the order",
    )
    require(
        (body.h_receipt, body.rrpid, body.xid, body.merchant_id)
        == (sent.h_receipt, sent.rrpid, sent.xid, sent.merchant_id),
        ErrorCode.HASH_MISMATCH,
        "V2",
        "acknowledgement must be of the receipt that was sent",
    )
    return body
