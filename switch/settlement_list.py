"""The list of a business day that an acquirer gets for reconciliation: every movement that the switch counted, signed.

The signing key is made at its first use, in `secrets/switch-list-key`; whoever believes the lists reads the public half
from `pki/switch-lists.pem`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy import Connection, select

from runtime.secrets import read_secret, write_secret
from runtime.settings import Home
from shetab.settlement_list import ListedMovement, SettlementList, write_list
from switch import business_day
from switch.errors import BankError, KeyFileError
from switch.schema import acquirers, movements, transactions


def list_key(home: Home) -> ec.EllipticCurvePrivateKey:
    """The key that lists are signed with, made if there is none; its public half is published.

    :raises KeyFileError: another key. :raises SecretFileError: others may read it.
    """
    path = home.secrets / "switch-list-key"
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        write_secret(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        key = load_pem_private_key(read_secret(path).reveal(), None)
    except ValueError:
        raise KeyFileError(f"{path} must hold a private key (PEM)") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{path} must hold a key on P-256")
    _publish(home.pki / "switch-lists.pem", key)
    return key


def _publish(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if path.exists() and path.read_bytes() == public:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(public)
    os.replace(new, path)  # noqa: PTH105  # one step: a reader has the old key or the new one


class SettlementLists:
    """Makes lists. `transact` runs a job in a transaction."""

    def __init__(
        self,
        transact: Callable[[Callable[[Connection], SettlementList]], SettlementList],
        key: ec.EllipticCurvePrivateKey,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._transact = transact
        self._key = key
        self._clock = clock

    def of(self, acquirer: str, day: date) -> bytes:
        """The list of an acquirer's day as a file; it is final once the network counts in a later one.

        :raises BankError: `unknown_acquirer`.
        """
        now = self._clock()
        return write_list(self._transact(lambda connection: _read(connection, acquirer, day, now)), self._key)


def _read(connection: Connection, acquirer: str, day: date, now: datetime) -> SettlementList:
    if connection.execute(select(acquirers.c.code).where(acquirers.c.code == acquirer)).first() is None:
        raise BankError("unknown_acquirer", "no such acquirer")
    query = (
        select(movements, transactions.c.terminal, transactions.c.rrn, transactions.c.stan)
        .join(transactions, transactions.c.id == movements.c.transaction_id)
        .where(movements.c.acquirer == acquirer, movements.c.day == day)
        .order_by(movements.c.transaction_id)
    )
    found = tuple(
        ListedMovement(
            merchant=row.merchant,
            terminal=row.terminal.rstrip(),
            rrn=row.rrn,
            stan=row.stan,
            movement=row.kind,
            amount=row.amount,
            void=row.void,
        )
        for row in connection.execute(query)
    )
    return SettlementList(acquirer, day, business_day.current(connection, now) > day, now, found)
