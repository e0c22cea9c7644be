"""The merchant's side of a purchase: answers the wallet, asks the gateway, and never forgets in between.

Every step is stored before it has an effect outside, and every repeat is answered from the store. `_drive` takes an
order from whatever state it is in towards its end; the request of the wallet runs it, and so does a merchant that
starts again, so there is one path, not a normal one and one for accidents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp import merchant as protocol
from kwbp.codes import AuthCode, ErrorCode
from kwbp.common import instant
from kwbp.errors import ProtocolError
from kwbp.messages import InvoiceMessage, OrderLine
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.structure import decode
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.oids import CT_AUTH_RES, CT_ERROR, CT_INVOICE_REQ, MT_INVOICE, MT_PREQ
from pki.path import Trust
from runtime.logging import get_logger
from storefront.merchant import recall
from storefront.merchant.catalogue import Catalogue
from storefront.merchant.gateway_link import GatewayCertificates, GatewayLink, GatewayUnreachable
from storefront.merchant.refusals import gateway_refusal, signed_error
from storefront.merchant.states import OrderState
from storefront.merchant.store import Document, Order, OrderStore, RrpidAlreadyUsed, XidAlreadyUsed
from storefront.signers import Signer

_INVOICE_LIFETIME: Final = timedelta(minutes=15)
_FIRST_PAUSE: Final = 0.2  # seconds between two tries to reach the gateway; doubled each time, up to the cap
_LONGEST_PAUSE: Final = 15.0
_PATIENCE: Final = 60.0  # seconds for which a wallet is kept waiting; the order itself goes on
_CERTIFICATES_AGE: Final = timedelta(minutes=5)

_TRY_AGAIN: Final = frozenset({ErrorCode.UNSPECIFIED_FAILURE, ErrorCode.RATE_LIMITED, ErrorCode.UNKNOWN_OUTCOME})
"""Errors of a gateway that could not do its work now; every other one says that this AuthReq will never be taken."""

_log = get_logger("shop")


class TrustSource(Protocol):
    """Pinned root, CA certificates and current CRLs."""

    async def trust(self, now: datetime) -> Trust: ...


@dataclass(frozen=True, slots=True)
class ShopRules:
    """What a shop takes: brands, card issuers, and the terminal it is known by at the acquirer (DE 41)."""

    terminal_id: str
    brands: frozenset[str]
    accepts_bin: Callable[[str], bool]


class Shop:
    """One merchant."""

    def __init__(
        self,
        *,
        rules: ShopRules,
        catalogue: Catalogue,
        store: OrderStore,
        signer: Signer,
        gateway: GatewayLink,
        trust: TrustSource,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        patience: float = _PATIENCE,
    ) -> None:
        self.catalogue = catalogue
        self.store = store
        self.merchant = MerchantIdentity.of(signer.certificate)
        self._rules = rules
        self._signer = signer
        self._gateway = gateway
        self._trust = trust
        self._clock = clock
        self._rng = rng
        self._patience = patience
        self._driving: dict[bytes, asyncio.Task[None]] = {}
        self._certificates: GatewayCertificates | None = None
        self._certificates_at: datetime | None = None

    async def start(self) -> None:
        """Take up every order that was under way when the merchant stopped."""
        for order in self.store.unfinished():
            self._drive_in_background(order.xid)

    async def stop(self) -> None:
        """Stop driving orders; what is stored is taken up by the next start."""
        for task in list(self._driving.values()):
            task.cancel()
        await asyncio.gather(*self._driving.values(), return_exceptions=True)

    async def answer(self, data: bytes) -> bytes:
        """Any message of a wallet (DER KwbpMessage) → the answer (DER KwbpMessage): Invoice, Receipt or Error."""
        try:
            message = unwrap(data, expected=(CT_INVOICE_REQ, MT_PREQ))
            if message.msg_type == CT_INVOICE_REQ:
                return await self._invoice(data)
            return await self._purchase(data)
        except ProtocolError as error:
            _log.info("refused", check=error.check, code=error.code.protocol_name)
            return await signed_error(self._signer, error, data, now=self._clock())

    # ── InvoiceReq ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _invoice(self, data: bytes) -> bytes:
        now = self._clock()
        message = unwrap(data, expected=(CT_INVOICE_REQ,))
        known = self.store.find_by_rrpid(message.rrpid)
        if known is not None:
            return self._repeated_invoice(known, data)
        request = protocol.check_invoice_request(
            message,
            brands=self._rules.brands,
            accepts_bin=self._rules.accepts_bin,
            trust=await self._trust.trust(now),
            now=now,
        )
        gateway = await self._gateway_certificates(now)
        language = request.body.language
        deliver_within = self.catalogue.deliver_within
        draft = protocol.build_invoice(
            request,
            merchant=self.merchant,
            gateway=gateway.identity,
            lines=[self._line(line.sku, line.quantity, language) for line in request.body.basket],
            terms=self.catalogue.terms.in_language(language),
            lid_m=self._rng(8).hex(),
            lifetime=_INVOICE_LIFETIME,
            now=now,
            rng=self._rng,
            deliver_by=now + deliver_within if deliver_within is not None else None,
        )
        signed = await self._signer.sign(draft.invoice.content_type, draft.invoice.content)
        answer = draft.message(signed, gateway.chain)
        try:
            await self.store.create(
                xid=draft.invoice.body.xid,
                rrpid=message.rrpid,
                h_request=sha256(data),
                amount=draft.invoice.body.amount.amount,
                stored={
                    Document.INVOICE_REQUEST: request.signed,
                    Document.INVOICE: signed,
                    Document.ORDER_DETAILS: draft.order_details,
                    Document.INVOICE_ANSWER: answer,
                },
                now=now,
            )
        except RrpidAlreadyUsed:
            known = self.store.find_by_rrpid(message.rrpid)
            assert known is not None
            return self._repeated_invoice(known, data)
        return answer

    def _repeated_invoice(self, order: Order, data: bytes) -> bytes:
        """K3: the same request again gets the same invoice; another one may not use its RRPID."""
        if order.h_request != sha256(data):
            raise ProtocolError(ErrorCode.BAD_MESSAGE_HEADER, "K3", "RRPID was used by another request")
        return self._stored(order.xid, Document.INVOICE_ANSWER)

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

    async def _gateway_certificates(self, now: datetime) -> GatewayCertificates:
        if self._certificates_at is None or now - self._certificates_at > _CERTIFICATES_AGE:
            try:
                self._certificates, self._certificates_at = await self._gateway.certificates(), now
            except GatewayUnreachable:
                if self._certificates is None:
                    raise ProtocolError(
                        ErrorCode.UNSPECIFIED_FAILURE, "I3", "no gateway can be named at the moment"
                    ) from None
        assert self._certificates is not None
        return self._certificates

    # ── PReq ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _purchase(self, data: bytes) -> bytes:
        now = self._clock()
        received = protocol.receive_purchase(unwrap(data, expected=(MT_PREQ,)))
        order = self.store.find(received.xid)
        if order is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "M2", "no invoice has this XID")
        if order.state is not OrderState.INVOICED:
            return await self._repeated_purchase(order, data)
        issued = self._issued(order.xid)
        if now > instant(issued.invoice.not_after):
            raise ProtocolError(ErrorCode.INVOICE_EXPIRED, "M2", "the invoice is no longer in force")
        trust = await self._trust.trust(now)
        protocol.check_purchase(received, issued=issued, trust=trust, now=now)
        try:
            await self.store.move(
                order.xid,
                OrderState.INVOICED,
                OrderState.PAID_PENDING,
                now=now,
                stored={Document.PURCHASE: data},
                crls_used=_crls(trust),
                h_purchase=sha256(data),
            )
        except XidAlreadyUsed:
            moved = self.store.find(order.xid)
            assert moved is not None
            return await self._repeated_purchase(moved, data)
        return await self._finish(order.xid)

    async def _repeated_purchase(self, order: Order, data: bytes) -> bytes:
        """M9 lost: the same order again waits for, or gets, the same answer; another one is refused."""
        if order.h_purchase != sha256(data):
            raise ProtocolError(ErrorCode.XID_ALREADY_USED, "M9", "this XID was ordered already")
        return await self._finish(order.xid)

    async def _finish(self, xid: bytes) -> bytes:
        """Drive the order to its end and return its stored answer; unknownOutcome if that takes too long."""
        answer = self.store.document(xid, Document.ANSWER)
        if answer is None:
            task = self._drive_in_background(xid)
            await asyncio.wait({task}, timeout=self._patience)
            answer = self.store.document(xid, Document.ANSWER)
        if answer is None:
            raise ProtocolError(ErrorCode.UNKNOWN_OUTCOME, "M10", "the gateway has not answered yet; ask again")
        return answer

    def _issued(self, xid: bytes) -> protocol.IssuedInvoice:
        sent = decode(InvoiceMessage, unwrap(self._stored(xid, Document.INVOICE_ANSWER), expected=(MT_INVOICE,)).body)
        gateway = GatewayIdentity.of(x509.load_der_x509_certificate(sent.gateway_certificate))
        return protocol.IssuedInvoice.load(sent.invoice, self._stored(xid, Document.INVOICE_REQUEST), gateway)

    def _stored(self, xid: bytes, kind: Document) -> bytes:
        der = self.store.document(xid, kind)
        if der is None:
            raise LookupError(f"the order book has no {kind} of {xid.hex()}")
        return der

    # ── Towards the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def _drive_in_background(self, xid: bytes) -> asyncio.Task[None]:
        """The one task that drives this order."""
        task = self._driving.get(xid)
        if task is None:
            task = asyncio.create_task(self._drive(xid))
            self._driving[xid] = task
            task.add_done_callback(lambda _task: self._driving.pop(xid, None))
        return task

    async def _drive(self, xid: bytes) -> None:
        steps = {
            OrderState.PAID_PENDING: self._authorise,
            OrderState.AUTHORISED: self._acknowledge,
            OrderState.ACKED: self._write_receipt,
        }
        pause = _FIRST_PAUSE
        while True:
            order = self.store.find(xid)
            assert order is not None
            step = steps.get(order.state)
            if step is None:
                return
            try:
                await step(xid)
                pause = _FIRST_PAUSE
            except XidAlreadyUsed:
                continue
            except Exception as error:  # an order is never given up because one try failed, whatever the cause
                _log.warning(
                    "trying again", xid=xid.hex(), state=order.state, error=type(error).__name__, pause=round(pause, 1)
                )
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _authorise(self, xid: bytes) -> None:
        """PAID_PENDING: ask the gateway, with the same AuthReq each time."""
        purchase = self._purchase_of(xid)
        signed = self.store.document(xid, Document.AUTH_REQ)
        if signed is None:
            draft = protocol.build_auth_req(
                purchase, terminal_id=self._rules.terminal_id, rrpid=self._rng(20), now=self._clock()
            )
            made = await self._signer.sign(draft.content_type, draft.content)
            await self.store.keep(xid, {Document.AUTH_REQ: made}, now=self._clock())
            signed = self._stored(xid, Document.AUTH_REQ)
        sent = protocol.SentAuthReq.load(signed)
        message = recall.auth_req_message(signed)
        answer = unwrap(await self._gateway.authorise(message), expected=(CT_AUTH_RES, CT_ERROR))
        now = self._clock()
        trust = await self._trust.trust(now)
        if answer.msg_type == CT_ERROR:
            await self._refused(xid, gateway_refusal(answer, message, trust=trust, now=now), answer.body)
            return
        try:
            checked = protocol.check_auth_res(answer, sent=sent, trust=trust, now=now)
        except ProtocolError as error:
            if error.code is not ErrorCode.ACK_TIMEOUT:
                raise
            await self._too_late(xid, OrderState.PAID_PENDING, error, {Document.AUTH_RES: answer.body})
            return
        fields = {"auth_code": int(checked.body.auth_code), "rrn": checked.body.rrn}
        if checked.approved:
            ack = protocol.build_auth_ack(checked, accepted=True, now=now)
            signed_ack = await self._signer.sign(ack.content_type, ack.content)
            stored = {Document.AUTH_RES: checked.signed, Document.AUTH_ACK: signed_ack}
            after = OrderState.AUTHORISED
        else:
            receipt = protocol.build_receipt(purchase, checked, now=now)
            signed_receipt = await self._signer.sign(receipt.content_type, receipt.content)
            stored = {
                Document.AUTH_RES: checked.signed,
                Document.RECEIPT: signed_receipt,
                Document.ANSWER: receipt.message(signed_receipt),
            }
            unknown = checked.body.auth_code is AuthCode.NO_REPLY
            after = OrderState.UNKNOWN if unknown else OrderState.DECLINED
        await self.store.move(
            xid, OrderState.PAID_PENDING, after, now=now, stored=stored, crls_used=_crls(trust), **fields
        )

    async def _refused(self, xid: bytes, error: ProtocolError, signed: bytes) -> None:
        """The gateway will never take this AuthReq: no money has moved, none will."""
        if error.code in _TRY_AGAIN:
            raise error
        now = self._clock()
        answer = await signed_error(self._signer, error, self._stored(xid, Document.PURCHASE), now=now)
        await self.store.move(
            xid,
            OrderState.PAID_PENDING,
            OrderState.DECLINED,
            now=now,
            stored={Document.GATEWAY_ERROR: signed, Document.ANSWER: answer},
        )

    async def _acknowledge(self, xid: bytes) -> None:
        """AUTHORISED: tell the gateway that its answer arrived, until it confirms."""
        signed = self._stored(xid, Document.AUTH_ACK)
        message = recall.auth_ack_message(signed)
        answer = await self._gateway.acknowledge(message)
        now = self._clock()
        if not answer:
            await self.store.move(xid, OrderState.AUTHORISED, OrderState.ACKED, now=now)
            return
        trust = await self._trust.trust(now)
        refusal = unwrap(answer, expected=(CT_ERROR,))
        error = gateway_refusal(refusal, message, trust=trust, now=now)
        if error.code is not ErrorCode.ACK_TIMEOUT:
            raise error
        await self._too_late(xid, OrderState.AUTHORISED, error, {Document.GATEWAY_ERROR: refusal.body})

    async def _too_late(
        self, xid: bytes, before: OrderState, error: ProtocolError, stored: dict[Document, bytes]
    ) -> None:
        """ackBy has passed: the gateway takes the money back. The buyer is told so, signed, in place of a receipt."""
        now = self._clock()
        told = await signed_error(self._signer, error, self._stored(xid, Document.PURCHASE), now=now)
        await self.store.move(xid, before, OrderState.UNKNOWN, now=now, stored={**stored, Document.ANSWER: told})

    async def _write_receipt(self, xid: bytes) -> None:
        """ACKED: the money is safe; sign the receipt."""
        purchase = self._purchase_of(xid)
        answer = recall.auth_res(self._stored(xid, Document.AUTH_RES))
        now = self._clock()
        receipt = protocol.build_receipt(purchase, answer, now=now)
        signed = await self._signer.sign(receipt.content_type, receipt.content)
        await self.store.move(
            xid,
            OrderState.ACKED,
            OrderState.RECEIPTED,
            now=now,
            stored={Document.RECEIPT: signed, Document.ANSWER: receipt.message(signed)},
        )

    def _purchase_of(self, xid: bytes) -> protocol.CheckedPurchase:
        message = unwrap(self._stored(xid, Document.PURCHASE), expected=(MT_PREQ,))
        return recall.purchase(protocol.receive_purchase(message), self._issued(xid))


def _crls(trust: Trust) -> list[bytes]:
    return [crl.public_bytes(Encoding.DER) for crl in trust.crls]
