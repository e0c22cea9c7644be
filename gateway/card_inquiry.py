"""InqReq of a card at the gateway itself (row 18, dispute): the buyer's shop is silent, or is not believed.

Anybody may send anything here. Therefore, in this order:

    structure, path, signature, time     public keys only; what fails is refused with a bare Error, no key is used and
                                         nothing is written
    budget of the card                   bare beyond it
    is it the card of the order?         asked and answered in the same words for an order that does not exist and for
                                         one of another card: nobody learns which purchases there are
    answer                               signed, kept, given

The card is a party if it signed the order that the gateway collected (Q1); it may have renewed its certificate since.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from prometheus_client import Counter

from gateway.disclosures import Disclosures
from gateway.inquiry import status_of, told
from gateway.order import Order, OrderKey
from gateway.ports import TrustSource
from gateway.refusals import Refusals
from gateway.signing import AnswerSigner
from gateway.store import OrderStore
from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.inquiry import CheckedInquiry, build_inquiry_answer, check_inquiry, require_card
from kwbp.messages import DualSigTBS
from kwbp.wrapper import unwrap
from pki.names import common_name
from pki.oids import CT_DUAL_SIGNATURE, CT_INQ_REQ
from pki.roles import Role
from runtime.minute_budget import MinuteBudget

INQUIRIES_OF_A_CARD: Final = 20
"""In a minute; each costs the token a signature."""
INQUIRIES_OF_CARDS: Final = 300
"""Of all cards together, as far as they are parties to what they ask about."""

_refused: Final = Counter("kwbp_gateway_card_refusals_total", "Inquiries of cards refused", ["check", "code"])


class CardInquiries:
    """Answers InqReq of cards."""

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
        self._of_a_card = MinuteBudget(INQUIRIES_OF_A_CARD, clock=clock)
        self._of_all = MinuteBudget(INQUIRIES_OF_CARDS, clock=clock)

    async def answer(self, data: bytes) -> bytes:
        """InqReq in `data` (DER KwbpMessage) to InqRes or Error.

        :raises Problem: 503 while something that is needed is away: send the same again.
        """
        now = self._clock()
        try:
            message = unwrap(data, expected=(CT_INQ_REQ,))
            inquiry = check_inquiry(message, trust=await self._trust.trust(now), now=now)
            if inquiry.role is not Role.CARDHOLDER:
                raise ProtocolError(ErrorCode.ROLE_NOT_ALLOWED, "K5", "asker must be a card")
            card = common_name(inquiry.signer.subject)
            if not self._of_a_card.take(card):
                raise ProtocolError(ErrorCode.RATE_LIMITED, "Q1", "there were too many inquiries in this minute")
            order = await self._of(inquiry)
            if order is not None and not self._of_all.take("cards"):
                raise ProtocolError(ErrorCode.RATE_LIMITED, "Q1", "there were too many inquiries in this minute")
        except ProtocolError as error:
            _refused.labels(error.check, error.code.protocol_name).inc()
            draft = build_error(error, refused=data, now=now)
            return draft.message(draft.content)
        if order is None:
            unknown = ProtocolError(ErrorCode.UNKNOWN_XID, "Q2", "no order of this card has this XID")
            return await self._refusals.answer(unknown, f"card:{card}", data, message)
        return await self._told(inquiry, order, now)

    async def _of(self, inquiry: CheckedInquiry) -> Order | None:
        """The order that is asked about, if the card is a party to it."""
        order = await self._store.found(OrderKey(inquiry.body.merchant_id, inquiry.body.xid))
        if order is None:
            return None
        signer = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, order.dual_signature).signer
        try:
            require_card(inquiry, signer, merchant_id=order.merchant_id)
        except ProtocolError:
            return None
        return order

    async def _told(self, inquiry: CheckedInquiry, order: Order, now: datetime) -> bytes:
        status = status_of(order)
        draft = build_inquiry_answer(inquiry, status=status, result=told(order, status), now=now)
        message = await self._signer.message(draft)
        await self._disclosures.said(order.key, status, unwrap(message, expected=(draft.content_type,)).body, now)
        return message
