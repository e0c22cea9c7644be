"""The DER structures of a request for a one-time password."""

from __future__ import annotations

import re
from typing import Final

from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.fields import Hash32, Id20
from kwbp.money import Money
from kwbp.structure import Structure

_SENT_TO: Final = re.compile(r"[0-9]{2,6}\*{3,8}[0-9]{2,4}")
"""A telephone number with its middle hidden."""


@asn1.sequence
class OTPReqTBS(Structure):
    """id-kwbp-ct-otpReq, signed by the card, sealed to the gateway: a password for this payment.

    `invoice_hash` is SHA-256 of the signed invoice; `pan`, `expiry` and `pan_secret` as in PANData, and no
    field in its repr.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    gw_id: str
    gw_cert_hash: Hash32
    amount: Money
    invoice_hash: Hash32
    pan: str
    expiry: str
    pan_secret: Hash32
    ex_nonce: Hash32
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        """The card's fields are judged by `shetab.types`, without telling them (P4)."""
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_pattern("gwID", self.gw_id, fields.NAME)
        self.amount.validate()
        fields.check_times(("date", self.date))


@asn1.sequence
class OTPResTBS(Structure):
    """id-kwbp-ct-otpRes, signed by the gateway: the card's bank has sent the holder a password.

    `h_otp_req` is SHA-256 of the sealed OTPReq (DER ContentInfo), `sent_to` the masked telephone number.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    amount: Money
    h_otp_req: Hash32
    sent_to: str
    valid_until: asn1.GeneralizedTime
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        self.amount.validate()
        fields.check_pattern("sentTo", self.sent_to, _SENT_TO)
        fields.check_times(("validUntil", self.valid_until), ("date", self.date))
