"""A lean HTTP/1.1 client for calls between services: kept-alive connections, one request at a time on each.

httpx's own transport is made for the open internet (proxies, HTTP/2, two event-loop libraries) and costs a busy service
more than its own work: a payment makes five calls to the HSM service, and most of the gateway's time went into asking.
This one knows what its peer is (our own server, known by its certificate) and does what such calls need and no more:
one server, TLS or plain TCP, answers with `Content-Length` or in chunks and of bounded size, deadlines, a bounded
number of connections. Its errors are httpx's own. It has two faces: `KeepAliveTransport` under an `httpx.AsyncClient`,
and `KeepAliveClient` for callers that send whole requests and want nothing of httpx but its errors.

A request is never sent twice. A connection is looked at before it is used again: one that the server has closed, or on
which anything unasked has come, is dropped and another taken, before a byte is written. From then on nobody here can
tell whether the server did what it was asked (it may have died between the work and the answer), so the caller gets an
error and must decide, as with any lost answer. That holds for what would do no harm, too: a second `:sign` spends a
second use of the key and writes a second record of something that was wanted once.

When an answer does not come whole, by deadline, cancellation or a broken peer, its connection is cut, so that the rest
of it cannot be taken for the next one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

import httptools
import httpx

LARGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer with its head and framing; more is not what our services say."""
LARGEST_HEAD: Final = 64 * 1024
"""Bytes of an answer before its body."""
CONNECTIONS: Final = 32
_IDLE: Final = 50.0
"""Seconds that a connection may lie idle: our servers close after 65, and we want to be first."""

_TARGET: Final = re.compile(rb"[!-~]+")
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2
_FIELD_VALUE: Final = re.compile(rb"[^\x00\r\n]*")


class Answer(Protocol):
    """What callers want of an answer: an `httpx.Response` is one, too."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content(self) -> bytes: ...

    @property
    def is_success(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer that came whole. httpx's own makes itself ready for one that comes in pieces: fifty times the work."""

    status_code: int
    headers: httpx.Headers
    content: bytes = field(repr=False)  # that of an opened order is a card

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return httpx.codes.is_success(self.status_code)


class _Connection(asyncio.Protocol):
    """One connection; `ask` it once the answer before has been read. The `on_…` methods are httptools' callbacks."""

    def __init__(self, on_lost: Callable[[_Connection], None], largest_answer: int) -> None:
        self.idle_since = 0.0
        self.kept = True  # whether another request may follow
        self._on_lost = on_lost
        self._largest = largest_answer
        self._transport: asyncio.Transport | None = None
        self._readable = select.poll()
        self._answer: asyncio.Future[WholeAnswer] | None = None
        self._begin(has_body=True)

    def _begin(self, *, has_body: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._has_body = has_body
        self._in_head = True

    async def ask(self, message: bytes, *, has_body: bool, seconds: float | None) -> WholeAnswer:
        """Send a whole request and give its whole answer; raises httpx.TransportError.

        `has_body` is False for an answer to HEAD. Whoever asked then looks at `kept`.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise httpx.ReadError("the connection was closed at once")
        loop = asyncio.get_running_loop()
        self._begin(has_body=has_body)
        self._answer = loop.create_future()
        deadline = None if seconds is None else loop.call_later(seconds, self._late)
        transport.write(message)
        try:
            return await self._answer
        except BaseException:
            self._cut()
            raise
        finally:
            self._answer = None
            if deadline is not None:
                deadline.cancel()

    @property
    def quiet(self) -> bool:
        """Whether the connection is open and nothing came that has not been read, such as its end."""
        transport = self._transport
        return self.kept and transport is not None and not transport.is_closing() and not self._readable.poll(0)

    def close(self) -> None:
        """Close an idle connection in order."""
        self.kept = False
        if self._transport is not None:
            self._transport.close()

    def _cut(self) -> None:
        self.kept = False
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: httpx.TransportError) -> None:
        self.kept = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _late(self) -> None:
        self._fail(httpx.ReadTimeout("no answer in time"))

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: a TLS transport of uvloop is one in all but name.
        self._transport = cast("asyncio.Transport", transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None  # its descriptor may belong to another connection from now on
        if exc is None:
            self._fail(httpx.RemoteProtocolError("the connection ended before the answer did"))
        else:
            self._fail(httpx.ReadError(f"the connection broke: {type(exc).__name__}"))
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self._cut()  # nothing was asked
            return
        self._size += len(data)
        if self._size > self._largest:
            self._fail(httpx.RemoteProtocolError(f"the answer has more than {self._largest} bytes"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"the answer is not HTTP/1.1: {type(error).__name__}"))
            return
        if self._in_head and self._size > LARGEST_HEAD:
            self._fail(httpx.RemoteProtocolError(f"the answer's head has more than {LARGEST_HEAD} bytes"))

    # httptools calls these

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done():
            self.kept = False  # a second answer behind the one that was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which our services do not send
            self._headers.append((name, value))
            if name.lower() == b"content-encoding" and value.lower() != b"identity":
                # A small answer could be a huge one.
                self._fail(httpx.RemoteProtocolError("the answer is compressed"))

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() >= httpx.codes.OK:
            self._in_head = False
            if not self._has_body:
                # The parser does not know what was asked and would wait for the body whose length is announced.
                self.kept = False
                self._complete()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._in_head:  # RFC 9110 15.2: an interim answer, another follows
            self._headers.clear()
            return
        self.kept = self.kept and self._parser.should_keep_alive()
        self._complete()

    def _complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            status, body = self._parser.get_status_code(), b"".join(self._body)
            self._answer.set_result(WholeAnswer(status, httpx.Headers(self._headers), body))


class _Pool:
    """The connections to one server: at most so many, each with one request under way or idle."""

    def __init__(
        self, url: str, context: ssl.SSLContext | None, *, connections: int, largest_answer: int = LARGEST_ANSWER
    ) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if not parsed.host or parsed.scheme != ("http" if context is None else "https"):
            raise ValueError("expected an https:// address with trust anchors, or an http:// address without")
        self.origin = _origin(parsed)
        self.authority = parsed.netloc
        self._host = parsed.raw_host.decode("ascii")
        self._port = parsed.port or (80 if context is None else 443)
        self._context = context
        self._largest = largest_answer
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []
        self._closed = False

    async def exchange(
        self,
        message: bytes,
        *,
        has_body: bool = True,
        pool: float | None = None,
        connect: float | None = None,
        read: float | None = None,
    ) -> WholeAnswer:
        """The whole answer to a whole request; the deadlines are seconds. Raises httpx.TransportError."""
        if self._slots.locked():
            await self._wait(pool)
        else:
            await self._slots.acquire()
        try:
            connection = self._reuse() or await self._connect(connect)
            answer = await connection.ask(message, has_body=has_body, seconds=read)
            self._keep(connection)
            return answer
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close what lies idle; what is under way comes to its end and is closed then."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("no connection became free in time") from None

    def _reuse(self) -> _Connection | None:
        oldest = time.monotonic() - _IDLE
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > oldest and connection.quiet:
                return connection
            connection.close()
        return None

    async def _connect(self, seconds: float | None) -> _Connection:
        try:
            async with asyncio.timeout(seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._lost, self._largest), self._host, self._port, ssl=self._context
                )
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise httpx.ConnectTimeout("no connection in time") from None
            raise httpx.ConnectError(f"cannot connect: {type(error).__name__}") from error
        return connection

    def _keep(self, connection: _Connection) -> None:
        if connection.kept and not self._closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def _lost(self, connection: _Connection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)


class KeepAliveTransport(httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient(transport=…)`. Belongs to one event loop.

    `url` names the one server that is spoken to (its path is nothing here); `context` None speaks plain HTTP; at most
    `connections` at once. An answer is read whole before the caller sees any of it, so httpx's read timeout is the
    deadline for all of it.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | None,
        *,
        connections: int = CONNECTIONS,
        largest_answer: int = LARGEST_ANSWER,
    ) -> None:
        """Raises ValueError for an https address without `context` or the other way round."""
        self._pool = _Pool(url, context, connections=connections, largest_answer=largest_answer)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send and read whole; raises httpx.TransportError."""
        if _origin(request.url) != self._pool.origin:
            raise httpx.UnsupportedProtocol("the address is not that of the server this transport is for")
        timeout = request.extensions.get("timeout", {})
        body = await request.aread()
        fields = request.headers.raw
        if "transfer-encoding" in request.headers:  # a body of unknown length; here it is known
            fields = [field for field in fields if field[0].lower() != b"transfer-encoding"]
            fields.append((b"Content-Length", b"%d" % len(body)))
        method = request.method.encode("ascii")
        try:
            head = _head(method, request.url.raw_path, fields)
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error)) from None
        answer = await self._pool.exchange(
            head + body,
            has_body=method != b"HEAD",
            pool=timeout.get("pool"),
            connect=timeout.get("connect"),
            read=timeout.get("read"),
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    async def aclose(self) -> None:
        """Close what lies idle."""
        self._pool.close()


class KeepAliveClient:
    """Whole requests to one server, without the cost of httpx's client. Belongs to one event loop; `aclose` it.

    `timeout` is the deadline of a request in seconds, waiting and connecting included.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | None,
        *,
        timeout: float = 30.0,
        connections: int = CONNECTIONS,
        largest_answer: int = LARGEST_ANSWER,
    ) -> None:
        """Raises ValueError for an https address without `context` or the other way round."""
        self._pool = _Pool(url, context, connections=connections, largest_answer=largest_answer)
        self._timeout = timeout
        self._host = (b"Host", self._pool.authority)

    async def request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> WholeAnswer:
        """The whole answer to one request for the path `url`.

        Raises httpx.TransportError when there is none in time, ValueError for a path or header that HTTP does not know.
        """
        body = content or b""
        fields = [self._host]
        fields += [(name.encode("ascii"), value.encode("ascii")) for name, value in (headers or {}).items()]
        fields.append((b"Content-Length", b"%d" % len(body)))
        message = _head(method.encode("ascii"), url.encode("ascii"), fields) + body
        try:
            async with asyncio.timeout(self._timeout):
                return await self._pool.exchange(message, has_body=method != "HEAD")
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {self._timeout} s") from None

    async def post(self, url: str, *, content: bytes, headers: Mapping[str, str] | None = None) -> WholeAnswer:
        """POST `content` to the path `url`."""
        return await self.request("POST", url, content=content, headers=headers)

    async def aclose(self) -> None:
        """Close what lies idle."""
        self._pool.close()


def _origin(url: httpx.URL) -> tuple[bytes, bytes, int | None]:
    """Scheme, host and port; the port is None where it is the scheme's own."""
    return url.raw_scheme, url.raw_host, url.port


def _head(method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    if not _FIELD_NAME.fullmatch(method) or not _TARGET.fullmatch(target):
        raise ValueError("a method or path that HTTP does not know")
    lines = [method + b" " + target + b" HTTP/1.1"]
    for name, value in fields:
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError("a header that HTTP does not know")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"
