"""The order book: every step of every order, durable before the step's effect.

A step is a compare-and-set on the order's state, run by the one writer (`runtime.group_writer`). It returns once it is
on the disk. If two steps race (the merchant's acknowledgement and the clock that reverses without one), exactly one
finds the state it expects; the other gets StateConflictError and has changed nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, and_, create_engine, event, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from gateway.errors import StateConflictError, StoreLockedError, UnknownOrderError
from gateway.order import Answer, NewOrder, Order, OrderKey, UnclaimedAnswer
from gateway.schema import metadata, orders, unclaimed_answers
from gateway.settling.entries import day_of, enter
from gateway.states import WITHOUT_PAN, OrderState, may_follow
from gateway.trace_numbers import business_day, next_stan, rrn_for
from kwbp.common import instant
from kwbp.settling import Entry
from runtime.database import open_database
from runtime.group_writer import GroupWriter

_ORDER_RESPONSES: Final = frozenset({"0110", "0210"})
_WITHOUT_ANSWER: Final = frozenset(
    {OrderState.SENT, OrderState.UNKNOWN, OrderState.REV_QUEUED, OrderState.REVERSED, OrderState.REV_FAILED}
)


class OrderStore:
    """The order book of one gateway. Open it with `OrderStore.open`; reads are direct, steps are awaited."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _lock(path)
        self._engine = open_database(path)
        metadata.create_all(self._engine)
        # Readers must not take the write lock that `open_database` takes at the start of each transaction.
        self._reader = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 30})
        event.listen(self._reader, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
        self.writer = GroupWriter(self._engine, "gateway")
        self.writer.start()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or make the order book at `path` (SQLite).

        :raises StoreLockedError: another process has it open; two would each send the same reversals.
        """
        return cls(path)

    def close(self) -> None:
        """Finish the steps that are queued and let go of the files. May be called twice."""
        if self._lock < 0:
            return
        self.writer.close()
        self._engine.dispose()
        self._reader.dispose()
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reading(self) -> Connection:
        """A connection for reading, outside the writer's transactions; close it (`with`)."""
        return self._reader.connect()

    async def next_stan(self, acquirer: str, now: datetime) -> str:
        """A trace number for a message that is about no order (sign-on, echo)."""
        return await self.writer.run(lambda connection: next_stan(connection, acquirer, now))

    # --- looking ------------------------------------------------------------------------------------------------------

    def find(self, key: OrderKey) -> Order | None:
        """The order as last committed, or None."""
        with self.reading() as connection:
            row = connection.execute(select(orders).where(_is(key))).one_or_none()
        return None if row is None else Order.of(row)

    def in_states(self, *states: OrderState) -> list[Order]:
        """All orders in these states, oldest first."""
        return self._select(orders.c.state.in_(states))

    def unacknowledged(self, now: datetime) -> list[Order]:
        """Approved orders whose `ack_by` has come."""
        return self._select(and_(orders.c.state == OrderState.APPROVED, orders.c.ack_by <= now))

    def due_reversals(self, now: datetime, limit: int) -> list[Order]:
        """Queued reversals whose next attempt is due, the longest waiting first."""
        due = and_(orders.c.state == OrderState.REV_QUEUED, orders.c.reversal_next_at <= now)
        return self._select(due, orders.c.reversal_next_at, limit)

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
                **_key_values(order.key),
                "state": OrderState.RECEIVED,
                "received_at": now,
                "changed_at": now,
                "request_digest": order.request_digest,
                "rrpid": order.rrpid,
                "terminal_id": order.terminal_id,
                "amount": order.amount,
                "invoice": order.invoice,
                "dual_signature": order.dual_signature,
                "reversal_attempts": 0,
            }
            try:
                connection.execute(insert(orders).values(values))
            except IntegrityError:
                raise StateConflictError("no order", "an order") from None
            return _get(connection, order.key)

        return await self.writer.run(job)

    async def verify(self, key: OrderKey, *, acquirer: str, pan_sealed: bytes, masked_pan: str, now: datetime) -> Order:
        """VERIFIED: the card data opened and fit; STAN and RRN are allocated.

        From VERIFIED too: an order that was never sent may start over, with new numbers.
        """

        def job(connection: Connection) -> Order:
            stan = next_stan(connection, acquirer, now)
            return _move(
                connection,
                key,
                (OrderState.RECEIVED, OrderState.VERIFIED),
                OrderState.VERIFIED,
                now,
                pan_sealed=pan_sealed,
                masked_pan=masked_pan,
                acquirer=acquirer,
                business_day=business_day(now).isoformat(),
                stan=stan,
                rrn=rrn_for(stan, now),
            )

        return await self.writer.run(job)

    async def sent(self, key: OrderKey, sent_fields: Mapping[int, str], now: datetime) -> Order:
        """SENT: must be awaited before the first byte leaves. `sent_fields`: what a reversal will repeat."""
        values = {"sent_fields": {str(field): value for field, value in sent_fields.items()}}
        return await self._step(key, (OrderState.VERIFIED,), OrderState.SENT, now, **values)

    async def refuse(self, key: OrderKey, answer: Answer, now: datetime, *, rc: str | None = None) -> Order:
        """DECLINED by the gateway itself, before anything was sent; `answer` is given to every repeat."""
        before = (OrderState.RECEIVED, OrderState.VERIFIED)
        return await self._step(key, before, OrderState.DECLINED, now, rc=rc, **_answer_values(answer))

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
        answer: Answer | None = None,
    ) -> Order:
        """APPROVED, DECLINED or UNKNOWN after SENT. `answer` is None if it could not be signed: `answered` adds it.

        `approved` says what the switch answered; an approval that could not be signed is UNKNOWN all the same.
        """
        return await self._step(
            key,
            (OrderState.SENT,),
            outcome,
            now,
            approved=approved,
            rc=rc,
            approval=approval,
            settle_date=settle_date,
            ack_by=ack_by,
            **({} if answer is None else _answer_values(answer)),
        )

    async def answered(self, key: OrderKey, answer: Answer, *, state: OrderState) -> Order:
        """Store the answer of an order that has none yet and is still in `state`.

        :raises StateConflictError: it has moved on, or another answer was stored first: look it up and give that one.
        """

        def job(connection: Connection) -> Order:
            found = _get(connection, key)
            if found.state is not state or found.answer is not None:
                raise StateConflictError(f"{state} without an answer", found.state)
            connection.execute(update(orders).where(_is(key)).values(_answer_values(answer)))
            return _get(connection, key)

        return await self.writer.run(job)

    # --- after the answer ---------------------------------------------------------------------------------------------

    async def acknowledge(self, key: OrderKey, auth_ack: bytes, now: datetime, *, entry: Entry | None = None) -> Order:
        """ACKED: the merchant holds our approval; nothing reverses it any more. A sale goes into the entries then."""

        def job(connection: Connection) -> Order:
            moved = _move(connection, key, (OrderState.APPROVED,), OrderState.ACKED, now, auth_ack=auth_ack)
            if entry is not None:
                enter(connection, moved.merchant_id, entry, day_of(moved.settle_date, instant(entry.date)))
            return moved

        return await self.writer.run(job)

    async def queue_reversal(
        self, key: OrderKey, before: OrderState, reason: str, now: datetime, *, auth_ack: bytes | None = None
    ) -> Order:
        """REV_QUEUED, due at once, with a STAN of its own. `auth_ack`: the acknowledgement that asked for it."""

        def job(connection: Connection) -> Order:
            acquirer = _get(connection, key).acquirer or ""
            values = {"auth_ack": auth_ack} if auth_ack is not None else {}
            return _move(
                connection,
                key,
                (before,),
                OrderState.REV_QUEUED,
                now,
                reversal_reason=reason,
                reversal_stan=next_stan(connection, acquirer, now),
                reversal_attempts=0,
                reversal_next_at=now,
                reversal_rc=None,
                **values,
            )

        return await self.writer.run(job)

    async def begin_reversal_attempt(self, key: OrderKey, next_at: datetime) -> Order:
        """Count one more attempt before it is sent, and say when the next one would be due."""

        def job(connection: Connection) -> Order:
            found = _get(connection, key)
            if found.state is not OrderState.REV_QUEUED:
                raise StateConflictError(OrderState.REV_QUEUED, found.state)
            values = {"reversal_attempts": found.reversal_attempts + 1, "reversal_next_at": next_at}
            connection.execute(update(orders).where(_is(key)).values(values))
            return _get(connection, key)

        return await self.writer.run(job)

    async def postpone_reversal(self, key: OrderKey, next_at: datetime) -> None:
        """Look at a queued reversal again at `next_at`; it was not sent."""
        waiting = and_(_is(key), orders.c.state == OrderState.REV_QUEUED)

        def job(connection: Connection) -> None:
            connection.execute(update(orders).where(waiting).values(reversal_next_at=next_at))

        await self.writer.run(job)

    async def finish_reversal(self, key: OrderKey, rc: str, now: datetime, *, found_original: bool) -> Order:
        """REVERSED by the switch's answer `rc`; REV_FAILED if the switch knows no original that we know it approved."""

        def job(connection: Connection) -> Order:
            order = _get(connection, key)
            nothing_to_reverse = not (order.approved or order.late_approved)
            outcome = OrderState.REVERSED if found_original or nothing_to_reverse else OrderState.REV_FAILED
            values: dict[str, Any] = {"pan_sealed": None} if found_original else {}
            return _move(
                connection,
                key,
                (OrderState.REV_QUEUED,),
                outcome,
                now,
                reversal_rc=rc,
                reversal_found_original=found_original,
                **values,
            )

        return await self.writer.run(job)

    async def give_up_reversal(self, key: OrderKey, rc: str | None, now: datetime) -> Order:
        """REV_FAILED: a person must look."""
        return await self._step(key, (OrderState.REV_QUEUED,), OrderState.REV_FAILED, now, reversal_rc=rc)

    # --- answers that nobody waited for -------------------------------------------------------------------------------

    async def file_unclaimed(self, answer: UnclaimedAnswer, now: datetime) -> Order | None:
        """File a late, repeated or unknown answer; returns the order it belongs to as it is afterwards, if any.

        A first late answer is noted in its order. The outcome stays what it was: an order that became UNKNOWN is
        reversed, also if its approval turns up. If the approval turns up after the switch said "original not found" to
        the reversal, the reversal is queued again, for it had overtaken the request.
        """

        def job(connection: Connection) -> Order | None:
            order = _order_of(connection, answer)
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
            connection.execute(update(orders).where(_is(order.key)).values(late))
            overtaken = order.state is OrderState.REVERSED and order.reversal_found_original is False
            if overtaken and answer.approved and order.pan_sealed is not None:
                again = {"reversal_reason": "late approval", "reversal_attempts": 0, "reversal_next_at": now}
                again |= {"reversal_stan": next_stan(connection, order.acquirer or "", now)}
                return _move(connection, order.key, (OrderState.REVERSED,), OrderState.REV_QUEUED, now, **again)
            return _get(connection, order.key)

        return await self.writer.run(job)

    async def forget_pans(self, before: datetime) -> int:
        """Drop the sealed PANs of reversals that ended before `before`; returns how many there were."""
        old = and_(
            orders.c.state == OrderState.REVERSED, orders.c.pan_sealed.is_not(None), orders.c.changed_at < before
        )
        return await self.writer.run(
            lambda connection: connection.execute(update(orders).where(old).values(pan_sealed=None)).rowcount
        )

    # --- runs that ended before their time ----------------------------------------------------------------------------

    async def recover(self, now: datetime, *, sent_before: datetime) -> list[Order]:
        """Orders that have been SENT since `sent_before` become UNKNOWN: nobody waits for their answer any more."""

        def job(connection: Connection) -> list[Order]:
            lost = and_(orders.c.state == OrderState.SENT, orders.c.changed_at <= sent_before)
            left = connection.execute(select(orders).where(lost)).all()
            return [_move(connection, Order.of(row).key, (OrderState.SENT,), OrderState.UNKNOWN, now) for row in left]

        return await self.writer.run(job)

    async def abandon(self, now: datetime, *, untouched_since: datetime) -> int:
        """Orders that were never sent and whose request is too old to be run again are DECLINED; returns how many."""
        before = (OrderState.RECEIVED, OrderState.VERIFIED)
        stale = and_(orders.c.state.in_(before), orders.c.changed_at <= untouched_since)

        def job(connection: Connection) -> int:
            left = [Order.of(row) for row in connection.execute(select(orders).where(stale))]
            for order in left:
                _move(connection, order.key, before, OrderState.DECLINED, now)
            return len(left)

        return await self.writer.run(job)

    async def _step(
        self, key: OrderKey, before: Iterable[OrderState], after: OrderState, now: datetime, **values: Any
    ) -> Order:
        return await self.writer.run(lambda connection: _move(connection, key, tuple(before), after, now, **values))


def _move(
    connection: Connection,
    key: OrderKey,
    before: tuple[OrderState, ...],
    after: OrderState,
    now: datetime,
    **values: Any,
) -> Order:
    """Compare-and-set of the state, together with `values`; part of the caller's transaction."""
    if not all(may_follow(state, after) for state in before):
        raise StateConflictError(f"one that may become {after}", ", ".join(before))
    if after in WITHOUT_PAN:
        values["pan_sealed"] = None
    statement = update(orders).where(_is(key), orders.c.state.in_(before))
    changed = connection.execute(statement.values(state=after, changed_at=now, **values)).rowcount
    found = _get(connection, key)
    if changed != 1:
        raise StateConflictError(" or ".join(before), found.state)
    return found


def _get(connection: Connection, key: OrderKey) -> Order:
    row = connection.execute(select(orders).where(_is(key))).one_or_none()
    if row is None:
        raise UnknownOrderError("the merchant has no order of this XID")
    return Order.of(row)


def _is(key: OrderKey) -> ColumnElement[bool]:
    return and_(orders.c.merchant_id == key.merchant_id, orders.c.xid == key.xid, orders.c.kind == key.kind)


def _order_of(connection: Connection, answer: UnclaimedAnswer) -> Order | None:
    # The RRN is kept through a reversal and unique per acquirer; the terminal guards against a mangled answer.
    match = and_(
        orders.c.acquirer == answer.acquirer,
        orders.c.rrn == answer.rrn,
        orders.c.terminal_id == answer.terminal_id,
        or_(orders.c.stan == answer.stan, orders.c.reversal_stan == answer.stan),
    )
    row = connection.execute(select(orders).where(match)).one_or_none()
    return None if row is None else Order.of(row)


def _key_values(key: OrderKey) -> dict[str, Any]:
    return {"merchant_id": key.merchant_id, "xid": key.xid, "kind": key.kind}


def _answer_values(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.message, "auth_code": answer.auth_code}


def _lock(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise StoreLockedError(f"another gateway has {path.name} open") from None
    return file
