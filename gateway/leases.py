"""Work that one gateway at a time may do, of those that share a database: whoever holds the lease does it.

A lease ends by itself, so that a gateway that was lost holds nothing up. Whoever was stopped while it held one may go
on after another took it: what is done under a lease must bear that (`gateway.key_exchange`: the token refuses a key
whose index it knows).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, update

from gateway.replica_tables import leases
from gateway.store import OrderStore
from runtime.database import insert_new


class Lease:
    """One kind of work, by its name. `lasts`: longer than the work takes."""

    def __init__(self, store: OrderStore, name: str, *, lasts: timedelta, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._name = name
        self._lasts = lasts
        self._clock = clock

    async def take(self) -> bool:
        """Whether it is this gateway's now: it was nobody's, or its own, or is over."""
        now = self._clock()
        values = {"holder": self._store.replica, "until": now + self._lasts}
        free = or_(leases.c.holder == self._store.replica, leases.c.until <= now)

        def job(connection: Connection) -> bool:
            if insert_new(connection, leases, name=self._name, **values):
                return True
            return (
                connection.execute(update(leases).where(leases.c.name == self._name, free).values(values)).rowcount == 1
            )

        return await self._store.writer.run(job)

    async def end(self) -> None:
        """Let others have it at once; nothing, if they have it already."""
        mine = (leases.c.name == self._name, leases.c.holder == self._store.replica)
        ended = delete(leases).where(*mine)  # not "until now": another one's clock may be behind
        await self._store.writer.run(lambda connection: connection.execute(ended))
