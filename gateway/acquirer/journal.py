"""The ledger in the database: postings are written in the transaction that causes them, and never changed.

`verify` builds the ledger anew from what caused it (entries, fees, closed days, decided differences, payouts) and
compares line by line: a posting that is missing, nobody's or another one is told by its cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, func, insert, select

from gateway.acquirer import ledger, stated
from gateway.acquirer.ledger import Finding, Line, Posting
from gateway.acquirer.tables import charged_fees, corrections, ledger_lines, network_payments, payouts
from gateway.schema import entries
from kwbp.codes import EntryKind
from kwbp.settling import Entry

_POST: Final = insert(ledger_lines)


def post(connection: Connection, postings: Iterable[Posting], now: datetime) -> None:
    """Part of the transaction that causes them; a cause can be posted once, or the transaction fails."""
    rows = [
        {
            "cause_kind": posting.cause_kind,
            "cause": posting.cause,
            "account": account,
            "amount": amount,
            "business_day": posting.business_day.isoformat(),
            "posted_at": now,
        }
        for posting in postings
        for account, amount in posting.lines
    ]
    if rows:
        connection.execute(_POST, rows)


def post_movement(connection: Connection, merchant_id: str, route: str, entry: Entry, day: date, now: datetime) -> None:
    """The posting of a new entry."""
    posting = ledger.movement(
        entry.h_answer, merchant_id=merchant_id, route=route, kind=entry.kind, amount=entry.amount, day=day
    )
    post(connection, [posting], now)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Balance:
    """An account: sums of its debits and credits and their difference, in rial, debits positive."""

    account: str
    debits: int
    credits: int

    @property
    def balance(self) -> int:
        return self.debits - self.credits


def balances(connection: Connection, through: date | None = None) -> list[Balance]:
    """Every account by name, with what was posted up to a business day."""
    amount = ledger_lines.c.amount
    query = select(
        ledger_lines.c.account,
        func.coalesce(func.sum(amount).filter(amount > 0), 0),
        func.coalesce(-func.sum(amount).filter(amount < 0), 0),
    )
    if through is not None:
        query = query.where(ledger_lines.c.business_day <= through.isoformat())
    rows = connection.execute(query.group_by(ledger_lines.c.account).order_by(ledger_lines.c.account))
    return [Balance(account, int(debits), int(credits_)) for account, debits, credits_ in rows]


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One line of an account's statement, with the balance after it."""

    at: datetime
    business_day: str
    cause_kind: str
    cause: str
    amount: int
    balance: int


def statement(connection: Connection, account: str, limit: int) -> list[StatementLine]:
    """The last lines of an account, oldest first."""
    mine = ledger_lines.c.account == account
    order = (ledger_lines.c.posted_at.desc(), ledger_lines.c.cause_kind, ledger_lines.c.cause)
    rows = connection.execute(select(ledger_lines).where(mine).order_by(*order).limit(limit)).all()
    after = int(connection.execute(select(func.coalesce(func.sum(ledger_lines.c.amount), 0)).where(mine)).scalar_one())
    found = []
    for row in rows:
        found.append(StatementLine(row.posted_at, row.business_day, row.cause_kind, row.cause, row.amount, after))
        after -= row.amount
    return found[::-1]


# --- verifying --------------------------------------------------------------------------------------------------------


def verify(connection: Connection) -> list[Finding]:
    """Every posting that is not as its cause says; none if the ledger is right. Reads all of it."""
    return ledger.compare(posted(connection), caused(connection))


def posted(connection: Connection) -> Iterator[Line]:
    """The ledger as it stands, line by line, also what nothing of ours can have written."""
    columns = ledger_lines.c
    query = select(columns.cause_kind, columns.cause, columns.business_day, columns.account, columns.amount)
    for kind, cause, day, account, amount in connection.execute(query):
        yield kind, cause, day, account, int(amount)


def caused(connection: Connection) -> Iterator[Posting]:
    """What the ledger must say, from the causes alone."""
    for row in connection.execute(select(entries)):
        yield ledger.movement(
            row.h_answer,
            merchant_id=row.merchant_id,
            route=row.route,
            kind=EntryKind(row.kind),
            amount=row.amount,
            day=date.fromisoformat(row.business_day),
        )
    for row in connection.execute(select(charged_fees)):
        day = date.fromisoformat(row.business_day)
        yield ledger.fee(row.h_answer, merchant_id=row.merchant_id, amount=row.amount, day=day)
    for order in stated.all_of(connection):
        posting = stated.posting_of(connection, order)
        yield from [] if posting is None else [posting]
    yield from _of_days(connection)
    yield from _of_differences(connection)
    yield from _of_payouts(connection)


def _of_days(connection: Connection) -> Iterator[Posting]:
    for row in connection.execute(select(network_payments)):
        day = date.fromisoformat(row.business_day)
        paid = ledger.network_paid(merchant_id=row.merchant_id, route=row.route, day=day, part=row.part, net=row.net)
        if paid is not None:
            yield paid


def _of_differences(connection: Connection) -> Iterator[Posting]:
    for row in connection.execute(select(corrections)):
        day = date.fromisoformat(row.business_day)
        corrected = ledger.corrected(row.difference, row.part, route=row.route, day=day, excess=row.excess)
        if corrected is not None:
            yield corrected


def _of_payouts(connection: Connection) -> Iterator[Posting]:
    for row in connection.execute(select(payouts).where(payouts.c.sent_at.is_not(None))):
        day, amount = date.fromisoformat(row.business_day), row.amount
        yield ledger.payout_sent(row.reference, merchant_id=row.merchant_id, day=day, amount=amount)
        if row.paid_at is not None:
            yield ledger.payout_paid(row.reference, day=day, amount=amount)
        if row.returned_at is not None:
            yield ledger.payout_returned(
                row.reference, merchant_id=row.merchant_id, day=day, amount=amount, was_paid=row.paid_at is not None
            )
