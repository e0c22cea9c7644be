"""Lists of the network, the differences that they show, and what people say of those.

A list is imported as the network signed it, and kept; importing the same again changes nothing. Each difference between
it and our books is a row with a state:

    OPEN ─┬─► EXPLAINED   a person knows why, and it needs no booking: it is another day's, say
          ├─► CORRECTED   a person takes it into the books: the excess goes to suspense (`gateway.acquirer.ledger`)
          └─► GONE        a later list of the day does not show it any more; so with what was EXPLAINED

What was CORRECTED is booked and stays until a person says otherwise: if a later list shows another amount of it, or
nothing, that is an alarm and it is OPEN again. `correct` then books what is new, `explain` books all of it back: each
decision is a row of `corrections`, and the ledger has a posting for each.
Lists of a day come in the order in which the network made them: one that is older than the newest is refused.

A merchant's business day with an open difference is neither advised nor paid, its other days are: a signed advice
cannot be taken back, and a day is advised and paid as a whole. What is decided of a day that is closed or finished
already has its network asked again: it may pay another net than it said then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, update

from gateway.acquirer import ledger, stated
from gateway.acquirer.journal import post
from gateway.acquirer.matching import Difference, Key, OwnMovement, match
from gateway.acquirer.own_movements import movements
from gateway.acquirer.tables import corrections, differences, network_lists
from gateway.schema import entries, orders, reconciliations
from gateway.settling.days import DayState
from gateway.settling.entries import compare_anew, is_finished, watch
from gateway.states import OrderState
from runtime.after_commit import after_commit
from runtime.language import ToldError
from runtime.logging import get_logger
from shetab.settlement_list import SIGNS, SettlementList, SettlementListError, read_list

_GIVEN_BACK: Final = (OrderState.REV_QUEUED, OrderState.REVERSED, OrderState.REV_FAILED)
_NEIGHBOURS: Final = timedelta(days=7)
"""How far around a day lists of other days are looked at, for what was counted in those."""
_AT_ONCE: Final = 400
_log = get_logger("gateway.differences")

Decision = Literal["EXPLAINED", "CORRECTED"]


class ImportRefusedError(ToldError):
    """A list that is not about this acquirer, or comes too early or too late."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a list: its number, how many movements it names, and the differences that are open after it."""

    number: int
    route: str
    business_day: date
    movements: int
    known: bool
    open_differences: int


def read(data: bytes, key: ec.EllipticCurvePublicKey, *, acquirer: str) -> SettlementList:
    """A list of the network's, for this acquirer.

    :raises SettlementListError: see `shetab.settlement_list`. :raises ImportRefusedError: another's, or not final.
    """
    found = read_list(data, key)
    if found.acquirer != acquirer:
        raise ImportRefusedError("the list is acquirer {acquirer}'s", acquirer=found.acquirer)
    if not found.final:
        raise ImportRefusedError("the network still counts in this day: its list is not final")
    return found


def take(
    connection: Connection,
    found: SettlementList,
    data: bytes,
    neighbours: Sequence[SettlementList],
    *,
    route: str,
    by: str,
    now: datetime,
) -> Imported:
    """Keep a list and what it shows; part of the caller's transaction. The same bytes again change nothing.

    :param neighbours: lists of days around it, as `around` gives them.
    :raises ImportRefusedError: the network made a later one, which is here.
    """
    digest, day = sha256(data).hexdigest(), found.business_day
    this = and_(network_lists.c.route == route, network_lists.c.digest == digest)
    number = connection.execute(select(network_lists.c.number).where(this)).scalar_one_or_none()
    known = number is not None
    if number is None:
        _lock_day(connection, route, day)
        _require_newest(connection, found, route)
        values: dict[str, Any] = {"route": route, "business_day": day.isoformat(), "digest": digest, "content": data}
        values |= {"made_at": found.made_at}
        statement = insert(network_lists).values(**values, imported_at=now, imported_by=by)
        number = connection.execute(statement.returning(network_lists.c.number)).scalar_one()
        elsewhere = {
            each.key: other.business_day
            for other in neighbours
            for each in other.movements
            if not each.void and other.business_day != day
        }
        own, given_back = _own(connection, route, day, [each.key for each in found.movements])
        shown = match(day, found.movements, own, given_back, elsewhere)
        # By the word of persons it is a sale by now, and what was booked of it stays.
        settled = {stated.own_movement(each).key for each in stated.of_day(connection, route, day)}
        _keep(connection, shown, settled, route=route, day=day, number=number, now=now)
        _compare_again(connection, route, day, now)
    waiting = select(differences.c.number).where(_of_list(route, day), differences.c.state == "OPEN")
    left = len(connection.execute(waiting).all())
    if left and not known:
        told = {"route": route, "day": day.isoformat(), "open": left}
        after_commit(connection, partial(_log.error, "the network's list shows differences", **told, alarm=True))
    return Imported(number, route, day, len(found.movements), known, left)


def _lock_day(connection: Connection, route: str, day: date) -> None:
    """Of gateways that share a server one at a time takes a list of the day: the other then sees which is newer."""
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(sha256(f"list {route} {day}".encode()).digest()[:8], "big", signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(number)))


def _require_newest(connection: Connection, found: SettlementList, route: str) -> None:
    of_day = and_(network_lists.c.route == route, network_lists.c.business_day == found.business_day.isoformat())
    query = select(network_lists.c.made_at).where(of_day).order_by(network_lists.c.made_at.desc()).limit(1)
    newest: datetime | None = connection.execute(query).scalar_one_or_none()
    if newest is not None and found.made_at < newest:
        raise ImportRefusedError("the network made a later list of this day, at {time}", time=newest)


def around(connection: Connection, route: str, day: date, key: ec.EllipticCurvePublicKey) -> list[SettlementList]:
    """The newest list of each day around `day` that was imported before."""
    columns = network_lists.c
    near = and_(
        columns.route == route,
        columns.business_day >= (day - _NEIGHBOURS).isoformat(),
        columns.business_day <= (day + _NEIGHBOURS).isoformat(),
        columns.business_day != day.isoformat(),
    )
    rows = connection.execute(select(network_lists).where(near).order_by(columns.number))
    newest = {row.business_day: row.content for row in rows}
    found = []
    for content in newest.values():
        try:
            found.append(read_list(content, key))
        except SettlementListError:  # of the network's key before; what it showed is in its differences
            _log.warning("an earlier list is not looked at: it has another key", route=route)
    return found


def _keep(
    connection: Connection,
    shown: Iterable[Difference],
    settled: Collection[Key],
    *,
    route: str,
    day: date,
    number: int,
    now: datetime,
) -> None:
    """New differences are OPEN; those that the list does not show are GONE; what was corrected may be OPEN again."""
    # Nobody decides one of these meanwhile, at another gateway.
    before_it = select(differences).where(_of_list(route, day)).order_by(differences.c.number).with_for_update()
    kept = {
        (row.kind, row.merchant_id, row.terminal_id, row.stan, row.rrn, row.movement): row
        for row in connection.execute(before_it)
    }
    for each in shown:
        before = kept.pop((each.kind, *each.key), None)
        values = _values(each) | {"list_number": number}
        if before is None:
            places = {"route": route, "business_day": day.isoformat(), "state": "OPEN", "found_at": now}
            connection.execute(insert(differences).values(**values, **places))
        elif before.state in ("OPEN", "GONE") or before.excess != each.excess:
            if before.state == "CORRECTED":  # what was booked stays booked until a person decides again
                _alarm(connection, "a corrected difference has changed", before.number)
            mine = differences.c.number == before.number
            connection.execute(update(differences).where(mine).values(**values, state="OPEN", found_at=now))
    for gone in kept.values():
        this, booked = differences.c.number == gone.number, _booked(connection, gone.number)
        if booked == 0 and gone.state in ("OPEN", "EXPLAINED"):
            connection.execute(update(differences).where(this).values(state="GONE"))
        elif booked != 0 and (gone.state != "CORRECTED" or gone.excess) and _key(gone) not in settled:
            _alarm(connection, "a corrected difference is not shown any more", gone.number)
            values = {"state": "OPEN", "excess": 0, "their_amount": None, "list_number": number, "found_at": now}
            connection.execute(update(differences).where(this).values(**values))


def _alarm(connection: Connection, what: str, number: int) -> None:
    after_commit(connection, partial(_log.error, what, number=number, alarm=True))


def _key(row: Row[Any]) -> Key:
    return row.merchant_id, row.terminal_id, row.stan, row.rrn, row.movement


def _booked(connection: Connection, number: int) -> int:
    """Rial of a difference that stand in suspense."""
    query = select(func.coalesce(func.sum(corrections.c.excess), 0)).where(corrections.c.difference == number)
    return int(connection.execute(query).scalar_one())


def _values(difference: Difference) -> dict[str, Any]:
    merchant_id, terminal_id, stan, rrn, movement = difference.key
    return {
        "merchant_id": merchant_id,
        "terminal_id": terminal_id,
        "stan": stan,
        "rrn": rrn,
        "movement": movement,
        "kind": difference.kind,
        "own_amount": difference.own_amount,
        "their_amount": difference.their_amount,
        "own_day": None if difference.own_day is None else difference.own_day.isoformat(),
        "their_day": None if difference.their_day is None else difference.their_day.isoformat(),
        "excess": difference.excess,
    }


def _of_list(route: str, day: date) -> ColumnElement[bool]:
    return and_(differences.c.route == route, differences.c.business_day == day.isoformat())


def _compare_again(connection: Connection, route: str, day: date, now: datetime) -> None:
    this = and_(reconciliations.c.business_day == day.isoformat(), reconciliations.c.route == route)
    waiting = and_(this, reconciliations.c.state == DayState.OPEN)
    connection.execute(update(reconciliations).where(waiting).values(next_at=now))


# --- our own movements ------------------------------------------------------------------------------------------------


def _own(
    connection: Connection, route: str, day: date, listed: Sequence[Key]
) -> tuple[dict[Key, OwnMovement], set[Key]]:
    """Our movements of the day and those that the list names; and the sales it names that we have given back."""
    of_route = entries.c.route == route
    own = {each.key: each for each in movements(connection, of_route, entries.c.business_day == day.isoformat())}
    own |= {each.key: each for each in map(stated.own_movement, stated.of_day(connection, route, day))}
    given_back: set[Key] = set()
    unknown = [key for key in listed if key not in own]
    for at in range(0, len(unknown), _AT_ONCE):
        some = unknown[at : at + _AT_ONCE]
        rrns = {key[3] for key in some}
        own |= {each.key: each for each in movements(connection, of_route, rrns=rrns)}
        stay = [each for each in stated.all_of(connection, orders.c.rrn.in_(rrns)) if stated.route_of(each) == route]
        own |= {each.key: each for each in map(stated.own_movement, stay)}
        taken = and_(orders.c.rrn.in_(rrns), orders.c.state.in_(_GIVEN_BACK))
        for row in connection.execute(select(orders).where(taken)):
            given_back.add((row.merchant_id, row.terminal_id, row.stan, row.rrn, "debit"))
    return own, given_back


# --- people -----------------------------------------------------------------------------------------------------------


def decide(
    connection: Connection,
    number: int,
    decision: Decision,
    *,
    excess: int | None = None,
    by: str,
    reason: str,
    now: datetime,
) -> Row[Any] | None:
    """An open difference is decided; what is corrected is booked in the same transaction. None: it is not open.

    Of one that was corrected before, what is new is booked; if it is explained now, all of it is booked back.

    :param excess: what the person looked at, in rial: if a list came in since that says otherwise, nothing is decided.
    """
    open_ = and_(differences.c.number == number, differences.c.state == "OPEN")
    if excess is not None:
        open_ = and_(open_, differences.c.excess == excess)
    values = {"state": decision, "decided_at": now, "decided_by": by, "reason": reason}
    if connection.execute(update(differences).where(open_).values(values)).rowcount != 1:
        return None
    row = connection.execute(select(differences).where(differences.c.number == number)).one()
    day = date.fromisoformat(row.business_day)
    booked = (row.excess if decision == "CORRECTED" else 0) - _booked(connection, number)
    _book(connection, number, booked, row)
    if booked or row.excess:
        _ask_anew(connection, row, now)
    _compare_again(connection, row.route, day, now)
    after_commit(connection, partial(_log.info, "difference decided", number=number, decision=decision, by=by))
    return row


def _ask_anew(connection: Connection, decided: Row[Any], now: datetime) -> None:
    """If the network's last word on the day is there already, it was said without this: it pays another net by now."""
    mine = and_(reconciliations.c.merchant_id == decided.merchant_id, reconciliations.c.route == decided.route)
    mine = and_(mine, reconciliations.c.business_day == decided.business_day)
    day = date.fromisoformat(decided.business_day)
    if is_finished(connection, decided.merchant_id, day):
        watch(connection, decided.merchant_id, day, decided.route, now)
    else:
        mine = and_(mine, reconciliations.c.state == DayState.CLOSED)
    compare_anew(connection, mine, now)


def _book(connection: Connection, number: int, excess: int, decided: Row[Any]) -> None:
    """Book what a decision adds to those before it; nothing, if that is nothing."""
    if excess == 0:
        return
    last = select(func.coalesce(func.max(corrections.c.part), 0)).where(corrections.c.difference == number)
    part = int(connection.execute(last).scalar_one()) + 1
    values = {"difference": number, "part": part, "route": decided.route, "business_day": decided.business_day}
    values |= {"excess": excess, "decided_at": decided.decided_at, "decided_by": decided.decided_by}
    connection.execute(insert(corrections).values(**values, reason=decided.reason))
    day = date.fromisoformat(decided.business_day)
    posting = ledger.corrected(number, part, route=decided.route, day=day, excess=excess)
    post(connection, [] if posting is None else [posting], decided.decided_at)


def listed(
    connection: Connection, *, day: date | None = None, merchant_id: str | None = None, state: str | None = None
) -> list[Row[Any]]:
    """Differences by day, merchant and movement."""
    query = select(differences)
    if day is not None:
        query = query.where(differences.c.business_day == day.isoformat())
    if merchant_id is not None:
        query = query.where(differences.c.merchant_id == merchant_id)
    if state is not None:
        query = query.where(differences.c.state == state)
    return list(connection.execute(query.order_by(differences.c.business_day, differences.c.number)))


def has_open(connection: Connection, merchant_id: str, day: date) -> bool:
    """Whether anybody still has to look at a difference of the merchant's of this day."""
    columns = differences.c
    waiting = and_(columns.merchant_id == merchant_id, columns.business_day == day.isoformat(), columns.state == "OPEN")
    return connection.execute(select(columns.number).where(waiting).limit(1)).first() is not None


def accounted(connection: Connection, merchant_id: str, day: date, route: str) -> dict[str, int] | None:
    """What the network counts beyond our books of a day, by movement, as people have decided.

    None if nobody can say: no list of the day was imported, or a difference is open.
    """
    lists = and_(network_lists.c.route == route, network_lists.c.business_day == day.isoformat())
    if connection.execute(select(network_lists.c.number).where(lists).limit(1)).first() is None:
        return None
    excess: dict[str, int] = {}
    columns = differences.c
    for row in connection.execute(select(differences).where(_of_list(route, day), columns.merchant_id == merchant_id)):
        if row.state == "OPEN":
            return None
        if row.state != "GONE":
            excess[row.movement] = excess.get(row.movement, 0) + SIGNS[row.movement] * row.excess
    return excess
