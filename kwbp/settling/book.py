"""What the gateway's order book knows of one purchase, as a value, and how an approved request changes it.

A merchant can keep the same value from the same signed answers, to know what it may ask for and what its batch holds.

Rows 19 to 21 are about money that moves after the authorisation. All of it must keep 0 ≤ refunded ≤ captured ≤
authorised ≤ approved, in the order as a whole and in each capture; a `Standing` that breaks this cannot be made.
Amounts are in rial, the only money of the protocol (`kwbp.money`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kwbp.codes import AuthCode, EntryKind
from kwbp.common import read_signed
from kwbp.messages import AuthResTBS
from kwbp.money import Money
from kwbp.settling.messages import (
    AuthRevReqTBS,
    CapReqTBS,
    CapRevReqTBS,
    CredReqTBS,
    SettlingReq,
    SettlingResTBS,
)
from kwbp.settling.statements import Entry
from pki.oids import CT_AUTH_RES


@dataclass(frozen=True, slots=True)
class Capture:
    """Money collected, by the answer that approved it: CapRes, or AuthRes of a sale. `settled`: its batch is closed."""

    h_answer: bytes
    amount: int
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Credit:
    """Money given back of the capture `h_capture`, by the CredRes that approved it. `settled`: its batch is closed."""

    h_answer: bytes
    h_capture: bytes
    amount: int
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """One purchase: what was approved, what of it stands, what was asked for.

    `approved` is what AuthRes (`h_auth_res`) approved, `authorised` what of it was not reversed; 0 also where the
    gateway took the approval back by itself. `acknowledged`: AuthAck came, so the gateway no longer will. Captures and
    credits that were taken back are not in here. `requests` has the hash of every request that was taken in, by its
    RRPID, that of the AuthReq included; `open_rrpid` is the one whose outcome is not known yet.

    :raises ValueError: amounts that cannot be.
    """

    xid: bytes
    merchant_id: str
    h_auth_res: bytes
    approved: Money
    authorised: int
    cap_token: bytes | None
    acknowledged: bool
    captures: tuple[Capture, ...] = ()
    credits: tuple[Credit, ...] = ()
    requests: Mapping[bytes, bytes] = field(default_factory=dict)
    open_rrpid: bytes | None = None

    def __post_init__(self) -> None:
        each = all(
            0 <= self.refunded_of(capture.h_answer) <= capture.amount and capture.amount > 0
            for capture in self.captures
        )
        owned = all(self.capture(credit.h_capture) is not None and credit.amount > 0 for credit in self.credits)
        if not (each and owned and self.captured <= self.authorised <= self.approved.amount):
            raise ValueError("0 ≤ refunded ≤ captured ≤ authorised ≤ approved must hold")

    @classmethod
    def of(cls, auth_res: bytes, *, sale: bool, acknowledged: bool) -> Standing:
        """The purchase as the gateway's approval (SignedData) left it. :param sale: AuthReq had captureNow.

        :raises ValueError: the answer is no approval. :raises ProtocolError: it is no AuthRes.
        """
        received = read_signed(AuthResTBS, CT_AUTH_RES, auth_res)
        body = received.body
        if body.auth_code is not AuthCode.APPROVED:
            raise ValueError("nothing follows an answer that is no approval")
        return cls(
            xid=body.xid,
            merchant_id=body.merchant_id,
            h_auth_res=received.digest,
            approved=body.amount,
            authorised=body.amount.amount,
            cap_token=body.cap_token,
            acknowledged=acknowledged,
            captures=(Capture(received.digest, body.amount.amount),) if sale else (),
            requests={body.rrpid: body.h_auth_req},
        )

    @property
    def captured(self) -> int:
        """Rial collected and not taken back."""
        return sum(capture.amount for capture in self.captures)

    @property
    def refunded(self) -> int:
        """Rial given back to the buyer by credits that stand."""
        return sum(credit.amount for credit in self.credits)

    @property
    def sale(self) -> Capture | None:
        """The capture that came with the authorisation, if there is one."""
        return self.capture(self.h_auth_res)

    def capture(self, h_answer: bytes) -> Capture | None:
        """The capture that stands by this answer."""
        return next((capture for capture in self.captures if capture.h_answer == h_answer), None)

    def credit(self, h_answer: bytes) -> Credit | None:
        """The credit that stands by this answer."""
        return next((credit for credit in self.credits if credit.h_answer == h_answer), None)

    def refunded_of(self, h_capture: bytes) -> int:
        """Rial given back of one capture."""
        return sum(credit.amount for credit in self.credits if credit.h_capture == h_capture)

    def followed(self, body: SettlingReq) -> Capture | Credit | Standing | None:
        """What the request follows, if it stands: the authorisation itself, a capture or a credit (H6)."""
        match body:
            case CapReqTBS():
                return self if body.h_answer == self.h_auth_res else None
            case AuthRevReqTBS():
                return (self.sale or self) if body.h_answer == self.h_auth_res else None
            case CapRevReqTBS():
                return self.capture(body.h_answer) if body.h_answer != self.h_auth_res else None
            case CredReqTBS():
                return self.capture(body.h_answer)
            case _:
                return self.credit(body.h_answer)

    def bounds(self, body: SettlingReq) -> range:
        """Every amount that the request may name (H9), rial; empty where it can have none."""
        followed = self.followed(body)
        match body, followed:
            case CapReqTBS(), Standing():
                return range(1, self.authorised - self.captured + 1)
            case AuthRevReqTBS(), Standing():
                return range(self.captured, self.authorised)
            case AuthRevReqTBS(), Capture():
                return range(self.refunded, self.authorised)
            case CapRevReqTBS(), Capture(amount=amount) if not self.refunded_of(body.h_answer):
                return range(amount, amount + 1)
            case CredReqTBS(), Capture(amount=amount):
                return range(1, amount - self.refunded_of(body.h_answer) + 1)
            case _, Credit(amount=amount):
                return range(amount, amount + 1)
            case _:
                return range(0)

    def taken_in(self, rrpid: bytes, h_request: bytes) -> Standing:
        """The request passed its checks and is worked on."""
        return replace(self, requests={**self.requests, rrpid: h_request}, open_rrpid=rrpid)

    def concluded(self, body: SettlingReq, h_approval: bytes | None) -> Standing:
        """The outcome of the open request is known.

        :param h_approval: hash of the answer that approves it, None if it was declined.
        :raises ValueError: the purchase has no room for it.
        """
        closed = replace(self, open_rrpid=None)
        return closed if h_approval is None else closed._with(body, h_approval)

    def _with(self, body: SettlingReq, h_approval: bytes) -> Standing:
        amount = body.amount.amount
        match body:
            case CapReqTBS():
                return replace(self, captures=(*self.captures, Capture(h_approval, amount)))
            case AuthRevReqTBS():
                others = tuple(each for each in self.captures if each.h_answer != self.h_auth_res)
                kept = (replace(self.sale, amount=amount),) if self.sale is not None and amount else ()
                return replace(self, authorised=amount, captures=kept + others)
            case CapRevReqTBS():
                left = tuple(each for each in self.captures if each.h_answer != body.h_answer)
                return replace(self, captures=left)
            case CredReqTBS():
                return replace(self, credits=(*self.credits, Credit(h_approval, body.h_answer, amount)))
            case _:
                remaining = tuple(each for each in self.credits if each.h_answer != body.h_answer)
                return replace(self, credits=remaining)

    def entry(self, body: SettlingReq, answer: SettlingResTBS, h_answer: bytes) -> Entry | None:
        """What an approval of the request adds to the merchant's batch; None if it moves no money of the merchant's.

        :param answer: the approval. :param h_answer: SHA-256 of its SignedData.
        """
        moved = self.moved(body)
        if moved is None:
            return None
        return Entry(kind=moved[0], xid=self.xid, h_answer=h_answer, amount=moved[1], date=answer.date)

    def moved(self, body: SettlingReq) -> tuple[EntryKind, int] | None:
        """Kind and rial of `entry`: asked before the request is approved, for the amount that a reversal gives back.

        To reverse an authorisation that nothing was captured with moves no money of the merchant's.
        """
        amount = body.amount.amount
        match body:
            case CapReqTBS():
                return EntryKind.CAPTURE, amount
            case AuthRevReqTBS():
                return (EntryKind.SALE_REVERSAL, self.authorised - amount) if self.sale is not None else None
            case CapRevReqTBS():
                return EntryKind.CAPTURE_REVERSAL, amount
            case CredReqTBS():
                return EntryKind.CREDIT, amount
            case _:
                return EntryKind.CREDIT_REVERSAL, amount


def sale_entry(auth_res: bytes) -> Entry:
    """What the approval of a sale (SignedData of the AuthRes) adds to the merchant's batch, once it is acknowledged.

    :raises ProtocolError: it is no AuthRes.
    """
    received = read_signed(AuthResTBS, CT_AUTH_RES, auth_res)
    body = received.body
    return Entry(kind=EntryKind.SALE, xid=body.xid, h_answer=received.digest, amount=body.amount.amount, date=body.date)
