"""A lean HTTP/1.1 transport for calls between services: kept-alive connections, one request at a time on each.

httpx's own transport is made for the open internet (proxies, HTTP/2, two event-loop libraries) and costs a busy service
more than its own work: a payment makes five calls to the HSM service, and most of the gateway's time went into asking.
This transport does what our services need and no more: TLS or plain TCP, `Content-Length` or chunked answers,
deadlines, a bounded number of connections. Errors are httpx's own.

A request is never sent twice. A kept-alive connection that the server has closed is noticed and dropped while it is
idle; if it closes after the request was written, the caller gets `ReadError` and must decide, as with any lost answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Final, cast

import httptools
import httpx

LARGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes; more is not what our services say."""
_IDLE: Final = 50.0
"""Seconds that a connection may lie idle: our servers close after 65, and we want to be first."""


class _Connection(asyncio.Protocol):
    """One connection; `ask` it once the answer before has been read."""

    def __init__(self, on_lost: Callable[[_Connection], None]) -> None:
        self.idle_since = 0.0
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[httpx.Response] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self.reusable = True

    @property
    def answered(self) -> bool:
        """Whether the last answer was read to its end."""
        answer = self._answer
        return answer is not None and answer.done() and not answer.cancelled() and answer.exception() is None

    def ask(self, request: bytes) -> asyncio.Future[httpx.Response]:
        assert self._transport is not None
        self._headers, self._body, self._size = [], [], 0
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._fail(httpx.ReadError("the connection is closed"))
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.close()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: a TLS transport of uvloop is one in all but name.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._fail(httpx.ReadError("the connection broke before the answer was complete"))
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._answer is None or self._answer.done():
            self.close()  # nothing was asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"the answer is not HTTP/1.1: {type(error).__name__}"))
            self.close()

    # httptools calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > LARGEST_ANSWER:
            self._fail(httpx.RemoteProtocolError(f"the answer has more than {LARGEST_ANSWER} bytes"))
            self.close()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        self.reusable = self.reusable and self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            status, body = self._parser.get_status_code(), b"".join(self._body)
            self._answer.set_result(httpx.Response(status, headers=self._headers, content=body))

    def _fail(self, error: httpx.TransportError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


class KeepAliveTransport(httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient(transport=…)`. `context` None speaks plain HTTP; at most `connections` at once."""

    def __init__(self, context: ssl.SSLContext | None, *, connections: int = 32) -> None:
        self._context = context
        self._idle: list[_Connection] = []
        self._slots = asyncio.Semaphore(connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send and read whole; raises httpx.TransportError."""
        timeout = request.extensions.get("timeout", {})
        body = await request.aread()
        await self._take_slot(timeout.get("pool"))
        try:
            connection = self._reuse() or await self._connect(request.url, timeout.get("connect"))
            try:
                async with asyncio.timeout(timeout.get("read")):
                    response = await connection.ask(_head(request) + body)
            except TimeoutError:
                raise httpx.ReadTimeout("no answer in time") from None
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()
        return response

    async def aclose(self) -> None:
        """Close what lies idle."""
        while self._idle:
            self._idle.pop().close()

    async def _take_slot(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("no connection became free in time") from None

    def _reuse(self) -> _Connection | None:
        oldest = time.monotonic() - _IDLE
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, url: httpx.URL, seconds: float | None) -> _Connection:
        tls = self._context if url.scheme == "https" else None
        if url.scheme == "https" and tls is None:
            raise httpx.UnsupportedProtocol("an https address needs trust anchors")
        port = url.port or (443 if tls is not None else 80)
        try:
            async with asyncio.timeout(seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._lost), url.host, port, ssl=tls
                )
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None
        except (OSError, ssl.SSLError) as error:
            raise httpx.ConnectError(type(error).__name__) from error
        return connection

    def _give_back(self, connection: _Connection) -> None:
        # Reusable only if its answer was read to the end: after a deadline or a cancellation the rest is still coming.
        if connection.reusable and connection.answered:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def _lost(self, connection: _Connection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)


def _head(request: httpx.Request) -> bytes:
    lines = [request.method.encode("ascii") + b" " + request.url.raw_path + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n"
