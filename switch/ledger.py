"""Bookings between accounts. Every booking has two sides, so that money neither appears nor vanishes.

All functions run in the caller's transaction; the balance of an account is always the sum of its entries.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from switch.errors import LedgerError
from switch.schema import accounts, entries

_MOVE: Final = (
    update(accounts)
    .where(accounts.c.iban == bindparam("account"))
    .values(balance=accounts.c.balance + bindparam("signed"))
)
_ENTER: Final = insert(entries)


def naive_utc(moment: datetime) -> datetime:
    """An aware moment as the database keeps it: UTC without zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def transfer(
    connection: Connection,
    *,
    debit: str,
    credit: str,
    amount: int,
    text: str,
    now: datetime,
    transaction_id: int | None = None,
) -> None:
    """Move `amount` rial from account `debit` to account `credit` and enter both sides.

    :raises LedgerError: amount not positive, the same account twice, or an unknown account.
    :raises IntegrityError: a customer's account would go below zero (the database refuses).
    """
    if amount <= 0 or debit == credit:
        raise LedgerError("a booking moves a positive amount between two accounts")
    sides = ((debit, -amount), (credit, amount))
    moved = connection.execute(_MOVE, [{"account": iban, "signed": signed} for iban, signed in sides])
    if moved.rowcount != len(sides):
        raise LedgerError("no such account")
    common = {"transaction_id": transaction_id, "text": text, "booked_at": naive_utc(now)}
    connection.execute(_ENTER, [{**common, "iban": iban, "amount": signed} for iban, signed in sides])


def is_balanced(connection: Connection) -> bool:
    """True if all balances add up to zero and each equals the sum of its entries."""
    if connection.execute(select(func.coalesce(func.sum(accounts.c.balance), 0))).scalar_one() != 0:
        return False
    sums = (
        select(accounts.c.balance, func.coalesce(func.sum(entries.c.amount), 0).label("entered"))
        .select_from(accounts.outerjoin(entries, accounts.c.iban == entries.c.iban))
        .group_by(accounts.c.iban)
    )
    return all(row.balance == row.entered for row in connection.execute(sums))
