"""What is paid to a merchant for a business day, once, to the account that its certificate is bound to.

    CREATED ─► SENT ─┬─► PAID ─► RETURNED   the bank got the money back after all
       │             └─► RETURNED           then the day may be paid again: the next attempt
    CARRIED                                 nothing to pay: what the merchant owes is deducted from its next payout

A day has one payout (and one more after each return), which a constraint of the database guards. It is made of the
figures of a finished day (`day_end`), so it is what the signed advice says. CREATED ones go into a payment file, which
takes the account as it is registered and bound at that moment. The file is durable before anybody sees it; that it was
sent is told with its digest, by another person than made it. Only then is anything booked. A file may be fetched and
handed to the bank twice: its MsgId and references are the same, and the bank's duty is to pay those once. What it says
counts for the file that it says it of: a payout that was taken out of a refused file may be on its way in the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.acquirer import ledger
from gateway.acquirer.bank_answer import Outcome
from gateway.acquirer.day_end import DayOpenError, FinishedDay, OpenReason, finish, why_open
from gateway.acquirer.journal import post
from gateway.acquirer.payment_files import PaymentFiles, file_of
from gateway.acquirer.payout import Left, Payout, PayoutState
from gateway.acquirer.tables import payouts
from gateway.schema import merchants, reconciliations
from runtime.after_commit import after_commit, with_refusal
from runtime.language import Message
from runtime.logging import get_logger
from runtime.problems import Problem

_log = get_logger("gateway.payouts")
_S: Final = PayoutState
_BEFORE: Final = {_S.PAID: (_S.SENT,), _S.RETURNED: (_S.SENT, _S.PAID)}


class Payouts(PaymentFiles):
    """Payouts and payment files of one acquirer."""

    # --- looking ------------------------------------------------------------------------------------------------------

    def all(
        self, *, merchant_id: str | None = None, day: date | None = None, state: PayoutState | None = None
    ) -> list[Payout]:
        """Payouts in the order in which they were made."""
        query = select(payouts)
        if merchant_id is not None:
            query = query.where(payouts.c.merchant_id == merchant_id)
        if day is not None:
            query = query.where(payouts.c.business_day == day.isoformat())
        if state is not None:
            query = query.where(payouts.c.state == state)
        with self._orders.reading() as connection:
            return [Payout.of(row) for row in connection.execute(query.order_by(payouts.c.number))]

    # --- steps --------------------------------------------------------------------------------------------------------

    async def create(
        self, *, by: str, day: date | None = None, merchant_id: str | None = None
    ) -> tuple[list[Payout], list[Left]]:
        """Pay out every closed day that was not, oldest first; those of a `day` or `merchant_id` only, if given.

        Every other day that is not paid is left, with the reason.
        """
        made: list[Payout] = []
        left: list[Left] = []
        for whose, which in self._waiting(day, merchant_id):
            outcome = await self._orders.writer.run(self._creating(whose, which, by))
            if isinstance(outcome, Payout):
                made.append(outcome)
                self._checkpoint("payout-created")
            elif outcome is not None:
                left.append(Left(whose, which, outcome))
        return made, left

    async def again(self, reference: str, *, by: str) -> Payout:
        """Another attempt of a payout that the bank returned.

        :raises Problem: 404, or 409 if it was not returned, or has one already.
        """
        now = self._clock()

        def job(connection: Connection) -> Payout:
            before = _of_reference(connection, reference)
            if before.state is not _S.RETURNED:
                raise Problem(409, "not-returned", "only a payout that the bank returned can be paid again")
            attempt = before.attempt + 1
            try:
                with connection.begin_nested():
                    return _insert(
                        connection,
                        FinishedDay(before.merchant_id, before.day, before.gross, before.fees),
                        attempt=attempt,
                        brought_forward=before.brought_forward,
                        beneficiary=before.beneficiary,
                        by=by,
                        now=now,
                    )
            except IntegrityError:
                raise Problem(409, "paid-again", "there is another attempt of this payout") from None

        return await self._orders.writer.run(job)

    async def answered(self, outcomes: Sequence[Outcome], *, by: str) -> list[Payout]:
        """What the bank says of payouts, all or none of it. Said again, it changes nothing.

        :raises Problem: 404 an unknown reference; 409 it was not sent, or has come back already, or the bank speaks of
            another file than the payout is in.
        """
        now = self._clock()

        def job(connection: Connection) -> list[Payout]:
            # Two answers at once take the rows in the same order.
            names = sorted(each.reference for each in outcomes)
            for name in names:
                connection.execute(select(payouts.c.number).where(payouts.c.reference == name).with_for_update())
            return [self._answer(connection, each, by, now) for each in outcomes]

        done = await self._orders.writer.run(job)
        self._checkpoint("payouts-answered")
        return done

    @staticmethod
    def _answer(connection: Connection, outcome: Outcome, by: str, now: datetime) -> Payout:
        before = _of_reference(connection, outcome.reference)
        state = PayoutState(outcome.status)
        if outcome.message_id is not None and before.file is not None:
            found = file_of(connection, before.file)
            if outcome.message_id != found.message_id:
                text = Message(
                    "the bank speaks of {told}, {payout} is in {file}",
                    told=outcome.message_id,
                    payout=before.reference,
                    file=found.message_id,
                )
                raise Problem(409, "another-file", text)
        if before.state is state:
            return before
        values: dict[str, Any] = {"state": state, "answered_by": by}
        values |= {"paid_at": now} if state is _S.PAID else {"returned_at": now, "reason": outcome.reason or None}
        mine = and_(payouts.c.number == before.number, payouts.c.state == before.state)
        if before.state not in _BEFORE[state] or not _moved(connection, mine, values):
            if before.sent_at is not None:  # it has returned what it paid, or never paid: somebody must ask it
                told = {"payout": before.reference, "alarm": True}
                with_refusal(connection, partial(_log.error, "the bank contradicts itself", **told))
            text = Message(
                "{payout} is {state}: it cannot become {next}",
                payout=before.reference,
                state=before.state.value,
                next=state.value,
            )
            raise Problem(409, "payout-state", text)
        day, amount = before.day, before.amount
        if state is _S.PAID:
            posting = ledger.payout_paid(before.reference, day=day, amount=amount)
        else:
            was_paid = before.state is _S.PAID
            posting = ledger.payout_returned(
                before.reference, merchant_id=before.merchant_id, day=day, amount=amount, was_paid=was_paid
            )
            told = {"payout": before.reference, "reason": outcome.reason}
            after_commit(connection, partial(_log.error, "the bank returned a payout", **told, alarm=True))
        post(connection, [posting], now)
        return _of_reference(connection, outcome.reference)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _waiting(self, day: date | None, merchant_id: str | None) -> list[tuple[str, date]]:
        columns = reconciliations.c
        paid = exists().where(
            payouts.c.merchant_id == columns.merchant_id, payouts.c.business_day == columns.business_day
        )
        query = select(columns.merchant_id, columns.business_day).where(~paid)
        if day is not None:
            query = query.where(columns.business_day == day.isoformat())
        if merchant_id is not None:
            query = query.where(columns.merchant_id == merchant_id)
        query = query.distinct().order_by(columns.merchant_id, columns.business_day)
        with self._orders.reading() as connection:
            return [(row.merchant_id, date.fromisoformat(row.business_day)) for row in connection.execute(query)]

    def _creating(self, merchant_id: str, day: date, by: str) -> Callable[[Connection], Payout | str | None]:
        now = self._clock()

        def job(connection: Connection) -> Payout | str | None:
            try:
                # From here on this merchant's books are ours until the transaction ends.
                found = finish(connection, merchant_id, day, self._fees, now)
            except DayOpenError:
                return str(why_open(connection, merchant_id, day, now) or OpenReason.NOT_COMPARED)
            this = and_(payouts.c.merchant_id == merchant_id, payouts.c.business_day == day.isoformat())
            if connection.execute(select(payouts.c.number).where(this)).first() is not None:
                return None  # somebody else was first
            name = select(merchants.c.name).where(merchants.c.merchant_id == merchant_id)
            beneficiary = connection.execute(name).scalar_one()
            owed = _owed(connection, merchant_id)
            return _insert(connection, found, attempt=1, brought_forward=owed, beneficiary=beneficiary, by=by, now=now)

        return job


def _insert(
    connection: Connection,
    found: FinishedDay,
    *,
    attempt: int,
    brought_forward: int,
    beneficiary: str,
    by: str,
    now: datetime,
) -> Payout:
    due = found.net + brought_forward
    suffix = f"+{attempt}" if attempt > 1 else ""  # no merchant's id has a plus
    statement = insert(payouts).values(
        merchant_id=found.merchant_id,
        business_day=found.day.isoformat(),
        attempt=attempt,
        reference=f"KWBP-{found.day:%Y%m%d}-{found.merchant_id}{suffix}",
        state=_S.CREATED if due > 0 else _S.CARRIED,
        gross=found.gross,
        fees=found.fees,
        brought_forward=brought_forward,
        amount=max(due, 0),
        carried_forward=min(due, 0),
        beneficiary=beneficiary,
        created_at=now,
        created_by=by,
    )
    return Payout.of(connection.execute(statement.returning(payouts)).one())


def _owed(connection: Connection, merchant_id: str) -> int:
    """What the merchant owes from its last payout, ≤ 0 rial; a repeated attempt owes nothing of its own."""
    mine = and_(payouts.c.merchant_id == merchant_id, payouts.c.attempt == 1)
    query = select(payouts.c.carried_forward).where(mine).order_by(payouts.c.number.desc()).limit(1)
    return int(connection.execute(query).scalar_one_or_none() or 0)


def _of_reference(connection: Connection, reference: str) -> Payout:
    row = connection.execute(select(payouts).where(payouts.c.reference == reference)).one_or_none()
    if row is None:
        raise Problem(404, "no-such-payout", Message("there is no payout {reference}", reference=reference))
    return Payout.of(row)


def _moved(connection: Connection, this: ColumnElement[bool], values: dict[str, Any]) -> bool:
    return connection.execute(update(payouts).where(this).values(values)).rowcount == 1
