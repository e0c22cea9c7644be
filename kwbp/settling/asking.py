"""The merchant's side of rows 19 to 21: what it signs to capture, reverse and credit, and what it remembers of that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from kwbp import fields
from kwbp.codes import ReversalReason
from kwbp.common import Draft, instant, read_signed
from kwbp.messages import AuthResTBS
from kwbp.money import Money
from kwbp.parties import MerchantIdentity
from kwbp.settling.messages import (
    AuthRevReqTBS,
    CapReqTBS,
    CapRevReqTBS,
    CredReqTBS,
    CredRevReqTBS,
    SettlingResTBS,
)
from kwbp.settling.request import read_request
from pki.oids import (
    CT_AUTH_RES,
    CT_AUTH_REV_REQ,
    CT_CAP_REQ,
    CT_CAP_RES,
    CT_CAP_REV_REQ,
    CT_CRED_REQ,
    CT_CRED_RES,
    CT_CRED_REV_REQ,
)


@dataclass(frozen=True, slots=True)
class Followed:
    """An approval of the gateway's that the merchant holds, and that a request may follow."""

    h_answer: bytes
    xid: bytes
    merchant_id: str
    gw_id: str
    amount: Money
    cap_token: bytes | None

    @classmethod
    def authorisation(cls, signed: bytes) -> Followed:
        """Of an AuthRes (SignedData) that was checked when it came (`kwbp.merchant.check_auth_res`)."""
        received = read_signed(AuthResTBS, CT_AUTH_RES, signed)
        body = received.body
        return cls(received.digest, body.xid, body.merchant_id, body.gw_id, body.amount, body.cap_token)

    @classmethod
    def capture(cls, signed: bytes) -> Followed:
        """Of a CapRes that was checked when it came."""
        return cls._of(signed, CT_CAP_RES)

    @classmethod
    def credit(cls, signed: bytes) -> Followed:
        """Of a CredRes that was checked when it came."""
        return cls._of(signed, CT_CRED_RES)

    @classmethod
    def _of(cls, signed: bytes, content_type: x509.ObjectIdentifier) -> Followed:
        received = read_signed(SettlingResTBS, content_type, signed)
        body = received.body
        return cls(received.digest, body.xid, body.merchant_id, body.gw_id, body.amount, None)


def build_capture(authorisation: Followed, amount: Money, *, rrpid: bytes, now: datetime) -> Draft[CapReqTBS]:
    """CapReq (row 19): collect `amount`, of an authorisation that was not a sale. All drafts: to be signed by the
    merchant. To repeat a request, send the same SignedData again.

    :param rrpid: 20 fresh random bytes.
    """
    body = CapReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=authorisation.xid,
        merchant_id=authorisation.merchant_id,
        gw_id=authorisation.gw_id,
        h_answer=authorisation.h_answer,
        amount=amount,
        cap_token=authorisation.cap_token,
        date=fields.to_time(now),
    )
    return Draft.of(CT_CAP_REQ, body, rrpid=rrpid, xid=body.xid)


def build_capture_reversal(capture: Followed, *, rrpid: bytes, now: datetime) -> Draft[CapRevReqTBS]:
    """CapRevReq (row 19): take the whole capture back, before its batch is closed."""
    body = CapRevReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=capture.xid,
        merchant_id=capture.merchant_id,
        gw_id=capture.gw_id,
        h_answer=capture.h_answer,
        amount=capture.amount,
        date=fields.to_time(now),
    )
    return Draft.of(CT_CAP_REV_REQ, body, rrpid=rrpid, xid=body.xid)


def build_auth_reversal(
    authorisation: Followed, new_amount: Money, *, reason: ReversalReason, rrpid: bytes, now: datetime
) -> Draft[AuthRevReqTBS]:
    """AuthRevReq (row 20): take only `new_amount` of the authorisation, or of the sale; 0 reverses it."""
    body = AuthRevReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=authorisation.xid,
        merchant_id=authorisation.merchant_id,
        gw_id=authorisation.gw_id,
        h_answer=authorisation.h_answer,
        new_amount=new_amount,
        reason=reason,
        date=fields.to_time(now),
    )
    return Draft.of(CT_AUTH_REV_REQ, body, rrpid=rrpid, xid=body.xid)


def build_credit(captured: Followed, amount: Money, *, rrpid: bytes, now: datetime) -> Draft[CredReqTBS]:
    """CredReq (row 21): give `amount` back. :param captured: the capture, or the authorisation of a sale."""
    body = CredReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=captured.xid,
        merchant_id=captured.merchant_id,
        gw_id=captured.gw_id,
        h_answer=captured.h_answer,
        amount=amount,
        date=fields.to_time(now),
    )
    return Draft.of(CT_CRED_REQ, body, rrpid=rrpid, xid=body.xid)


def build_credit_reversal(credit: Followed, *, rrpid: bytes, now: datetime) -> Draft[CredRevReqTBS]:
    """CredRevReq (row 21): take the whole credit back, before its batch is closed."""
    body = CredRevReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        xid=credit.xid,
        merchant_id=credit.merchant_id,
        gw_id=credit.gw_id,
        h_answer=credit.h_answer,
        amount=credit.amount,
        date=fields.to_time(now),
    )
    return Draft.of(CT_CRED_REV_REQ, body, rrpid=rrpid, xid=body.xid)


@dataclass(frozen=True, slots=True)
class SentSettlingRequest:
    """What the merchant remembers of a request, to judge the answer by."""

    h_request: bytes
    answer_type: x509.ObjectIdentifier
    rrpid: bytes
    xid: bytes
    merchant_id: str
    amount: Money
    gw_id: str
    acquirer_bin: str
    sent_at: datetime

    @classmethod
    def load(cls, content_type: x509.ObjectIdentifier, signed: bytes) -> SentSettlingRequest:
        """Read it out of the own SignedData as it was sent."""
        request = read_request(content_type, signed)
        body = request.body
        return cls(
            h_request=request.digest,
            answer_type=request.answer_type,
            rrpid=body.rrpid,
            xid=body.xid,
            merchant_id=body.merchant_id,
            amount=body.amount,
            gw_id=body.gw_id,
            acquirer_bin=MerchantIdentity.of(request.received.signer).acquirer_bin,
            sent_at=instant(body.date),
        )
