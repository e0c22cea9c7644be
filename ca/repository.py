"""What everybody may fetch, without saying who they are: CRLs, CA certificates, and whether any of them changed.

    GET /crls/{issuer}.crl   the newest full CRL, DER (RFC 2585 4.1)
    GET /cas/{issuer}.cer    the certificate of an authority, DER
    GET /status              JSON list of {issuer, number, sha256, next_update}, one for each CRL, with an ETag

A relying party asks `/status` with If-None-Match before it believes a certificate and mostly gets 304: that is what
makes a revocation count in the next purchase. Everything comes from the published folder; this process needs neither
the database nor a token, and nothing it could be made to say would be believed without the authorities' signatures.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ca.record import instant
from runtime import health, problems
from runtime.problems import Problem

CRL_TYPE: Final = "application/pkix-crl"
CERTIFICATE_TYPE: Final = "application/pkix-cert"


@dataclass(frozen=True, slots=True)
class _Published:
    """A CRL as it is on disk now."""

    der: bytes
    sha256: str
    entry: dict[str, Any]
    this_update: str


class _Folder:
    """CRLs of the published folder, read again when a file was replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, int, int], _Published]] = {}

    def crls(self) -> dict[str, _Published]:
        """All CRLs, by authority."""
        found = {}
        for path in sorted((self._folder / "crls").glob("*.crl")):
            published = self._read(path)
            if published is not None:
                found[path.stem] = published
        return found

    def crl(self, issuer: str) -> _Published | None:
        """The CRL of one authority."""
        return self.crls().get(issuer)

    def certificate(self, issuer: str) -> bytes | None:
        """The certificate of an authority, DER."""
        known = {path.stem: path for path in (self._folder / "cas").glob("*.pem")} | {"root": self._folder / "root.pem"}
        path = known.get(issuer)
        if path is None or not path.exists():
            return None
        return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)

    def _read(self, path: Path) -> _Published | None:
        try:
            state = path.stat()
            mark = (state.st_ino, state.st_mtime_ns, state.st_size)
            with self._lock:
                known = self._known.get(path.stem)
            if known is not None and known[0] == mark:
                return known[1]
            published = _published(path.stem, path.read_bytes())
        except FileNotFoundError:
            return None
        with self._lock:
            self._known[path.stem] = (mark, published)
        return published


def create_app(folder: Path) -> Starlette:
    """The anonymous application over the published hierarchy in `folder` (`ca.hierarchy`)."""
    published = _Folder(folder)

    async def status(request: Request) -> Response:
        crls = published.crls()
        if not crls:
            raise Problem(503, "nothing-published", "no CRL has been published yet")
        body = msgspec.json.encode([crl.entry for crl in crls.values()])
        return _cached(request, body, "application/json", hashlib.sha256(body).hexdigest())

    async def crl(request: Request) -> Response:
        found = published.crl(request.path_params["issuer"])
        if found is None:
            raise _unknown()
        return _cached(request, found.der, CRL_TYPE, found.sha256, {"Last-Modified": found.this_update})

    async def certificate(request: Request) -> Response:
        der = published.certificate(request.path_params["issuer"])
        if der is None:
            raise _unknown()
        return _cached(request, der, CERTIFICATE_TYPE, hashlib.sha256(der).hexdigest())

    app = Starlette(
        routes=[
            Route("/status", status),
            Route("/crls/{issuer}.crl", crl),
            Route("/cas/{issuer}.cer", certificate),
        ]
    )
    problems.install(app)
    health.install(app, "repository", lambda: bool(published.crls()))
    return app


def _published(issuer: str, der: bytes) -> _Published:
    crl = x509.load_der_x509_crl(der)
    sha256 = hashlib.sha256(der).hexdigest()
    next_update = crl.next_update_utc
    entry = {
        "issuer": issuer,
        "number": crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        "sha256": sha256,
        "next_update": None if next_update is None else instant(next_update),
    }
    return _Published(der, sha256, entry, format_datetime(crl.last_update_utc, usegmt=True))


def _cached(
    request: Request, body: bytes, media_type: str, digest: str, headers: dict[str, str] | None = None
) -> Response:
    tag = f'"{digest}"'
    # no-cache: keep it, but ask before using it; the answer to that question is nearly always 304 (RFC 9111 5.2.2.4)
    headers = {"ETag": tag, "Cache-Control": "no-cache", **(headers or {})}
    if tag in {each.strip() for each in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _unknown() -> Problem:
    return Problem(404, "unknown-authority", "no authority has this name")
