"""The memory of the certificate authority: what was intended, and what became of it (SQLAlchemy).

What was issued stands in `ca.certificate_store`, what was revoked in `ca.status_store`, what was published in
`ca.crl_store`; `Store` has all of them.

Every method is one transaction and on disk when it returns (`runtime.database`); on SQLite one that writes takes the
write lock at its start. What must be unique is a constraint of the database, never a look before the leap.

Replicas share a database. An open intent is leased by the one that works on it: only that one ends it, and only when
the lease is over does another take it up.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Engine

from ca.certificate_store import CertificateRecord, CertificateStore, identity_of, record_of, serial_hex
from ca.crl_store import CrlStore
from ca.database_faults import tell_faults
from ca.intent_store import DossierRecord, Intent, IntentStore, Lease, NewIntent
from ca.key_screening import KeyScreening
from ca.schema import bring_up_to_date
from ca.status_store import StatusStore

__all__ = [
    "CertificateRecord",
    "DossierRecord",
    "Intent",
    "Lease",
    "NewIntent",
    "Store",
    "identity_of",
    "record_of",
    "serial_hex",
]


class Store(CertificateStore, IntentStore):
    """The database of one certificate authority. Opening it brings it up to date (`ca.schema`); raises StoreError."""

    def __init__(self, engine: Engine) -> None:
        tell_faults(engine)
        bring_up_to_date(engine)
        super().__init__(engine)
        self.engine: Final = engine
        self.status: Final = StatusStore(engine)
        self.crls: Final = CrlStore(engine)
        self.screening: Final = KeyScreening(engine)
