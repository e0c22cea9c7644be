"""The memory of the certificate authority: what was intended and issued (SQLAlchemy).

What was revoked stands in `ca.status_store`, what was published in `ca.crl_store`; `Store` has both.

Every method is one transaction; on SQLite it takes the write lock at its start and is on disk when it returns
(`runtime.database`). What must be unique is a constraint of the database, never a look before the leap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine, Row, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from ca import tables
from ca.crl_store import CrlStore
from ca.errors import KeyRefusedError, StoreError, UnknownCertificateError
from ca.status_store import StatusOrder, StatusStore, write_status
from cps.application import KnownKeys
from pki.keys import spki_sha256
from pki.names import common_name, identity_uris, parse_identity

IntentState = Literal["open", "issued", "abandoned"]
INTENT_CLAUSE: Final = "CPS 4.3.1"


def serial_hex(serial: int) -> str:
    """A serial number as it is stored and shown: lower-case hexadecimal without leading zeros."""
    return format(serial, "x")


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
    lease_owner: str | None = None
    lease_until: datetime | None = None


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
class CertificateRecord:
    """An issued certificate (DER); `intent_id` is None for one that a ceremony made."""

    issuer: str
    serial: str
    intent_id: int | None
    profile: str
    subject: str
    identity: str | None
    sha256: str
    spki_sha256: str
    not_before: datetime
    not_after: datetime
    stored_at: datetime
    der: bytes

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.der)


@dataclass(frozen=True, slots=True)
class DossierRecord:
    """The case that a certificate rests on; `dossier` is its JSON as it was judged."""

    revision_digest: str
    application_id: str
    member_class: str
    cps_digest: str
    dossier: bytes
    received_at: datetime


class Store:
    """The database of one certificate authority."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        tables.metadata.create_all(engine)
        self.status: Final = StatusStore(engine)
        self.crls: Final = CrlStore(engine)

    # serials and intents

    def reserve_serial(self, issuer: str, serial: str, now: datetime) -> bool:
        """Claim a serial for good; False if this issuer has ever used it."""
        try:
            with self._engine.begin() as db:
                db.execute(insert(tables.serials).values(issuer=issuer, serial=serial, reserved_at=now))
        except IntegrityError:
            return False
        return True

    def save_dossier(self, record: DossierRecord) -> None:
        """Keep a case; the same revision again (a retry, perhaps with more decisions) replaces its dossier."""
        values = _columns(record)
        with self._engine.begin() as db:
            key = tables.dossiers.c.revision_digest == record.revision_digest
            if db.execute(update(tables.dossiers).where(key).values(**values)).rowcount == 0:
                db.execute(insert(tables.dossiers).values(**values))

    def dossier(self, revision_digest: str) -> DossierRecord | None:
        """The case with this revision digest."""
        with self._engine.begin() as db:
            row = db.execute(
                select(tables.dossiers).where(tables.dossiers.c.revision_digest == revision_digest)
            ).one_or_none()
        return None if row is None else DossierRecord(**row._mapping)

    def open_intent(self, new: NewIntent, now: datetime) -> Intent:
        """Make an intent durable and claim its key.

        Raises KeyRefusedError if the key is on the denylist or was claimed by another certificate, StoreError if the
        purpose of this revision has a live intent already.
        """
        values = _columns(new) | {
            "lints": " ".join(new.lints),
            "approvals": json.dumps(new.approvals, sort_keys=True),
            "state": "open",
            "intended_at": now,
        }
        with self._engine.begin() as db:
            listed = select(tables.denylist.c.reason).where(tables.denylist.c.spki_sha256 == new.spki_sha256)
            if db.execute(listed).first() is not None:
                raise KeyRefusedError("this key was reported compromised", clause="CPS 4.9.12")
            try:
                with db.begin_nested():
                    number = db.execute(insert(tables.intents).values(**values)).inserted_primary_key
            except IntegrityError:
                raise StoreError("the same application is being issued already", clause=INTENT_CLAUSE) from None
            claim = {"spki_sha256": new.spki_sha256, "issuer": new.issuer, "serial": new.serial}
            try:
                with db.begin_nested():
                    db.execute(insert(tables.certified_keys).values(**claim))
            except IntegrityError:
                raise KeyRefusedError(
                    "this key is certified already: a key is certified once, for one purpose, of one subject",
                    clause="CPS 6.1.1",
                ) from None
            assert number is not None
            return _intent(db.execute(select(tables.intents).where(tables.intents.c.id == number[0])).one())

    def live_intents(self, revision_digest: str) -> dict[str, Intent]:
        """Open and issued intents of a revision, by purpose."""
        with self._engine.begin() as db:
            rows = db.execute(
                select(tables.intents).where(
                    tables.intents.c.revision_digest == revision_digest, tables.intents.c.state != "abandoned"
                )
            ).all()
        return {row.purpose: _intent(row) for row in rows}

    def unfinished(self) -> list[Intent]:
        """All open intents, oldest first."""
        query = select(tables.intents).where(tables.intents.c.state == "open").order_by(tables.intents.c.id)
        with self._engine.begin() as db:
            return [_intent(row) for row in db.execute(query).all()]

    def finish_intent(self, intent: Intent, certificate: x509.Certificate, now: datetime) -> CertificateRecord:
        """Store the one certificate of an open intent; StoreError if the intent has ended already."""
        record = record_of(certificate, issuer=intent.issuer, profile=intent.profile, intent_id=intent.id, now=now)
        with self._engine.begin() as db:
            self._end(db, intent, "issued", None, now)
            db.execute(insert(tables.certificates).values(**_columns(record)))
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
    def _end(db: Any, intent: Intent, state: IntentState, reason: str | None, now: datetime) -> None:
        changed = db.execute(
            update(tables.intents)
            .where(tables.intents.c.id == intent.id, tables.intents.c.state == "open")
            .values(state=state, reason=reason, ended_at=now)
        )
        if changed.rowcount != 1:
            raise StoreError("this intent has ended already", clause=INTENT_CLAUSE)

    def intent(self, intent_id: int) -> Intent | None:
        """The intent with this number."""
        with self._engine.begin() as db:
            row = db.execute(select(tables.intents).where(tables.intents.c.id == intent_id)).one_or_none()
        return None if row is None else _intent(row)

    # certificates

    def import_certificate(self, certificate: x509.Certificate, *, issuer: str, profile: str, now: datetime) -> None:
        """Take over a certificate that a ceremony made; doing so again changes nothing.

        Raises StoreError if another certificate has this issuer and serial.
        """
        record = record_of(certificate, issuer=issuer, profile=profile, intent_id=None, now=now)
        with self._engine.begin() as db:
            known = db.execute(
                select(tables.certificates.c.sha256).where(
                    tables.certificates.c.issuer == issuer, tables.certificates.c.serial == record.serial
                )
            ).scalar_one_or_none()
            if known is not None:
                if known != record.sha256:
                    raise StoreError(f"two certificates of {issuer} have the serial {record.serial}")
                return
            db.execute(insert(tables.serials).values(issuer=issuer, serial=record.serial, reserved_at=now))
            db.execute(insert(tables.certificates).values(**_columns(record)))
            claim = {"spki_sha256": record.spki_sha256, "issuer": issuer, "serial": record.serial}
            db.execute(insert(tables.certified_keys).values(**claim))

    def certificate(self, issuer: str, serial: str) -> CertificateRecord:
        """The certificate of this issuer and serial; raises UnknownCertificateError."""
        with self._engine.begin() as db:
            row = db.execute(
                select(tables.certificates).where(
                    tables.certificates.c.issuer == issuer, tables.certificates.c.serial == serial
                )
            ).one_or_none()
        if row is None:
            raise UnknownCertificateError(f"{issuer} issued no certificate with the serial {serial}")
        return CertificateRecord(**row._mapping)

    def search(
        self,
        *,
        serial: str | None = None,
        identity: str | None = None,
        sha256: str | None = None,
        spki_sha256: str | None = None,
        limit: int = 100,
    ) -> list[CertificateRecord]:
        """Certificates that have all the given properties, newest first."""
        query = select(tables.certificates).order_by(tables.certificates.c.stored_at.desc()).limit(limit)
        for column, value in (
            (tables.certificates.c.serial, serial),
            (tables.certificates.c.identity, identity),
            (tables.certificates.c.sha256, sha256),
            (tables.certificates.c.spki_sha256, spki_sha256),
        ):
            if value is not None:
                query = query.where(column == value)
        with self._engine.begin() as db:
            return [CertificateRecord(**row._mapping) for row in db.execute(query).all()]

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
        with self._engine.begin() as db:
            return KnownKeys(
                certified=frozenset(map(bytes.fromhex, db.execute(certified).scalars())),
                denylisted=frozenset(map(bytes.fromhex, db.execute(denied).scalars())),
            )


def record_of(
    certificate: x509.Certificate, *, issuer: str, profile: str, intent_id: int | None, now: datetime
) -> CertificateRecord:
    """The row of a certificate."""
    return CertificateRecord(
        issuer=issuer,
        serial=serial_hex(certificate.serial_number),
        intent_id=intent_id,
        profile=profile,
        subject=certificate.subject.rfc4514_string(),
        identity=identity_of(certificate),
        sha256=certificate.fingerprint(SHA256()).hex(),
        spki_sha256=spki_sha256(certificate.public_key()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        stored_at=now,
        der=certificate.public_bytes(Encoding.DER),
    )


def identity_of(certificate: x509.Certificate) -> str:
    """By what a holder is looked up: the urn:kwbp: URI, or else the common name (a cardholder's commitment)."""
    identities = [uri for uri in identity_uris(certificate) if parse_identity(uri) is not None]
    return identities[0] if identities else common_name(certificate.subject)


def _intent(row: Row[Any]) -> Intent:
    values = dict(row._mapping)
    values["lints"] = tuple(values["lints"].split())
    values["approvals"] = tuple(json.loads(values["approvals"]))
    return Intent(**values)


def _columns(record: Any) -> dict[str, Any]:
    return {field: getattr(record, field) for field in record.__slots__}
