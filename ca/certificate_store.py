"""Certificates on record: taken over from ceremonies, looked up, searched, read through from end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, Unpack

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import ColumnElement, Engine, and_, exists, func, select, tuple_

from ca import tables
from ca.errors import RequestError, StoreError, UnknownCertificateError
from pki.keys import spki_sha256
from pki.names import common_name, identity_uris, parse_identity
from runtime.database import insert_new, reading
from runtime.language import Message

CertificateStatus = Literal["good", "revoked", "held", "expired"]
"""`revoked` and `held` for as long as that is on record, also after the certificate expired."""

_AT_ONCE: Final = 500  # rows read together
_KEYS_AT_ONCE: Final = 10_000  # of which little is read
_SEPARATOR: Final = "/"
_SUBJECT_ALTERNATIVE_NAME: Final = bytes.fromhex("0603551d11")  # DER of its OID


def serial_hex(serial: int) -> str:
    """A serial number as it is stored and shown: lower-case hexadecimal without leading zeros."""
    return format(serial, "x")


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

    @property
    def cursor(self) -> str:
        """Where the next page of a search begins whose last record this is."""
        return _SEPARATOR.join((self.stored_at.isoformat(), self.issuer, self.serial))


class Filters(TypedDict, total=False):
    """What is asked of certificates. None, as absent: anything.

    `subject` is text that its RFC 4514 form contains, in either case of ASCII letters; `status` is meant at `now`,
    which it needs; notAfter is in [`expires_from`, `expires_before`).
    """

    issuer: str | None
    serial: str | None
    subject: str | None
    identity: str | None
    profile: str | None
    sha256: str | None
    spki_sha256: str | None
    status: CertificateStatus | None
    now: datetime | None
    expires_from: datetime | None
    expires_before: datetime | None


class CertificateStore:
    """The certificates of one certificate authority's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def import_certificate(self, certificate: x509.Certificate, *, issuer: str, profile: str, now: datetime) -> None:
        """Take over a certificate that a ceremony made; doing so again, also by two at once, changes nothing.

        Raises StoreError if another certificate has this issuer and serial.
        """
        record = record_of(certificate, issuer=issuer, profile=profile, intent_id=None, now=now)
        found = tables.certificates.c
        known = select(found.sha256).where(found.issuer == issuer, found.serial == record.serial)
        with reading(self._engine) as db:  # as nearly always: the write lock is for those who write
            sha256 = db.execute(known).scalar_one_or_none()
        if sha256 is None:
            with self._engine.begin() as db:
                insert_new(db, tables.serials, issuer=issuer, serial=record.serial, reserved_at=now)
                if insert_new(db, tables.certificates, **columns(record)):
                    # A key in service keeps the claim of its first certificate, which an older database may know alone.
                    claim = {"spki_sha256": record.spki_sha256, "issuer": issuer, "serial": record.serial}
                    insert_new(db, tables.certified_keys, **claim)
                    return
                sha256 = db.execute(known).scalar_one_or_none()
        if sha256 != record.sha256:
            raise StoreError(f"two certificates of {issuer} have the serial {record.serial}")

    def certificate(self, issuer: str, serial: str) -> CertificateRecord:
        """The certificate of this issuer and serial; raises UnknownCertificateError."""
        found = tables.certificates.c
        with reading(self._engine) as db:
            row = db.execute(
                select(tables.certificates).where(found.issuer == issuer, found.serial == serial)
            ).one_or_none()
        if row is None:
            raise UnknownCertificateError(
                Message("{issuer} issued no certificate with the serial {serial}", issuer=issuer, serial=serial)
            )
        return CertificateRecord(**row._mapping)

    def search(
        self, *, after: str | None = None, limit: int = 100, **filters: Unpack[Filters]
    ) -> list[CertificateRecord]:
        """Certificates that have all the given properties, newest first.

        The page after one that ended with `record` begins `after=record.cursor`, however many certificates were issued
        meanwhile; RequestError if that is none.
        """
        found = tables.certificates.c
        order = (found.stored_at, found.issuer, found.serial)
        wanted = _wanted(filters)
        if after is not None:
            wanted.append(tuple_(*order) < tuple_(*_position(after), types=[each.type for each in order]))
        query = select(tables.certificates).where(*wanted).order_by(*(each.desc() for each in order)).limit(limit)
        with reading(self._engine) as db:
            return [CertificateRecord(**row._mapping) for row in db.execute(query).all()]

    def matching(self, **filters: Unpack[Filters]) -> int:
        """How many certificates have all the given properties."""
        query = select(func.count()).select_from(tables.certificates).where(*_wanted(filters))
        with reading(self._engine) as db:
            return int(db.execute(query).scalar_one())

    def issued_between(self, start: datetime, end: datetime) -> Iterator[tuple[str, str]]:
        """Issuer and serial of every certificate issued on a case and stored in [`start`, `end`), in no set order."""
        found = tables.certificates.c
        order = (found.stored_at, found.issuer, found.serial)
        period = (found.intent_id.is_not(None), found.stored_at < end)
        beyond: ColumnElement[bool] = found.stored_at >= start
        while True:
            query = select(*order).where(*period, beyond).order_by(*order).limit(_KEYS_AT_ONCE)
            with reading(self._engine) as db:
                rows = db.execute(query).all()
            yield from ((row.issuer, row.serial) for row in rows)
            if len(rows) < _KEYS_AT_ONCE:
                return
            beyond = tuple_(*order) > tuple_(*rows[-1], types=[each.type for each in order])

    def statuses(self, records: Sequence[CertificateRecord], now: datetime) -> list[CertificateStatus]:
        """The status of each of these certificates at `now`, in their order."""
        state: dict[tuple[str, str], str] = {}
        row = tables.revocations.c
        with reading(self._engine) as db:
            for start in range(0, len(records), _AT_ONCE):
                keys = [(each.issuer, each.serial) for each in records[start : start + _AT_ONCE]]
                query = select(row.issuer, row.serial, row.state).where(tuple_(row.issuer, row.serial).in_(keys))
                state |= {(each.issuer, each.serial): each.state for each in db.execute(query)}
        return [_status(state.get((each.issuer, each.serial)), each.not_after, now) for each in records]

    def iterate(self, *, after: tuple[str, str] | None = None) -> Iterator[CertificateRecord]:
        """Every certificate, by issuer and serial, from the one that follows `after` (issuer, serial).

        Read in portions, each a snapshot of its own: it may take hours, and what is issued meanwhile may be among it.
        """
        found = tables.certificates.c
        while True:
            query = select(tables.certificates).order_by(found.issuer, found.serial).limit(_AT_ONCE)
            if after is not None:
                query = query.where(tuple_(found.issuer, found.serial) > tuple_(*after))
            with reading(self._engine) as db:
                rows = db.execute(query).all()
            yield from (CertificateRecord(**row._mapping) for row in rows)
            if len(rows) < _AT_ONCE:
                return
            after = (rows[-1].issuer, rows[-1].serial)

    def count(self) -> int:
        """How many certificates there are, for the progress of whoever reads them all."""
        with reading(self._engine) as db:
            return int(db.execute(select(func.count()).select_from(tables.certificates)).scalar_one())


def _wanted(filters: Filters) -> list[ColumnElement[bool]]:
    found = tables.certificates.c
    wanted: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (found.issuer, filters.get("issuer")),
            (found.serial, filters.get("serial")),
            (found.identity, filters.get("identity")),
            (found.profile, filters.get("profile")),
            (found.sha256, filters.get("sha256")),
            (found.spki_sha256, filters.get("spki_sha256")),
        )
        if value is not None
    ]
    subject, status, now = filters.get("subject"), filters.get("status"), filters.get("now")
    expires_from, expires_before = filters.get("expires_from"), filters.get("expires_before")
    if subject is not None:
        wanted.append(func.lower(found.subject).contains(subject.lower(), autoescape=True))
    if status is not None:
        assert now is not None, "whether a certificate has expired is a question of when"
        wanted.append(_has_status(status, now))
    if expires_from is not None:
        wanted.append(found.not_after >= expires_from)
    if expires_before is not None:
        wanted.append(found.not_after < expires_before)
    return wanted


def _has_status(status: CertificateStatus, now: datetime) -> ColumnElement[bool]:
    found, row = tables.certificates.c, tables.revocations.c

    def listed(*states: str) -> ColumnElement[bool]:
        return exists().where(row.issuer == found.issuer, row.serial == found.serial, row.state.in_(states))

    if status in {"revoked", "held"}:
        return listed(status)
    neither = ~listed("revoked", "held")
    return and_(neither, found.not_after >= now if status == "good" else found.not_after < now)


def _status(state: str | None, not_after: datetime, now: datetime) -> CertificateStatus:
    if state in {"revoked", "held"}:
        return "revoked" if state == "revoked" else "held"
    return "good" if not_after >= now else "expired"


def _position(cursor: str) -> tuple[Any, ...]:
    try:
        stored_at, issuer, serial = cursor.split(_SEPARATOR)
        moment = datetime.fromisoformat(stored_at)
    except ValueError:
        raise RequestError(Message("this is not the end of a page")) from None
    if moment.tzinfo is None:
        raise RequestError(Message("this is not the end of a page"))
    return moment, issuer, serial


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
    if _SUBJECT_ALTERNATIVE_NAME not in certificate.tbs_certificate_bytes:
        return common_name(certificate.subject)  # seen without reading all extensions
    identities = [uri for uri in identity_uris(certificate) if parse_identity(uri) is not None]
    return identities[0] if identities else common_name(certificate.subject)


def columns(record: Any) -> dict[str, Any]:
    """The fields of a record with slots, as the values of its row."""
    return {field: getattr(record, field) for field in record.__slots__}
