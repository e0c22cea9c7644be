"""The merchant's side of a purchase, towards the wallet: invoices, orders, and the same answer for the same message.

Every repeat is answered from the order book, byte for byte (K3, M9); repeats that come while a message is being worked
on wait for its answer. What happens to an accepted order is `storefront.merchant.collection`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final
from weakref import WeakValueDictionary

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate

from kwbp import inquiry
from kwbp import merchant as protocol
from kwbp.codes import ErrorCode, PurchaseStatus
from kwbp.common import instant
from kwbp.errors import ProtocolError
from kwbp.messages import OrderLine
from kwbp.parties import MerchantIdentity
from kwbp.wrapper import KwbpMessage, unwrap
from pki.der import sha256
from pki.oids import CT_INQ_REQ, CT_INVOICE_REQ, CT_OTP_REQ, CT_RECEIPT_ACK, MT_CONTRACT, MT_PREQ
from runtime.logging import get_logger
from runtime.minute_budget import MinuteBudget
from storefront.errors import RrpidAlreadyUsed, XidAlreadyUsed
from storefront.merchant import recall
from storefront.merchant.catalogue import Catalogue
from storefront.merchant.collection import Collection, crls_of
from storefront.merchant.contracts import Contracts
from storefront.merchant.documents import Document
from storefront.merchant.money.office import MoneyOffice
from storefront.merchant.named_gateway import NamedGateway
from storefront.merchant.passwords import PasswordRelay
from storefront.merchant.receipt_acks import ReceiptAcks
from storefront.merchant.refusals import Refusals
from storefront.merchant.resources import Resources
from storefront.merchant.rules import ShopRules
from storefront.merchant.settlement import Settlement
from storefront.merchant.states import OrderState
from storefront.merchant.store import Order, OrderStore

STATUS: Final[Mapping[OrderState, PurchaseStatus]] = MappingProxyType(
    {
        OrderState.INVOICED: PurchaseStatus.IN_PROGRESS,
        OrderState.PAID_PENDING: PurchaseStatus.IN_PROGRESS,
        OrderState.AUTHORISED: PurchaseStatus.IN_PROGRESS,
        OrderState.ACKED: PurchaseStatus.IN_PROGRESS,
        OrderState.RECEIPTED: PurchaseStatus.CONCLUDED,
        OrderState.DECLINED: PurchaseStatus.CONCLUDED,
        # Of an open order the gateway alone can tell more; it is being asked, and what it says is passed on.
        OrderState.UNKNOWN: PurchaseStatus.IN_PROGRESS,
        OrderState.REVERSED: PurchaseStatus.REVERSED,
    }
)
"""What a wallet that asks is told."""

_TAKEN: Final = (CT_INVOICE_REQ, CT_OTP_REQ, MT_PREQ, CT_INQ_REQ, CT_RECEIPT_ACK, MT_CONTRACT)
_log = get_logger("shop")


class Shop:
    """One merchant. `start` and `stop` it in the event loop that serves it."""

    def __init__(self, rules: ShopRules, catalogue: Catalogue, resources: Resources) -> None:
        self.catalogue = catalogue
        self.merchant = MerchantIdentity.of(resources.signer.certificate)
        self._rules = rules
        self._resources = resources
        self._store = resources.store
        self._clock = resources.clock
        self._refusals = Refusals(resources.signer, clock=resources.clock, budget=rules.signed_refusals)
        self._settlement = Settlement(self.merchant.merchant_id, resources)
        self._collection = Collection(rules.terminal_id, resources, self._refusals, on_open=self._settlement.wake)
        self._inquiries = MinuteBudget(rules.inquiries, clock=resources.clock)
        self._inquiries_of_a_card = MinuteBudget(rules.inquiries_of_a_card, clock=resources.clock)
        self._receipt_acks = ReceiptAcks(self.merchant.merchant_id, resources)
        self._contracts = Contracts(resources)
        self._passwords = PasswordRelay(rules, resources)
        self._answering: dict[bytes, asyncio.Task[bytes | None]] = {}
        self._by_xid: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._by_rrpid: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._gateway = NamedGateway(self.merchant, resources)
        self.money = MoneyOffice(self.merchant, self._gateway, resources, patience=rules.money_patience)

    @property
    def store(self) -> OrderStore:
        return self._store

    async def start(self) -> None:
        """Take up every order that was under way when the merchant stopped."""
        self._collection.start()
        self._settlement.start()
        self.money.start()
        if self._resources.proofs is not None:
            self._resources.proofs.start()

    async def stop(self) -> None:
        """Stop working; what is stored is taken up by the next start."""
        answering = list(self._answering.values())
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
        await self._collection.stop()
        await self._settlement.stop()
        await self.money.stop()
        if self._resources.proofs is not None:
            await self._resources.proofs.stop()

    async def answer(self, data: bytes) -> bytes | None:
        """Any message of a wallet (DER KwbpMessage) → the answer (DER KwbpMessage): Invoice, OTPRes, Receipt, InqRes
        or Error. None: it was a ReceiptAck or a contract, and was taken.

        The work belongs to the message, not to the connection that brought it: it goes on if the wallet hangs up.
        """
        digest = sha256(data)
        task = self._answering.get(digest)
        if task is None:
            task = asyncio.create_task(self._answer(data))
            self._answering[digest] = task
            task.add_done_callback(partial(self._answered, digest))
        return await asyncio.shield(task)

    def _answered(self, digest: bytes, task: asyncio.Task[bytes | None]) -> None:
        del self._answering[digest]
        if not task.cancelled():
            task.exception()  # those who waited have it; nobody may be left to

    async def _answer(self, data: bytes) -> bytes | None:
        try:
            message = unwrap(data, expected=_TAKEN)
            if message.msg_type == CT_RECEIPT_ACK:
                await self._receipt_acks.take(message)
                return None
            if message.msg_type == MT_CONTRACT:
                await self._contracts.take(message)
                return None
            if message.msg_type == CT_INVOICE_REQ:
                return await self._invoice(message, data)
            if message.msg_type == CT_OTP_REQ:
                return await self._passwords.pass_on(message, data)
            if message.msg_type == CT_INQ_REQ:
                return await self._status(message)
            return await self._purchase(message, data)
        except ProtocolError as error:
            _log.info("refused", check=error.check, code=error.code.protocol_name, message=sha256(data).hex())
            return await self._refusals.answer(error, data)

    # --- InvoiceReq ---------------------------------------------------------------------------------------------------

    async def _invoice(self, message: KwbpMessage, data: bytes) -> bytes:
        known = self._store.find_by_rrpid(message.rrpid)
        if known is not None:
            return self._repeated_invoice(known, data)
        now = self._clock()
        trust = await self._resources.trust.trust(now)
        request = protocol.check_invoice_request(
            message, brands=self._rules.brands, accepts_bin=self._rules.accepts_bin, trust=trust, now=now
        )
        lines = [self._line(line.sku, line.quantity, request.body.language) for line in request.body.basket]
        gateway = await self._gateway.current(trust, now)
        deliver_within = self.catalogue.deliver_within
        draft = protocol.build_invoice(
            request,
            merchant=self.merchant,
            gateway=gateway.identity,
            lines=lines,
            terms=self.catalogue.terms.in_language(request.body.language),
            lid_m=self._resources.rng(8).hex(),
            lifetime=self._rules.invoice_lifetime,
            now=now,
            rng=self._resources.rng,
            deliver_by=now + deliver_within if deliver_within is not None else None,
        )
        signed = await self._resources.signer.sign(draft.invoice.content_type, draft.invoice.content)
        answer = draft.message(signed, gateway.chain)
        documents = {
            Document.INVOICE_REQUEST: request.signed,
            Document.INVOICE: signed,
            Document.ORDER_DETAILS: draft.order_details,
            Document.INVOICE_ANSWER: answer,
        }
        try:
            await self._store.create(
                xid=draft.invoice.body.xid,
                rrpid=message.rrpid,
                h_request=sha256(data),
                amount=draft.invoice.body.amount.amount,
                stored=documents,
                now=now,
            )
        except RrpidAlreadyUsed:  # by another request that was being judged at the same time
            known = self._store.find_by_rrpid(message.rrpid)
            assert known is not None  # that is what the refusal says
            return self._repeated_invoice(known, data)
        recall.keep_issued(draft.issued(signed), documents)
        self._resources.checkpoint("invoiced")
        return answer

    def _repeated_invoice(self, order: Order, data: bytes) -> bytes:
        """K3: the same request again gets the same invoice; another one may not use its RRPID."""
        if order.h_request != sha256(data):
            raise _rrpid_used()
        return self._store.required(order.xid, Document.INVOICE_ANSWER)

    def _line(self, sku: str, quantity: int, language: str | None) -> OrderLine:
        article = self.catalogue.by_sku.get(sku)
        if article is None:
            raise ProtocolError(ErrorCode.UNSPECIFIED_FAILURE, "I3", "the basket has an article that is not sold here")
        return OrderLine(
            sku=sku,
            name=article.name.in_language(language),
            quantity=quantity,
            unit_price=article.price,
            amount=quantity * article.price,
        )

    # --- PReq ---------------------------------------------------------------------------------------------------------

    async def _purchase(self, message: KwbpMessage, data: bytes) -> bytes:
        now = self._clock()
        received = protocol.receive_purchase(message)  # M1
        order = self._store.find(received.xid)
        if order is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "M2", "no invoice has this XID")
        if order.state is not OrderState.INVOICED:
            return await self._repeated_purchase(order, data)
        documents = self._store.documents(order.xid)
        issued = recall.issued_of(documents)
        if now > instant(issued.invoice.not_after):
            raise ProtocolError(ErrorCode.INVOICE_EXPIRED, "M2", "the invoice is no longer in force")
        trust = await self._resources.trust.trust(now)
        purchase = protocol.check_purchase(received, issued=issued, trust=trust, now=now)  # M3 to M8
        try:
            # Of orders for one invoice, and of those with one RRPID, one is accepted at a time, with its AuthReq signed
            # before, so that both share a commit: the token signs nothing for those who come too late (threat 40).
            async with _turn(self._by_xid, order.xid), _turn(self._by_rrpid, message.rrpid):
                self._store.require_free(order.xid, message.rrpid)
                auth_req = await self._collection.request(purchase)
                await self._store.order(
                    order.xid, rrpid=message.rrpid, purchase=data, now=now, auth_req=auth_req, crls_used=crls_of(trust)
                )
        except RrpidAlreadyUsed:
            raise _rrpid_used() from None
        except XidAlreadyUsed:
            moved = self._store.find(order.xid)
            assert moved is not None  # orders are never deleted
            return await self._repeated_purchase(moved, data)
        recall.keep_purchase(purchase, documents | {Document.PURCHASE: data})
        self._resources.checkpoint("ordered")
        return await self._finish(order.xid)

    async def _repeated_purchase(self, order: Order, data: bytes) -> bytes:
        """M9 lost: the same order again waits for, or gets, the same answer; another one is refused."""
        if order.h_purchase != sha256(data):
            raise ProtocolError(ErrorCode.XID_ALREADY_USED, "M9", "this XID was ordered already")
        return await self._finish(order.xid)

    # --- InqReq -------------------------------------------------------------------------------------------------------

    async def _status(self, message: KwbpMessage) -> bytes:
        """Where a purchase stands, for the card that it was made with."""
        now = self._clock()
        asked = inquiry.check_inquiry(message, trust=await self._resources.trust.trust(now), now=now)
        order = self._store.find(asked.body.xid)
        if order is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "Q2", "no invoice has this XID")
        card = recall.card(self._store, order.xid)
        inquiry.require_card(asked, card, merchant_id=self.merchant.merchant_id)
        self._count(card)
        documents = self._store.documents(order.xid)
        status, word = STATUS[order.state], documents.get(Document.GATEWAY_STATUS)
        said = self._settlement.word(order.xid)
        if order.state is OrderState.UNKNOWN and said is not None and said.status in inquiry.GIVEN_BACK:
            status, word = said.status, said.signed
        draft = inquiry.build_inquiry_answer(
            asked,
            status=status,
            result=None if status is PurchaseStatus.IN_PROGRESS else documents[Document.ANSWER],
            gateway_status=word,
            now=now,
        )
        return draft.message(await self._resources.signer.sign(draft.content_type, draft.content))

    def _count(self, card: Certificate) -> None:
        """What the token signs is counted only now: nobody but a buyer can use up what all buyers share."""
        # The certificate that the invoice was asked for with, so that a renewed one is no new card.
        mine = self._inquiries_of_a_card.take(card.fingerprint(SHA256()).hex())
        if not mine or not self._inquiries.take("wallets"):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "Q1", "there were too many inquiries in this minute")

    async def _finish(self, xid: bytes) -> bytes:
        """M10. The order itself goes on when the wallet's patience is over."""
        answer = await self._collection.answer(xid, patience=self._rules.patience)
        if answer is None:
            raise ProtocolError(ErrorCode.UNKNOWN_OUTCOME, "M10", "the gateway has not answered yet; ask again")
        return answer


def _turn(locks: WeakValueDictionary[bytes, asyncio.Lock], name: bytes) -> asyncio.Lock:
    """The lock of that name, which lasts as long as somebody holds it or waits for it."""
    return locks.setdefault(name, asyncio.Lock())


def _rrpid_used() -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_MESSAGE_HEADER, "K3", "RRPID was used by another message")
