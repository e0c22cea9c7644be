"""What the networks settle with the acquirer of finished days, booked as each network said it last.

A day's first row of `network_payments` is written as it is finished. What the network counts in it later (it was cut
back to the day, or a person decided about its list) has the day compared again (`gateway.settling.reconciliation`);
the answer that closes it once more is booked by its change, as a row and a posting of its own. So the receivable
account comes to nothing, and how it came to that can be read.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, ScalarSelect, Table, and_, cast, func, insert, select

from gateway.acquirer import ledger
from gateway.acquirer.journal import post
from gateway.acquirer.tables import network_payments


def booked_of(days: Table) -> ScalarSelect[int | None]:
    """Rial that were booked of each row of `reconciliations`; none of a day that is not finished."""
    columns = network_payments.c
    this = and_(columns.merchant_id == days.c.merchant_id, columns.business_day == days.c.business_day)
    total = cast(func.sum(columns.net), BigInteger)
    return select(total).where(this, columns.route == days.c.route).correlate(days).scalar_subquery()


def book_net(connection: Connection, merchant_id: str, day: date, route: str, net: int, now: datetime) -> int:
    """Book what `net` (rial, DE 97) is beyond what was booked; part of a transaction that holds the merchant's sums.

    :returns: what was booked now. Asked again with the same net, it is 0, and nothing is written.
    """
    columns = network_payments.c
    this = and_(columns.merchant_id == merchant_id, columns.business_day == day.isoformat(), columns.route == route)
    before = connection.execute(select(func.count(), func.coalesce(func.sum(columns.net), 0)).where(this)).one()
    part, change = before[0] + 1, net - int(before[1])
    if part > 1 and change == 0:
        return 0
    told: dict[str, Any] = {"merchant_id": merchant_id, "route": route, "part": part, "net": change}
    connection.execute(insert(network_payments).values(**told, business_day=day.isoformat(), booked_at=now))
    paid = ledger.network_paid(**told, day=day)
    post(connection, [] if paid is None else [paid], now)
    return change
