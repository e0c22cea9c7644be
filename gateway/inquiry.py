"""InqReq (row 18): a merchant that was left with an open purchase asks where it stands, and gets that signed.

What is told is the order book as it stands, and the answer that the order got, byte for byte. An approval that nobody
acknowledged yet may still go either way, therefore nothing is told of it: the merchant gets it by sending its AuthReq
again. An order that ended without a debit, though its answer did not say so, is told as REVERSED: nothing was debited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final

from gateway.disclosures import Disclosures
from gateway.guarding.reception import receive
from gateway.order import Order, OrderKey
from gateway.ports import TrustSource
from gateway.refusals import Refusals
from gateway.signing import AnswerSigner
from gateway.states import OrderState
from gateway.store import OrderStore
from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.errors import ProtocolError
from kwbp.inquiry import build_inquiry_answer, check_inquiry, require_merchant
from kwbp.wrapper import KwbpMessage, unwrap
from pki.oids import CT_INQ_REQ, CT_INQ_RES
from runtime.minute_budget import MinuteBudget

INQUIRIES_A_MINUTE: Final = 300
"""Of one merchant; each costs the token a signature."""

STATUS: Final[Mapping[OrderState, PurchaseStatus]] = MappingProxyType(
    {
        OrderState.RECEIVED: PurchaseStatus.IN_PROGRESS,
        OrderState.VERIFIED: PurchaseStatus.IN_PROGRESS,
        OrderState.SENT: PurchaseStatus.IN_PROGRESS,
        OrderState.APPROVED: PurchaseStatus.IN_PROGRESS,
        OrderState.ACKED: PurchaseStatus.CONCLUDED,
        OrderState.DECLINED: PurchaseStatus.CONCLUDED,
        OrderState.UNKNOWN: PurchaseStatus.REVERSING,
        OrderState.REV_QUEUED: PurchaseStatus.REVERSING,
        OrderState.REVERSED: PurchaseStatus.REVERSED,
        OrderState.REV_FAILED: PurchaseStatus.UNSETTLED,
        OrderState.DEBITED: PurchaseStatus.UNSETTLED,
    }
)


class Inquiries:
    """Answers InqReq of merchants."""

    def __init__(
        self,
        *,
        store: OrderStore,
        disclosures: Disclosures,
        signer: AnswerSigner,
        refusals: Refusals,
        trust: TrustSource,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._disclosures = disclosures
        self._signer = signer
        self._refusals = refusals
        self._trust = trust
        self._clock = clock
        self._budget = MinuteBudget(INQUIRIES_A_MINUTE, clock=clock)

    async def answer(self, tls_merchant_id: str, data: bytes) -> bytes:
        """InqReq in `data` (DER KwbpMessage) to InqRes or Error, from the merchant at the other end of the connection.

        :raises Problem: 503 while something that is needed is away: send the same again.
        """
        handle = partial(self._answer, tls_merchant_id)
        return await receive(self._refusals, tls_merchant_id, data, (CT_INQ_REQ,), handle)

    async def _answer(self, tls_merchant_id: str, message: KwbpMessage) -> bytes:
        now = self._clock()
        if not self._budget.take(tls_merchant_id):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "Q1", f"at most {INQUIRIES_A_MINUTE} inquiries a minute")
        inquiry = check_inquiry(message, trust=await self._trust.trust(now), now=now)
        require_merchant(inquiry, tls_merchant_id)
        order = await self._store.found(OrderKey(tls_merchant_id, inquiry.body.xid))
        if order is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "Q2", "no order of this merchant has this XID")
        status = status_of(order)
        answer = await self._signer.message(
            build_inquiry_answer(inquiry, status=status, result=told(order, status), now=now)
        )
        await self._disclosures.said(order.key, status, unwrap(answer, expected=(CT_INQ_RES,)).body, now)
        return answer


def status_of(order: Order) -> PurchaseStatus:
    """Where the order stands, in words that agree with the answer that it got.

    Declined orders are of three kinds: the answer says so; it says noReply (response code 91: the issuer was not there,
    and nothing was debited); or there is none, because the order was given up before anything was sent.
    """
    if order.state is OrderState.DECLINED and (order.answer is None or order.auth_code == AuthCode.NO_REPLY):
        return PurchaseStatus.REVERSED
    return STATUS[order.state]


def told(order: Order, status: PurchaseStatus) -> bytes | None:
    """The answer that the order got (DER KwbpMessage), as far as it is told."""
    return None if status is PurchaseStatus.IN_PROGRESS else order.answer
