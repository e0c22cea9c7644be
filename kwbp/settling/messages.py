"""The DER structures of rows 19 to 21: what a merchant asks for after the authorisation, and what it is answered.

Every request names by `h_answer` the one answer that it follows: SHA-256 of the gateway's SignedData. An XID and an
amount would not do: a purchase can have two captures of the same amount, and only one of them is meant.
"""

from __future__ import annotations

from typing import Annotated

from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import AuthCode, ReversalReason
from kwbp.fields import Hash32, Id20
from kwbp.money import Money, check_payable
from kwbp.structure import Structure

# ── Rows 19 to 21: requests, M → G ────────────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class CapReqTBS(Structure):
    """id-kwbp-ct-capReq, signed by the merchant: "collect this much of what was authorised".

    `h_answer` is the hash of the AuthRes, `cap_token` the one that it gave, absent if it gave none.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    gw_id: str
    h_answer: Hash32
    amount: Money
    cap_token: Annotated[bytes | None, asn1.Implicit(0)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_common(self)
        check_payable(self.amount)
        fields.check_size("capToken", self.cap_token, smallest=1, largest=4096)


@asn1.sequence
class CapRevReqTBS(Structure):
    """id-kwbp-ct-capRevReq, signed by the merchant: "take this capture back", the whole of it.

    `h_answer` is the hash of the CapRes, `amount` what it captured.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    gw_id: str
    h_answer: Hash32
    amount: Money
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_common(self)
        check_payable(self.amount)


@asn1.sequence
class AuthRevReqTBS(Structure):
    """id-kwbp-ct-authRevReq, signed by the merchant: "of what was authorised I take only `new_amount`".

    0 takes nothing. `h_answer` is the hash of the AuthRes. Of a sale, which was captured with its authorisation, both
    shrink.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    gw_id: str
    h_answer: Hash32
    new_amount: Money
    reason: ReversalReason
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_common(self)
        self.new_amount.validate()

    @property
    def amount(self) -> Money:
        """`new_amount`, by the name that the amount has in the other requests."""
        return self.new_amount


@asn1.sequence
class CredReqTBS(Structure):
    """id-kwbp-ct-credReq, signed by the merchant: "give the buyer this much back of what was captured".

    `h_answer` is the hash of the CapRes, or of the AuthRes of a sale.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    gw_id: str
    h_answer: Hash32
    amount: Money
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_common(self)
        check_payable(self.amount)


@asn1.sequence
class CredRevReqTBS(Structure):
    """id-kwbp-ct-credRevReq, signed by the merchant: "take this credit back", the whole of it.

    `h_answer` is the hash of the CredRes, `amount` what it gave.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    gw_id: str
    h_answer: Hash32
    amount: Money
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_common(self)
        check_payable(self.amount)


SettlingReq = CapReqTBS | CapRevReqTBS | AuthRevReqTBS | CredReqTBS | CredRevReqTBS


# ── Rows 19 to 21: answers, G → M ─────────────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class SettlingResTBS(Structure):
    """id-kwbp-ct-capRes, capRevRes, authRevRes, credRes and credRevRes, signed by the gateway: what became of it.

    `h_request` is the hash of the request (its SignedData), `amount` as asked for; `rc`, `stan`, `rrn`, `approval` and
    `settle_date` as in AuthRes. `auth_code` noReply says that the outcome is open: the same request may be sent again
    until the answer is another one, which is final and stays the same.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    h_request: Hash32
    amount: Money
    auth_code: AuthCode
    rc: Annotated[str | None, asn1.Implicit(0)]
    stan: Annotated[str | None, asn1.Implicit(1)]
    rrn: Annotated[str | None, asn1.Implicit(2)]
    approval: Annotated[str | None, asn1.Implicit(3)]
    settle_date: Annotated[str | None, asn1.Implicit(4)]
    gw_id: str
    acquirer_id: str
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_common(self)
        self.amount.validate()
        fields.check_optional("rc", self.rc, fields.RESPONSE_CODE)
        fields.check_optional("stan", self.stan, fields.STAN)
        fields.check_optional("rrn", self.rrn, fields.RRN)
        fields.check_optional("approval", self.approval, fields.APPROVAL)
        fields.check_optional("settleDate", self.settle_date, fields.SETTLE_DATE)
        fields.check_pattern("acquirerID", self.acquirer_id, fields.ACQUIRER)


def _check_common(body: SettlingReq | SettlingResTBS) -> None:
    fields.check_version(body.version)
    fields.check_pattern("merchantID", body.merchant_id, fields.NAME)
    fields.check_pattern("gwID", body.gw_id, fields.NAME)
    fields.check_times(("date", body.date))
