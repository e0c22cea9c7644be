"""The end of a merchant's business day in the books: fees are charged, what the networks settle is booked.

A day is finished once, in one transaction, when somebody needs its figures for good: its advice is signed, or it is
paid. It must be closed on every route (`gateway.settling.reconciliation`), and nobody may still have to look at a
difference. From then on nothing is added to it: what the network counts in it all the same is settled with the next
day of the merchant that is finished, and what the network pays for it is booked as that closes the day once more
(`gateway.acquirer.network_pay`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from gateway.acquirer import ledger
from gateway.acquirer.differences import has_open
from gateway.acquirer.fees import ChargedFee, FeeSchedule, fees_of_day
from gateway.acquirer.journal import post
from gateway.acquirer.network_pay import book_net
from gateway.acquirer.tables import charged_fees, finished_days
from gateway.schema import entries, merchants, reconciliations
from gateway.settling.book import entries_settled
from gateway.settling.days import DayState, end_of
from gateway.settling.entries import summing
from gateway.settling.reconciliation import is_closed, is_undecided, read_net
from kwbp.settling import Entry


class DayOpenError(Exception):
    """The day is not closed yet, or a difference of it is open."""


class OpenReason(StrEnum):
    """Why a day is not closed; the value is what operators are told."""

    NOT_ENDED = "not-ended"
    """The network still counts in it."""
    NOT_COMPARED = "not-compared"
    """It has ended, and the network has not said its totals since."""
    UNDECIDED = "undecided"
    """Something of it may still become a movement of money."""
    TOTALS = "totals-differ"
    """The network has other totals, and nobody has explained them."""
    DIFFERENCES = "differences-open"
    """A person must decide what the network's list shows."""


def why_open(connection: Connection, merchant_id: str, day: date, now: datetime) -> OpenReason | None:
    """What keeps a day from being finished; None if nothing does. It is closed by itself once that has gone."""
    if has_open(connection, merchant_id, day):
        return OpenReason.DIFFERENCES
    rows = connection.execute(select(reconciliations).where(_rows_of(merchant_id, day))).all()
    waiting = [row for row in rows if row.state != DayState.CLOSED]
    if not waiting:
        return None
    running = [row for row in waiting if row.over_at is None]
    if running:
        told = all(row.compared_at is not None and row.compared_at >= end_of(day) for row in running)
        return OpenReason.NOT_ENDED if told or now < end_of(day) else OpenReason.NOT_COMPARED
    if any(is_undecided(connection, merchant_id, row.over_at) for row in waiting):
        return OpenReason.UNDECIDED
    differ = any(row.theirs is not None and row.theirs != row.own for row in waiting)
    return OpenReason.TOTALS if differ else OpenReason.NOT_COMPARED


@dataclass(frozen=True, slots=True)
class FinishedDay:
    """Figures of a finished day, in rial."""

    merchant_id: str
    day: date
    gross: int
    fees: int

    @property
    def net(self) -> int:
        """What the merchant is owed of it, negative if it owes."""
        return self.gross - self.fees


def finish(connection: Connection, merchant_id: str, day: date, schedule: FeeSchedule, now: datetime) -> FinishedDay:
    """Finish the day, or find that it is; part of the caller's transaction.

    :raises DayOpenError: it cannot be finished yet; nothing has changed.
    """
    summing(connection, merchant_id)
    found = finished(connection, merchant_id, day)
    if found is not None:
        return found
    if not is_closed(connection, merchant_id, day) or has_open(connection, merchant_id, day):
        raise DayOpenError
    _take_late(connection, merchant_id, day)
    movements = entries_settled(connection, merchant_id, day.isoformat())
    charged = _charge(connection, merchant_id, day, schedule, movements, now)
    _book_payments(connection, merchant_id, day, now)
    gross = sum(entry.kind.sign * entry.amount for entry in movements)
    found = FinishedDay(merchant_id, day, gross, sum(fee.amount for fee in charged))
    values = {"merchant_id": merchant_id, "business_day": day.isoformat(), "gross": gross, "fees": found.fees}
    connection.execute(insert(finished_days).values(**values, finished_at=now))
    return found


def finished(connection: Connection, merchant_id: str, day: date) -> FinishedDay | None:
    """The figures of a finished day; None if it is not finished."""
    columns = finished_days.c
    this = and_(columns.merchant_id == merchant_id, columns.business_day == day.isoformat())
    row = connection.execute(select(finished_days).where(this)).one_or_none()
    return None if row is None else FinishedDay(merchant_id, day, row.gross, row.fees)


def fees_of(connection: Connection, merchant_id: str, day: date) -> dict[bytes, int]:
    """What was charged for the movements of a finished day, in rial, by the hash of the answer."""
    columns = charged_fees.c
    this = and_(columns.merchant_id == merchant_id, columns.business_day == day.isoformat())
    return {row.h_answer: row.amount for row in connection.execute(select(charged_fees).where(this))}


def _take_late(connection: Connection, merchant_id: str, day: date) -> None:
    """Movements of days that were finished before they came are settled with this one."""
    columns = entries.c
    late = and_(
        columns.merchant_id == merchant_id, columns.settled_day.is_(None), columns.business_day <= day.isoformat()
    )
    connection.execute(update(entries).where(late).values(settled_day=day.isoformat()))


def _charge(
    connection: Connection,
    merchant_id: str,
    day: date,
    schedule: FeeSchedule,
    movements: Iterable[Entry],
    now: datetime,
) -> list[ChargedFee]:
    mcc = connection.execute(select(merchants.c.mcc).where(merchants.c.merchant_id == merchant_id)).scalar_one()
    charged = fees_of_day(schedule.rule(merchant_id, mcc, day), movements)
    if charged:
        common = {"merchant_id": merchant_id, "business_day": day.isoformat()}
        rows = [{**common, "h_answer": fee.h_answer, "amount": fee.amount, "rule": fee.rule} for fee in charged]
        connection.execute(insert(charged_fees), rows)
        fees = [ledger.fee(fee.h_answer, merchant_id=merchant_id, amount=fee.amount, day=day) for fee in charged]
        post(connection, fees, now)
    return charged


def _book_payments(connection: Connection, merchant_id: str, day: date, now: datetime) -> None:
    """What each network said last is what it settles with the acquirer."""
    for row in connection.execute(select(reconciliations).where(_rows_of(merchant_id, day))).all():
        book_net(connection, merchant_id, day, row.route, read_net(row.theirs["97"]), now)


def _rows_of(merchant_id: str, day: date) -> ColumnElement[bool]:
    return and_(reconciliations.c.merchant_id == merchant_id, reconciliations.c.business_day == day.isoformat())
