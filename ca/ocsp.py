"""The responder of certificate status over HTTP (RFC 6960 appendix A, RFC 5019), as bare ASGI: it is asked most of all.

    POST /ocsp            application/ocsp-request
    GET  /ocsp/{request}  the request in base64, URL-encoded

    malformedRequest   not a request in DER, too large or about too many, an unknown critical extension, a bad nonce,
                       issuers named by another hash than SHA-1 or SHA-256
    unauthorized       an issuer that is not ours, or two of them: each authority has a responder of its own, and none
                       speaks for another's certificates (RFC 6960 4.2.2.2, RFC 5019 2.2.3); what the root certified
    tryLater           the token or the database is away, or too many wait; what is remembered is served all the same
    internalError      a fault of this service

A good answer is about a serial that was issued; one that was not is unknown. Answers without a nonce are signed ahead,
kept in the database and remembered here; the database is asked a few times a second, and before any answer once a list
was published, whether a status changed: an answer from before is not given after the list that knows better is out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from prometheus_client import Counter, Gauge

from ca.hierarchy import Authority, Hierarchy
from ca.ocsp_answer import INTERNAL_ERROR, MALFORMED_REQUEST, TRY_LATER, UNAUTHORIZED
from ca.ocsp_live import AsyncBatchSigner, CannotAnswerError, LiveResponder, SignedAnswer
from ca.ocsp_memory import Headers, Memory, Remembered
from ca.ocsp_policy import OcspPolicy
from ca.ocsp_request import SHA1, SHA256, MalformedRequestError, OcspRequest, read_request
from ca.ocsp_store import OcspStore
from pki.algorithms import SHA256_IDENTIFIER
from pki.ocsp_structures import SHA1_IDENTIFIER, issuer_hashes
from runtime.lasting import lasting
from runtime.logging import get_logger
from runtime.problems import Problem

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

REQUEST_TYPE: Final = b"application/ocsp-request"
RESPONSE_TYPE: Final = b"application/ocsp-response"
_PATH: Final = "/ocsp"
_BELOW: Final = "/ocsp/"
_LONGEST_MEMORY: Final = 600.0  # seconds: then the database is looked at again for one that lasts longer
_log: Final = get_logger("ca.ocsp")

_answers: Final = Counter("kwbp_ocsp_answers", "Answers of the OCSP responder", ["outcome"])
_remembered: Final = Gauge("kwbp_ocsp_remembered", "OCSP answers held in memory")
_count: Final = {
    outcome: _answers.labels(outcome)
    for outcome in ("remembered", "looked_up", "malformed", "unauthorized", "try_later", "error")
}


class OcspResponder:
    """Answers about certificates of a hierarchy. Belongs to one event loop; `running` is its life."""

    def __init__(
        self,
        *,
        hierarchy: Hierarchy,
        folder: Path,
        store: OcspStore,
        connect: Callable[[], contextlib.AbstractAsyncContextManager[AsyncBatchSigner]],
        policy: OcspPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        """`folder` is the published hierarchy; `connect` makes a client of the token boundary when the service runs."""
        self._folder = folder / "crls"
        self._store = store
        self._connect = connect
        self._policy = policy
        self._clock = clock
        self._memory = Memory(policy.remembered)
        self._live: LiveResponder | None = None
        self._published: int | None = None
        self._polling = asyncio.Lock()
        self._database_away = False
        self._by_hashes: dict[tuple[bytes, tuple[bytes, bytes]], Authority] = {}
        for authority in hierarchy.authorities.values():
            if authority.is_root:
                continue  # its key is never in service, nor has it a responder
            for oid, identifier in ((SHA1, SHA1_IDENTIFIER), (SHA256, SHA256_IDENTIFIER)):
                hashes = issuer_hashes(identifier, authority.certificate)
                assert hashes is not None
                self._by_hashes[oid, hashes] = authority

    # -- its life ------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connected to the token boundary, looking for changes of status. Needs neither token nor database to begin."""
        async with contextlib.AsyncExitStack() as stack:
            signer = await stack.enter_async_context(self._connect())
            self._live = LiveResponder(self._store, signer, self._policy, self._clock)
            poller = asyncio.create_task(lasting("changes of status", self._poll))
            try:
                yield
            finally:
                poller.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await poller
                self._live = None

    def details(self) -> Mapping[str, object]:
        """For the health page: whether answers can be signed now."""
        trouble = "database" if self._database_away else self._live.trouble if self._live is not None else "stopped"
        return {"ocsp": "ready" if trouble is None else f"no {trouble}"}

    async def _poll(self) -> None:
        while True:
            async with self._polling:
                await self._look()
            await asyncio.sleep(self._policy.poll.total_seconds())

    async def _look(self) -> None:
        """Ask the database what changed, and let go of what no longer holds."""
        published = self._published_at()  # first: a list that comes out meanwhile is seen the next time
        try:
            epochs, changed = await asyncio.to_thread(self._changes, dict(self._memory.epochs or {}))
        except Exception as error:  # whatever it is: nobody would look again, and what was revoked stayed good
            if not self._database_away:
                _log.warning("ocsp-database-away", error=type(error).__name__)
            self._database_away = True
            if self._published is not None and published != self._published:
                self._memory.forget()  # a list came out that may know better, and we cannot look
        else:
            self._database_away = False
            self._memory.note(epochs, changed)
        self._published = published
        _remembered.set(len(self._memory))

    def _changes(self, known: Mapping[str, int]) -> tuple[dict[str, int], dict[str, list[str]]]:
        epochs = self._store.epochs()
        changed = {
            issuer: self._store.changed(issuer, known.get(issuer, 0))
            for issuer, epoch in epochs.items()
            if epoch > known.get(issuer, 0)
        }
        return epochs, changed

    def _published_at(self) -> int:
        """Changes whenever a list is put in its place."""
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0

    async def _look_if_published(self) -> None:
        async with self._polling:
            if self._published_at() != self._published:
                await self._look()

    # -- HTTP ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def knows(scope: Scope) -> bool:
        """Whether a request is for this responder."""
        path: str = scope["path"]
        return path == _PATH or path.startswith(_BELOW)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that it knows."""
        method, posted = scope["method"], scope["path"] == _PATH
        if method != ("POST" if posted else "GET"):
            allowed = {"Allow": "POST" if posted else "GET"}
            problem = Problem(405, "method-not-allowed", "POST /ocsp, or GET /ocsp/{request}", headers=allowed)
            await problem.response()(scope, receive, send)
            return
        if posted:
            if _header(scope, b"content-type").split(b";")[0].strip().lower() != REQUEST_TYPE:
                problem = Problem(415, "not-an-ocsp-request", f"send {REQUEST_TYPE.decode()}", clause="RFC 6960 A.1")
                await problem.response()(scope, receive, send)
                return
            asked = await _body(receive, self._policy.request_octets)
        else:
            asked = scope["raw_path"].split(b"?")[0][len(_BELOW) :]
        if self._published_at() != self._published:
            await self._look_if_published()
        now = self._clock().timestamp()
        found = self._memory.get(asked, now)
        if found is not None and found.until - now <= _LONGEST_MEMORY:  # else the clock went back, and it is not yet
            _count["remembered"].inc()
        else:
            found = await self._answer(asked, posted)
        if found.etag and not posted and _names(_header(scope, b"if-none-match"), found.etag):
            kept = [each for each in found.headers if each[0] not in {b"content-length", b"content-type"}]
            await send({"type": "http.response.start", "status": 304, "headers": kept})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": found.headers})
        await send({"type": "http.response.body", "body": found.body})

    async def _answer(self, asked: bytes, posted: bool) -> Remembered:
        policy = self._policy
        try:
            der = asked if posted else _from_url(asked, policy.request_octets)
            request = read_request(der, octets=policy.request_octets, certificates=policy.request_certificates)
        except MalformedRequestError:
            _count["malformed"].inc()
            return _unsigned(MALFORMED_REQUEST)
        found = {self._by_hashes.get((each.hash_algorithm, each.issuer)) for each in request.asked}
        authority = found.pop()
        if found or authority is None:
            _count["unauthorized"].inc()
            return _unsigned(UNAUTHORIZED)
        try:
            if self._live is None:
                raise CannotAnswerError("stopped")
            signed = await self._live.answer(authority, request)
        except CannotAnswerError as error:
            _count["try_later" if error.try_later else "error"].inc()
            return _unsigned(TRY_LATER if error.try_later else INTERNAL_ERROR)
        _count["looked_up"].inc()
        return self._remember(asked, authority, request, signed)

    def _remember(self, asked: bytes, authority: Authority, request: OcspRequest, signed: SignedAnswer) -> Remembered:
        if not signed.lasting:
            return _unsigned(signed.der)
        now = self._clock()
        left = (signed.next_update - now).total_seconds()
        max_age = max(0, int(min(self._policy.max_age.total_seconds(), left)))
        etag = b'"' + hashlib.sha256(signed.der).hexdigest().encode() + b'"'
        headers = [
            (b"content-type", RESPONSE_TYPE),
            (b"content-length", str(len(signed.der)).encode()),
            (b"last-modified", format_datetime(signed.this_update, usegmt=True).encode()),
            (b"expires", format_datetime(signed.next_update, usegmt=True).encode()),
            (b"etag", etag),
            (b"cache-control", b"max-age=%d,public,no-transform,must-revalidate" % max_age),
        ]
        until = now.timestamp() + min(left - max_age, _LONGEST_MEMORY)
        answer = Remembered(signed.der, headers, etag, until)
        serials = [each.serial for each in request.asked]
        if until > now.timestamp():
            self._memory.put(asked, answer, issuer=authority.name, serials=serials, epoch=signed.epoch)
        return answer


class WithOcsp:
    """ASGI application: the responder answers what it knows, another application the rest."""

    def __init__(self, responder: OcspResponder, app: Any) -> None:
        self._responder = responder
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._responder.knows(scope):
            await self._responder(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _unsigned(body: bytes) -> Remembered:
    """What nobody may keep: errors, which are not signed, and answers to one who asked with a nonce."""
    headers: Headers = [
        (b"content-type", RESPONSE_TYPE),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    return Remembered(body, headers, b"", 0.0)


def _from_url(text: bytes, octets: int) -> bytes:
    if len(text) > 4 * octets:  # before anything is decoded: each character may come as three
        raise MalformedRequestError(f"a request has at most {octets} octets")
    encoded = unquote_to_bytes(text).replace(b" ", b"+")  # a client that leaves + as it is meets proxies that do this
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise MalformedRequestError("the request is not in base64", clause="RFC 6960 A.1") from None


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


def _names(if_none_match: bytes, etag: bytes) -> bool:
    return etag in {each.strip() for each in if_none_match.split(b",")}


async def _body(receive: Receive, octets: int) -> bytes:
    """The body, or as much of it as shows that it is too long."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        if len(body) <= octets:
            body += message.get("body", b"")
    return body
