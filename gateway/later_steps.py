"""Steps of an order after its answer: acknowledged, given back, stated by persons; and answers that come late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Connection,
    and_,
    delete,
    insert,
    select,
    update,
)

from gateway.errors import CardBusyError, StateConflictError
from gateway.operating.history import ATTEMPT, record
from gateway.operating.tables import resolutions
from gateway.order import Order, OrderKey, UnclaimedAnswer
from gateway.order_database import OrderDatabase
from gateway.order_rows import (
    card_is_busy,
    check_untouched_hold,
    get,
    is_order,
    is_seen,
    key_values,
    lock_card,
    move,
    noted,
    order_of,
    queue_reversal,
    stated,
)
from gateway.schema import orders, unclaimed_answers
from gateway.settling.days import day_to_enter
from gateway.settling.entries import enter, enter_stated, entering
from gateway.states import OrderState
from kwbp.common import instant
from kwbp.settling import Entry
from runtime.database import insert_new
from runtime.language import Message

LATE_APPROVAL: Final = "late approval"
_ORDER_RESPONSES: Final = frozenset({"0110", "0210"})
_WITHOUT_ANSWER: Final = frozenset(
    {OrderState.SENT, OrderState.UNKNOWN, OrderState.REV_QUEUED, OrderState.REVERSED, OrderState.REV_FAILED}
    | {OrderState.DEBITED}
)


class LaterSteps(OrderDatabase):
    """The part of `gateway.store.OrderStore` that follows an order's answer."""

    # --- after the answer ---------------------------------------------------------------------------------------------

    async def acknowledge(
        self,
        key: OrderKey,
        auth_ack: bytes,
        now: datetime,
        *,
        entry: Entry | None = None,
        lapses_at: datetime | None = None,
    ) -> Order:
        """ACKED: the merchant holds our approval; the clock reverses it no more. A sale goes into the entries then.

        :param lapses_at: when a hold is given back that nobody has captured by then.
        """

        def job(connection: Connection) -> Order:
            if entry is not None:
                entering(connection, key.merchant_id)
            moved = move(
                connection, key, (OrderState.APPROVED,), OrderState.ACKED, now, auth_ack=auth_ack, lapses_at=lapses_at
            )
            if entry is not None:
                day = day_to_enter(connection, moved.settle_date, instant(entry.date))
                enter(connection, moved.merchant_id, entry, day, moved.route, now)
            return moved

        return await self.writer.run(job)

    async def queue_reversal(
        self,
        key: OrderKey,
        before: OrderState,
        reason: str,
        now: datetime,
        *,
        auth_ack: bytes | None = None,
        by: str | None = None,
    ) -> Order:
        """REV_QUEUED, due at once, with a STAN of its own.

        :param auth_ack: the acknowledgement that asked for it. :param by: the operator who did.
        :raises StateConflictError: it is not in `before`; or that is ACKED, and it is not a hold that nobody has asked
            anything about.
        """

        def job(connection: Connection) -> Order:
            if before is OrderState.ACKED:
                check_untouched_hold(connection, key)
            values = {"auth_ack": auth_ack} if auth_ack is not None else {}
            return queue_reversal(connection, key, before, reason, now, by, **values)

        return await self.writer.run(job)

    def card_is_busy(self, order: Order, now: datetime) -> bool:
        """Whether another reversal of the order's card goes first; as `claim_reversal` will judge it. It may block."""
        with self.reading() as connection:
            return card_is_busy(connection, order, now)

    async def claim_reversal(
        self, order: Order, next_at: datetime, *, now: datetime, until: datetime | None = None
    ) -> Order:
        """Count one more attempt before it is sent, and say when the next one would be due.

        :param order: as it was seen to be due; until `next_at` nobody else finds it so. :param until: when the attempt
            ends at the latest: so long no other reversal of the same card is sent.
        :raises StateConflictError: somebody else has begun an attempt since, or it is over.
        :raises CardBusyError: one of the same card is under way, or has waited longer.
        """
        values: dict[str, Any] = {"reversal_attempts": order.reversal_attempts + 1, "reversal_next_at": next_at}
        values |= {"reversal_until": until, "steps": orders.c.steps + 1}

        def job(connection: Connection) -> Order:
            lock_card(connection, order.card_id)
            if card_is_busy(connection, order, now):
                raise CardBusyError("another reversal of this card goes first")
            statement = update(orders).where(is_seen(order)).values(values).returning(orders)
            row = connection.execute(statement).one_or_none()
            if row is None:
                raise StateConflictError("a reversal that is due", get(connection, order.key).state)
            claimed = Order.of(row)
            record(connection, claimed, now, {ATTEMPT: claimed.reversal_attempts})
            return claimed

        return await self.writer.run(job)

    async def reversal_answered(self, order: Order, rc: str, now: datetime) -> None:
        """An attempt was answered, and is to be repeated: until then the card's other reversals may go."""
        values: dict[str, Any] = {"reversal_until": None, "reversal_rc": rc, "steps": orders.c.steps + 1}

        def job(connection: Connection) -> None:
            statement = update(orders).where(is_seen(order)).values(values).returning(orders)
            if (row := connection.execute(statement).one_or_none()) is not None:
                record(connection, Order.of(row), now, {ATTEMPT: order.reversal_attempts, "rc": rc})

        await self.writer.run(job)

    async def postpone_reversal(self, order: Order, next_at: datetime) -> None:
        """Look at a queued reversal again at `next_at`; it was not sent. Nothing, if somebody else has it by now."""
        statement = update(orders).where(is_seen(order)).values(reversal_next_at=next_at)
        await self.writer.run(lambda connection: connection.execute(statement))

    async def finish_reversal(self, asked: Order, rc: str, now: datetime, *, found_original: bool) -> Order:
        """REVERSED by the switch's answer `rc`; REV_FAILED if the switch knows no original that we know it approved.

        :param asked: as it was when the attempt was begun that is answered.
        :raises StateConflictError: that reversal is over: of a later one the answer says nothing.
        """
        key = asked.key

        def job(connection: Connection) -> Order:
            order = get(connection, key, lock=True)  # a late approval may be filed at this moment
            nothing_to_reverse = not (order.approved or order.late_approved)
            outcome = OrderState.REVERSED if found_original or nothing_to_reverse else OrderState.REV_FAILED
            values: dict[str, Any] = {"pan_sealed": None} if found_original else {}
            return move(
                connection,
                key,
                (OrderState.REV_QUEUED,),
                outcome,
                now,
                orders.c.reversal_number == asked.reversal_number,
                what={"rc": rc},
                reversal_rc=rc,
                reversal_found_original=found_original,
                reversal_until=None,
                **values,
            )

        return await self.writer.run(job)

    async def give_up_reversal(self, order: Order, rc: str | None, now: datetime, reason: str) -> Order:
        """REV_FAILED: a person must look.

        :param order: as the last attempt left it. :param reason: for that person.
        :raises StateConflictError: somebody else has begun an attempt since, or it is over.
        """
        same = orders.c.reversal_number == order.reversal_number
        unchanged = orders.c.reversal_attempts == order.reversal_attempts
        return await self._step(
            order.key,
            (OrderState.REV_QUEUED,),
            OrderState.REV_FAILED,
            now,
            same,
            unchanged,
            what={"rc": rc, "reason": reason},
            reversal_rc=rc or order.reversal_rc,
            reversal_until=None,
        )

    # --- what a person states -----------------------------------------------------------------------------------------

    async def state_outcome(self, key: OrderKey, outcome: OrderState, *, by: str, reason: str, now: datetime) -> Order:
        """A person states what the bank told of an order in REV_FAILED; it counts once another confirms it.

        :raises StateConflictError: the order is in another state, or an outcome is stated already.
        """

        def job(connection: Connection) -> Order:
            order = get(connection, key, lock=True)
            if order.state is not OrderState.REV_FAILED:
                raise StateConflictError(OrderState.REV_FAILED, order.state)
            values = {"outcome": outcome, "reason": reason, "stated_by": by, "stated_at": now}
            if not insert_new(connection, resolutions, **key_values(key), reversal=order.reversal_number, **values):
                raise StateConflictError(Message("no outcome stated"), Message("a stated outcome"))
            return noted(connection, order, now, {"stated": outcome, "reason": reason, "by": by})

        return await self.writer.run(job)

    async def confirm_outcome(
        self, key: OrderKey, outcome: OrderState, *, by: str, now: datetime, counts: Callable[[str], bool]
    ) -> Order:
        """Another person confirms what was stated, and the order becomes it: REVERSED or DEBITED.

        :param counts: whether who stated it is one of the two persons.
        :raises StateConflictError: nothing is stated, or something else, or by the same person or none.
        """

        def job(connection: Connection) -> Order:
            entering(connection, key.merchant_id)
            this = stated(get(connection, key, lock=True))
            row = connection.execute(select(resolutions).where(this)).one_or_none()
            if row is None or row.outcome != outcome:
                raise StateConflictError(
                    Message("{outcome} as stated", outcome=outcome.value),
                    Message("none") if row is None else row.outcome,
                )
            if row.stated_by == by:
                raise StateConflictError(Message("another person than who stated it"), by)
            if not counts(row.stated_by):
                raise StateConflictError(Message("an outcome that an officer stated"), row.stated_by)
            connection.execute(update(resolutions).where(this).values(confirmed_by=by, confirmed_at=now))
            what = {"reason": row.reason, "stated_by": row.stated_by, "by": by}
            moved = move(connection, key, (OrderState.REV_FAILED,), outcome, now, what=what, pan_sealed=None)
            enter_stated(connection, moved, now)
            return moved

        return await self.writer.run(job)

    async def withdraw_outcome(self, key: OrderKey, *, by: str, now: datetime) -> Order:
        """Forget what was stated and not confirmed.

        :raises StateConflictError: nothing is.
        """

        def job(connection: Connection) -> Order:
            order = get(connection, key, lock=True)
            waiting = and_(stated(order), resolutions.c.confirmed_by.is_(None))
            if connection.execute(delete(resolutions).where(waiting)).rowcount != 1:
                raise StateConflictError(Message("a stated outcome"), Message("none"))
            return noted(connection, order, now, {"withdrawn": True, "by": by})

        return await self.writer.run(job)

    # --- answers that nobody waited for -------------------------------------------------------------------------------

    async def file_unclaimed(self, answer: UnclaimedAnswer, now: datetime) -> Order | None:
        """File a late, repeated or unknown answer; returns the order it belongs to as it is afterwards, if any.

        A first late answer is noted in its order. The outcome stays what it was: an order that became UNKNOWN is
        reversed, also if its approval turns up. If the approval turns up after the switch said "original not found" to
        the reversal, the reversal is queued again, for it had overtaken the request.
        """

        def job(connection: Connection) -> Order | None:
            order = order_of(connection, answer)
            filed: dict[str, Any] = {"at": now, "mti": answer.mti, "rc": answer.rc}
            filed |= {"acquirer": answer.acquirer, "stan": answer.stan, "rrn": answer.rrn}
            filed |= {"terminal_id": answer.terminal_id}
            if order is not None:
                filed |= {"merchant_id": order.merchant_id, "xid": order.xid}
            connection.execute(insert(unclaimed_answers).values(filed))
            if order is None or answer.mti not in _ORDER_RESPONSES or order.state not in _WITHOUT_ANSWER:
                return order
            if order.approved or order.late_rc is not None:
                return order
            late: dict[str, Any] = {
                "late_rc": answer.rc,
                "late_approval": answer.approval,
                "late_approved": answer.approved,
            }
            late |= {"late_at": now}
            connection.execute(update(orders).where(is_order(order.key)).values(late))
            overtaken = order.state is OrderState.REVERSED and order.reversal_found_original is False
            if overtaken and answer.approved and order.pan_sealed is not None:
                return queue_reversal(connection, order.key, OrderState.REVERSED, LATE_APPROVAL, now)
            return noted(connection, order, now, {"late_rc": answer.rc})

        return await self.writer.run(job)

    async def forget_pans(self, before: datetime) -> int:
        """Drop the sealed PANs of reversals that ended before `before`; returns how many there were."""
        old = and_(
            orders.c.state == OrderState.REVERSED, orders.c.pan_sealed.is_not(None), orders.c.changed_at < before
        )
        return await self.writer.run(
            lambda connection: connection.execute(update(orders).where(old).values(pan_sealed=None)).rowcount
        )
