"""From an accepted order to the answer that its buyer gets: AuthReq, AuthAck, Receipt.

Every step is stored before it has an effect outside. `_drive` takes an order from whatever state it is in towards its
end; the wallet's request runs it, and so does a merchant that starts again, so there is one path, not a normal one and
one for accidents.

    PAID_PENDING  AuthReq is stored, then sent, the same bytes until it is answered
    AUTHORISED    AuthRes and AuthAck are stored, then AuthAck is sent until the gateway has taken it
    ACKED         the receipt is signed and stored

AuthReq is mostly there when the order is accepted (`request`), and stored with it. The receipt is mostly signed in the
same request to the token as the AuthAck; it stays in memory, and is neither stored nor given to anybody before the
gateway has taken the AuthAck: then it is stored in the transaction that says so. A merchant that dies in between has
only an order that is AUTHORISED, as if no receipt had ever been, and signs another one in ACKED.

The gateway takes a signed message for two minutes only (K7). After a longer interruption it refuses the stored one as
too old, and another is signed. That can never collect twice: the gateway asks its order book for the XID before it asks
for the age (G3 before G4), and has at most one AuthReq for an XID.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from kwbp import merchant as protocol
from kwbp.codes import AuthCode, ErrorCode
from kwbp.common import instant
from kwbp.errors import ProtocolError
from kwbp.wrapper import unwrap
from pki.oids import CT_AUTH_RES, CT_ERROR
from pki.path import Trust
from runtime.logging import get_logger
from runtime.problems import Problem
from storefront.errors import XidAlreadyUsed
from storefront.merchant import recall
from storefront.merchant.documents import Document
from storefront.merchant.refusals import Refusals, gateway_refusal
from storefront.merchant.resources import Resources
from storefront.merchant.states import OrderState

_FIRST_PAUSE: Final = 0.2  # seconds between two tries to reach the gateway; doubled each time, up to the cap
_LONGEST_PAUSE: Final = 15.0
_STALE: Final = timedelta(seconds=60)
"""A message of ours that is younger, and that the gateway calls too old, shows clocks that disagree: signing it anew
would not help."""
_ATTEMPTS: Final = 99  # AuthReq.attempt

_NOT_NOW: Final = frozenset({ErrorCode.UNSPECIFIED_FAILURE, ErrorCode.RATE_LIMITED, ErrorCode.UNKNOWN_OUTCOME})
"""Errors of a gateway that could not do its work: asked again until it can."""
_OPEN: Final = frozenset({AuthCode.NO_REPLY, AuthCode.PI_PREVIOUSLY_USED})
"""Answers that do not say where the money is: the network did not tell, or another AuthReq has this XID."""

_log = get_logger("collection")


class Collection:
    """Drives orders; one task each."""

    def __init__(
        self, terminal_id: str, resources: Resources, refusals: Refusals, *, on_open: Callable[[], None]
    ) -> None:
        self._terminal_id = terminal_id
        self._on_open = on_open
        self._store = resources.store
        self._signer = resources.signer
        self._gateway = resources.gateway
        self._trust = resources.trust
        self._clock = resources.clock
        self._rng = resources.rng
        self._checkpoint = resources.checkpoint
        self._proofs = resources.proofs
        self._refusals = refusals
        self._driving: dict[bytes, asyncio.Task[None]] = {}
        self._receipts: dict[bytes, dict[Document, bytes]] = {}
        """Signed receipts of orders that this process drives in AUTHORISED."""

    def start(self) -> None:
        """Take up every order that was under way when the merchant stopped."""
        for order in self._store.unfinished():
            self._task(order.xid)

    async def stop(self) -> None:
        """Stop driving; what is stored is taken up by the next `start`."""
        tasks = list(self._driving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def request(self, purchase: protocol.CheckedPurchase) -> bytes | None:
        """The AuthReq (SignedData) to store with an order that is being accepted, and to send only afterwards.

        None if it cannot be signed now: the order is accepted all the same, and driven on when it can.
        """
        try:
            return await self._sign_auth_req(purchase, attempt=1)
        except Exception as error:  # whatever it is, `_drive` meets it again, and is patient
            _log.warning("no request yet", xid=purchase.issued.invoice.xid.hex(), **_cause(error))
            return None

    async def answer(self, xid: bytes, *, patience: float) -> bytes | None:
        """Drive the order to its end; its answer (DER KwbpMessage), None if it has none after `patience` seconds."""
        answer = self._store.document(xid, Document.ANSWER)
        if answer is None:
            await asyncio.wait({self._task(xid)}, timeout=patience)
            answer = self._store.document(xid, Document.ANSWER)
        return answer

    def _task(self, xid: bytes) -> asyncio.Task[None]:
        """The one task that drives this order."""
        task = self._driving.get(xid)
        if task is None:
            task = asyncio.create_task(self._drive(xid))
            self._driving[xid] = task
            task.add_done_callback(lambda _task: self._driven(xid))
        return task

    def _driven(self, xid: bytes) -> None:
        self._driving.pop(xid, None)
        self._receipts.pop(xid, None)

    async def _drive(self, xid: bytes) -> None:
        steps = {
            OrderState.PAID_PENDING: self._authorise,
            OrderState.AUTHORISED: self._acknowledge,
            OrderState.ACKED: self._write_receipt,
        }
        pause, state = _FIRST_PAUSE, None
        moved: OrderState | None = None  # to what the last step has moved it by compare-and-set: it need not be read
        while True:
            try:
                found = moved or self._state(xid)
                moved = None
                step = steps.get(found) if found is not None else None
                if found is None or step is None:
                    return
                if found is not state:
                    pause, state = _FIRST_PAUSE, found
                moved = await step(xid)
            except XidAlreadyUsed:
                continue  # somebody else moved the order on
            except Exception as error:  # an order is never given up because one try failed, whatever the cause
                _log.warning("trying again", xid=xid.hex(), state=state, pause=round(pause, 1), **_cause(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _state(self, xid: bytes) -> OrderState | None:
        order = self._store.find(xid)
        return None if order is None else order.state

    # --- PAID_PENDING: M10 --------------------------------------------------------------------------------------------

    async def _authorise(self, xid: bytes) -> OrderState | None:
        """Ask the gateway, with the same AuthReq each time; judge and store its answer.

        Like every step: the state that it has moved the order to, None if that has to be looked up.
        """
        documents = self._store.documents(xid)
        purchase, signed = recall.purchase_of(documents), documents.get(Document.AUTH_REQ)
        if signed is None:
            signed = await self._sign_auth_req(purchase, attempt=1)
            signed = await self._store.keep_first(xid, Document.AUTH_REQ, signed, now=self._clock())
        self._checkpoint("requested")
        message = recall.auth_req_message(signed)
        answer = unwrap(await self._gateway.authorise(message), expected=(CT_AUTH_RES, CT_ERROR))
        self._checkpoint("answered")
        now = self._clock()
        trust = await self._trust.trust(now)
        if answer.msg_type == CT_ERROR:
            gateway = purchase.issued.gateway
            error = gateway_refusal(answer, message, gateway=gateway, trust=trust, now=now)
            await self._refused(purchase, signed, error, answer.body, trust)
            return None
        try:
            checked = protocol.check_auth_res(answer, sent=recall.sent(signed, purchase), trust=trust, now=now)
        except ProtocolError as error:
            if error.code is not ErrorCode.ACK_TIMEOUT:
                raise
            await self._too_late(xid, OrderState.PAID_PENDING, error, {Document.AUTH_RES: answer.body}, trust)
            return None
        receipt: dict[Document, bytes] | None = None
        if checked.approved:
            ack, receipt = await self._sign_ack_and_receipt(purchase, checked)
            stored = {Document.AUTH_ACK: ack}
            after = OrderState.AUTHORISED
        else:
            stored = await self._sign_receipt(purchase, checked)
            after = OrderState.UNKNOWN if checked.body.auth_code in _OPEN else OrderState.DECLINED
        await self._store.move(
            xid,
            OrderState.PAID_PENDING,
            after,
            now=now,
            stored={Document.AUTH_RES: checked.signed, **stored},
            crls_used=crls_of(trust),
            auth_code=int(checked.body.auth_code),
            rrn=checked.body.rrn,
        )
        if receipt is not None:
            self._receipts[xid] = receipt
        self._checkpoint(after.lower())
        if after is OrderState.UNKNOWN:
            self._on_open()
        if self._proofs is not None:
            self._proofs.wake(xid)
        return after

    async def _refused(
        self, purchase: protocol.CheckedPurchase, signed: bytes, error: ProtocolError, body: bytes, trust: Trust
    ) -> None:
        """The gateway refused, signed. Where it will never take this order, nothing was collected that stays so: G3
        would have answered from its order book, and what nobody acknowledges is given back."""
        xid, now = purchase.issued.invoice.xid, self._clock()
        if error.code in _NOT_NOW:
            raise error
        if now <= instant(purchase.issued.invoice.not_after):
            if error.code is ErrorCode.BCI_STALE:  # it could not judge; it may, later
                raise error
            request = recall.auth_req(signed)
            stale = error.code is ErrorCode.MESSAGE_TOO_OLD and now - instant(request.date) > _STALE
            if stale and request.attempt < _ATTEMPTS:
                anew = await self._sign_auth_req(purchase, attempt=request.attempt + 1)
                await self._store.replace(xid, OrderState.PAID_PENDING, Document.AUTH_REQ, anew, now=now)
                return
        answer = await self._refusals.final(error, self._store.required(xid, Document.PURCHASE))
        await self._store.move(
            xid,
            OrderState.PAID_PENDING,
            OrderState.DECLINED,
            now=now,
            stored={Document.GATEWAY_ERROR: body, Document.ANSWER: answer},
            crls_used=crls_of(trust),
        )
        self._checkpoint("declined")

    # --- AUTHORISED ---------------------------------------------------------------------------------------------------

    async def _acknowledge(self, xid: bytes) -> OrderState | None:
        """Tell the gateway that its answer arrived, until it has taken that."""
        signed = self._store.required(xid, Document.AUTH_ACK)
        message = recall.auth_ack_message(signed)
        answer = await self._gateway.acknowledge(message)
        self._checkpoint("acknowledged")
        now = self._clock()
        if answer is None:
            receipt = self._receipts.pop(xid, None)
            if receipt is not None:
                await self._store.conclude(xid, receipt, now=now)
                self._checkpoint("receipted")
                return OrderState.RECEIPTED
            await self._store.move(xid, OrderState.AUTHORISED, OrderState.ACKED, now=now)
            self._checkpoint("acked")
            return OrderState.ACKED
        trust = await self._trust.trust(now)
        refusal = unwrap(answer, expected=(CT_ERROR,))
        gateway = recall.issued(self._store, xid).gateway
        error = gateway_refusal(refusal, message, gateway=gateway, trust=trust, now=now)
        if error.code in _NOT_NOW:
            raise error
        approval = recall.auth_res(self._store.required(xid, Document.AUTH_RES))
        if error.code is not ErrorCode.ACK_TIMEOUT and now <= instant(approval.body.ack_by):
            stale = now - instant(recall.auth_ack(signed).date) > _STALE
            if error.code is not ErrorCode.MESSAGE_TOO_OLD or not stale:
                raise error
            anew = await self._sign_auth_ack(approval)
            await self._store.replace(xid, OrderState.AUTHORISED, Document.AUTH_ACK, anew, now=now)
            return None
        late = ProtocolError(ErrorCode.ACK_TIMEOUT, "B3", "acknowledgement did not come before ackBy")
        await self._too_late(xid, OrderState.AUTHORISED, late, {Document.GATEWAY_ERROR: refusal.body}, trust)
        return None

    async def _too_late(
        self, xid: bytes, before: OrderState, error: ProtocolError, stored: dict[Document, bytes], trust: Trust
    ) -> None:
        """ackBy has passed: the gateway takes the money back. The buyer is told so, signed, in place of a receipt."""
        self._receipts.pop(xid, None)
        told = await self._refusals.final(error, self._store.required(xid, Document.PURCHASE))
        await self._store.move(
            xid,
            before,
            OrderState.UNKNOWN,
            now=self._clock(),
            stored={**stored, Document.ANSWER: told},
            crls_used=crls_of(trust),
        )
        self._on_open()
        self._checkpoint("unknown")

    # --- ACKED --------------------------------------------------------------------------------------------------------

    async def _write_receipt(self, xid: bytes) -> OrderState | None:
        """The money is safe; sign the receipt."""
        documents = self._store.documents(xid)
        purchase, answer = recall.purchase_of(documents), recall.auth_res(documents[Document.AUTH_RES])
        stored = await self._sign_receipt(purchase, answer)
        await self._store.move(xid, OrderState.ACKED, OrderState.RECEIPTED, now=self._clock(), stored=stored)
        self._checkpoint("receipted")
        return OrderState.RECEIPTED

    # --- what the merchant signs --------------------------------------------------------------------------------------

    async def _sign_auth_req(self, purchase: protocol.CheckedPurchase, *, attempt: int) -> bytes:
        draft = protocol.build_auth_req(
            purchase, terminal_id=self._terminal_id, rrpid=self._rng(20), now=self._clock(), attempt=attempt
        )
        return await self._signer.sign(draft.content_type, draft.content)

    async def _sign_auth_ack(self, approval: protocol.CheckedAuthRes) -> bytes:
        draft = protocol.build_auth_ack(approval, accepted=True, now=self._clock())
        return await self._signer.sign(draft.content_type, draft.content)

    async def _sign_ack_and_receipt(
        self, purchase: protocol.CheckedPurchase, approval: protocol.CheckedAuthRes
    ) -> tuple[bytes, dict[Document, bytes] | None]:
        """AuthAck, and the receipt for when it has been taken; None if that was refused: it is asked for again then.

        Only AuthAck must be there now: what stands in the way of the receipt alone never delays it.
        """
        now = self._clock()
        ack = protocol.build_auth_ack(approval, accepted=True, now=now)
        receipt = protocol.build_receipt(purchase, approval, now=now)
        contents = [(ack.content_type, ack.content), (receipt.content_type, receipt.content)]
        try:
            signed_ack, signed_receipt = await self._signer.sign_each(contents)
        except Problem as problem:
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            _log.warning("signed singly", xid=purchase.issued.invoice.xid.hex(), error=problem.type)
            return await self._signer.sign(*contents[0]), None  # such as a limit of the key that has room for one
        if isinstance(signed_ack, Problem):
            raise signed_ack
        if isinstance(signed_receipt, Problem):
            _log.warning("no receipt yet", xid=purchase.issued.invoice.xid.hex(), error=signed_receipt.type)
            return signed_ack, None
        return signed_ack, {Document.RECEIPT: signed_receipt, Document.ANSWER: receipt.message(signed_receipt)}

    async def _sign_receipt(
        self, purchase: protocol.CheckedPurchase, answer: protocol.CheckedAuthRes
    ) -> dict[Document, bytes]:
        """The receipt, and the message with it that ends the purchase."""
        draft = protocol.build_receipt(purchase, answer, now=self._clock())
        signed = await self._signer.sign(draft.content_type, draft.content)
        return {Document.RECEIPT: signed, Document.ANSWER: draft.message(signed)}


def crls_of(trust: Trust) -> list[bytes]:
    """DER of the CRLs that something was judged by."""
    return [crl.public_bytes(Encoding.DER) for crl in trust.crls]


def _cause(error: Exception) -> dict[str, str]:
    """What may stand in a log of an error: never its text, which may quote what came."""
    if isinstance(error, ProtocolError):
        return {"error": error.code.protocol_name, "check": error.check}
    return {"error": type(error).__name__}
