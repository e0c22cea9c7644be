"""The order book: every step of every order, durable before the step's effect.

A step is a compare-and-set on the order's state, run by the one writer (`runtime.group_writer`). It returns once it is
on the disk. If two steps race (the merchant's acknowledgement and the clock that reverses without one), exactly one
finds the state it expects; the other gets StateConflictError and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from gateway.errors import StateConflictError
from gateway.later_steps import LaterSteps
from gateway.limits.counting import Claim, Occasion, take
from gateway.operating.history import record
from gateway.order import Answer, NewOrder, Order, OrderKey, Promise
from gateway.order_rows import (
    ORDER,
    UNANSWERED,
    answer_values,
    done_about,
    get,
    goes_first,
    is_order,
    key_values,
    move,
    of_routes,
    this,
)
from gateway.schema import orders
from gateway.states import OrderState
from gateway.trace_numbers import FOR_WHAT_WAS_BEGUN, business_day, next_stan, rrn_for
from runtime.database import insert_new

_UNSENT: Final = (OrderState.RECEIVED, OrderState.VERIFIED)
_STRANGE: Final = 4096
"""Approvals of machines that are lost, as many as one look watches."""


class OrderStore(LaterSteps):
    """The order book. Open it with `OrderStore.open`; steps are awaited, and so is what a loop `look`s at."""

    # --- looking ------------------------------------------------------------------------------------------------------

    def find(self, key: OrderKey) -> Order | None:
        """The order as last committed, or None. It may block: see `found`."""
        with self.reading() as connection:
            row = connection.execute(ORDER, this(key)).one_or_none()
        return None if row is None else Order.of(row)

    async def found(self, key: OrderKey) -> Order | None:
        """The order as last committed, or None.

        :raises DatabaseUnavailableError: the database cannot be reached.
        """
        return await self.look(self.find, key)

    def in_states(self, *states: OrderState) -> list[Order]:
        """All orders in these states, oldest first."""
        return self._select(orders.c.state.in_(states))

    def unknown(self, limit: int) -> list[Order]:
        """Orders whose outcome is unknown, oldest first."""
        return self._select(orders.c.state == OrderState.UNKNOWN, limit=limit)

    def unacknowledged(self, now: datetime, over: Promise, limit: int) -> list[Order]:
        """Approved orders whose `ack_by` has come, and what was promised of them on this machine is `over`."""
        kept = and_(orders.c.ack_boot == over.boot, orders.c.ack_until <= over.until)
        return self._select(and_(_is_unacknowledged(now), kept), orders.c.ack_by, limit)

    def unacknowledged_elsewhere(self, now: datetime, furthest: Promise) -> list[Order]:
        """Approved orders whose `ack_by` has come; not those answered since this start of this machine.

        :param furthest: what goes beyond it was not counted here, whatever start it names.
        """
        strange = or_(orders.c.ack_boot.is_distinct_from(furthest.boot), orders.c.ack_until > furthest.until)
        return self._select(and_(_is_unacknowledged(now), strange), orders.c.ack_by, _STRANGE)

    def sent_before(self, before: datetime, limit: int) -> list[Order]:
        """Orders that were SENT before then and have no outcome, oldest first."""
        return self._select(and_(orders.c.state == OrderState.SENT, orders.c.changed_at <= before), limit=limit)

    def lapsed(self, now: datetime, limit: int) -> list[Order]:
        """Acknowledged holds whose time is over, whose card is still known, and of which nothing was done yet.

        What of others is still held is given back in part (`gateway.settling.releases`).
        """
        over = and_(orders.c.lapses_at <= now, orders.c.state == OrderState.ACKED, orders.c.pan_sealed.is_not(None))
        return self._select(and_(over, ~done_about()), orders.c.lapses_at, limit)

    async def hold_longer(self, key: OrderKey, until: datetime) -> None:
        """Look at a hold again at `until`: something is asked about it."""
        this = and_(is_order(key), orders.c.lapses_at.is_not(None))
        await self.writer.run(lambda connection: connection.execute(update(orders).where(this).values(lapses_at=until)))

    def due_reversals(self, now: datetime, limit: int, *, routes: Collection[str | None] | None = None) -> list[Order]:
        """Queued reversals whose next attempt is due; `routes`: of these connectors only.

        This gateway's own, the longest waiting first, then as many of others: what a lost one left hides none of these.
        Of each card's only the one that goes first: many of one card are in nobody's way.
        """
        due = and_(orders.c.state == OrderState.REV_QUEUED, orders.c.reversal_next_at <= now, goes_first(now))
        if routes is not None:
            due = and_(due, of_routes(routes))
        own, longest_waiting = orders.c.runner.is_not_distinct_from(self.replica), orders.c.reversal_next_at
        return [each for mine in (own, ~own) for each in self._select(and_(due, mine), longest_waiting, limit)]

    def counts(self) -> dict[OrderState, int]:
        """Number of orders in each state that has any."""
        with self.reading() as connection:
            rows = connection.execute(select(orders.c.state, func.count()).group_by(orders.c.state)).all()
        return {OrderState(state): count for state, count in rows}

    def _select(self, where: ColumnElement[bool], order_by: Any = None, limit: int | None = None) -> list[Order]:
        query = select(orders).where(where).order_by(orders.c.received_at if order_by is None else order_by)
        with self.reading() as connection:
            return [Order.of(row) for row in connection.execute(query if limit is None else query.limit(limit))]

    # --- on the way to the switch -------------------------------------------------------------------------------------

    async def receive(self, order: NewOrder, now: datetime) -> Order:
        """RECEIVED: this request holds the XID from now on.

        :raises StateConflictError: the key is taken.
        """

        def job(connection: Connection) -> Order:
            values = {
                **key_values(order.key),
                "state": OrderState.RECEIVED,
                "received_at": now,
                "changed_at": now,
                "request_digest": order.request_digest,
                "rrpid": order.rrpid,
                "terminal_id": order.terminal_id,
                "amount": order.amount,
                "invoice": order.invoice,
                "dual_signature": order.dual_signature,
                "runner": self.replica,
                "runner_until": now + self._lease,
                "reversal_attempts": 0,
                "reversal_number": 0,
                "steps": 1,
            }
            try:
                new = insert_new(connection, orders, **values)
            except IntegrityError:
                raise StateConflictError("an order of a registered merchant", "a merchant that is unknown") from None
            if not new:
                raise StateConflictError("no order", "an order")
            received = get(connection, order.key)
            record(connection, received, now)
            return received

        return await self.writer.run(job)

    async def take_up(self, key: OrderKey, now: datetime) -> Order:
        """Work on an order that was never sent: of this replica, or of one whose time for it is over.

        :raises StateConflictError: another replica works on it, or it was sent or refused.
        """
        free = or_(self._mine, orders.c.runner_until <= now)
        this = and_(is_order(key), orders.c.state.in_(_UNSENT), free)
        values = {"runner": self.replica, "runner_until": now + self._lease}

        def job(connection: Connection) -> Order:
            row = connection.execute(update(orders).where(this).values(values).returning(orders)).one_or_none()
            if row is None:
                raise StateConflictError("unsent and nobody else's", get(connection, key).state)
            return Order.of(row)

        return await self.writer.run(job)

    async def verify(
        self,
        key: OrderKey,
        *,
        acquirer: str,
        pan_sealed: bytes,
        masked_pan: str,
        now: datetime,
        route: str | None = None,
        card_id: bytes | None = None,
    ) -> Order:
        """VERIFIED: the card data opened and fit; STAN and RRN are allocated.

        From VERIFIED too: an order that was never sent may start over, with new numbers and another `route`: the
        name of the connector that it goes to.
        """

        def job(connection: Connection) -> Order:
            stan = next_stan(connection, acquirer, now, kept=FOR_WHAT_WAS_BEGUN)
            rrn = rrn_for(stan, now)
            return move(
                connection,
                key,
                _UNSENT,
                OrderState.VERIFIED,
                now,
                self._mine,
                what={"stan": stan, "rrn": rrn, "route": route},
                pan_sealed=pan_sealed,
                masked_pan=masked_pan,
                acquirer=acquirer,
                business_day=business_day(now).isoformat(),
                stan=stan,
                rrn=rrn,
                route=route,
                card_id=card_id,
            )

        return await self.writer.run(job)

    async def sent(
        self, key: OrderKey, sent_fields: Mapping[int, str], now: datetime, *, claims: Sequence[Claim] = ()
    ) -> Order:
        """SENT: must be awaited before the first byte leaves. `sent_fields`: what a reversal will repeat.

        :param claims: what it uses of limits; counted in the same transaction.
        :raises LimitExceededError: a rule has not so much left; nothing is changed.
        """
        values: dict[str, Any] = {"sent_fields": {str(field): value for field, value in sent_fields.items()}}
        what = {"mti": sent_fields.get(0, "0200")}

        def job(connection: Connection) -> Order:
            counted = take(connection, claims) or None
            before = (OrderState.VERIFIED,)
            return move(connection, key, before, OrderState.SENT, now, self._mine, what=what, counted=counted, **values)

        return await self.writer.run(job)

    async def refuse(
        self, key: OrderKey, answer: Answer, now: datetime, *, rc: str | None = None, rule: str | None = None
    ) -> Order:
        """DECLINED by the gateway itself, before anything was sent; `answer` is given to every repeat.

        :param rule: the name of the rule of limits that refused it.
        """
        values = {"rc": rc, **answer_values(answer)}
        what = {"rc": rc, "rule": rule}
        return await self._step(key, _UNSENT, OrderState.DECLINED, now, self._mine, what=what, **values)

    async def conclude(
        self,
        key: OrderKey,
        outcome: OrderState,
        now: datetime,
        *,
        approved: bool = False,
        rc: str | None = None,
        approval: str | None = None,
        settle_date: str | None = None,
        ack_by: datetime | None = None,
        promise: Promise | None = None,
        answer: Answer | None = None,
        left: bool = True,
    ) -> Order:
        """APPROVED, DECLINED or UNKNOWN after SENT. `answer` is None if it could not be signed: `answered` adds it.

        `approved` says what the switch answered; an approval that could not be signed is UNKNOWN all the same.
        `promise` is what `ack_by` comes to by a clock that nobody sets. `left`
        is False if it is certain that no byte of the request left.
        """
        return await self._step(
            key,
            (OrderState.SENT,),
            outcome,
            now,
            self._mine,
            UNANSWERED,
            what={"rc": rc, "approval": approval},
            occasion=None if left else Occasion.NOT_SENT,
            approved=approved,
            rc=rc,
            approval=approval,
            settle_date=settle_date,
            ack_by=ack_by,
            ack_boot=None if promise is None else promise.boot,
            ack_until=None if promise is None else promise.until,
            **({} if answer is None else answer_values(answer)),
        )

    async def answered(self, key: OrderKey, answer: Answer, *, state: OrderState) -> Order:
        """Store the answer of an order that has none yet and is still in `state`.

        :raises StateConflictError: it has moved on, or another answer was stored first: look it up and give that one.
        """

        this = and_(is_order(key), orders.c.state == state, orders.c.answer.is_(None))

        def job(connection: Connection) -> Order:
            values = answer_values(answer)
            row = connection.execute(update(orders).where(this).values(values).returning(orders)).one_or_none()
            if row is None:
                raise StateConflictError(f"{state} without an answer", get(connection, key).state)
            return Order.of(row)

        return await self.writer.run(job)

    # --- runs that ended before their time ----------------------------------------------------------------------------

    async def recover_own(self, now: datetime) -> list[Order]:
        """What this replica's last run had SENT becomes UNKNOWN; to be called before it sends anything."""
        return await self._lost(now, or_(self._mine, orders.c.runner.is_(None)))

    async def recover(
        self, now: datetime, *, sent_before: datetime, only: Collection[OrderKey] | None = None
    ) -> list[Order]:
        """Orders that any replica SENT before `sent_before` become UNKNOWN: nobody waits for their answer any more.

        :param only: of these orders.
        """
        which = orders.c.changed_at <= sent_before
        return await self._lost(now, which if only is None else and_(which, or_(*map(is_order, only))))

    async def _lost(self, now: datetime, which: ColumnElement[bool]) -> list[Order]:
        def job(connection: Connection) -> list[Order]:
            lost = select(orders).where(orders.c.state == OrderState.SENT, which)
            left = connection.execute(lost.with_for_update(skip_locked=True)).all()
            return [move(connection, Order.of(row).key, (OrderState.SENT,), OrderState.UNKNOWN, now) for row in left]

        return await self.writer.run(job)

    async def abandon(self, now: datetime, *, untouched_since: datetime) -> int:
        """Orders that were never sent and whose request is too old to be run again are DECLINED; returns how many."""
        stale = select(orders).where(orders.c.state.in_(_UNSENT), orders.c.changed_at <= untouched_since)

        def job(connection: Connection) -> int:
            left = [Order.of(row) for row in connection.execute(stale.with_for_update(skip_locked=True))]
            for order in left:
                move(connection, order.key, _UNSENT, OrderState.DECLINED, now)
            return len(left)

        return await self.writer.run(job)


def _is_unacknowledged(now: datetime) -> ColumnElement[bool]:
    return and_(orders.c.state == OrderState.APPROVED, orders.c.ack_by <= now)
