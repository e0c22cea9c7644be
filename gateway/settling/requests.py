"""CapReq, CapRevReq, AuthRevReq, CredReq and CredRevReq (rows 19 to 21): from their bytes to the signed answer.

    structure, sender (H1), order, repeat (H2, H3)   nothing kept: a refusal leaves the order book as it was
    signature, order (H4 to H9)                      public keys only
        TAKEN ── durable: judged again by what stands in the same transaction; the one open request of its order
    message built and MACed, SENT, switch, CONCLUDED, signed, ANSWERED: `gateway.settling.forwarding`

The same bytes again get the stored answer. While the outcome is open they get noReply, the same one each time, and the
switch is asked again; the answer after it is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from gateway.disclosures import Disclosures
from gateway.errors import UnknownOrderError
from gateway.merchants import MerchantRegistry, enrolled
from gateway.order import OrderKey
from gateway.ports import TrustSource
from gateway.settling.forwarding import Forwarding
from gateway.settling.row import Settling
from gateway.settling.states import SettlingState
from gateway.settling.store import SettlingStore
from gateway.signing import AnswerSigner
from kwbp.codes import AuthCode, ErrorCode
from kwbp.errors import ProtocolError
from kwbp.gateway import GatewayIdentity
from kwbp.settling import (
    CheckedSettlingRequest,
    SettlingRequest,
    build_answer,
    check_request,
    check_requester,
    is_repeated,
    receive_request,
)
from kwbp.wrapper import KwbpMessage
from runtime.minute_budget import MinuteBudget
from runtime.problems import Problem

REQUESTS_A_MINUTE: Final = 600
"""Of one merchant; each costs the token a signature."""


class SettlingRequests:
    """Answers the requests of rows 19 to 21."""

    def __init__(
        self,
        identity: GatewayIdentity,
        *,
        store: SettlingStore,
        disclosures: Disclosures,
        merchants: MerchantRegistry,
        forwarding: Forwarding,
        signer: AnswerSigner,
        trust: TrustSource,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None],
    ) -> None:
        self._identity = identity
        self._store = store
        self._disclosures = disclosures
        self._merchants = merchants
        self._forwarding = forwarding
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self._checkpoint = checkpoint
        self._budget = MinuteBudget(REQUESTS_A_MINUTE, clock=clock)

    async def answer(self, tls_merchant_id: str, message: KwbpMessage) -> bytes:
        """The answer (DER KwbpMessage) to a request from the merchant at the other end of the TLS connection.

        :raises ProtocolError: see `kwbp.checks`. :raises Problem: 503, send the same again.
        """
        request = receive_request(message)
        merchant = self._merchants.find(request.body.merchant_id)
        check_requester(request, enrolled(merchant), tls_merchant_id=tls_merchant_id)  # H1
        if not self._budget.take(tls_merchant_id):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "H1", f"at most {REQUESTS_A_MINUTE} requests a minute")
        key = OrderKey(request.body.merchant_id, request.body.xid)
        _, standing = await self._store.look(self._store.order_and_standing, key)
        if is_repeated(request, standing):  # H2, H3
            row = await self._store.look(self._store.find, key, request.body.rrpid)
            if row is None:  # the RRPID and the hash of the AuthReq itself: no request of these rows has them
                raise ProtocolError(ErrorCode.BAD_MESSAGE_HEADER, "H3", "RRPID was used by another request")
            return await self._worked_on(row)
        assert standing is not None
        now = self._clock()
        trust = await self._trust.trust(now)
        check_request(request, standing, gateway=self._identity, trust=trust, now=now)  # H4 to H9
        await self._disclosures.keep(trust, self._identity.certificate, now)
        return await self._worked_on(await self._taken(request))

    async def _taken(self, request: SettlingRequest) -> Settling:
        try:
            row, new = await self._store.take(
                request, acquirer=self._identity.acquirer_bin, next_at=self._forwarding.lease(), now=self._clock()
            )
        except UnknownOrderError:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "H2", "XID must be of an order of this merchant") from None
        if new:
            self._checkpoint("settling-taken")
        return row

    async def _worked_on(self, row: Settling) -> bytes:
        if row.state is not SettlingState.ANSWERED:
            if self._forwarding.is_held(row):
                raise _not_yet()
            await asyncio.wait({self._forwarding.begin(row)})
        current = await self._store.look(self._store.find, row.order, row.rrpid)
        assert current is not None
        return current.answer or await self._open(current)

    async def _open(self, row: Settling) -> bytes:
        """noReply while nobody knows what the switch did."""
        if row.state is not SettlingState.SENT:
            raise _not_yet()
        if row.open_answer is None:
            _, standing = await self._store.look(self._store.order_and_standing, row.order)
            assert standing is not None
            asked = row.asked
            draft = build_answer(
                CheckedSettlingRequest(asked.received, asked.content_type, standing),
                gateway=self._identity,
                auth_code=AuthCode.NO_REPLY,
                now=self._clock(),
                stan=row.stan,
                rrn=row.rrn,
            )
            row = await self._store.told_open(row, await self._signer.message(draft))
        assert row.open_answer is not None
        return row.answer or row.open_answer


def _not_yet() -> Problem:
    return Problem(
        503,
        "not-answered-yet",
        "the request is being worked on; send the same message again",
        headers={"retry-after": "1"},
    )
