"""A certificate authority with its responder in service, for tests of OCSP and of those who ask for status.

    with OcspWorld(tmp_path, office) as ocsp:
        shop = ocsp.issue()                                # a merchant's certificate, on record
        ocsp.post(ocsp.request(shop))                      # over HTTP, as the repository serves it

Keys are in memory (`SoftwareSigning`), judged as the token boundary judges; all else is real.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.ocsp import OcspResponder
from ca.ocsp_policy import OcspPolicy, ocsp_policy
from ca.ocsp_presign import Presigner
from ca.ocsp_store import OcspStore
from ca.repository import create_app
from ca.status_store import StatusOrder, StatusState, write_status
from ca.store import serial_hex
from hsm_service.service import KeyInfo, SignKind
from hsm_service.wire import BatchAnswer, BatchItem
from pki.names import name
from pki.ocsp_structures import compose_request
from pki.roles import Role
from runtime.client import http_client
from runtime.server import start
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.pki_factory import Authority, Credential, PkiFactory, role_extensions
from tests.support.software_signing import SoftwareSigning

USAGE: Final = {"extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)}
NO_CHECK: Final = {"no_check": (x509.OCSPNoCheck(), False)}
REQUEST: Final = {"content-type": "application/ocsp-request"}


def responder_of(pki: PkiFactory, authority: Authority, **changes: Any) -> Credential:
    """A responder that `authority` certified."""
    extensions = {**role_extensions(Role.OCSP_RESPONDER), **USAGE, **NO_CHECK}
    return pki.issue(authority, name(cn=f"Status of {authority.role}", o="KWBP Test"), extensions, **changes)


@dataclass
class AsyncKeys:
    """The keys for an event loop; `before` runs before each call, and may raise the Problem of a token that is away."""

    keys: SoftwareSigning
    before: Callable[[], object] = lambda: None
    calls: int = 0

    async def describe_key(self, name: str) -> KeyInfo:
        self.before()
        return self.keys.describe_key(name)

    async def batch_sign(
        self, name: str, kind: SignKind, items: Sequence[BatchItem], *, version: int | None = None
    ) -> BatchAnswer:
        self.calls += 1
        self.before()
        return self.keys.batch_sign(name, kind, items, version=version)


class OcspWorld:
    """The CA, its responders' keys, and the repository over HTTP."""

    def __init__(
        self, folder: Path, office: Office, *, policy: OcspPolicy | None = None, database: str | None = None
    ) -> None:
        self.ca = CaWorld(folder, office, database=database)
        self.pki = office.pki
        self.policy = policy or ocsp_policy()
        for authority in self.pki.authorities[1:]:
            responder = responder_of(self.pki, authority)
            certificates = (responder.certificate, authority.certificate, *authority.credential.chain)
            self.ca.keys.adopt(f"ocsp-{authority.role}", "ocsp-responder", responder.key, certificates)
        self.signer = AsyncKeys(self.ca.keys.as_caller("service:repository"))
        self.store = OcspStore(self.ca.engine)
        self.presigner = Presigner(self.store, self.ca.authority.hierarchy, self.ca.keys, self.policy)
        self.responder = OcspResponder(
            hierarchy=self.ca.authority.hierarchy,
            folder=self.ca.folder,
            store=self.store,
            connect=self._connect,
            policy=self.policy,
            clock=self.ca.clock,
        )
        self._opened = contextlib.ExitStack()

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncKeys]:
        yield self.signer

    def __enter__(self) -> OcspWorld:
        self.url = self._opened.enter_context(start(create_app(self.ca.folder, ocsp=self.responder), tls=None))
        self.http: httpx.Client = self._opened.enter_context(http_client(None, self.url))
        self._opened.callback(self.ca.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    # certificates and their status

    @property
    def issuer(self) -> x509.Certificate:
        """The merchant CA, which issued what `issue` returns."""
        return self.pki.merchant_ca.certificate

    def issue(self, **changes: Any) -> x509.Certificate:
        """A merchant's certificate that is on record."""
        certificate = self.pki.merchant(**changes).certificate
        self.record(certificate)
        return certificate

    def record(
        self, certificate: x509.Certificate, issuer: str = "merchant-ca", profile: str = "merchant-signing"
    ) -> None:
        """Put a certificate on record."""
        self.ca.authority.store.import_certificate(certificate, issuer=issuer, profile=profile, now=self.ca.clock())

    def change(self, certificate: x509.Certificate, state: StatusState, reason: str) -> None:
        """Change its status in the database, as an officer's order does."""
        order = StatusOrder(
            issuer="merchant-ca",
            serial=serial_hex(certificate.serial_number),
            state=state,
            reason=reason,
            at=self.ca.clock().replace(microsecond=0),
            ordered_by="urn:kwbp:officer:test",
        )
        with self.ca.engine.begin() as db:
            write_status(db, order)

    # questions

    def request(self, certificate: x509.Certificate, **changes: Any) -> bytes:
        return compose_request(certificate.serial_number, self.issuer, **changes)

    def post(self, request: bytes) -> httpx.Response:
        return self.http.post("/ocsp", content=request, headers=REQUEST)
