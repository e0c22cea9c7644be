"""What the gateway keeps so that its part of a purchase can be proven years later, and what it has said since.

    public objects   every status list that an order was judged by, and the certificates that card data were sealed to
    statements       its own InqRes, the first of each kind: what somebody was told an order's outcome to be

All of it is public or signed by the gateway itself; no card data are in it. The orders' own objects are in the order
book.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, select

from gateway.disclosure_tables import public_objects, statements
from gateway.order import OrderKey
from gateway.store import OrderStore
from kwbp.codes import PurchaseStatus
from pki.der import sha256
from pki.path import Trust
from runtime.database import insert_new

_AT_ONCE: Final = 16
"""Rows."""

CRL: Final = "crl"
CERTIFICATE: Final = "certificate"


class Disclosures:
    """Part of the order book's database."""

    def __init__(self, store: OrderStore) -> None:
        self._store = store
        self._kept: Trust | None = None

    async def keep(self, trust: Trust, encryption: x509.Certificate, now: datetime) -> None:
        """Keep what an order was judged by, before it is accepted; nothing to do for the trust of the last call.

        :param encryption: the certificate that its card data are sealed to.
        """
        if trust is self._kept:
            return
        certificates = (encryption, *trust.intermediates)
        await self._keep(CRL, [crl.public_bytes(Encoding.DER) for crl in trust.crls], now)
        await self._keep(CERTIFICATE, [each.public_bytes(Encoding.DER) for each in certificates], now)
        self._kept = trust

    async def said(self, key: OrderKey, status: PurchaseStatus, inq_res: bytes, now: datetime) -> None:
        """Keep an InqRes (SignedData) before it is given; another one of the same kind changes nothing.

        One that says that the order is still under way binds nobody to anything, and is not kept.
        """
        if status is PurchaseStatus.IN_PROGRESS:
            return
        values = {"merchant_id": key.merchant_id, "xid": key.xid, "status": int(status)}
        values |= {"said_at": now, "inq_res": inq_res}
        if not await self._store.look(self._has_said, key, status):
            await self._store.writer.run(lambda connection: insert_new(connection, statements, **values))

    def statements(self, key: OrderKey) -> list[bytes]:
        """What was said about an order: InqRes (SignedData), the oldest first."""
        this = (statements.c.merchant_id == key.merchant_id, statements.c.xid == key.xid)
        query = select(statements.c.inq_res).where(*this).order_by(statements.c.said_at)
        with self._store.reading() as connection:
            return list(connection.execute(query).scalars())

    def of_kind(self, kind: str) -> Iterator[bytes]:
        """All public objects of a kind, DER, the oldest first; read one by one, for the lists of years are many."""
        query = select(public_objects.c.der).where(public_objects.c.kind == kind).order_by(public_objects.c.first_seen)
        with self._store.reading() as connection:
            yield from connection.execution_options(yield_per=_AT_ONCE).execute(query).scalars()

    async def _keep(self, kind: str, ders: list[bytes], now: datetime) -> None:
        known = await self._store.look(self._known, {sha256(der) for der in ders})
        fresh = [der for der in ders if sha256(der) not in known]
        if not fresh:
            return

        def job(connection: Connection) -> None:
            for der in fresh:
                insert_new(connection, public_objects, digest=sha256(der), kind=kind, der=der, first_seen=now)

        await self._store.writer.run(job)

    def _known(self, digests: set[bytes]) -> set[bytes]:
        query = select(public_objects.c.digest).where(public_objects.c.digest.in_(digests))
        with self._store.reading() as connection:
            return set(connection.execute(query).scalars())

    def _has_said(self, key: OrderKey, status: PurchaseStatus) -> bool:
        this = (
            statements.c.merchant_id == key.merchant_id,
            statements.c.xid == key.xid,
            statements.c.status == int(status),
        )
        with self._store.reading() as connection:
            return connection.execute(select(statements.c.status).where(*this)).one_or_none() is not None
