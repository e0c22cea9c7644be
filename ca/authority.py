"""A certificate authority in service: everything that one hierarchy needs, put together and started."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from sqlalchemy import Engine

from ca.deadlines import Deadlines, require_prompt_lists
from ca.errors import StoreError
from ca.hierarchy import Hierarchy, load_hierarchy
from ca.issuance import Issuance
from ca.prepare import Rng
from ca.profile import EXTENDED_KEY_USAGES, Profile, profiles
from ca.publication import Publication
from ca.publisher import CrlPublisher
from ca.record import Record
from ca.revocation import Revocation, change_key
from ca.self_auditor import SelfAuditor
from ca.status_store import CoveringList, RevocationRecord, StatusChange
from ca.store import CertificateRecord, DossierRecord, Intent, Store
from hsm_service.service import SigningService
from pki.roles import role_of
from statements.published import Statements


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of a certificate: what it rests on, what was checked, its status, its log entries.

    `crl` is the first list that shows its status, `history` every change of it, the first one first. `intent` and
    `dossier` are None for a certificate that a ceremony made.
    """

    certificate: CertificateRecord
    revocation: RevocationRecord | None
    crl: CoveringList | None
    history: tuple[StatusChange, ...]
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
        statements: Statements,
        publication: Publication,
        rng: Rng,
        clock: Callable[[], datetime],
        replica: str | None = None,
    ) -> None:
        """`folder` is the published hierarchy (`ca.hierarchy`), `signer` the token boundary, `statements` the published
        versions of the CPS; raises StoreError.

        `replica` names this authority among those that share a database; by default after the machine and the folder,
        so that after a restart it goes on at once with what it left.
        """
        self._folder = folder
        self._clock = clock
        self._record = record
        self._statements = statements
        self.replica: Final = replica or _replica_of(folder)
        self.hierarchy: Final[Hierarchy] = load_hierarchy(folder)
        self.store: Final = Store(engine)
        self.publisher: Final = CrlPublisher(
            store=self.store,
            hierarchy=self.hierarchy,
            signer=signer,
            record=record,
            folder=folder,
            publication=publication,
            clock=clock,
        )
        self.issuance: Final = Issuance(
            store=self.store,
            hierarchy=self.hierarchy,
            signer=signer,
            publisher=self.publisher,
            record=record,
            statements=statements,
            publication=publication,
            rng=rng,
            clock=clock,
            replica=self.replica,
        )
        self.revocation: Final = Revocation(
            store=self.store,
            hierarchy=self.hierarchy,
            publisher=self.publisher,
            record=record,
            statements=statements,
            clock=clock,
        )
        self.deadlines: Final = Deadlines(self.store.status, statements, clock)
        self.self_audit: Final = SelfAuditor(
            store=self.store,
            hierarchy=self.hierarchy,
            signer=signer,
            record=record,
            statements=statements,
            publication=publication,
            rng=rng,
            clock=clock,
            replica=self.replica,
        )

    def start(self) -> None:
        """Take over what the ceremony made; then `maintain`. Works without the token boundary: what needs it waits.

        Raises ProfileError, before anything is done, if its lists are too far apart for the statement in force.
        """
        require_prompt_lists(self.hierarchy, self._statements().in_force(self._clock()))
        self._import_ceremony()
        self.publisher.load()
        self.maintain()

    def maintain(self) -> None:
        """Do once all that is otherwise done on a clock (`ca.schedules`). Never raises for the token."""
        self.revocation.note(self.store.status.unpublished())  # a process that was killed had them carried out at most
        self.revocation.end_suspensions()
        self.publisher.refresh()
        self.issuance.resume()
        self.deadlines.check()

    def story(self, issuer: str, serial: str) -> Story:
        """Everything about a certificate; raises UnknownCertificateError."""
        certificate = self.store.certificate(issuer, serial)
        intent = None if certificate.intent_id is None else self.store.intent(certificate.intent_id)
        log = {} if intent is None else self._record.numbers_of(str(intent.id))
        revocation = self.store.status.revocation(issuer, serial)
        history = tuple(self.store.status.history(issuer, serial))
        for each in history:
            if each.state != "revoked":  # of which there is one, found with the certificate's own entries
                numbers = self._record.numbers_of(change_key(each))
                log |= {f"{event}/{each.epoch}": number for event, number in numbers.items()}
        return Story(
            certificate=certificate,
            revocation=revocation,
            crl=None if revocation is None else self.store.status.covered_by(issuer, revocation.epoch),
            history=history,
            intent=intent,
            dossier=None if intent is None else self.store.dossier(intent.revision_digest),
            log=log | self._record.numbers_of(f"{issuer}/{serial}"),
        )

    def now(self) -> datetime:
        """The time by this authority's clock."""
        return self._clock()

    def is_ready(self) -> bool:
        """Whether every authority has a current CRL, and the database was there at the last look."""
        return self.publisher.is_current() and not self.publisher.database_away

    def details(self) -> dict[str, object]:
        """For the health page: how many changes of status are late, and whether the database is there."""
        return {
            "overdue": self.deadlines.overdue,
            "database": "away" if self.publisher.database_away else "ready",
        }

    def _import_ceremony(self) -> None:
        now, certificates = self._clock(), list(_ceremony_certificates(self._folder))
        self.store.screening.remember(certificate.public_key() for certificate in certificates)
        for certificate in certificates:
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


def _ceremony_certificates(folder: Path) -> Iterator[x509.Certificate]:
    for path in [folder / "root.pem", *sorted(folder.glob("*/*.pem"))]:
        # Chains follow the certificate that the file is about.
        yield x509.load_pem_x509_certificates(path.read_bytes())[0]


def _profile_of(certificate: x509.Certificate, issuer: str) -> Profile:
    role, usages = role_of(certificate), _usages(certificate)
    for profile in profiles().values():
        usual = {EXTENDED_KEY_USAGES[name] for name in profile.extended_key_usage}
        # An authority may stand below another one than its profile names (`sub-ca` ceremonies); who, its path says.
        fits = profile.ca is not None or profile.issuer in {"self", issuer}
        if profile.role is role and fits and usual == usages:
            return profile
    raise StoreError(f"{certificate.subject.rfc4514_string()} has no profile of ours")


def _usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()
