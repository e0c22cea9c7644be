"""A certificate authority in service, for tests of the CA and of those who call it.

    world = CaWorld(tmp_path, Office())                   # the office's hierarchy, software keys, SQLite, a clock
    issued = world.authority.issuance.issue(world.approved_merchant())

The hierarchy is that of the office's `PkiFactory`, so its officers and services can decide and sign; the CA's keys are
in a `SoftwareSigning`. The clock starts at `NOW` and moves only when told.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.authority import CertificateAuthority
from ca.publication import Publication
from ca.record import Record
from cps.dossier import Dossier
from hsm_service.service import SigningService
from pki.names import identity_uri
from runtime.client import TlsFiles
from runtime.database import open_database
from statements.published import Statements, founding_only
from tests.support.cps_cases import Office
from tests.support.founded import Founding, with_tables
from tests.support.pki_factory import Credential, PkiFactory, pem
from tests.support.software_signing import SoftwareSigning

PUBLICATION: Final = Publication("http://repository.example", "urn:kwbp:cps:1.0.0")
TEMPLATES: Final = {"root": "root-ca", "brand": "brand-ca"}
_AS_THEY_ARE: Final[Callable[[SoftwareSigning], SigningService]] = lambda keys: keys  # noqa: E731
_LOOPBACK: Final = ip_address("127.0.0.1")


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        self.now += by


def write_hierarchy(pki: PkiFactory, folder: Path) -> None:
    """The factory's hierarchy as a ceremony publishes it, with the root's CRL."""
    for inner in (folder / "cas", folder / "crls"):
        inner.mkdir(parents=True)
    (folder / "root.pem").write_bytes(pem(pki.root.certificate))
    for authority in pki.authorities[1:]:
        (folder / "cas" / f"{authority.role}.pem").write_bytes(pem(authority.certificate))
    (folder / "crls" / "root.crl").write_bytes(pki.root.crl(pki.now).public_bytes(Encoding.DER))


def software_keys(pki: PkiFactory, clock: Clock) -> SoftwareSigning:
    """The factory's CA keys as a signing service, for the CA in service."""
    keys = SoftwareSigning("service:ca", clock=clock)
    for authority in pki.authorities:
        credential = authority.credential
        template = TEMPLATES.get(authority.role, "issuing-ca")
        keys.adopt(authority.role, template, credential.key, (credential.certificate, *credential.chain))
    for name in ("bci", "self-audit"):
        service = pki.service(name)
        keys.adopt(name, name, service.key, (service.certificate, *service.chain))
    return keys


class CaWorld:
    """A CA in service over `folder` (made if need be); another one over the same folder is the CA after a restart."""

    def __init__(
        self,
        folder: Path,
        office: Office,
        *,
        clock: Clock | None = None,
        signer: Callable[[SoftwareSigning], SigningService] = _AS_THEY_ARE,
        rng: Callable[[int], bytes] = os.urandom,
        start: bool = True,
        database: str | None = None,
        statements: Statements | None = None,
    ) -> None:
        """`signer` may put something between the CA and its keys; `database` is a URL, by default of a file."""
        self.office = office
        self.pki = office.pki
        self.clock = clock or Clock(office.now)
        self.folder = folder / "pki"
        usual = start and signer is _AS_THEY_ARE and rng is os.urandom and (database, statements) == (None, None)
        founding = Founding(folder, office, self.clock.now) if usual and not self.folder.exists() else None
        restored = founding is not None and founding.restore()
        if not self.folder.exists():
            write_hierarchy(self.pki, self.folder)
        self.keys = software_keys(self.pki, self.clock)
        self.record = Record.open(folder / "audit" / "ca.jsonl")
        self.engine = open_database(database or with_tables(folder / "db" / "ca.db"))
        self.authority = CertificateAuthority(
            folder=self.folder,
            engine=self.engine,
            signer=signer(self.keys),
            record=self.record,
            statements=statements or founding_only(office.pack),
            publication=PUBLICATION,
            rng=rng,
            clock=self.clock,
        )
        if start:
            self.authority.start()
        if founding is not None and not restored:
            founding.keep(self.engine)

    def close(self) -> None:
        """Let go of the journal and the database, as the end of the process does."""
        self.record.close()
        self.engine.dispose()

    # Cases, decided as the CPS asks for

    def approved_merchant(self, **changes: Any) -> Dossier:
        office = self.office
        case = office.decided(office.merchant_case(**changes), "vet", office.vetter)
        return office.decided(case, "approve", office.approver)

    def approved_cardholder(self) -> Dossier:
        return self.office.decided(self.office.cardholder_case(), "auto", self.office.ra)

    def approved_officer(self, **changes: Any) -> Dossier:
        office = self.office
        case = office.decided(office.officer_case(**changes), "sponsor", office.security)
        return office.decided(case, "approve", office.security_2)

    def approved_gateway(self, **changes: Any) -> Dossier:
        office = self.office
        case = office.decided(office.gateway_case(**changes), "vet", office.vetter)
        case = office.decided(case, "approve", office.approver, office.approver_2)
        return office.decided(case, "release", office.security)


def tls_credential(pki: PkiFactory, kind: str, who: str) -> Credential:
    """A TLS identity `kind`:`who` for server and client, on the factory's operations CA."""
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    hosts = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(identity_uri(kind, who)),
            x509.DNSName("localhost"),
            x509.IPAddress(_LOOPBACK),
        ]
    )
    extensions: Any = {"usages": (usages, False), "subject_alternative_name": (hosts, False)}
    return pki.service(who, replace=extensions)


def tls_files(pki: PkiFactory, kind: str, who: str, folder: Path) -> TlsFiles:
    """The same, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = tls_credential(pki, kind, who).write(folder, f"{kind}-{who}")
    (folder / "root.pem").write_bytes(pem(pki.root.certificate))
    return TlsFiles(certificate, key, folder / "root.pem")
