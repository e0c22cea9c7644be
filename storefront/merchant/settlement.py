"""Open purchases are closed: the gateway is asked about each until it says, signed, where the money is.

An order ends UNKNOWN when the gateway did not know either, or took the money back for want of an acknowledgement in
time. Neither is the end of it: the gateway goes on giving back until the network has taken that. One loop asks for all
such orders, each less and less often; an order that was answered leaves UNKNOWN together with the gateway's words.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kwbp import inquiry as protocol
from kwbp.codes import AuthCode, PurchaseStatus
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.parties import GatewayIdentity
from kwbp.wrapper import unwrap
from pki.oids import CT_ERROR, CT_INQ_RES
from pki.path import Trust
from runtime.logging import get_logger
from storefront.errors import XidAlreadyUsed
from storefront.merchant import recall
from storefront.merchant.collection import crls_of
from storefront.merchant.refusals import gateway_refusal
from storefront.merchant.resources import Resources
from storefront.merchant.states import OrderState
from storefront.merchant.store import Document

_FIRST_PAUSE: Final = timedelta(seconds=1)
_LONGEST_PAUSE: Final = timedelta(minutes=5)
_PASS: Final = 1.0  # seconds between two looks at the order book while something is open

_log = get_logger("settlement")


@dataclass(slots=True)
class _Asked:
    """When an open order is asked about next."""

    due: datetime
    pause: timedelta = _FIRST_PAUSE

    def put_off(self, now: datetime) -> None:
        self.due = now + self.pause
        self.pause = min(self.pause * 2, _LONGEST_PAUSE)


class Settlement:
    """Asks about open orders. Start and stop it in the event loop that serves the shop."""

    def __init__(self, merchant_id: str, resources: Resources) -> None:
        self._merchant_id = merchant_id
        self._store = resources.store
        self._signer = resources.signer
        self._gateway = resources.gateway
        self._trust = resources.trust
        self._clock = resources.clock
        self._rng = resources.rng
        self._checkpoint = resources.checkpoint
        self._open: dict[bytes, _Asked] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take up every order that was left open."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop asking; the next `start` takes up what is open."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """An order was left open."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                left = await self._pass()
            except Exception as error:  # the order book cannot be read: it may be, a little later
                _log.warning("open orders cannot be looked up", error=type(error).__name__)
                left = True
            waiting = asyncio.wait_for(self._wake.wait(), _PASS if left else None)
            await asyncio.gather(waiting, return_exceptions=True)

    async def _pass(self) -> bool:
        """Ask about every open order that is due; whether any is left open."""
        open_orders = self._store.in_state(OrderState.UNKNOWN)
        for gone in self._open.keys() - set(open_orders):
            del self._open[gone]
        for xid in open_orders:
            now = self._clock()
            asked = self._open.setdefault(xid, _Asked(due=now))
            if asked.due > now:
                continue
            asked.put_off(now)
            try:
                status = await self._ask(xid)
                _log.info("asked", xid=xid.hex(), status=status.protocol_name)
            except XidAlreadyUsed:
                continue  # somebody else closed it
            except ProtocolError as error:
                _log.warning("no word yet", xid=xid.hex(), error=error.code.protocol_name, check=error.check)
            except Exception as error:  # whatever it was, the next order is not to suffer
                _log.warning("no word yet", xid=xid.hex(), error=type(error).__name__)
        return bool(open_orders)

    async def _ask(self, xid: bytes) -> PurchaseStatus:
        """One InqReq; what the gateway says, stored if it closes the order."""
        gateway = recall.issued(self._store, xid).gateway
        draft = protocol.build_inquiry(
            rrpid=self._rng(20), xid=xid, merchant_id=self._merchant_id, chall=self._rng(32), now=self._clock()
        )
        signed = await self._signer.sign(draft.content_type, draft.content)
        told, trust = await self._exchange(draft, signed, gateway)
        self._checkpoint("told")
        after = closed_by(told)
        if after is not None:
            await self._store.move(
                xid,
                OrderState.UNKNOWN,
                after,
                now=self._clock(),
                stored={Document.GATEWAY_STATUS: told.signed},
                crls_used=crls_of(trust),
            )
            self._checkpoint(after.lower())
        return told.status

    async def _exchange(
        self, draft: Draft[protocol.InqReqTBS], signed: bytes, gateway: GatewayIdentity
    ) -> tuple[protocol.GatewayStatus, Trust]:
        message = draft.message(signed)
        answer = unwrap(await self._gateway.inquire(message), expected=(CT_INQ_RES, CT_ERROR))
        now = self._clock()
        trust = await self._trust.trust(now)
        if answer.msg_type == CT_ERROR:
            raise gateway_refusal(answer, message, gateway=gateway, trust=trust, now=now)
        told = protocol.check_gateway_status(
            answer,
            sent=protocol.SentInquiry.load(signed),
            gateway_id=gateway.gateway_id,
            acquirer_bin=gateway.acquirer_bin,
            trust=trust,
            now=now,
        )
        return told, trust


def closed_by(told: protocol.GatewayStatus) -> OrderState | None:
    """Where an order goes that was open, now that the gateway says this; None if it stays open.

    An order that is concluded with an approval was acknowledged; that this merchant then holds it open contradicts
    itself, and a person has to look: nothing is shipped, nothing is given up.
    """
    if told.status is PurchaseStatus.REVERSED:
        return OrderState.REVERSED
    if told.status is not PurchaseStatus.CONCLUDED:
        return None
    approved = told.auth_res is not None and told.auth_res.auth_code is AuthCode.APPROVED
    return None if approved else OrderState.DECLINED
