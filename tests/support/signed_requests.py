"""Officers who sign their requests, for tests: credentials in the register, and requests with one thing wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from ra.officer import officer_of
from ra.records import NewCertificate
from ra.request_signature import Head, content_digest, sign
from ra.request_signer import RequestSigner
from tests.support.cps_cases import Office
from tests.support.pki_factory import Credential
from tests.support.ra_world import RaWorld

CLIENT: Final[dict[str, Any]] = {
    "extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
}
NONCE: Final = "AAECAwQFBgcICQoLDA0ODw"


def officer_who_logs_in(office: Office, person: str, *roles: str, **changes: Any) -> Credential:
    """An officer's credential as the CA's profile makes it."""
    return office.officer(person, *roles, replace=CLIENT, **changes)


def put_on_register(world: RaWorld, credentials: Iterable[Credential]) -> None:
    """Write officers' credentials down, as after a ceremony."""
    issued = [
        NewCertificate(
            issuer="operations-ca",
            serial=f"{each.certificate.serial_number:x}",
            purpose="signing",
            der=each.der,
            chain=(),
        )
        for each in credentials
    ]
    world.workflow.persons.founders(issued, now=world.now)


def key_id(credential: Credential) -> str:
    """What a signature calls the credential."""
    return credential.certificate.fingerprint(hashes.SHA256()).hex()


def signer(credential: Credential, clock: Callable[[], datetime]) -> RequestSigner:
    """As `kwbp` signs."""
    officer = officer_of(credential.certificate, credential.chain, credential.key)
    return RequestSigner(officer, rng=os.urandom, clock=clock)


def head_of(request: httpx.Request) -> Head:
    """What of a request is signed."""
    path, _, query = request.url.raw_path.decode().partition("?")
    fields = {name: request.headers[name] for name in ("content-digest", "content-type") if name in request.headers}
    return Head(request.method, request.url.scheme, request.headers["host"], path, query, fields)


def signed_by(
    request: httpx.Request, credential: Credential, at: datetime, *, nonce: str = NONCE, named: str | None = None
) -> httpx.Request:
    """The request with a signature by this key; `named` is the key id, if it is another's."""
    if request.method != "GET":
        request.headers["content-digest"] = content_digest(request.content)
    made = sign(
        head_of(request),
        credential.key,
        key_id=named or key_id(credential),
        created=int(at.timestamp()),
        nonce=nonce,
    )
    request.headers.update(made)
    return request
