"""A certificate authority in service: everything that one hierarchy needs, put together and started."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from sqlalchemy import Engine

from ca.errors import StoreError
from ca.hierarchy import Hierarchy, load_hierarchy
from ca.issuance import Issuance
from ca.prepare import Rng
from ca.profile import EXTENDED_KEY_USAGES, Profile, profiles
from ca.publication import Publication
from ca.publisher import CrlPublisher
from ca.record import Record
from ca.revocation import Revocation
from ca.status_store import RevocationRecord
from ca.store import CertificateRecord, DossierRecord, Intent, Store
from cps.model import Pack
from hsm_service.service import SigningService
from pki.roles import role_of
from runtime.logging import get_logger

_log: Final = get_logger("ca")


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of a certificate: what it rests on, what was checked, its revocation, its log entries.

    `intent` and `dossier` are None for a certificate that a ceremony made.
    """

    certificate: CertificateRecord
    revocation: RevocationRecord | None
    intent: Intent | None
    dossier: DossierRecord | None
    log: dict[str, int]


class CertificateAuthority:
    """One hierarchy in service. Make it, `start` it, then issue and revoke from any number of threads."""

    def __init__(
        self,
        *,
        folder: Path,
        engine: Engine,
        signer: SigningService,
        record: Record,
        pack: Pack,
        publication: Publication,
        rng: Rng,
        clock: Callable[[], datetime],
        replica: str | None = None,
    ) -> None:
        """`folder` is the published hierarchy (`ca.hierarchy`), `signer` the token boundary; raises StoreError.

        `replica` names this authority among those that share a database; by default after the machine and the folder,
        so that after a restart it goes on at once with what it left.
        """
        self._folder = folder
        self._clock = clock
        self._record = record
        self.hierarchy: Final[Hierarchy] = load_hierarchy(folder)
        self.store: Final = Store(engine)
        self.publisher: Final = CrlPublisher(
            store=self.store, hierarchy=self.hierarchy, signer=signer, record=record, folder=folder, clock=clock
        )
        self.issuance: Final = Issuance(
            store=self.store,
            hierarchy=self.hierarchy,
            signer=signer,
            publisher=self.publisher,
            record=record,
            pack=pack,
            publication=publication,
            rng=rng,
            clock=clock,
            replica=replica or _replica_of(folder),
        )
        self.revocation: Final = Revocation(
            store=self.store,
            hierarchy=self.hierarchy,
            publisher=self.publisher,
            record=record,
            pack=pack,
            clock=clock,
        )

    def start(self) -> None:
        """Take over what the ceremony made; then `maintain`. Works without the token boundary: what needs it waits."""
        self._import_ceremony()
        self.publisher.load()
        self.maintain()

    def maintain(self) -> None:
        """Publish due CRLs and finish open intents. Called at the start and on a clock; never raises for the token."""
        self.publisher.refresh()
        self.issuance.resume()

    def story(self, issuer: str, serial: str) -> Story:
        """Everything about a certificate; raises UnknownCertificateError."""
        certificate = self.store.certificate(issuer, serial)
        intent = None if certificate.intent_id is None else self.store.intent(certificate.intent_id)
        log = {} if intent is None else self._record.numbers_of(str(intent.id))
        return Story(
            certificate=certificate,
            revocation=self.store.status.revocation(issuer, serial),
            intent=intent,
            dossier=None if intent is None else self.store.dossier(intent.revision_digest),
            log=log | self._record.numbers_of(f"{issuer}/{serial}"),
        )

    def is_ready(self) -> bool:
        """Whether every authority has a current CRL."""
        return self.publisher.is_current()

    def _import_ceremony(self) -> None:
        now = self._clock()
        for certificate in _ceremony_certificates(self._folder):
            name = next(
                (
                    authority.name
                    for authority in self.hierarchy.authorities.values()
                    if authority.certificate.subject == certificate.issuer
                ),
                None,
            )
            if name is None:
                raise StoreError(f"{certificate.subject.rfc4514_string()} was issued by none of our authorities")
            profile = _profile_of(certificate, name)
            self.store.import_certificate(certificate, issuer=name, profile=profile.name, now=now)


def _replica_of(folder: Path) -> str:
    return hashlib.sha256(f"{socket.gethostname()}\n{folder.resolve()}".encode()).hexdigest()[:32]


class Maintenance:
    """Calls `maintain` on a clock, in a thread of its own, until closed."""

    def __init__(self, authority: CertificateAuthority, *, interval: float) -> None:
        """`interval` in seconds."""
        self._authority = authority
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ca-maintenance", daemon=True)

    def __enter__(self) -> Maintenance:
        self._thread.start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._authority.maintain()
            except Exception as error:  # a fault of one round, such as a full disk, must not end all later ones
                _log.error("maintenance-failed", error=type(error).__name__, detail=str(error))


def _ceremony_certificates(folder: Path) -> Iterator[x509.Certificate]:
    for path in [folder / "root.pem", *sorted(folder.glob("*/*.pem"))]:
        # Chains follow the certificate that the file is about.
        yield x509.load_pem_x509_certificates(path.read_bytes())[0]


def _profile_of(certificate: x509.Certificate, issuer: str) -> Profile:
    role, usages = role_of(certificate), _usages(certificate)
    for profile in profiles().values():
        usual = {EXTENDED_KEY_USAGES[name] for name in profile.extended_key_usage}
        if profile.role is role and profile.issuer in {"self", issuer} and usual == usages:
            return profile
    raise StoreError(f"{certificate.subject.rfc4514_string()} has no profile of ours")


def _usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()
