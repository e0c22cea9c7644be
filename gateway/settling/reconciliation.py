"""Totals of a merchant's business day, compared with the network (0500): does everybody know of the same money?

A merchant's cards may go by several routes (`gateway.routing`): each network behind one counts for itself, so there is
a row for each route, and the merchant's day is closed when all of them are.

A day is compared when a batch that has movements of it is closed, when it has ended, and when its advice is asked for.
While the network still counts in it, that is a look and no more. When the network has gone on to a later day, and
nothing of the merchant's that was under way before is undecided, totals that agree close the day for good; totals that
do not are told to the operator and compared again: people must find the transaction. When they have (the network's list
was imported, every difference is decided, and they explain the totals to the rial), that closes the day too.

A day that was closed is open again when something comes late. If its books are made up by then, what its network says
now is booked beyond what was booked of it, in the transaction that closes it once more.

Only what is signed counts on our side: sales that were acknowledged, and what rows 19 to 21 did. An order that was
given back because nobody knew its outcome counts on neither side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final

import prometheus_client
from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, update

from gateway.acquirer import stated
from gateway.acquirer.differences import accounted
from gateway.acquirer.network_pay import book_net
from gateway.backoff import pause
from gateway.errors import LinkDownError, NoAnswerError
from gateway.routing import SWITCH, Routes
from gateway.schema import entries, orders, reconciliations, settlings
from gateway.settling.days import OLDEST, DayState, end_of
from gateway.settling.entries import is_finished, summing, watch
from gateway.settling.states import SettlingState
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.trace_numbers import next_stan
from gateway.translation import RIAL, times
from kwbp.codes import EntryKind
from runtime.logging import get_logger
from runtime.minute_budget import MinuteBudget
from runtime.problems import Problem
from shetab.dialect import Dialect
from shetab.jalali import complete_date
from shetab.message import Message
from shetab.settlement_list import SIGNS

_APPROVED: Final = "00"
_IN_BALANCE: Final = "1"
_TOGETHER: Final = 4
_UNDER_WAY: Final = (
    *(OrderState.SENT, OrderState.UNKNOWN, OrderState.REV_QUEUED, OrderState.APPROVED),
    OrderState.REV_FAILED,  # a person finds out what it is
)
COMPARED_A_MINUTE: Final = 60
"""Of one merchant's days, on its own asking."""
_BESIDE: Final = 60.0
"""Seconds that a comparison may take beside the network's answer: one that hangs must not keep the others waiting."""
_RARELY: Final = timedelta(minutes=10)
"""How often totals that do not agree are compared again."""

FIELDS: Final[Mapping[EntryKind, tuple[int, int]]] = MappingProxyType(
    {
        EntryKind.CREDIT: (74, 86),
        EntryKind.CREDIT_REVERSAL: (75, 87),
        EntryKind.SALE: (76, 88),
        EntryKind.CAPTURE: (76, 88),
        EntryKind.SALE_REVERSAL: (77, 89),
        EntryKind.CAPTURE_REVERSAL: (77, 89),
    }
)
"""Data elements of number and amount that each kind of entry counts in."""
AMOUNTS: Final[Mapping[str, int]] = MappingProxyType(
    {"credit": 86, "credit_reversal": 87, "debit": 88, "debit_reversal": 89}
)
"""Data elements of the amounts, as a settlement list calls the movements."""
_UNUSED: Final[Mapping[int, str]] = MappingProxyType(
    {field: "0" * (10 if field <= 81 else 12) for field in range(78, 86)}
)
"""Transfers, inquiries, authorisations, fees: nothing of it is settled here."""

_compared: Final = prometheus_client.Counter(
    "kwbp_gateway_reconciliations_total", "Business days compared with the switch", ["settled"]
)
_log = get_logger("gateway.reconciliation")


def want(connection: Connection, merchant_id: str, day: date, now: datetime, main: str = SWITCH) -> None:
    """Have the day compared now, unless it is closed or was compared a moment ago; part of the caller's transaction.

    :param main: the route that is asked about a day of which nothing is known.
    """
    known = select(reconciliations.c.route).where(_of_day(merchant_id, day)).limit(1)
    if connection.execute(known).first() is None:
        watch(connection, merchant_id, day, main, now)
    this = and_(_of_day(merchant_id, day), reconciliations.c.state == DayState.OPEN, reconciliations.c.next_at > now)
    connection.execute(update(reconciliations).where(this).values(next_at=now))


def sums(rows: Mapping[EntryKind, tuple[int, int]]) -> dict[int, str]:
    """DE 74 to 77, 86 to 89 and 97 of numbers and sums (rial) by kind of entry."""
    numbers = dict.fromkeys((74, 75, 76, 77), 0)
    amounts = dict.fromkeys((86, 87, 88, 89), 0)
    net = 0
    for kind, (count, amount) in rows.items():
        number, total = FIELDS[kind]
        numbers[number] += count
        amounts[total] += amount
        net += kind.sign * amount
    fields = {field: f"{count:010d}" for field, count in numbers.items()}
    fields |= {field: f"{amount:016d}" for field, amount in amounts.items()}
    return fields | {97: f"{'C' if net >= 0 else 'D'}{abs(net):016d}"}


class _Verdict(Enum):
    """What a comparison came to. It is told once the transaction that keeps it is on the disk, which may run twice."""

    OPEN = auto()
    ENDED = auto()
    AGREED = auto()
    EXPLAINED = auto()
    DISAGREED = auto()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What is sent of a day, and whether it can be the last word: nothing of before the day's end is undecided."""

    merchant_id: str
    day: date
    route: str
    stan: str
    own: dict[int, str]
    decided: bool


class Reconciliation:
    """The worker. `run` it as one task; `wake` it when a day is wanted."""

    def __init__(
        self,
        store: OrderStore,
        routes: Routes,
        dialect: Dialect,
        *,
        acquirer: str,
        answer_timeout: float,
        first_pause: float,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        checkpoint: Callable[[str], None],
        tick: float = 1.0,
    ) -> None:
        self._store = store
        self._routes = routes
        self._dialect = dialect
        self._acquirer = acquirer
        self._answer_timeout = answer_timeout
        self._first_pause = first_pause
        self._clock = clock
        self._rng = rng
        self._checkpoint = checkpoint
        self._tick = tick
        self._woken = asyncio.Event()
        self._budget = MinuteBudget(COMPARED_A_MINUTE, clock=clock)

    def wake(self) -> None:
        """Look for wanted days now."""
        self._woken.set()

    async def want(self, merchant_id: str, day: date) -> None:
        """Have the day compared now, if the merchant has not had that too often in this minute."""
        if not self._budget.take(merchant_id):
            return
        now, main = self._clock(), self._routes.main.name
        await self._store.writer.run(lambda connection: want(connection, merchant_id, day, now, main))
        self.wake()

    async def run(self) -> None:
        """Compare what is due until cancelled. An error of one day or one look never ends it."""
        while True:
            self._woken.clear()
            try:
                more = await self._compare_due()
            except Exception as error:  # the database cannot be read, say: the next look may find it better
                more = False
                _log.error("days could not be looked through", error=type(error).__name__)
            if more:
                continue
            try:
                async with asyncio.timeout(self._tick):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _compare_due(self) -> bool:
        """Compare some of what is due; whether there may be more."""
        if not self._routes.signed_on:
            return False
        due = await self._store.look(self._due)
        await asyncio.gather(*(self._guarded(*each) for each in due))
        return len(due) == _TOGETHER

    def days(self, merchant_id: str) -> list[Row[Any]]:
        """The rows of a merchant, oldest first."""
        mine = reconciliations.c.merchant_id == merchant_id
        with self._store.reading() as connection:
            order = (reconciliations.c.business_day, reconciliations.c.route)
            return list(connection.execute(select(reconciliations).where(mine).order_by(*order)))

    def _due(self) -> list[tuple[str, date, str]]:
        now, columns = self._clock(), reconciliations.c
        due = and_(
            columns.state == DayState.OPEN,
            columns.next_at <= now,
            columns.business_day >= (now - OLDEST).date().isoformat(),
            columns.route.in_([each.name for each in self._routes if each.signed_on]),
        )
        query = select(reconciliations).where(due).order_by(columns.next_at).limit(_TOGETHER)
        with self._store.reading() as connection:
            rows = connection.execute(query)
            return [(row.merchant_id, date.fromisoformat(row.business_day), row.route) for row in rows]

    async def _guarded(self, merchant_id: str, day: date, route: str) -> None:
        told = {"merchant": merchant_id, "day": day.isoformat(), "route": route}
        try:
            async with asyncio.timeout(self._answer_timeout + _BESIDE):
                await self._compare(merchant_id, day, route)
        except (LinkDownError, NoAnswerError, Problem) as error:
            _log.warning("not reconciled", **told, error=str(error))
        except Exception as error:  # of one day; the others must not wait for it
            _log.error("not reconciled", **told, error=type(error).__name__)

    async def _compare(self, merchant_id: str, day: date, route: str) -> None:
        now, connector = self._clock(), self._routes.of(route)

        def job(connection: Connection) -> _Snapshot | None:
            return self._snapshot(connection, merchant_id, day, route, now)

        snapshot = await self._store.writer.run(job)
        if snapshot is None:
            return
        self._checkpoint("reconciliation-kept")
        message = self._request(snapshot, now)
        raw = await connector.authenticate(message)
        answer = await connector.exchange(message, raw, self._answer_timeout)
        self._checkpoint("reconciliation-answered")
        now = self._clock()
        verdict = await self._store.writer.run(lambda connection: self._judge(connection, snapshot, answer, now))
        self._checkpoint("reconciliation-judged")
        if verdict is not None:
            _tell(verdict, snapshot, answer)
        if verdict is _Verdict.ENDED:
            self.wake()

    def _snapshot(
        self, connection: Connection, merchant_id: str, day: date, route: str, now: datetime
    ) -> _Snapshot | None:
        """Count one more comparison before it is sent; None if another gateway was quicker."""
        summing(connection, merchant_id)
        this = _is(merchant_id, day, route)
        row = connection.execute(select(reconciliations).where(this).with_for_update()).one()
        if row.next_at > now or row.state != DayState.OPEN:
            return None
        own = sums(_counted(connection, merchant_id, day, route))
        decided = row.over_at is not None and not is_undecided(connection, merchant_id, row.over_at)
        wait = pause(row.attempts + 1, first=self._first_pause, longest=300.0, rng=self._rng)
        next_at = now + timedelta(seconds=self._answer_timeout + wait)
        connection.execute(
            update(reconciliations)
            .where(this)
            .values(attempts=row.attempts + 1, next_at=next_at, own={str(field): own[field] for field in own})
        )
        return _Snapshot(merchant_id, day, route, next_stan(connection, self._acquirer, now), own, decided)

    def _request(self, snapshot: _Snapshot, now: datetime) -> Message:
        fields = times(now) | dict(_UNUSED) | snapshot.own
        fields |= {
            11: snapshot.stan,
            15: snapshot.day.strftime("%m%d"),
            32: self._acquirer,
            42: self._dialect.pad(42, snapshot.merchant_id),
            50: RIAL,
            99: self._acquirer,
        }
        return Message("0500", fields)

    def _judge(self, connection: Connection, snapshot: _Snapshot, answer: Message, now: datetime) -> _Verdict | None:
        """Keep what the switch answered, and say what it came to; None if the day was closed meanwhile."""
        summing(connection, snapshot.merchant_id)
        this = _is(snapshot.merchant_id, snapshot.day, snapshot.route)
        row = connection.execute(select(reconciliations).where(this).with_for_update()).one()
        if row.state == DayState.CLOSED:
            return None
        theirs = {field: answer[field] for field in snapshot.own if field in answer}
        # What DE 66 says is not believed against the sums beside it.
        agreed = (answer[39], answer[66], theirs) == (_APPROVED, _IN_BALANCE, snapshot.own)
        over = answer[39] == _APPROVED and complete_date(answer[15], now) > snapshot.day
        values: dict[str, Any] = {"compared_at": now, "rc": answer[39], "settled": answer[66]}
        values |= {"theirs": {str(field): value for field, value in theirs.items()}}
        if over and row.over_at is None:
            verdict = _Verdict.ENDED
            values |= {"over_at": now, "next_at": now, "attempts": 0}
        elif over and sums(_counted(connection, snapshot.merchant_id, snapshot.day, snapshot.route)) != snapshot.own:
            verdict = _Verdict.OPEN  # something came in while the network was asked
            values |= {"next_at": now}
        elif over and snapshot.decided and (agreed or self._explained(connection, snapshot, answer, theirs)):
            verdict = _Verdict.AGREED if agreed else _Verdict.EXPLAINED
            values |= {"state": DayState.CLOSED}
            if is_finished(connection, snapshot.merchant_id, snapshot.day):
                net = read_net(theirs[97])
                book_net(connection, snapshot.merchant_id, snapshot.day, snapshot.route, net, now)
        elif over and snapshot.decided:
            verdict = _Verdict.DISAGREED
            values |= {"next_at": now + _RARELY}
        else:
            verdict = _Verdict.OPEN
        if not over:
            values |= {"next_at": max(end_of(snapshot.day), now + timedelta(minutes=1))}
        connection.execute(update(reconciliations).where(this).values(values))
        return verdict

    @staticmethod
    def _explained(connection: Connection, snapshot: _Snapshot, answer: Message, theirs: dict[int, str]) -> bool:
        """Whether what people decided of the day's differences makes the network's sums of our own, to the rial."""
        excess = accounted(connection, snapshot.merchant_id, snapshot.day, snapshot.route)
        if excess is None or answer[39] != _APPROVED or theirs.keys() != snapshot.own.keys():
            return False
        amounts = {field: int(snapshot.own[field]) + excess.get(each, 0) for each, field in AMOUNTS.items()}
        net = read_net(snapshot.own[97]) + sum(SIGNS[movement] * amount for movement, amount in excess.items())
        told = {field: int(theirs[field]) for field in amounts}
        return told == amounts and read_net(theirs[97]) == net


def _tell(verdict: _Verdict, snapshot: _Snapshot, answer: Message) -> None:
    _compared.labels(answer[66]).inc()
    told = {"merchant": snapshot.merchant_id, "day": snapshot.day.isoformat(), "route": snapshot.route}
    if verdict in (_Verdict.AGREED, _Verdict.EXPLAINED):
        _log.info("business day closed", **told, agreed=verdict is _Verdict.AGREED)
    elif verdict is _Verdict.DISAGREED:
        _log.error("totals of a business day do not agree", **told, alarm=True)


def is_closed(connection: Connection, merchant_id: str, day: date) -> bool:
    """Whether all networks that a merchant's day went by have closed it; False if nobody was asked yet."""
    query = select(reconciliations.c.state).where(_of_day(merchant_id, day))
    return set(connection.execute(query).scalars()) == {DayState.CLOSED}


def read_net(text: str) -> int:
    """DE 97 in rial: C is ours, D the network's.

    :raises ValueError: it is neither.
    """
    if text[:1] not in ("C", "D"):
        raise ValueError("DE 97 begins with C or D")
    return int(text[1:]) * (1 if text[0] == "C" else -1)


def _counted(connection: Connection, merchant_id: str, day: date, route: str) -> dict[EntryKind, tuple[int, int]]:
    columns = entries.c
    query = (
        select(columns.kind, func.count(), func.sum(columns.amount))
        .where(columns.merchant_id == merchant_id, columns.business_day == day.isoformat(), columns.route == route)
        .group_by(columns.kind)
    )
    found = {EntryKind(kind): (int(count), int(amount)) for kind, count, amount in connection.execute(query)}
    # Their merchant does not count them, the network does.
    debited = [order.amount for order in stated.of_day(connection, route, day, merchant_id)]
    if debited:
        count, amount = found.get(EntryKind.SALE, (0, 0))
        found[EntryKind.SALE] = (count + len(debited), amount + sum(debited))
    return found


def is_undecided(connection: Connection, merchant_id: str, over_at: datetime) -> bool:
    """Whether anything of before `over_at` may still become a movement, and so one of the day that is over."""
    order = select(orders.c.xid).where(
        orders.c.merchant_id == merchant_id, orders.c.state.in_(_UNDER_WAY), orders.c.received_at <= over_at
    )
    request = select(settlings.c.number).where(
        settlings.c.merchant_id == merchant_id,
        settlings.c.state != SettlingState.ANSWERED,
        settlings.c.leaves.is_(None),  # a release moves no money of the merchant's
        settlings.c.received_at <= over_at,
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in (order, request))


def _of_day(merchant_id: str, day: date) -> ColumnElement[bool]:
    return and_(reconciliations.c.merchant_id == merchant_id, reconciliations.c.business_day == day.isoformat())


def _is(merchant_id: str, day: date, route: str) -> ColumnElement[bool]:
    return and_(_of_day(merchant_id, day), reconciliations.c.route == route)
