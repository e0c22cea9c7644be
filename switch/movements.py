"""Money that moved for a merchant, by business day: what reconciliation (0500) adds up, beside the accounts.

A movement is entered once, in the transaction that books it, and never changed; but a sale that is taken back as a
whole because nobody knew its outcome is void: to the acquirer it never was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from switch import business_day, ledger
from switch.schema import accounts, movements, standing_amounts, transactions

HELD: Final = "HELD"
"""The account that holds what was authorised and not captured yet."""


_OF_TRANSACTION: Final = select(transactions.c.acquirer, transactions.c.merchant).where(
    transactions.c.id == bindparam("transaction")
)
_ENTER: Final = insert(movements)


class Movement(StrEnum):
    """Which way money moved, seen from the card: the rows of a reconciliation."""

    DEBIT = "debit"
    DEBIT_REVERSAL = "debit_reversal"
    CREDIT = "credit"
    CREDIT_REVERSAL = "credit_reversal"

    @property
    def sign(self) -> int:
        """+1 where the acquirer gets the amount, -1 where it gives it."""
        return 1 if self in (Movement.DEBIT, Movement.CREDIT_REVERSAL) else -1


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers and sums (rial) of the movements of one merchant and day."""

    of: Mapping[Movement, tuple[int, int]]

    @property
    def net(self) -> int:
        """What the acquirer gets, negative if it gives."""
        return sum(kind.sign * amount for kind, (_, amount) in self.of.items())


def move(connection: Connection, transaction_id: int, kind: Movement, amount: int, *, now: datetime) -> None:
    """Enter a movement of the transaction, in the business day that is open."""
    row = connection.execute(_OF_TRANSACTION, {"transaction": transaction_id}).one()
    movement = {
        "transaction_id": transaction_id,
        "acquirer": row.acquirer,
        "merchant": row.merchant,
        "day": business_day.current(connection, now),
        "kind": kind,
        "amount": amount,
        "void": False,
    }
    connection.execute(_ENTER, movement)


def void(connection: Connection, transaction_id: int) -> None:
    """The transaction's movement does not count, if it has one."""
    mine = movements.c.transaction_id == transaction_id
    connection.execute(update(movements).where(mine).values(void=True))


def totals(connection: Connection, acquirer: str, merchant: str, day: date) -> Totals:
    """What counts of one merchant and day."""
    query = (
        select(movements.c.kind, func.count(), func.sum(movements.c.amount))
        .where(
            movements.c.acquirer == acquirer,
            movements.c.merchant == merchant,
            movements.c.day == day,
            movements.c.void.is_(False),
        )
        .group_by(movements.c.kind)
    )
    found = {Movement(kind): (int(count), int(amount)) for kind, count, amount in connection.execute(query)}
    return Totals({kind: found.get(kind, (0, 0)) for kind in Movement})


def nets(connection: Connection, acquirer: str) -> dict[str, int]:
    """What counts of each merchant of an acquirer, all days together, in rial."""
    query = (
        select(movements.c.merchant, movements.c.kind, func.sum(movements.c.amount))
        .where(movements.c.acquirer == acquirer, movements.c.void.is_(False))
        .group_by(movements.c.merchant, movements.c.kind)
    )
    net: dict[str, int] = {}
    for merchant, kind, amount in connection.execute(query):
        net[merchant] = net.get(merchant, 0) + Movement(kind).sign * int(amount)
    return net


# --- what is left of a transaction ------------------------------------------------------------------------------------


def standing_of(connection: Connection, row: Row[Any]) -> int:
    """Rial of an approved transaction that have not been taken back."""
    query = select(standing_amounts.c.amount).where(standing_amounts.c.transaction_id == row.id)
    left = connection.execute(query).scalar_one_or_none()
    return int(row.amount if left is None else left)


def set_standing(connection: Connection, transaction_id: int, amount: int) -> None:
    """So much is left of it; of which nothing is left, it is reversed."""
    values = {"transaction_id": transaction_id, "amount": amount}
    connection.execute(
        upsert(standing_amounts).values(values).on_conflict_do_update(index_elements=["transaction_id"], set_=values)
    )
    if amount == 0:
        connection.execute(update(transactions).where(transactions.c.id == transaction_id).values(state="reversed"))


def made_of(connection: Connection, row: Row[Any], kind: str) -> int:
    """Rial that stand of the transactions of this kind that are about `row`: captured of a hold, credited of a sale."""
    about = (transactions.c.original == row.id) & (transactions.c.kind == kind) & (transactions.c.state == "approved")
    rows = connection.execute(select(transactions).where(about)).all()
    return sum(standing_of(connection, each) for each in rows)


def held_account(connection: Connection, now: datetime) -> str:
    """The account of what is held, opened when it is needed first."""
    if connection.execute(select(accounts.c.iban).where(accounts.c.iban == HELD)).one_or_none() is None:
        connection.execute(
            insert(accounts).values(
                iban=HELD,
                kind="held",
                holder="Authorised, not captured",
                bin="000000",
                balance=0,
                opened_at=ledger.naive_utc(now),
            )
        )
    return HELD
