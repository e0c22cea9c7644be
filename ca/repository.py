"""What everybody may fetch, without saying who they are: CRLs, CA certificates, and whether any of them changed.

    GET /crls/{issuer}.crl          the newest full CRL, DER (RFC 2585 4.1)
    GET /crls/{issuer}/{scope}.crl  the newest delta, or partition-<n>
    GET /bci                        the signed list of all CRLs in force (`pki.bci`), DER
    GET /cas/{issuer}.cer    the certificate of an authority, DER
    GET, POST /ocsp          certificate status (`ca.ocsp`)
    POST /tsa                time-stamps (`ca.tsa_service`)
    GET /status              JSON list of {issuer, number, sha256, next_update, lists}, one for each authority, with
                             an ETag; `lists` has the same of its delta and partitions, by scope

A relying party asks `/status` with If-None-Match before it believes a certificate and mostly gets 304: that is what
makes a revocation count in the next purchase. All but OCSP comes from the published folder and needs neither database
nor token; nothing that this process could be made to say would be believed without the authorities' signatures.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ca.hierarchy import ROOTS
from ca.ocsp import OcspResponder, WithOcsp
from ca.repository_crls import PublishedLists, is_known
from ca.repository_crls import routes as list_routes
from ca.tsa_service import TimestampAuthority
from runtime import health, problems
from runtime.problems import Problem

CRL_TYPE: Final = "application/pkix-crl"
CERTIFICATE_TYPE: Final = "application/pkix-cert"


class _Folder:
    """Certificates of the published folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def certificate(self, issuer: str) -> bytes | None:
        """The certificate of an authority, DER."""
        known = {path.stem: path for path in (self._folder / "cas").glob("*.pem")} | {"root": self._folder / "root.pem"}
        later = {path.stem: path for path in (self._folder / ROOTS).glob("*.cer")}
        if issuer in later:
            return later[issuer].read_bytes()
        path = known.get(issuer)
        if path is None or not path.exists():
            return None
        return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


def create_app(folder: Path, *, ocsp: OcspResponder | None = None, tsa: TimestampAuthority | None = None) -> Any:
    """The anonymous application (ASGI) over the published hierarchy in `folder` (`ca.hierarchy`).

    Ready once there are CRLs; what keeps `ocsp` from answering stands in the details.
    """
    published, lists = _Folder(folder), PublishedLists(folder)

    said = _Said(lists)

    async def status(request: Request) -> Response:
        body, digest = await said.anew()
        return _cached(request, body, "application/json", digest)

    async def certificate(request: Request) -> Response:
        der = published.certificate(request.path_params["issuer"])
        if der is None:
            raise _unknown()
        return _cached(request, der, CERTIFICATE_TYPE, hashlib.sha256(der).hexdigest())

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if ocsp is not None:
                await stack.enter_async_context(ocsp.running())
            if tsa is not None:
                await stack.enter_async_context(tsa.running())
            yield

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/status", status),
            *list_routes(lists),
            *(tsa.routes if tsa is not None else ()),
            Route("/cas/{issuer}.cer", certificate),
        ],
    )
    problems.install(app)
    details = dict if ocsp is None else ocsp.details
    # Without the list of all lists nobody believes the others (CPS 4.9.6).
    health.install(app, "repository", lambda: bool(lists.status()) and lists.bci() is not None, details)
    return _WithStatus(said, app if ocsp is None else WithOcsp(ocsp, app))


class _Said:
    """What `/status` said last, and of which lists."""

    def __init__(self, lists: PublishedLists) -> None:
        self._lists = lists
        self._marks: object = None
        self._digest = ""

    async def anew(self) -> tuple[bytes, str]:
        """Look at the lists; the body and its SHA-256 in hexadecimal. Raises Problem 503 before there are any."""
        marks = self._lists.marks()  # before: a list that is replaced meanwhile is looked at with the next request
        found = await anyio.to_thread.run_sync(self._lists.status)
        if not found:
            raise Problem(503, "nothing-published", "no CRL has been published yet")
        body = msgspec.json.encode(found)
        self._digest = hashlib.sha256(body).hexdigest()
        self._marks = marks if self._lists.has_read(marks) else None
        return body, self._digest

    @property
    def still_etag(self) -> bytes | None:
        """The ETag of what was said last, if the lists are the same ones now."""
        same = self._marks is not None and self._lists.marks() == self._marks
        return b'"%s"' % self._digest.encode("ascii") if same else None


class _WithStatus:
    """ASGI application: says that nothing changed to whoever knows the newest status; hands on everything else.

    Each payment asks half a dozen times, and for this answer the framework takes longer than the question is worth.
    """

    def __init__(self, said: _Said, app: Any) -> None:
        self._said = said
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/status" and scope["method"] == "GET":
            known = [value for name, value in scope["headers"] if name == b"if-none-match"]
            if known and known == [self._said.still_etag]:
                headers = [(b"etag", known[0]), (b"cache-control", b"no-cache")]
                await send({"type": "http.response.start", "status": 304, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)


def _cached(
    request: Request, body: bytes, media_type: str, digest: str, headers: dict[str, str] | None = None
) -> Response:
    tag = f'"{digest}"'
    # no-cache: keep it, but ask before using it; the answer to that question is nearly always 304 (RFC 9111 5.2.2.4)
    headers = {"ETag": tag, "Cache-Control": "no-cache", **(headers or {})}
    if is_known(request, digest):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _unknown() -> Problem:
    return Problem(404, "unknown-authority", "no authority has this name")
