"""What an operator may do to an order, and by which rule not.

A reversal may be queued again when the gateway has given it up, and queued before its time while the merchant has not
acknowledged. After that the merchant's own signed word is for it (rows 19 to 21), but for a hold that nothing was asked
about. An outcome that only the bank knows is stated by one person and confirmed by another, who must be an officer:
it closes an order for good, against nothing but what was said on the telephone.

Every command is in the journal before it is carried out, and in the order's life when it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from audit.journal import Journal
from gateway.dual_control import DualControl
from gateway.errors import OrderCommandError, StateConflictError
from gateway.order import Order, OrderKey
from gateway.states import OrderState
from gateway.store import OrderStore
from runtime.language import Message
from runtime.logging import get_logger

OUTCOMES: Final = frozenset({OrderState.REVERSED, OrderState.DEBITED})
"""What may be stated of an order in REV_FAILED."""
_S: Final = OrderState
_NOT_REVERSED: Final = MappingProxyType(
    {
        _S.RECEIVED: ("KWBP G12", Message("nothing of this order was sent")),
        _S.VERIFIED: ("KWBP G12", Message("nothing of this order was sent")),
        _S.SENT: ("KWBP G13", Message("the network is being asked: it is reversed by itself if no answer comes")),
        _S.DECLINED: ("KWBP G14", Message("no money moved")),
        _S.UNKNOWN: ("KWBP G14", Message("an unknown outcome is reversed by itself")),
        _S.REV_QUEUED: ("KWBP B3", Message("it is being reversed")),
        _S.REVERSED: ("KWBP B3", Message("it is reversed")),
        _S.DEBITED: ("KWBP B3", Message("its outcome was stated and confirmed")),
    }
)
_ACKNOWLEDGED: Final = (
    "KWBP row 20",
    Message("its merchant holds a signed approval: only the merchant's AuthRevReq or CredReq gives the money back"),
)
_TWO_OFFICERS: Final = Message("two officers state and confirm an outcome, and the console is none: act with --as NAME")
_log = get_logger("gateway.operating")


class OrderCommands:
    """The commands. `by` is the caller as the certificate names it (`service:operator`, `officer:NAME`)."""

    def __init__(
        self,
        store: OrderStore,
        journal: Journal,
        *,
        clock: Callable[[], datetime],
        on_reversal: Callable[[], None],
        dual_control: DualControl = DualControl.OFFICERS,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._on_reversal = on_reversal
        self._dual_control = dual_control

    async def reverse(self, key: OrderKey, *, by: str, reason: str) -> Order:
        """Queue the order's reversal, or queue it again.

        :raises OrderCommandError: the rules do not allow it; nothing is changed.
        """
        order = await self._known(key)
        if (refused := _NOT_REVERSED.get(order.state)) is not None:
            raise OrderCommandError(*refused)
        if order.pan_sealed is None:
            raise OrderCommandError(
                "PCI DSS 3.2", Message("the card of this order is forgotten: its bank alone can act")
            )
        await self._put_down("order-reverse", key, by, reason=reason, state=order.state)
        try:
            queued = await self._store.queue_reversal(key, order.state, f"operator: {reason}", self._clock(), by=by)
        except StateConflictError as error:
            if order.state is OrderState.ACKED:
                raise OrderCommandError(*_ACKNOWLEDGED) from None
            raise OrderCommandError(
                "KWBP B3", Message("the order has moved on to {state}", state=error.found)
            ) from None
        _log.warning("reversal queued by an operator", order=str(key), by=by)
        self._on_reversal()
        return queued

    async def state(self, key: OrderKey, outcome: OrderState, *, by: str, reason: str) -> Order:
        """State what the bank told of an order that could not be reversed; an officer confirms it.

        :raises OrderCommandError: the order does not wait for a person, an outcome is stated already, or only what an
            officer states counts.
        """
        if not self._dual_control.counts(by):
            raise OrderCommandError("CPS 5.2.2", _TWO_OFFICERS)
        if outcome not in OUTCOMES:
            raise OrderCommandError("CPS 5.2.2", Message("an outcome is REVERSED or DEBITED"))
        found = (await self._known(key)).state
        if found is not OrderState.REV_FAILED:
            raise OrderCommandError(
                "CPS 5.2.2",
                Message("only an order in REV_FAILED waits for a person; this is {state}", state=found.value),
            )
        await self._put_down("order-outcome-stated", key, by, reason=reason, outcome=outcome)
        return await self._conflicts(self._store.state_outcome(key, outcome, by=by, reason=reason, now=self._clock()))

    async def confirm(self, key: OrderKey, outcome: OrderState, *, by: str) -> Order:
        """Confirm what another person stated; the order ends.

        :raises OrderCommandError: nothing is stated, something else is, or by the same person, or by the console.
        """
        await self._known(key)
        await self._put_down("order-outcome-confirmed", key, by, outcome=outcome)
        confirmed = self._store.confirm_outcome(
            key, outcome, by=by, now=self._clock(), counts=self._dual_control.counts
        )
        order = await self._conflicts(confirmed)
        _log.warning("an order ended by the word of persons", order=str(key), state=order.state)
        return order

    async def withdraw(self, key: OrderKey, *, by: str) -> Order:
        """Forget a stated outcome that nobody has confirmed; raises OrderCommandError if there is none."""
        await self._known(key)
        await self._put_down("order-outcome-withdrawn", key, by)
        return await self._conflicts(self._store.withdraw_outcome(key, by=by, now=self._clock()))

    async def _known(self, key: OrderKey) -> Order:
        order = await self._store.found(key)
        if order is None:
            raise OrderCommandError("XID", Message("there is no order of this XID for this merchant"))
        return order

    async def _put_down(self, event: str, key: OrderKey, by: str, **more: Any) -> None:
        entry = {"event": event, "merchant": key.merchant_id, "xid": key.xid.hex(), "by": by, **more}
        await asyncio.to_thread(self._journal.append, entry)

    async def _conflicts(self, step: Any) -> Order:
        try:
            order: Order = await step
        except StateConflictError as error:
            raise OrderCommandError(
                "CPS 5.2.2",
                Message("this needs {expected}; there is {found}", expected=error.expected, found=error.found),
            ) from None
        return order
