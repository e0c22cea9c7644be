"""A buyer asks the payment gateway itself where a purchase stands (row 18): the shop is silent, or is not believed.

Asked by the card that signed the order, answered with the gateway's signature: where the money is, and the answer that
the gateway gave the shop. It is judged like the answer inside a receipt (R4, R5) and kept as evidence, whether it
closes the purchase or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from kwbp import inquiry
from kwbp import wallet as protocol
from kwbp.checks import CHECKS
from kwbp.codes import AuthCode, PurchaseStatus
from kwbp.common import instant
from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.messages import AuthResTBS
from kwbp.parties import gateway_data
from kwbp.wrapper import KwbpMessage, unwrap
from pki import cms_signed
from pki.oids import CT_ERROR, CT_INQ_RES
from pki.path import Trust
from pki.roles import Role
from storefront.errors import GatewayUnreachable, NoMessage
from storefront.exchange import post
from storefront.wallet.records import FINAL, PurchaseState, purchase
from storefront.wallet.wallet import CardCredential


@dataclass(frozen=True, slots=True)
class Word:
    """What the gateway says of a purchase, and the state that the wallet's record has now; amount in rial.

    `refusal`: it gives no answer to this card, for it has no such order of it; the purchase stays as it was.
    """

    xid: bytes
    state: PurchaseState
    amount: int
    status: PurchaseStatus | None = None
    answer: AuthResTBS | None = None
    refusal: ProtocolError | None = None


class GatewayDesk:
    """One card asking one gateway. `gateway` goes to its public address."""

    def __init__(
        self,
        card: CardCredential,
        gateway: httpx.Client,
        *,
        trust: Callable[[datetime], Trust],
        folder: Path,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
    ) -> None:
        self._card = card
        self._gateway = gateway
        self._trust = trust
        self._folder = folder
        self._clock = clock
        self._rng = rng

    def ask(self, xid: bytes) -> Word:
        """Ask, judge, keep.

        :raises WalletError: there is no such purchase. :raises GatewayUnreachable: nobody answered, or nothing that can
            be believed. :raises ProtocolError: the answer is not as it must be.
        """
        folder = purchase(self._folder, xid.hex())
        record = folder.record
        draft = inquiry.build_inquiry(
            rrpid=self._rng(20),
            xid=record.xid,
            merchant_id=record.merchant_id,
            chall=self._rng(32),
            now=self._clock(),
        )
        signed = cms_signed.sign(
            draft.content_type,
            draft.content,
            key=self._card.key,
            signer=self._card.certificate,
            chain=self._card.chain,
            signing_time=self._clock(),
        )
        sent = draft.message(signed)
        try:
            answer = post(self._gateway, "/v1/inquiry", sent).message
        except NoMessage as error:
            raise GatewayUnreachable(f"the gateway did not answer ({error})") from None
        now = self._clock()
        trust = self._trust(now)
        message = unwrap(answer, expected=(CT_INQ_RES, CT_ERROR))
        if message.msg_type == CT_ERROR:
            refusal = _refusal(message, sent, record, trust, now)
            return Word(record.xid, folder.state, record.amount.amount, refusal=refusal)
        word = inquiry.check_gateway_status(
            message,
            sent=inquiry.SentInquiry.load(signed),
            gateway_id=record.gw_id,
            acquirer_bin=record.acquirer_bin,
            trust=trust,
            now=now,
        )
        if word.auth_res is not None and word.result is not None:
            protocol.check_gateway_answer(word.result.body, purchase=record, trust=trust, now=now)
        if word.status is not PurchaseStatus.IN_PROGRESS:
            state = folder.state if folder.state in FINAL else state_of(word)
            folder.told(word, state, trust.crls)
        return Word(record.xid, folder.state, record.amount.amount, word.status, word.auth_res)


def state_of(word: inquiry.GatewayStatus) -> PurchaseState:
    """What a gateway's word makes of a purchase that was open."""
    if word.status is PurchaseStatus.REVERSED:
        return PurchaseState.REVERSED
    if word.status is not PurchaseStatus.CONCLUDED:
        return PurchaseState.PENDING
    approved = word.auth_res is not None and word.auth_res.auth_code is AuthCode.APPROVED
    return PurchaseState.PAID if approved else PurchaseState.DECLINED


def _refusal(
    message: KwbpMessage, sent: bytes, record: protocol.PurchaseRecord, trust: Trust, now: datetime
) -> ProtocolError:
    """What the gateway's signed Error says; only that gateway may say it."""
    received = read_error(message, sent=sent, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    body = received.body
    if received.signer is None:
        raise GatewayUnreachable(f"the gateway refused without a signature ({body.error_code.protocol_name})")
    signer = gateway_data(received.signer)
    if (signer.gateway_id, signer.acquirer_bin) != (record.gw_id, record.acquirer_bin):
        raise GatewayUnreachable("another gateway answered than the one that the card data were sealed to")
    return ProtocolError(
        body.error_code,
        body.clause if body.clause in CHECKS else "E1",
        "the gateway refused the inquiry",
        time_hint=instant(body.time_hint) if body.time_hint is not None else None,
    )
