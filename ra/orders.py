"""Orders about certificates that are under way: written down before the CA gets them, forgotten when all is done.

Between the two a process may die, or the CA may not answer. Then nobody knows whether the certificate is revoked. The
row makes the RA find out: the CA is given the same order again, which changes nothing if it was carried out
(`ra.revoking`). So an order that counted once is carried out or refused, also if nobody asks again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Boolean, Column, Connection, Engine, Index, LargeBinary, String, Table, delete, select

from cps.revocation import RevocationVerdict
from ra.schema import UtcTime, metadata
from runtime.database import insert_new, reading

orders_under_way: Final = Table(
    "orders_under_way",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("cms", LargeBinary, nullable=False),
    Column("serial", String(40), nullable=False),  # lower-case hexadecimal, no leading zeros
    Column("ordered_by", String(80), nullable=False),
    Column("received_from", String(80), nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("denylist", Boolean, nullable=False),  # whether its key may never be certified again
    Index("orders_by_time", "received_at"),
)


@dataclass(frozen=True, slots=True)
class OrderUnderWay:
    """An order (`cms`: SignedData, DER) that was judged and found to count; `sha256` in hexadecimal."""

    sha256: str
    cms: bytes
    serial: str
    ordered_by: str
    received_from: str
    received_at: datetime
    denylist: bool


class Orders:
    """The table; each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(
        self,
        cms: bytes,
        verdict: RevocationVerdict,
        received_from: str,
        now: datetime,
        *,
        also: Callable[[Connection], None],
    ) -> tuple[OrderUnderWay, bool]:
        """Write an approved order down before it goes to the CA; as it is on record, and whether it was before.

        `also` writes what hangs on it, in the same transaction.
        """
        assert verdict.order is not None  # it was approved
        digest = hashlib.sha256(cms).hexdigest()
        order = OrderUnderWay(
            sha256=digest,
            cms=cms,
            serial=f"{verdict.order.serial:x}",
            ordered_by=verdict.approvals[0].person,
            received_from=received_from,
            received_at=now,
            denylist=verdict.denylist_key,
        )
        values = {name: getattr(order, name) for name in OrderUnderWay.__slots__}
        with self._engine.begin() as db:
            also(db)
            if insert_new(db, orders_under_way, **values):
                return order, False
            query = select(orders_under_way).where(orders_under_way.c.sha256 == digest)
            row = db.execute(query).one_or_none()
        return (order if row is None else OrderUnderWay(**row._mapping)), True

    def end(self, order: OrderUnderWay, *, also: Callable[[Connection], None] = lambda _db: None) -> None:
        """Forget an order: everything that follows of it is done, or the CA refused it; `also` as above."""
        with self._engine.begin() as db:
            also(db)
            db.execute(delete(orders_under_way).where(orders_under_way.c.sha256 == order.sha256))

    def waits(self, serial: str, received_from: str) -> bool:
        """Whether an order of this origin about a certificate of this serial (hexadecimal) is under way."""
        table = orders_under_way
        query = select(table.c.sha256).where(table.c.serial == serial, table.c.received_from == received_from)
        with reading(self._engine) as db:
            return db.execute(query.limit(1)).first() is not None

    def under_way(self, *, limit: int = 100) -> list[OrderUnderWay]:
        """Orders whose outcome is not known, the oldest first."""
        table = orders_under_way
        query = select(table).order_by(table.c.received_at, table.c.sha256).limit(limit)
        with reading(self._engine) as db:
            return [OrderUnderWay(**row._mapping) for row in db.execute(query)]
