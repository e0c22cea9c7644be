"""The register of officers: persons, their accounts and credentials, and the roles that these prove (CPS 5.2).

Nothing here gives a right. A role is proven by the certificate that two security officers had issued, wherever a
decision is judged; the register is for finding people: one human under two person ids, roles that exclude each other
over all certificates of a person, who must be told when somebody leaves. It is written in the transaction that stores
an officer's certificates, and from the founding ceremony's. There is no column that closes an account: an account is
open as long as one of its credentials counts, and a person leaves by having all of them revoked, which is a signed
order that the CA judges and no row can forge.

A national code is kept as HMAC-SHA-256 under a key outside of the database: it can be compared and not read.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, Engine, func, insert, select
from sqlalchemy import update as update_rows
from sqlalchemy.exc import IntegrityError

from pki.der import sha256
from pki.extensions import OfficerData
from pki.keys import spki_sha256
from pki.names import common_name
from ra.errors import ConflictError
from ra.person_tables import accounts, credentials, grants, person_codes, persons
from ra.records import NewCertificate
from ra.schema import applications, revocations, transitions
from ra.states import ENDED_WITHOUT
from runtime.database import reading

_CONTEXT: Final = b"KWBP national code of an officer, v1\0"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role of a credential; `scope` None: whatever the role is for."""

    role: str
    scope: tuple[str, ...] | None
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate of an officer; `application_id` None: certified at a ceremony."""

    issuer: str
    serial: str
    person_id: str
    application_id: str | None
    spki_sha256: str
    not_before: datetime
    not_after: datetime
    certificate: x509.Certificate
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """A person with their account and all their credentials, newest first; `identified`: by a national code."""

    id: str
    name: str
    organisation: str
    known_since: datetime
    account: str
    credentials: tuple[Credential, ...]
    identified: bool


class Persons:
    """The register, in the database of the registration authority; `key` blinds national codes, None: none is kept."""

    def __init__(self, engine: Engine, *, key: bytes | None = None) -> None:
        self._engine = engine
        self._key = key

    # written

    def record(
        self,
        db: Connection,
        certificates: Iterable[NewCertificate],
        *,
        application_id: str | None,
        now: datetime,
    ) -> None:
        """Write down officers' certificates, in the transaction `db`; what is there stays as it is."""
        for issued in certificates:
            certificate = x509.load_der_x509_certificate(issued.der)
            officer = OfficerData.from_certificate(certificate)
            if officer is None:
                raise ValueError("an officer's certificate without officer data")
            _write_person(db, certificate, officer, now)
            _write_credential(db, issued, certificate, officer, application_id)

    def founders(self, certificates: Iterable[NewCertificate], *, now: datetime) -> None:
        """Write down the officers of the founding ceremony; again changes nothing."""
        with self._engine.begin() as db:
            self.record(db, certificates, application_id=None, now=now)

    def claim(self, db: Connection, national_code: str | None, person_id: str, application_id: str) -> None:
        """Note in the transaction `db` whose national code it is. Raises ConflictError if it became another's."""
        blinded = self._blind(national_code)
        if blinded is None:
            return
        if _other(db, blinded, person_id, application_id) is not None:
            raise ConflictError("another application claimed the same person meanwhile")
        values = {"blinded": blinded, "person_id": person_id, "application_id": application_id}
        try:
            with db.begin_nested():
                db.execute(insert(person_codes).values(**values))
        except IntegrityError:
            if _other(db, blinded, person_id, application_id) is not None:  # somebody was faster
                raise ConflictError("another application claimed the same person meanwhile") from None
            db.execute(update_rows(person_codes).where(person_codes.c.blinded == blinded).values(**values))

    # read

    def other_person(self, national_code: str | None, person_id: str, *, but: str) -> str | None:
        """The other person id under which the holder of this national code is known; None if there is none.

        `but` is the application that asks: what it said of itself before does not count.
        """
        blinded = self._blind(national_code)
        if blinded is None:
            return None
        with self._engine.begin() as db:
            return _other(db, blinded, person_id, but)

    def other_code(self, national_code: str | None, person_id: str) -> bool:
        """Whether the person of this id is known by another national code."""
        blinded = self._blind(national_code)
        if blinded is None:
            return False
        with self._engine.begin() as db:
            known = _codes_of(db, person_id)
        return bool(known) and blinded not in known

    def held(self, person_id: str, *, but: str, now: datetime) -> tuple[OfficerData, ...]:
        """What the person's certificates of other applications prove that are neither over nor known to be revoked."""
        query = (
            select(credentials.c.der)
            .outerjoin(
                revocations,
                (revocations.c.issuer == credentials.c.issuer) & (revocations.c.serial == credentials.c.serial),
            )
            .where(
                credentials.c.person_id == person_id,
                credentials.c.not_after > now,
                credentials.c.application_id.is_distinct_from(but),
                revocations.c.serial.is_(None),
            )
        )
        with self._engine.begin() as db:
            ders = db.execute(query).scalars().all()
        found = (OfficerData.from_certificate(x509.load_der_x509_certificate(der)) for der in ders)
        return tuple(data for data in found if data is not None)

    def credential(self, fingerprint: str) -> x509.Certificate | None:
        """The officer's certificate with this SHA-256 (hexadecimal); None if the register has none."""
        query = select(credentials.c.der).where(credentials.c.sha256 == fingerprint)
        with reading(self._engine) as db:
            ders = db.execute(query).scalars().all()
        found = next((der for der in ders if sha256(der).hex() == fingerprint), None)
        return None if found is None else x509.load_der_x509_certificate(found)

    def all(self) -> list[Person]:
        """Everybody, by person id."""
        with self._engine.begin() as db:
            rows = db.execute(select(persons).order_by(persons.c.id)).all()
            return [_person(db, row) for row in rows]

    def get(self, person_id: str) -> Person | None:
        """One person; None if nobody has this id."""
        with self._engine.begin() as db:
            row = db.execute(select(persons).where(persons.c.id == person_id)).one_or_none()
            return None if row is None else _person(db, row)

    def _blind(self, national_code: str | None) -> str | None:
        if national_code is None or self._key is None:
            return None
        return hmac.new(self._key, _CONTEXT + national_code.encode(), hashlib.sha256).hexdigest()


def _write_person(db: Connection, certificate: x509.Certificate, officer: OfficerData, now: datetime) -> None:
    named = {"name": common_name(certificate.subject), "organisation": officer.organisation}
    changed = db.execute(update_rows(persons).where(persons.c.id == officer.person_id).values(**named))
    if changed.rowcount == 0:
        db.execute(insert(persons).values(id=officer.person_id, known_since=now, **named))
        account = {"name": f"officer:{officer.person_id}", "person_id": officer.person_id, "opened_at": now}
        db.execute(insert(accounts).values(**account))


def _write_credential(
    db: Connection,
    issued: NewCertificate,
    certificate: x509.Certificate,
    officer: OfficerData,
    application_id: str | None,
) -> None:
    named = {"issuer": issued.issuer, "serial": issued.serial}
    known = select(credentials.c.serial).where(
        credentials.c.issuer == issued.issuer, credentials.c.serial == issued.serial
    )
    if db.execute(known).one_or_none() is not None:
        return
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    der = certificate.public_bytes(Encoding.DER)
    db.execute(
        insert(credentials).values(
            **named,
            person_id=officer.person_id,
            application_id=application_id,
            sha256=sha256(der).hex(),
            spki_sha256=spki_sha256(certificate.public_key()).hex(),
            not_before=begins,
            not_after=ends,
            der=der,
        )
    )
    held = [Grant(role, None, begins, ends) for role in officer.roles]
    held += [Grant(each.role, each.scope, each.not_before, each.not_after) for each in officer.grants]
    for place, grant in enumerate(held):
        db.execute(
            insert(grants).values(
                **named,
                place=place,
                person_id=officer.person_id,
                role=grant.role,
                scope=None if grant.scope is None else " ".join(grant.scope),
                not_before=grant.not_before,
                not_after=grant.not_after,
            )
        )


def _other(db: Connection, blinded: str, person_id: str, application_id: str) -> str | None:
    """Whose the national code is, if it is somebody else's: an officer's, or of whom another application is about."""
    row = db.execute(
        select(person_codes.c.person_id, person_codes.c.application_id, applications.c.state)
        .outerjoin(applications, applications.c.id == person_codes.c.application_id)
        .where(person_codes.c.blinded == blinded)
    ).one_or_none()
    if row is None or row.person_id == person_id:
        return None
    officer = db.execute(select(persons.c.id).where(persons.c.id == row.person_id)).one_or_none()
    waits = row.application_id != application_id and row.state not in {str(state) for state in ENDED_WITHOUT}
    return str(row.person_id) if officer is not None or waits else None


def _codes_of(db: Connection, person_id: str) -> set[str]:
    query = (
        select(person_codes.c.blinded)
        .join(persons, persons.c.id == person_codes.c.person_id)
        .where(person_codes.c.person_id == person_id)
    )
    return set(db.execute(query).scalars())


def _person(db: Connection, row: Any) -> Person:
    account = select(accounts.c.name).where(accounts.c.person_id == row.id)
    # Two of one second: the case that was opened later has the newer one.
    opened = select(func.min(transitions.c.seq)).where(transitions.c.application_id == credentials.c.application_id)
    newest_first = (credentials.c.not_before.desc(), opened.scalar_subquery().desc())
    mine = select(credentials).where(credentials.c.person_id == row.id).order_by(*newest_first)
    return Person(
        id=row.id,
        name=row.name,
        organisation=row.organisation,
        known_since=row.known_since,
        account=db.execute(account).scalar_one(),
        credentials=tuple(_credential(db, each) for each in db.execute(mine).all()),
        identified=bool(_codes_of(db, row.id)),
    )


def _credential(db: Connection, row: Any) -> Credential:
    mine: Sequence[Any] = db.execute(
        select(grants).where(grants.c.issuer == row.issuer, grants.c.serial == row.serial).order_by(grants.c.place)
    ).all()
    values = {name: value for name, value in row._mapping.items() if name not in {"der", "sha256"}}
    return Credential(
        **values,
        certificate=x509.load_der_x509_certificate(row.der),
        grants=tuple(
            Grant(each.role, None if each.scope is None else tuple(each.scope.split()), each.not_before, each.not_after)
            for each in mine
        ),
    )
