"""Row 11: OTPReq and OTPRes: a password for one payment, from the card's bank, asked for through merchant and gateway.

    wallet      OTPReq = sealed to the gateway (signed by the card: card, XID, amount, merchant)      P1 to P4
    merchant    passes it on unread: it sees for which gateway it is, and for which of its invoices
    gateway     opens it, judges it like an order, asks the card's bank; the bank tells the holder the password
    gateway     OTPRes = signed: where the password went, masked, and how long it is good                P5 to P7

The password itself is in no message: the holder types it in the place of PIN2. It is good for one XID, one merchant and
one amount (P8), so that whoever talks a holder out of it can pay with it nowhere else (threat 32).

The signature lies inside the envelope, for a card number is not shown to a merchant. Therefore it names gateway and
encryption certificate: what was sealed to one gateway cannot be sealed on to another.
"""

from __future__ import annotations

from kwbp.password.gateway import (
    AskedPassword,
    CheckedPasswordRequest,
    PasswordBinding,
    build_password_answer,
    check_passed_on,
    check_password_request,
    receive_password_request,
    require_bound,
)
from kwbp.password.messages import OTPReqTBS, OTPResTBS
from kwbp.password.wallet import (
    LONGEST_VALIDITY,
    PasswordRequestDraft,
    SentPasswordRequest,
    build_password_request,
    check_password_answer,
    seal_password_request,
)

__all__ = [
    "LONGEST_VALIDITY",
    "AskedPassword",
    "CheckedPasswordRequest",
    "OTPReqTBS",
    "OTPResTBS",
    "PasswordBinding",
    "PasswordRequestDraft",
    "SentPasswordRequest",
    "build_password_answer",
    "build_password_request",
    "check_passed_on",
    "check_password_answer",
    "check_password_request",
    "receive_password_request",
    "require_bound",
    "seal_password_request",
]
