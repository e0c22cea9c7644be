"""Totals of a merchant's business day, compared with the switch (0500): does everybody know of the same money?

A day is compared when a batch that has movements of it is closed, when it has ended, and when its advice is asked for.
While the network still counts in it, that is a look and no more. When the network has gone on to a later day, and
nothing of the merchant's that was under way before is undecided, totals that agree close the day for good; totals that
do not are told to the operator and compared again: people must find the transaction.

Only what is signed counts on our side: sales that were acknowledged, and what rows 19 to 21 did. An order that was
given back because nobody knew its outcome counts on neither side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import prometheus_client
from sqlalchemy import Connection, Row, and_, func, select, update

from gateway.backoff import pause
from gateway.errors import LinkDownError, NoAnswerError
from gateway.link import SwitchLink
from gateway.schema import entries, orders, reconciliations, settlings
from gateway.settling.days import DayState
from gateway.settling.entries import end_of, watch
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

_APPROVED: Final = "00"
_IN_BALANCE: Final = "1"
_TOGETHER: Final = 4
_UNDER_WAY: Final = (OrderState.SENT, OrderState.UNKNOWN, OrderState.REV_QUEUED, OrderState.APPROVED)
COMPARED_A_MINUTE: Final = 60
"""Of one merchant's days, on its own asking."""
OLDEST: Final = timedelta(days=150)
"""Days of longer ago are not compared any more: DE 15 has no year."""
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
_UNUSED: Final[Mapping[int, str]] = MappingProxyType(
    {field: "0" * (10 if field <= 81 else 12) for field in range(78, 86)}
)
"""Transfers, inquiries, authorisations, fees: nothing of it is settled here."""

_compared: Final = prometheus_client.Counter(
    "kwbp_gateway_reconciliations_total", "Business days compared with the switch", ["settled"]
)
_log = get_logger("gateway.reconciliation")


def want(connection: Connection, merchant_id: str, day: date, now: datetime) -> None:
    """Have the day compared now, unless it is closed or was compared a moment ago; part of the caller's transaction."""
    watch(connection, merchant_id, day, now)
    this = and_(_is(merchant_id, day), reconciliations.c.state == DayState.OPEN, reconciliations.c.next_at > now)
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


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What is sent of a day, and whether it can be the last word: nothing of before the day's end is undecided."""

    merchant_id: str
    day: date
    stan: str
    own: dict[int, str]
    decided: bool


class Reconciliation:
    """The worker. `run` it as one task; `wake` it when a day is wanted."""

    def __init__(
        self,
        store: OrderStore,
        link: SwitchLink,
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
        self._link = link
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
        now = self._clock()
        await self._store.writer.run(lambda connection: want(connection, merchant_id, day, now))
        self.wake()

    async def run(self) -> None:
        """Compare what is due until cancelled. An error of one day never ends it."""
        while True:
            self._woken.clear()
            if self._link.signed_on:
                due = self._due()
                await asyncio.gather(*(self._guarded(merchant_id, day) for merchant_id, day in due))
                if len(due) == _TOGETHER:
                    continue
            try:
                async with asyncio.timeout(self._tick):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def day(self, merchant_id: str, day: date) -> Row[Any] | None:
        """The row of a merchant's day, if it is watched."""
        with self._store.reading() as connection:
            return connection.execute(select(reconciliations).where(_is(merchant_id, day))).one_or_none()

    def days(self, merchant_id: str) -> list[Row[Any]]:
        """The rows of a merchant, oldest first."""
        mine = reconciliations.c.merchant_id == merchant_id
        with self._store.reading() as connection:
            query = select(reconciliations).where(mine).order_by(reconciliations.c.business_day)
            return list(connection.execute(query))

    def _due(self) -> list[tuple[str, date]]:
        now = self._clock()
        due = and_(
            reconciliations.c.state == DayState.OPEN,
            reconciliations.c.next_at <= now,
            reconciliations.c.business_day >= (now - OLDEST).date().isoformat(),
        )
        query = select(reconciliations).where(due).order_by(reconciliations.c.next_at).limit(_TOGETHER)
        with self._store.reading() as connection:
            return [(row.merchant_id, date.fromisoformat(row.business_day)) for row in connection.execute(query)]

    async def _guarded(self, merchant_id: str, day: date) -> None:
        try:
            await self._compare(merchant_id, day)
        except (LinkDownError, NoAnswerError, Problem) as error:
            _log.warning("not reconciled", merchant=merchant_id, day=day.isoformat(), error=str(error))
        except Exception as error:  # of one day; the others must not wait for it
            _log.error("not reconciled", merchant=merchant_id, day=day.isoformat(), error=type(error).__name__)

    async def _compare(self, merchant_id: str, day: date) -> None:
        now = self._clock()
        snapshot = await self._store.writer.run(lambda connection: self._snapshot(connection, merchant_id, day, now))
        self._checkpoint("reconciliation-kept")
        message = self._request(snapshot, now)
        raw = await self._link.authenticate(message)
        answer = await self._link.exchange(message, raw, self._answer_timeout)
        self._checkpoint("reconciliation-answered")
        now = self._clock()
        if await self._store.writer.run(lambda connection: self._judge(connection, snapshot, answer, now)):
            self.wake()

    def _snapshot(self, connection: Connection, merchant_id: str, day: date, now: datetime) -> _Snapshot:
        row = connection.execute(select(reconciliations).where(_is(merchant_id, day))).one()
        own = sums(_counted(connection, merchant_id, day))
        decided = row.over_at is not None and not _undecided(connection, merchant_id, row.over_at)
        wait = pause(row.attempts + 1, first=self._first_pause, longest=300.0, rng=self._rng)
        next_at = now + timedelta(seconds=self._answer_timeout + wait)
        connection.execute(
            update(reconciliations)
            .where(_is(merchant_id, day))
            .values(attempts=row.attempts + 1, next_at=next_at, own={str(field): own[field] for field in own})
        )
        return _Snapshot(merchant_id, day, next_stan(connection, self._acquirer, now), own, decided)

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

    def _judge(self, connection: Connection, snapshot: _Snapshot, answer: Message, now: datetime) -> bool:
        """Keep what the switch answered; True if the day is to be compared again at once."""
        row = connection.execute(select(reconciliations).where(_is(snapshot.merchant_id, snapshot.day))).one()
        if row.state == DayState.CLOSED:
            return False
        theirs = {field: answer[field] for field in snapshot.own if field in answer}
        # What DE 66 says is not believed against the sums beside it.
        agreed = (answer[39], answer[66], theirs) == (_APPROVED, _IN_BALANCE, snapshot.own)
        over = answer[39] == _APPROVED and complete_date(answer[15], now) > snapshot.day
        values: dict[str, Any] = {"compared_at": now, "rc": answer[39], "settled": answer[66]}
        values |= {"theirs": {str(field): value for field, value in theirs.items()}}
        told = {"merchant": snapshot.merchant_id, "day": snapshot.day.isoformat()}
        ended = over and row.over_at is None
        if ended:
            values |= {"over_at": now, "next_at": now, "attempts": 0}
        elif over and snapshot.decided and agreed:
            values |= {"state": DayState.CLOSED}
            _log.info("business day closed", **told)
        elif over and snapshot.decided:
            values |= {"next_at": now + _RARELY}
            _log.error("totals of a business day do not agree", **told, alarm=True)
        elif not over:
            values |= {"next_at": max(end_of(snapshot.day), now + timedelta(minutes=1))}
        _compared.labels(answer[66]).inc()
        this = _is(snapshot.merchant_id, snapshot.day)
        connection.execute(update(reconciliations).where(this).values(values))
        return ended


def _counted(connection: Connection, merchant_id: str, day: date) -> dict[EntryKind, tuple[int, int]]:
    query = (
        select(entries.c.kind, func.count(), func.sum(entries.c.amount))
        .where(entries.c.merchant_id == merchant_id, entries.c.business_day == day.isoformat())
        .group_by(entries.c.kind)
    )
    return {EntryKind(kind): (int(count), int(amount)) for kind, count, amount in connection.execute(query)}


def _undecided(connection: Connection, merchant_id: str, over_at: datetime) -> bool:
    """Whether anything of before `over_at` may still become a movement, and so one of the day that is over."""
    order = select(orders.c.xid).where(
        orders.c.merchant_id == merchant_id, orders.c.state.in_(_UNDER_WAY), orders.c.received_at <= over_at
    )
    request = select(settlings.c.number).where(
        settlings.c.merchant_id == merchant_id, settlings.c.answer.is_(None), settlings.c.received_at <= over_at
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in (order, request))


def _is(merchant_id: str, day: date) -> Any:
    return and_(reconciliations.c.merchant_id == merchant_id, reconciliations.c.business_day == day.isoformat())
