"""Open purchases are closed: the gateway is asked about each until it says, signed, where the money is.

An order ends UNKNOWN when the gateway did not know either, or took the money back for want of an acknowledgement in
time. Neither is the end of it: the gateway goes on giving back until the network has taken that. One loop asks for all
such orders, each less and less often; an order that was answered leaves UNKNOWN together with the gateway's words.

There may be thousands of them after a bad day. Who has waited longest is asked about first; a look ends at the first
sign that the gateway is away or has had enough, for the next order would fare no better.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kwbp import inquiry as protocol
from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.parties import GatewayIdentity
from kwbp.wrapper import unwrap
from pki.oids import CT_ERROR, CT_INQ_RES
from pki.path import Trust
from runtime.lasting import lasting
from runtime.logging import get_logger
from storefront.errors import GatewayUnreachable, UnsignedRefusal, XidAlreadyUsed
from storefront.merchant import recall
from storefront.merchant.collection import crls_of
from storefront.merchant.documents import Document
from storefront.merchant.refusals import gateway_refusal
from storefront.merchant.resources import Resources
from storefront.merchant.states import OrderState

_FIRST_PAUSE: Final = timedelta(seconds=1)
_LONGEST_PAUSE: Final = timedelta(minutes=5)
_PEOPLES_PAUSE: Final = timedelta(hours=1)
"""Between two inquiries about an order that people have to settle."""
_PASS: Final = 1.0  # seconds between two looks at the order book while something is open
_CROWDED: Final = 10.0  # the same, after the gateway said that it was asked too often

_FOR_PEOPLE: Final = {
    PurchaseStatus.UNSETTLED: "the network took no reversal: the acquirer's people settle this order",
    PurchaseStatus.CONCLUDED: "the gateway says that this open order was paid: a person has to look",
}
"""What the gateway may say of an order that stays open although it will say nothing else any more."""

_log = get_logger("settlement")


class _TooManyError(Exception):
    """The gateway answers no more inquiries for now."""


@dataclass(slots=True)
class _Asked:
    """When an open order is asked about next, and what came of it so far."""

    due: datetime
    pause: timedelta = _FIRST_PAUSE
    word: protocol.GatewayStatus | None = None
    """What the gateway said last."""

    def is_due(self, now: datetime) -> bool:
        """Also if it was put off further than anything is: then the clock was put back since."""
        return not now < self.due <= now + _PEOPLES_PAUSE

    def put_off(self, now: datetime) -> None:
        self.due = now + self.pause
        self.pause = min(self.pause * 2, _LONGEST_PAUSE)

    def leave_to_people(self, now: datetime) -> None:
        self.due = now + _PEOPLES_PAUSE


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
        self._task = asyncio.create_task(lasting("open orders", self._run))

    async def stop(self) -> None:
        """Stop asking; the next `start` takes up what is open."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """An order was left open."""
        self._wake.set()

    def word(self, xid: bytes) -> protocol.GatewayStatus | None:
        """What the gateway said last of an open order; None if it has said nothing since this merchant started."""
        asked = self._open.get(xid)
        return asked.word if asked is not None else None

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause = await self._pass()
            except Exception as error:  # the order book cannot be read: it may be, a little later
                _log.warning("open orders cannot be looked up", error=type(error).__name__)
                pause = _PASS
            waiting = asyncio.wait_for(self._wake.wait(), pause)
            await asyncio.gather(waiting, return_exceptions=True)

    async def _pass(self) -> float | None:
        """Ask about the open orders that are due; seconds until the next look, None if no order is open."""
        open_orders = self._store.in_state(OrderState.UNKNOWN)
        for gone in self._open.keys() - set(open_orders):
            del self._open[gone]
        now = self._clock()
        for xid in open_orders:
            self._open.setdefault(xid, _Asked(due=now))
        for xid, asked in sorted(self._open.items(), key=lambda item: item[1].due):
            if not asked.is_due(now):
                continue
            try:
                await self._try(xid, asked)
            except (GatewayUnreachable, UnsignedRefusal) as error:
                _log.warning("no word yet", xid=xid.hex(), error=type(error).__name__)
                return _PASS
            except _TooManyError:
                _log.warning("the gateway was asked too often", waiting=len(open_orders))
                return _CROWDED
        return _PASS if open_orders else None

    async def _try(self, xid: bytes, asked: _Asked) -> None:
        """Ask about one order, and say when it is asked about next.

        :raises GatewayUnreachable: :raises UnsignedRefusal: nobody answers at the moment.
        :raises _TooManyError: the order keeps its turn.
        """
        turn = asked.due, asked.pause
        asked.put_off(self._clock())
        try:
            asked.word, after = await self._ask(xid)
        except XidAlreadyUsed:
            return  # somebody else closed it
        except (GatewayUnreachable, UnsignedRefusal):
            raise
        except ProtocolError as error:
            if error.code is ErrorCode.RATE_LIMITED:
                asked.due, asked.pause = turn
                raise _TooManyError from None
            _log.warning("no word yet", xid=xid.hex(), error=error.code.protocol_name, check=error.check)
        except Exception as error:  # whatever it was, the next order is not to suffer
            _log.warning("no word yet", xid=xid.hex(), error=type(error).__name__)
        else:
            status = asked.word.status
            if after is None and status in _FOR_PEOPLE:
                asked.leave_to_people(self._clock())
                _log.error(_FOR_PEOPLE[status], xid=xid.hex(), alarm=True)
            else:
                _log.info("asked", xid=xid.hex(), status=status.protocol_name, state=after)

    async def _ask(self, xid: bytes) -> tuple[protocol.GatewayStatus, OrderState | None]:
        """One InqReq; what the gateway says, and the state in which that closed the order, stored; None if open."""
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
        return told, after

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
