"""Orders row by row: what the steps of the order book do inside their transactions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from gateway.errors import StateConflictError, UnknownOrderError
from gateway.limits.counting import Occasion, give_back
from gateway.operating.history import record
from gateway.operating.tables import resolutions
from gateway.order import Answer, Order, OrderKey, UnclaimedAnswer
from gateway.schema import orders, settlings
from gateway.settling.states import SettlingState
from gateway.states import WITHOUT_PAN, OrderState, may_follow
from gateway.trace_numbers import next_stan
from kwbp.codes import AuthCode

_GIVEN_BACK: Final = {OrderState.DECLINED: Occasion.DECLINED, OrderState.REVERSED: Occasion.REVERSED}
"""Occasions on which an order gives back what it used of limits, by the state it comes to."""

# Composed once: composing takes longer than asking SQLite does.
THIS: Final = and_(*(orders.c[name] == bindparam(f"this_{name}") for name in ("merchant_id", "xid", "kind")))
ORDER: Final = select(orders).where(THIS)
UNANSWERED: Final = orders.c.answer.is_(None)


def move(
    connection: Connection,
    key: OrderKey,
    before: tuple[OrderState, ...],
    after: OrderState,
    now: datetime,
    *also: ColumnElement[bool],
    what: Mapping[str, Any] | None = None,
    occasion: Occasion | None = None,
    **values: Any,
) -> Order:
    """Compare-and-set of the state, together with `values`, if `also` holds; part of the caller's transaction.

    :param what: what else the order's life tells of the step. :param occasion: why it gives back what it used of
        limits, if not for the state that it comes to.
    """
    if not all(may_follow(state, after) for state in before):
        raise StateConflictError(f"one that may become {after}", ", ".join(before))
    if after in WITHOUT_PAN:
        values["pan_sealed"] = None
    plain = {name: value for name, value in values.items() if not isinstance(value, ClauseElement)}
    changed = _moving(before, tuple(plain), also)
    if len(plain) < len(values):
        changed = changed.values({name: value for name, value in values.items() if name not in plain})
    given = {f"new_{name}": value for name, value in (plain | {"state": after, "changed_at": now}).items()}
    row = connection.execute(changed, this(key) | given).one_or_none()
    if row is None:
        raise StateConflictError(" or ".join(before), get(connection, key).state)
    moved = Order.of(row)
    record(connection, moved, now, what)
    occasion = occasion or _GIVEN_BACK.get(after)
    if moved.counted and occasion is not None:
        kept = give_back(connection, moved.counted, occasion) or None
        connection.execute(update(orders).where(is_order(key)).values(counted=kept))
        return replace(moved, counted=kept)
    return moved


@lru_cache(maxsize=64)
def _moving(
    before: tuple[OrderState, ...], names: tuple[str, ...], also: tuple[ColumnElement[bool], ...]
) -> ReturningUpdate[Any]:
    """The statement of a step: composed once, for composing takes longer than asking does.

    :param also: conditions; the statement is found again if they are the same objects.
    """
    new = {name: bindparam(f"new_{name}", type_=orders.c[name].type) for name in ("state", "changed_at", *names)}
    # Not `IN`, which SQLAlchemy writes out anew each time.
    statement = update(orders).where(THIS, or_(*(orders.c.state == state for state in before)), *also)
    return statement.values(**new, steps=orders.c.steps + 1).returning(orders)


def queue_reversal(
    connection: Connection,
    key: OrderKey,
    before: OrderState,
    reason: str,
    now: datetime,
    by: str | None = None,
    **values: Any,
) -> Order:
    """A new reversal of an order, due at once, with a STAN of its own."""
    return move(
        connection,
        key,
        (before,),
        OrderState.REV_QUEUED,
        now,
        what={"reason": reason, "by": by},
        reversal_reason=reason,
        reversal_number=orders.c.reversal_number + 1,
        reversal_stan=next_stan(connection, get(connection, key).acquirer or "", now),
        reversal_attempts=0,
        reversal_next_at=now,
        reversal_queued_at=now,
        reversal_until=None,
        reversal_rc=None,
        lapses_at=None,
        **values,
    )


def noted(connection: Connection, order: Order, now: datetime, what: Mapping[str, Any]) -> Order:
    """A step of an order's life that leaves its state as it is."""
    statement = update(orders).where(is_order(order.key)).values(steps=orders.c.steps + 1).returning(orders)
    noted = Order.of(connection.execute(statement).one())
    record(connection, noted, now, what)
    return noted


def check_untouched_hold(connection: Connection, key: OrderKey) -> None:
    """Money that was held, and of which nothing was asked that was approved or is open yet."""
    if get(connection, key, lock=True).mti != "0100":
        raise StateConflictError("an order whose money is only held", "a sale")
    asked = select(settlings.c.number).where(
        settlings.c.merchant_id == key.merchant_id,
        settlings.c.xid == key.xid,
        or_(settlings.c.state != SettlingState.ANSWERED, settlings.c.auth_code == int(AuthCode.APPROVED)),
    )
    if connection.execute(asked.limit(1)).first() is not None:
        raise StateConflictError("a hold that nothing was asked about", "one with a request")


def done_about() -> ColumnElement[bool]:
    """Orders about which something was approved after the authorisation."""
    asked = and_(settlings.c.merchant_id == orders.c.merchant_id, settlings.c.xid == orders.c.xid)
    return exists().where(asked, settlings.c.auth_code == int(AuthCode.APPROVED))


def card_is_busy(connection: Connection, order: Order, now: datetime) -> bool:
    """Whether another reversal of the order's card goes first: it is under way, or is due and has waited longer."""
    if order.card_id is None:
        return False
    goes_on = connection.execute(select(orders.c.xid).where(is_order(order.key), goes_first(now))).first()
    return goes_on is None


def goes_first(now: datetime) -> ColumnElement[bool]:
    """That no other reversal of the order's card is under way, or is due and has waited longer."""
    other = orders.alias()
    same_card = and_(
        other.c.card_id == orders.c.card_id,
        other.c.state == OrderState.REV_QUEUED,
        other.c.xid != orders.c.xid,
        other.c.route.is_not_distinct_from(orders.c.route),
    )
    earlier = or_(
        other.c.reversal_queued_at < orders.c.reversal_queued_at,
        and_(other.c.reversal_queued_at == orders.c.reversal_queued_at, other.c.xid < orders.c.xid),
    )
    first = or_(other.c.reversal_until > now, and_(other.c.reversal_next_at <= now, earlier))
    return ~exists().where(same_card, first)


def lock_card(connection: Connection, card_id: bytes | None) -> None:
    """Of gateways that share a server one at a time decides about a card; a file has one writer anyway."""
    if card_id is not None and connection.dialect.name == "postgresql":
        number = int.from_bytes(card_id[:8], "big", signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(number)))


def stated(order: Order) -> ColumnElement[bool]:
    """What persons stated about the order's current reversal."""
    mine = and_(resolutions.c.merchant_id == order.merchant_id, resolutions.c.xid == order.xid)
    return and_(mine, resolutions.c.kind == order.kind, resolutions.c.reversal == order.reversal_number)


def get(connection: Connection, key: OrderKey, *, lock: bool = False) -> Order:
    """The order; raises UnknownOrderError."""
    row = connection.execute(ORDER.with_for_update() if lock else ORDER, this(key)).one_or_none()
    if row is None:
        raise UnknownOrderError("the merchant has no order of this XID")
    return Order.of(row)


def is_order(key: OrderKey) -> ColumnElement[bool]:
    """The row of this key."""
    return and_(orders.c.merchant_id == key.merchant_id, orders.c.xid == key.xid, orders.c.kind == key.kind)


def of_routes(names: Collection[str | None]) -> ColumnElement[bool]:
    """Orders that go to one of these connectors; None stands for orders that were given none."""
    of_these = orders.c.route.in_([name for name in names if name is not None])
    return or_(of_these, orders.c.route.is_(None)) if None in names else of_these


def is_seen(order: Order) -> ColumnElement[bool]:
    """A queued reversal that nobody has begun or postponed since it was seen."""
    return and_(
        is_order(order.key),
        orders.c.state == OrderState.REV_QUEUED,
        orders.c.reversal_number == order.reversal_number,
        orders.c.reversal_attempts == order.reversal_attempts,
        orders.c.reversal_next_at == order.reversal_next_at,
    )


def order_of(connection: Connection, answer: UnclaimedAnswer) -> Order | None:
    """The order that an answer speaks of, locked; None if it is of none."""
    # The RRN is kept through a reversal and unique per acquirer; the terminal guards against a mangled answer.
    match = and_(
        orders.c.acquirer == answer.acquirer,
        orders.c.rrn == answer.rrn,
        orders.c.terminal_id == answer.terminal_id,
        or_(orders.c.stan == answer.stan, orders.c.reversal_stan == answer.stan),
    )
    if answer.route is not None:
        match = and_(match, or_(orders.c.route == answer.route, orders.c.route.is_(None)))
    row = connection.execute(select(orders).where(match).with_for_update()).one_or_none()
    return None if row is None else Order.of(row)


def this(key: OrderKey) -> dict[str, Any]:
    """What `THIS` asks for."""
    return {f"this_{name}": value for name, value in key_values(key).items()}


def key_values(key: OrderKey) -> dict[str, Any]:
    """The columns of a key."""
    return {"merchant_id": key.merchant_id, "xid": key.xid, "kind": key.kind}


def answer_values(answer: Answer) -> dict[str, Any]:
    """The columns of an answer."""
    return {"answer": answer.message, "auth_code": answer.auth_code}
