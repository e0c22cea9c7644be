"""The memory of the certificate authority: what was intended, and what became of it (SQLAlchemy).

What was issued stands in `ca.certificate_store`, what was revoked in `ca.status_store`, what was published in
`ca.crl_store`; `Store` has all of them.

Every method is one transaction and on disk when it returns (`runtime.database`); on SQLite one that writes takes the
write lock at its start. What must be unique is a constraint of the database, never a look before the leap.

Replicas share a database. An open intent is leased by the one that works on it: only that one ends it, and only when
the lease is over does another take it up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from cryptography import x509
from sqlalchemy import Connection, Engine, Row, delete, exists, insert, or_, select, update

from ca import tables
from ca.certificate_store import CertificateRecord, CertificateStore, columns, identity_of, record_of, serial_hex
from ca.crl_store import CrlStore
from ca.database_faults import tell_faults
from ca.errors import InProgressError, IntentEndedError, KeyRefusedError, StoreError
from ca.key_screening import KeyScreening
from ca.schema import bring_up_to_date
from ca.status_store import StatusOrder, StatusStore, write_status
from cps.application import KnownKeys
from runtime.database import insert_new, put, reading

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

IntentState = Literal["open", "issued", "abandoned"]
INTENT_CLAUSE: Final = "CPS 4.3.1"
_AT_ONCE: Final = 500  # rows changed together


@dataclass(frozen=True, slots=True)
class Lease:
    """Which replica works on an intent, and until when no other may."""

    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be signed, or was; `tbs` is DER, digests are lower-case hexadecimal."""

    id: int
    revision_digest: str
    purpose: str
    profile: str
    issuer: str
    serial: str
    tbs: bytes
    tbs_sha256: str
    spki_sha256: str
    lints: tuple[str, ...]
    approvals: tuple[dict[str, str], ...]
    state: IntentState
    reason: str | None
    intended_at: datetime
    ended_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class NewIntent:
    """An intent before it has a number: see `Intent`."""

    revision_digest: str
    purpose: str
    profile: str
    issuer: str
    serial: str
    tbs: bytes
    tbs_sha256: str
    spki_sha256: str
    lints: tuple[str, ...]
    approvals: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class DossierRecord:
    """The case that a certificate rests on; `dossier` is its JSON as it was judged."""

    revision_digest: str
    application_id: str
    member_class: str
    cps_digest: str
    dossier: bytes
    received_at: datetime


class Store(CertificateStore):
    """The database of one certificate authority. Opening it brings it up to date (`ca.schema`); raises StoreError."""

    def __init__(self, engine: Engine) -> None:
        tell_faults(engine)
        bring_up_to_date(engine)
        super().__init__(engine)
        self.engine: Final = engine
        self.status: Final = StatusStore(engine)
        self.crls: Final = CrlStore(engine)
        self.screening: Final = KeyScreening(engine)

    # serials and intents

    def reserve_serial(self, issuer: str, serial: str, now: datetime) -> bool:
        """Claim a serial for good; False if this issuer has ever used it."""
        with self._engine.begin() as db:
            return insert_new(db, tables.serials, issuer=issuer, serial=serial, reserved_at=now)

    def save_dossier(self, record: DossierRecord) -> None:
        """Keep a case; the same revision again (a retry, perhaps with more decisions) replaces its dossier."""
        with self._engine.begin() as db:
            put(db, tables.dossiers, **columns(record))

    def dossier(self, revision_digest: str) -> DossierRecord | None:
        """The case with this revision digest."""
        query = select(tables.dossiers).where(tables.dossiers.c.revision_digest == revision_digest)
        with reading(self._engine) as db:
            row = db.execute(query).one_or_none()
        return None if row is None else DossierRecord(**row._mapping)

    def open_intent(self, new: NewIntent, lease: Lease, now: datetime) -> Intent:
        """Make an intent durable, under a lease, and claim its key.

        Raises KeyRefusedError if the key is on the denylist or was claimed by another certificate, InProgressError if
        the purpose of this revision has a live intent already, StoreError if the serial has.
        """
        values = columns(new) | {
            "lints": " ".join(new.lints),
            "approvals": json.dumps(new.approvals, sort_keys=True),
            "state": "open",
            "intended_at": now,
            "lease_owner": lease.owner,
            "lease_until": lease.until,
        }
        intents, denied = tables.intents.c, tables.denylist.c
        with self._engine.begin() as db:
            if db.execute(select(denied.reason).where(denied.spki_sha256 == new.spki_sha256)).first() is not None:
                raise KeyRefusedError("this key was reported compromised", clause="CPS 4.9.12")
            if not insert_new(db, tables.intents, **values):
                same = (intents.issuer == new.issuer) & (intents.serial == new.serial)
                if db.execute(select(intents.id).where(same)).first() is not None:
                    raise StoreError(f"the serial {new.serial} has an intent already", clause=INTENT_CLAUSE)
                raise InProgressError("the same application is being issued already", clause=INTENT_CLAUSE)
            claim = {"spki_sha256": new.spki_sha256, "issuer": new.issuer, "serial": new.serial}
            if not insert_new(db, tables.certified_keys, **claim):
                raise KeyRefusedError(
                    "this key is certified already: a key is certified once, for one purpose, of one subject",
                    clause="CPS 6.1.1",
                )
            query = select(tables.intents).where(intents.issuer == new.issuer, intents.serial == new.serial)
            return _intent(db.execute(query).one())

    def lease_intent(self, intent_id: int, lease: Lease, now: datetime) -> Intent | None:
        """Take or renew the lease of an open intent; None if it has ended, or another's lease has not."""
        intents = tables.intents.c
        free = or_(intents.lease_owner.is_(None), intents.lease_owner == lease.owner, intents.lease_until <= now)
        taken = (
            update(tables.intents)
            .where(intents.id == intent_id, intents.state == "open", free)
            .values(lease_owner=lease.owner, lease_until=lease.until)
            .returning(tables.intents)
        )
        with self._engine.begin() as db:
            row = db.execute(taken).one_or_none()
        return None if row is None else _intent(row)

    def live_intents(self, revision_digest: str) -> dict[str, Intent]:
        """Open and issued intents of a revision, by purpose."""
        intents = tables.intents.c
        query = select(tables.intents).where(intents.revision_digest == revision_digest, intents.state != "abandoned")
        with reading(self._engine) as db:
            return {row.purpose: _intent(row) for row in db.execute(query).all()}

    def unfinished(self) -> list[Intent]:
        """All open intents, oldest first, whoever works on them."""
        intents = tables.intents.c
        query = select(tables.intents).where(intents.lease_until.is_not(None), intents.state == "open")
        with reading(self._engine) as db:
            return [_intent(row) for row in db.execute(query.order_by(intents.id)).all()]

    def unrecorded(self, owner: str, now: datetime) -> list[Intent]:
        """Intents that `owner` ended, or whose replica is gone, and that may be missing in the audit journal."""
        intents = tables.intents.c
        mine = or_(intents.lease_owner == owner, intents.lease_until <= now)
        query = select(tables.intents).where(intents.lease_until.is_not(None), intents.state != "open", mine)
        with reading(self._engine) as db:
            return [_intent(row) for row in db.execute(query.order_by(intents.id)).all()]

    def mark_recorded(self, ended: Sequence[Intent]) -> None:
        """Let go of the leases of ended intents: the audit journal has them."""
        intents = tables.intents.c
        for start in range(0, len(ended), _AT_ONCE):
            numbers = [intent.id for intent in ended[start : start + _AT_ONCE]]
            with self._engine.begin() as db:
                db.execute(
                    update(tables.intents)
                    .where(intents.id.in_(numbers), intents.state != "open")
                    .values(lease_until=None)
                )

    def newest_intent(self) -> datetime | None:
        """When the newest certificate that was not revoked was intended: earlier than this it cannot be now."""
        intents, revoked = tables.intents.c, tables.revocations.c
        listed = exists().where(
            revoked.issuer == intents.issuer, revoked.serial == intents.serial, revoked.state == "revoked"
        )
        query = select(intents.intended_at).where(intents.state != "abandoned", ~listed)
        with reading(self._engine) as db:
            return db.execute(query.order_by(intents.id.desc()).limit(1)).scalar_one_or_none()

    def finish_intent(self, intent: Intent, certificate: x509.Certificate, now: datetime) -> CertificateRecord:
        """Store the one certificate of an open intent; IntentEndedError if it has ended, or another has its lease."""
        record = record_of(certificate, issuer=intent.issuer, profile=intent.profile, intent_id=intent.id, now=now)
        with self._engine.begin() as db:
            self._end(db, intent, "issued", None, now)
            db.execute(insert(tables.certificates).values(**columns(record)))
        return record

    def abandon_intent(self, intent: Intent, reason: str, now: datetime, *, may_be_signed: bool) -> None:
        """End an open intent without a certificate, and free its key.

        If the token may have signed it (`may_be_signed`), a certificate that nobody has seen may exist: its serial goes
        on the next CRL.
        """
        claims = tables.certified_keys.c
        with self._engine.begin() as db:
            self._end(db, intent, "abandoned", reason, now)
            db.execute(
                delete(tables.certified_keys).where(claims.issuer == intent.issuer, claims.serial == intent.serial)
            )
            if may_be_signed:
                abandoned = StatusOrder(
                    issuer=intent.issuer,
                    serial=intent.serial,
                    state="revoked",
                    reason="unspecified",
                    at=now.replace(microsecond=0),
                    ordered_by="service:ca",
                )
                write_status(db, abandoned)

    @staticmethod
    def _end(db: Connection, intent: Intent, state: IntentState, reason: str | None, now: datetime) -> None:
        intents = tables.intents.c
        changed = db.execute(
            update(tables.intents)
            .where(intents.id == intent.id, intents.state == "open", intents.lease_owner == intent.lease_owner)
            .values(state=state, reason=reason, ended_at=now)
        )
        if changed.rowcount != 1:
            raise IntentEndedError("this intent has ended already, or another replica has it", clause=INTENT_CLAUSE)

    def intent(self, intent_id: int) -> Intent | None:
        """The intent with this number."""
        with reading(self._engine) as db:
            row = db.execute(select(tables.intents).where(tables.intents.c.id == intent_id)).one_or_none()
        return None if row is None else _intent(row)

    def known_keys(self, keys: Iterable[bytes], *, application_id: str) -> KnownKeys:
        """What is on record about keys (SHA-256 of SPKI): certified in another case than this one, denylisted."""
        wanted = [key.hex() for key in keys]
        claims, intents, cases = tables.certified_keys, tables.intents, tables.dossiers
        certified = (
            select(claims.c.spki_sha256)
            .select_from(
                claims.outerjoin(
                    intents, (intents.c.issuer == claims.c.issuer) & (intents.c.serial == claims.c.serial)
                ).outerjoin(cases, cases.c.revision_digest == intents.c.revision_digest)
            )
            .where(
                claims.c.spki_sha256.in_(wanted),
                or_(cases.c.application_id.is_(None), cases.c.application_id != application_id),
            )
        )
        denied = select(tables.denylist.c.spki_sha256).where(tables.denylist.c.spki_sha256.in_(wanted))
        with reading(self._engine) as db:
            return KnownKeys(
                certified=frozenset(map(bytes.fromhex, db.execute(certified).scalars())),
                denylisted=frozenset(map(bytes.fromhex, db.execute(denied).scalars())),
            )


def _intent(row: Row[Any]) -> Intent:
    values = dict(row._mapping)
    values["lints"] = tuple(values["lints"].split())
    values["approvals"] = tuple(json.loads(values["approvals"]))
    return Intent(**values)
