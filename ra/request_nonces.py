"""Nonces of signed requests that came (RFC 9421 7.2.2): none counts twice, in whatever replica and after any restart.

A nonce is written down, durably, before its request does anything, and is kept until its signature is too old to count
for every replica's clock. So the table holds what a few minutes bring; of each credential it holds no more than `MOST`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Column, Engine, Index, String, Table, delete, func, select

from ra.schema import UtcTime, metadata
from runtime.database import insert_new, reading

MOST: Final = 4096
"""Nonces of one credential that are remembered at once: more requests than a token signs in that time."""

request_nonces: Final = Table(
    "request_nonces",
    metadata,
    Column("key_id", String(64), primary_key=True),  # SHA-256 of the officer's certificate
    Column("nonce", String(64), primary_key=True),
    Column("good_until", UtcTime, nullable=False),
    Index("request_nonces_by_end", "good_until"),
)


class RequestNonces:
    """The table; safe for threads, and shared by replicas."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, key_id: str, nonce: str, *, good_until: datetime) -> bool:
        """Use up a nonce; whether it was new. Of two requests at once with the same one, one is told that it was."""
        with self._engine.begin() as db:
            return insert_new(db, request_nonces, key_id=key_id, nonce=nonce, good_until=good_until)

    def full(self, key_id: str) -> bool:
        """Whether no more nonces of this credential are remembered for now."""
        table = request_nonces
        with reading(self._engine) as db:
            return db.execute(select(func.count()).where(table.c.key_id == key_id)).scalar_one() >= MOST

    def forget(self, now: datetime) -> int:
        """Drop the nonces of signatures that are too old; how many."""
        with self._engine.begin() as db:
            return db.execute(delete(request_nonces).where(request_nonces.c.good_until < now)).rowcount
