"""The counters of limits: one choke point, inside the transaction that makes an order SENT.

A counter is raised by one statement that also compares it with the rule's figures, so of two orders that would both
take the last unit exactly one does, on SQLite and on PostgreSQL, in one gateway or in two. An order keeps what it has
used in its own row; whatever ends it without money moved gives that back, in the transaction that ends it, as the rules
said when it was counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, or_, select, update

from gateway.errors import LimitExceededError
from gateway.limits.tables import limit_counters
from gateway.schema import Instant
from runtime.database import insert_new

AMOUNT_EXCEEDED: Final = "61"
"""DE 39 "exceeds amount limit"."""
FREQUENCY_EXCEEDED: Final = "65"
"""DE 39 "exceeds frequency limit"."""
_instant: Final = Instant()


class Occasion(StrEnum):
    """When something that was counted may be given back."""

    NOT_SENT = "not-sent"
    """It is certain that nothing reached the network."""
    DECLINED = "declined"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Claim:
    """What an order will use of one rule's counter. Amounts in rial; None: the rule has no such figure."""

    rule: str
    subject: str
    window: datetime
    amount: int
    most_orders: int | None
    most_amount: int | None
    gives_back: frozenset[Occasion]


def take(connection: Connection, claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """Raise the counters of all claims, or none; part of the caller's transaction, which must fail if this does.

    :returns: what the order has used, as its row keeps it.
    :raises LimitExceededError: a rule has not so much left.
    """
    used: list[dict[str, Any]] = []
    # In one order, so that two transactions never wait for each other's rows.
    for claim in sorted(claims, key=lambda each: (each.window, each.rule, each.subject)):
        if not _raise(connection, claim):
            begun = {"window": claim.window, "rule": claim.rule, "subject": claim.subject, "orders": 0, "amount": 0}
            insert_new(connection, limit_counters, **begun)  # or another gateway's is there by now, with room perhaps
            if not _raise(connection, claim):
                raise _exceeded(connection, claim)
        used.append(
            {
                "rule": claim.rule,
                "subject": claim.subject,
                "window": _instant.process_bind_param(claim.window, connection.dialect),
                "amount": claim.amount,
                "gives_back": sorted(claim.gives_back),
            }
        )
    return used


def give_back(connection: Connection, used: Iterable[dict[str, Any]], occasion: Occasion) -> list[dict[str, Any]]:
    """Lower the counters of what is given back on this occasion; returns what stays counted."""
    kept = []
    for each in used:
        if occasion not in each["gives_back"]:
            kept.append(each)
            continue
        window = _instant.process_result_value(each["window"], connection.dialect)
        assert window is not None
        # A row that is forgotten already is of a window that is over.
        connection.execute(
            update(limit_counters)
            .where(_is(window, each["rule"], each["subject"]))
            .values(orders=limit_counters.c.orders - 1, amount=limit_counters.c.amount - each["amount"])
        )
    return kept


def used_by(connection: Connection, pairs: Iterable[tuple[str, str, datetime]]) -> dict[tuple[str, str], Any]:
    """The counters (`orders`, `amount`) of these rules, subjects and windows, by rule and subject."""
    wanted = [_is(window, rule, subject) for rule, subject, window in pairs]
    if not wanted:
        return {}
    rows = connection.execute(select(limit_counters).where(or_(*wanted)))
    return {(row.rule, row.subject): row for row in rows}


def forget(connection: Connection, before: datetime) -> int:
    """Drop the counters of windows that began before `before`; returns how many."""
    return connection.execute(delete(limit_counters).where(limit_counters.c.window < before)).rowcount


def _raise(connection: Connection, claim: Claim) -> bool:
    """Compare and raise, in one statement."""
    this = _is(claim.window, claim.rule, claim.subject)
    orders, amount = limit_counters.c.orders + 1, limit_counters.c.amount + claim.amount
    raised = update(limit_counters).where(this, *_room(claim)).values(orders=orders, amount=amount)
    return bool(connection.execute(raised).rowcount)


def _exceeded(connection: Connection, claim: Claim) -> LimitExceededError:
    this = _is(claim.window, claim.rule, claim.subject)
    orders: int = connection.execute(select(limit_counters.c.orders).where(this)).scalar_one()
    full = claim.most_orders is not None and orders + 1 > claim.most_orders
    return LimitExceededError(claim.rule, FREQUENCY_EXCEEDED if full else AMOUNT_EXCEEDED)


def _room(claim: Claim) -> list[Any]:
    room = []
    if claim.most_orders is not None:
        room.append(limit_counters.c.orders + 1 <= claim.most_orders)
    if claim.most_amount is not None:
        room.append(limit_counters.c.amount + claim.amount <= claim.most_amount)
    return room


def _is(window: datetime, rule: str, subject: str) -> Any:
    return and_(limit_counters.c.window == window, limit_counters.c.rule == rule, limit_counters.c.subject == subject)
