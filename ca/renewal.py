"""The next certificates of those who speak of status and of time, signed in service (CPS 4.6).

A responder's certificate cannot be revoked in a way that anybody would notice (ocsp-nocheck), so it lives a month. When
a third of a certificate's life is left, the same key gets the next one: the token boundary signs it without an
approval, because it says nothing new (`hsm_service.typed_renewal`). The brand's key signs certificates at ceremonies
alone, and so is its responder's certificate renewed there.

    reserve a serial → write down what will be signed → sign → put on record → attach to the key → strike out → publish

What was written down and not put on record, because the process was killed, is signed again, byte for byte; what has
become too old for that is revoked on record, since a certificate that nobody has seen may exist. What is on record is
attached, however late: no other certificate is made as long as the key does not have the one that was made for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine, delete, select

from ca import tables
from ca.certificate_store import columns, record_of, serial_hex
from ca.errors import CaError, SigningRefusedError, TokenUnavailableError
from ca.files import replace_file
from ca.hierarchy import Authority, Hierarchy
from ca.lints import require_clean
from ca.prepare import Rng, new_serial, prepare, supported_key
from ca.profile import Profile, profiles
from ca.publication import Publication
from ca.record import Record
from ca.signing import sign_certificate
from ca.status_store import StatusOrder, write_status
from cps.entitlement import Holder
from hsm_service.service import KeyInfo, SigningService
from pki.roles import Role
from runtime.database import insert_new, reading
from runtime.logging import get_logger
from runtime.problems import Problem
from statements.published import Statements

TSA_KEY: Final = "tsa"
_STALE: Final = timedelta(minutes=30)
"""A renewal that was written down longer ago would begin too early for the token boundary."""
_CEREMONY_ONLY: Final = frozenset({Role.ROOT, Role.BRAND})
_ABSENT: Final = 404
_UNAVAILABLE: Final = 500
_log: Final = get_logger("ca.renewal")


@dataclass(frozen=True, slots=True)
class _Pending:
    """A certificate that is about to be signed, or was."""

    key: str
    issuer: str
    serial: str
    tbs: bytes
    intended_at: datetime


class Renewal:
    """Renews the certificates of the responders and the time-stamp authority of one hierarchy."""

    def __init__(
        self,
        *,
        engine: Engine,
        hierarchy: Hierarchy,
        signer: SigningService,
        record: Record,
        publication: Publication,
        statements: Statements,
        folder: Path,
        rng: Rng,
    ) -> None:
        """`folder` is the published hierarchy, where chains of system keys stand."""
        self._engine = engine
        self._hierarchy = hierarchy
        self._signer = signer
        self._record = record
        self._publication = publication
        self._statements = statements
        self._folder = folder / "keys"
        self._rng = rng

    def renew_due(self, now: datetime) -> list[str]:
        """Renew every certificate of which a third of its life or less is left at `now`; the names of their keys.

        What cannot be renewed now is logged and tried the next time; it keeps no other from it.
        """
        renewed = []
        for key, profile, authority in self._renewable():
            try:
                if self._renew(key, profile, authority, now):
                    renewed.append(key)
            except CaError as error:
                _log.error("certificate-not-renewed", key=key, reason=error.reason, detail=str(error))
            except OSError as error:  # of the folder: its disk is full
                _log.error("certificate-not-published", key=key, error=type(error).__name__)
        return renewed

    def _renewable(self) -> Iterator[tuple[str, Profile, Authority]]:
        for profile in profiles().values():
            authority = self._hierarchy.authorities.get(profile.issuer)
            if authority is None or authority.profile.role in _CEREMONY_ONLY:
                continue
            if profile.role is Role.OCSP_RESPONDER:
                yield profile.name, profile, authority
            elif profile.role is Role.TIMESTAMP_AUTHORITY:
                yield TSA_KEY, profile, authority

    def _renew(self, key: str, profile: Profile, authority: Authority, now: datetime) -> bool:
        info = self._described(key)
        if info is None or not info.certificate_chain:
            return False  # founded without it
        pending = self._pending(key)
        certificate = None if pending is None else self._on_record(pending)
        if pending is not None and certificate is None and now - pending.intended_at > _STALE:
            self._give_up(pending, now)
            pending = None
        if pending is None:
            last = x509.load_der_x509_certificate(info.certificate_chain[0])
            if now < last.not_valid_after_utc - (last.not_valid_after_utc - last.not_valid_before_utc) / 3:
                self._publish(key, info.certificate_chain)  # as a process that was killed had no time to
                return False
            pending = self._intend(key, profile, authority, last, now)
        if certificate is None:
            try:
                certificate = sign_certificate(self._signer, authority.name, pending.tbs, authority.issuer.public_key)
            except SigningRefusedError:
                self._give_up(pending, now)
                raise
            certificate = self._put_on_record(pending, profile, certificate, now)
        chain = (certificate.public_bytes(Encoding.DER), *info.certificate_chain[1:])
        self._attach(key, chain)
        self._strike_out(pending)
        self._publish(key, chain)
        return True

    def _publish(self, key: str, chain: Sequence[bytes]) -> None:
        path = self._folder / f"{key}.pem"
        pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain)
        if self._folder.exists() and not (path.exists() and path.read_bytes() == pem):
            replace_file(path, pem)

    def _described(self, key: str) -> KeyInfo | None:
        try:
            return self._signer.describe_key(key)
        except Problem as problem:
            if problem.status == _ABSENT:
                return None
            raise TokenUnavailableError(f"the HSM service does not describe {key}: {problem}") from problem

    def _attach(self, key: str, chain: tuple[bytes, ...]) -> None:
        try:
            self._signer.attach_certificate(key, chain)
        except Problem as problem:
            if problem.status >= _UNAVAILABLE:
                raise TokenUnavailableError(
                    f"the certificate of {key} is on record, not in use: {problem}"
                ) from problem
            raise SigningRefusedError(
                f"the HSM service does not take it: {problem}", clause=problem.clause
            ) from problem

    def _intend(
        self, key: str, profile: Profile, authority: Authority, last: x509.Certificate, now: datetime
    ) -> _Pending:
        serial = new_serial(self._rng)
        holder = Holder(public_key=supported_key(last.public_key()), subject=last.subject)
        issuer = authority.issuer
        publication = self._publication.under(self._statements().in_force(now))
        tbs = prepare(profile, holder, issuer=issuer, serial=serial, now=now, publication=publication)
        require_clean(tbs, profile, issuer=issuer, issuer_key=issuer.public_key, publication=publication, now=now)
        wanted = {"key": key, "issuer": issuer.name, "serial": serial_hex(serial), "tbs": tbs, "intended_at": now}
        with self._engine.begin() as db:
            # Of two replicas the second takes up what the first wrote down.
            if insert_new(db, tables.serials, issuer=issuer.name, serial=serial_hex(serial), reserved_at=now):
                insert_new(db, tables.renewals, **wanted)
        pending = self._pending(key)
        if pending is None:
            raise TokenUnavailableError(f"the certificate of {key} was renewed by another replica")
        self._record.note("ca.renewal", f"{pending.issuer}/{pending.serial}", token_key=key, issuer=pending.issuer)
        return pending

    def _pending(self, key: str) -> _Pending | None:
        with reading(self._engine) as db:
            row = db.execute(select(tables.renewals).where(tables.renewals.c.key == key)).one_or_none()
        return None if row is None else _Pending(**row._mapping)

    def _on_record(self, pending: _Pending) -> x509.Certificate | None:
        row = tables.certificates.c
        with reading(self._engine) as db:
            der = db.execute(
                select(row.der).where(row.issuer == pending.issuer, row.serial == pending.serial)
            ).scalar_one_or_none()
        return None if der is None else x509.load_der_x509_certificate(der)

    def _put_on_record(
        self, pending: _Pending, profile: Profile, certificate: x509.Certificate, now: datetime
    ) -> x509.Certificate:
        """The certificate as it is on record: with the signature that a replica was quicker to get, perhaps."""
        record = record_of(certificate, issuer=pending.issuer, profile=profile.name, intent_id=None, now=now)
        with self._engine.begin() as db:
            added = insert_new(db, tables.certificates, **columns(record))
        if not added:
            certificate = self._on_record(pending) or certificate
        sha256 = certificate.fingerprint(SHA256()).hex()
        self._record.note("ca.renewed", f"{pending.issuer}/{pending.serial}", token_key=pending.key, sha256=sha256)
        return certificate

    def _strike_out(self, pending: _Pending) -> None:
        row = tables.renewals.c
        with self._engine.begin() as db:
            db.execute(delete(tables.renewals).where(row.key == pending.key, row.serial == pending.serial))

    def _give_up(self, pending: _Pending, now: datetime) -> None:
        order = StatusOrder(
            issuer=pending.issuer,
            serial=pending.serial,
            state="revoked",
            reason="unspecified",
            at=now.replace(microsecond=0),
            ordered_by="service:ca",
        )
        with self._engine.begin() as db:
            row = tables.renewals.c
            gone = delete(tables.renewals).where(row.key == pending.key, row.serial == pending.serial)
            if db.execute(gone).rowcount:
                write_status(db, order)
        self._record.note("ca.renewal-abandoned", f"{pending.issuer}/{pending.serial}", token_key=pending.key)
