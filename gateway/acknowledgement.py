"""AuthAck (row 15): the merchant has our answer, signed. It switches off the clock that would reverse the approval.

Without it a merchant could deny ever having learnt that it was paid, and the buyer would have paid for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from gateway.errors import StateConflictError
from gateway.guarding.reception import receive
from gateway.order import Order, OrderKey
from gateway.patience import Patience
from gateway.ports import TrustSource
from gateway.refusals import Refusals
from gateway.reversal import NO_ACKNOWLEDGEMENT, NOT_ACCEPTED
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.translation import SALE
from kwbp.codes import AuthCode, ErrorCode
from kwbp.common import read_signed
from kwbp.errors import ProtocolError
from kwbp.gateway import SentAuthRes, check_auth_ack
from kwbp.messages import AuthAckTBS
from kwbp.settling import sale_entry
from kwbp.wrapper import KwbpMessage, unwrap
from pki.oids import CT_AUTH_ACK, CT_AUTH_RES


class Acknowledgement:
    """Takes AuthAck."""

    def __init__(
        self,
        *,
        store: OrderStore,
        patience: Patience,
        refusals: Refusals,
        trust: TrustSource,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None],
        on_reversal: Callable[[], None],
        hold_kept: timedelta,
    ) -> None:
        """`hold_kept`: how long after its acknowledgement a hold that nobody captures lapses."""
        self._store = store
        self._patience = patience
        self._refusals = refusals
        self._trust = trust
        self._clock = clock
        self._checkpoint = checkpoint
        self._on_reversal = on_reversal
        self._hold_kept = hold_kept

    async def take(self, tls_merchant_id: str, data: bytes) -> bytes | None:
        """Take the acknowledgement in `data` (DER KwbpMessage) from the merchant at the other end of the connection.

        :returns: None if it was taken, now or before; else the DER KwbpMessage with the Error that says why not.
        :raises Problem: 503 while something that is needed is away: send the same again.
        """
        handle = partial(self._take, tls_merchant_id)
        return await receive(self._refusals, tls_merchant_id, data, (CT_AUTH_ACK,), handle)

    async def _take(self, tls_merchant_id: str, message: KwbpMessage) -> None:
        # The merchant of the connection, so that nobody learns of, or acknowledges, another's order.
        order = await self._store.found(OrderKey(tls_merchant_id, message.xid)) if message.xid is not None else None
        answer = _auth_res(order)
        if order is None or answer is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "B2", "no answer was given about an order of this XID")
        if order.auth_ack == message.body:
            return  # the same bytes again: taken already, whatever the clock says now
        now = self._clock()
        trust = await self._trust.trust(now)
        try:
            ack = check_auth_ack(message, sent=SentAuthRes.load(answer), trust=trust, now=self._believed(order, now))
        except ProtocolError as late:
            if late.code is ErrorCode.ACK_TIMEOUT and order.auth_code == AuthCode.APPROVED:
                await self._too_late(late, order.key, message, now)
                return
            raise
        if order.auth_code != AuthCode.APPROVED:
            return  # nothing was approved, so there is no clock to switch off
        try:
            if ack.accepted:
                entry = sale_entry(answer) if order.mti == SALE else None
                lapses_at = None if entry is not None else now + self._hold_kept
                await self._store.acknowledge(order.key, message.body, now, entry=entry, lapses_at=lapses_at)
            else:
                reversal = self._store.queue_reversal
                await reversal(order.key, OrderState.APPROVED, NOT_ACCEPTED, now, auth_ack=message.body)
                self._on_reversal()
            self._checkpoint("acknowledged")
        except StateConflictError:
            moved = await self._store.found(order.key)
            if ack.accepted and (moved is None or moved.state is not OrderState.ACKED):
                raise ProtocolError(ErrorCode.ACK_TIMEOUT, "B3", "the approval is being reversed") from None
            if not ack.accepted and moved is not None and moved.state is OrderState.ACKED:
                raise ProtocolError(ErrorCode.XID_ALREADY_USED, "B3", "the approval was accepted before") from None

    def _believed(self, order: Order, now: datetime) -> datetime:
        """The time by which an acknowledgement is judged: `ackBy` has not come before the approval has stood so long.

        A clock that is ahead would have an approval taken back of which the merchant was promised that it stands.
        """
        if order.ack_by is None or now <= order.ack_by or self._patience.is_over(order):
            return now
        return order.ack_by

    async def _too_late(self, late: ProtocolError, key: OrderKey, message: KwbpMessage, now: datetime) -> None:
        """B3 broken: refused, but never by the clock alone.

        Another copy of the acknowledgement may have come in time and be on its way to the disk. Whoever refuses this
        one must have taken the approval back first, or the merchant would hear "too late" of an order that is ACKED.
        """
        try:
            await self._store.queue_reversal(key, OrderState.APPROVED, NO_ACKNOWLEDGEMENT, now)
        except StateConflictError:
            moved = await self._store.found(key)
            accepted = read_signed(AuthAckTBS, CT_AUTH_ACK, message.body).body.accepted
            if accepted and moved is not None and moved.state is OrderState.ACKED:
                return
            raise late from None
        self._on_reversal()
        raise late


def _auth_res(order: Order | None) -> bytes | None:
    """The signed AuthRes that was given about `order`; None if there was none, or an Error."""
    if order is None or order.answer is None or order.auth_code is None:
        return None
    return unwrap(order.answer, expected=(CT_AUTH_RES,)).body
