"""What the network looks like from above: accounts, cards, transactions, ledger, lines, zone keys. Reads only.

For people who watch a test or a demonstration. Nothing here is secret: cards are masked, keys have check values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, func, select

from switch.bank import Transact
from switch.key_ring import KeyRing
from switch.ledger import is_balanced
from switch.records import Account, CardStatus, LedgerTotal, Line, TransactionStatus, ZoneKeyStatus
from switch.schema import accounts, acquirers, cards, entries, transactions

MOST: Final = 200
"""Rows of a list, at most: the newest ones."""


class Overview:
    """All lists are newest first."""

    def __init__(
        self,
        transact: Transact,
        ring: KeyRing,
        bank_of: Callable[[str], str],
        lines: Callable[[], list[Line]],
    ) -> None:
        """`bank_of` names the bank of a BIN, `lines` tells the connections now."""
        self._transact = transact
        self._ring = ring
        self._bank_of = bank_of
        self.lines = lines

    def accounts(self, limit: int = MOST) -> list[Account]:
        """The accounts."""
        query = select(accounts).order_by(accounts.c.opened_at.desc(), accounts.c.iban).limit(min(limit, MOST))
        return self._transact(
            lambda connection: [
                Account(row.iban, row.kind, row.holder, self._bank_of(row.bin), row.balance)
                for row in connection.execute(query)
            ]
        )

    def cards(self, limit: int = MOST) -> list[CardStatus]:
        """The cards, masked."""
        query = select(cards).order_by(cards.c.issued_at.desc(), cards.c.card_id).limit(min(limit, MOST))
        names = CardStatus.__slots__
        return self._transact(
            lambda connection: [
                CardStatus(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)
            ]
        )

    def transactions(self, limit: int = MOST) -> list[TransactionStatus]:
        """The transactions."""
        query = select(transactions).order_by(transactions.c.id.desc()).limit(min(limit, MOST))
        names = TransactionStatus.__slots__
        return self._transact(
            lambda connection: [
                TransactionStatus(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)
            ]
        )

    def ledger(self) -> tuple[list[LedgerTotal], bool]:
        """Sums by kind of account, and whether the ledger balances."""
        entered = (
            select(accounts.c.kind, func.sum(entries.c.amount).label("entered"))
            .join_from(accounts, entries, accounts.c.iban == entries.c.iban)
            .group_by(accounts.c.kind)
        )
        held = select(accounts.c.kind, func.count().label("number"), func.sum(accounts.c.balance).label("balance"))

        def job(connection: Connection) -> tuple[list[LedgerTotal], bool]:
            sums = {row.kind: row.entered for row in connection.execute(entered)}
            rows = connection.execute(held.group_by(accounts.c.kind).order_by(accounts.c.kind)).all()
            totals = [LedgerTotal(row.kind, row.number, row.balance, sums.get(row.kind, 0)) for row in rows]
            return totals, is_balanced(connection)

        return self._transact(job)

    def zone_keys(self) -> list[ZoneKeyStatus]:
        """The zone keys that are good now, of each acquirer."""
        query = select(acquirers.c.code).order_by(acquirers.c.code)
        codes = self._transact(lambda connection: list(connection.execute(query).scalars()))
        return [
            ZoneKeyStatus(code, key.kind, key.index, key.state, key.check_value)
            for code in codes[:MOST]
            for kind in ("zone-mac", "zone-pin")
            for key in self._ring.keys(code, kind)
        ]
