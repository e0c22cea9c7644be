"""The parts of rows 19 to 23, put together: what a gateway starts, asks and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.disclosures import Disclosures
from gateway.guarding.reception import receive
from gateway.merchants import MerchantRegistry
from gateway.ports import OrderKeys, TrustSource
from gateway.refusals import Refusals
from gateway.routing import Routes
from gateway.settling.advices import Advices
from gateway.settling.batches import BatchRequests
from gateway.settling.forwarding import Forwarding, ForwardingSettings
from gateway.settling.reconciliation import Reconciliation
from gateway.settling.requests import SettlingRequests
from gateway.settling.store import SettlingStore
from gateway.signing import AnswerSigner
from gateway.store import OrderStore
from kwbp.gateway import GatewayIdentity
from kwbp.settling import REQUESTS
from kwbp.wrapper import KwbpMessage
from pki.oids import CT_BATCH_ADMIN_REQ
from runtime.lasting import lasting
from shetab.dialect import Dialect
from shetab.message import Message
from shetab.response_codes import ResponseCodes


@dataclass(frozen=True, slots=True)
class Needs:
    """What the gateway gives to these parts."""

    orders: OrderStore
    merchants: MerchantRegistry
    routes: Routes
    keys: OrderKeys
    signer: AnswerSigner
    refusals: Refusals
    trust: TrustSource
    dialect: Dialect
    codes: ResponseCodes
    clock: Callable[[], datetime]
    rng: Callable[[int], bytes]
    checkpoint: Callable[[str], None]


class SettlingService:
    """Rows 19 to 23 of one gateway."""

    def __init__(self, settings: ForwardingSettings, identity: GatewayIdentity, needs: Needs) -> None:
        self._refusals = needs.refusals
        self.store = SettlingStore(needs.orders)
        self._forwarding = Forwarding(
            settings,
            identity,
            orders=needs.orders,
            store=self.store,
            merchants=needs.merchants,
            routes=needs.routes,
            keys=needs.keys,
            signer=needs.signer,
            dialect=needs.dialect,
            codes=needs.codes,
            clock=needs.clock,
            rng=needs.rng,
            checkpoint=needs.checkpoint,
        )
        self._requests = SettlingRequests(
            identity,
            store=self.store,
            disclosures=Disclosures(needs.orders),
            merchants=needs.merchants,
            forwarding=self._forwarding,
            signer=needs.signer,
            trust=needs.trust,
            clock=needs.clock,
            checkpoint=needs.checkpoint,
        )

        self.reconciliation = Reconciliation(
            needs.orders,
            needs.routes,
            needs.dialect,
            acquirer=identity.acquirer_bin,
            answer_timeout=settings.answer_timeout,
            first_pause=settings.first_pause,
            clock=needs.clock,
            rng=needs.rng,
            checkpoint=needs.checkpoint,
            tick=settings.tick,
        )
        self._batches = BatchRequests(
            identity,
            orders=needs.orders,
            merchants=needs.merchants,
            signer=needs.signer,
            trust=needs.trust,
            clock=needs.clock,
            checkpoint=needs.checkpoint,
            on_close=self.reconciliation.wake,
        )

        self.advices = Advices(
            identity,
            orders=needs.orders,
            reconciliation=self.reconciliation,
            signer=needs.signer,
            fees=settings.fees,
            clock=needs.clock,
            rng=needs.rng,
            checkpoint=needs.checkpoint,
        )

    async def run(self) -> None:
        """Work on what nobody waits for, until cancelled."""
        async with asyncio.TaskGroup() as works:
            works.create_task(lasting("requests of merchants", self._forwarding.run))
            works.create_task(lasting("reconciliation", self.reconciliation.run))

    async def claims(self, answer: Message) -> bool:
        """Whether an answer that nobody waited for is of an open request; the switch is asked for it again at once."""
        row = await self.store.look(self.store.of_trace, answer.get(11), answer.get(37))
        if row is not None and not self._forwarding.is_held(row):
            self._forwarding.begin(row)
        return row is not None

    async def drain(self) -> None:
        """Let the attempts under way come to their end."""
        await self._forwarding.drain()

    async def answer(self, tls_merchant_id: str, data: bytes) -> bytes:
        """A request of rows 19 to 22 (DER KwbpMessage) to its Res or Error, for the merchant of the TLS connection.

        :raises Problem: 503 while something that is needed is away: send the same again.
        """

        async def handle(message: KwbpMessage) -> bytes:
            handler = self._batches if message.msg_type == CT_BATCH_ADMIN_REQ else self._requests
            return await handler.answer(tls_merchant_id, message)

        return await receive(self._refusals, tls_merchant_id, data, (*REQUESTS, CT_BATCH_ADMIN_REQ), handle)
