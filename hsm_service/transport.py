"""HTTP/1.1 over mutual TLS for one service and one kind of call: a small JSON body out, a small JSON body back.

Every message of a payment waits for a few such calls, and a general client spends more processor time on one of them
than the service needs to sign with P-256. This one knows what its peer is (our own server, known by certificate) and
leaves out all that it therefore does not need: redirects, cookies, proxies, compression, streaming.

Connections are kept alive and bounded. A connection that the server had closed while it was idle is replaced and the
request sent again; a request whose answer had begun, or that went out on a fresh connection, is never repeated.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final, Self, cast
from urllib.parse import urlsplit

import httptools
import httpx

from runtime.client import TlsFiles, client_context

MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of an answer; a longer one is a protocol error."""


class _Closed(Exception):
    """The connection ended before the first byte of an answer."""


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way. The `on_…` methods are httptools' callbacks."""

    def __init__(self) -> None:
        self.used = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[httpx.Response] | None = None
        self._begin()

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._started = False

    async def ask(self, message: bytes) -> httpx.Response:
        """Sends a whole request and gives the answer; _Closed if nothing of one came, else httpx.TransportError."""
        if self._transport is None or self._transport.is_closing():
            raise _Closed
        self._begin()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        try:
            return await self._answer
        except asyncio.CancelledError:
            # The answer may still come and would be taken for the next request's.
            self.close()
            raise
        finally:
            self._answer = None
            self.used = True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: a TLS transport of uvloop is one in all but name.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nothing was asked
            self.close()
            return
        self._started = True
        self._size += len(data)
        if self._size > MAX_ANSWER:
            self._fail(httpx.RemoteProtocolError("the answer is too long"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(httpx.RemoteProtocolError("the answer is not HTTP/1.1"))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._started:
            self._fail(httpx.RemoteProtocolError("the connection ended within an answer"))
        else:
            self._fail(_Closed())

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(httpx.Response(status, headers=self._headers, content=b"".join(self._body)))


class Transport:
    """Requests to one service. Belongs to the event loop in which it is used first; `aclose` it."""

    def __init__(
        self, url: str, context: ssl.SSLContext | None, *, timeout: float = 30.0, connections: int = 32
    ) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or (parts.scheme == "https") != (context is not None):
            raise ValueError("expected an https:// address with trust anchors, or an http:// address without")
        self._host = parts.hostname
        self._port = parts.port or (443 if context is not None else 80)
        self._context = context
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(connections)
        self._host_header = f"Host: {parts.netloc}\r\n"

    @classmethod
    def connect(cls, url: str, tls: TlsFiles, *, timeout: float = 30.0, connections: int = 32) -> Self:
        """A transport to the service at `url` with the certificate of `tls`; `timeout` seconds a request."""
        return cls(url, client_context(tls), timeout=timeout, connections=connections)

    async def post(self, url: str, *, content: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """POST `content` to the path `url`."""
        return await self.request("POST", url, content=content, headers=headers)

    async def request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The whole answer to one request for the path `url`; httpx.TransportError when there is none in time."""
        message = self._message(method, url, content or b"", headers or {})
        try:
            async with asyncio.timeout(self._timeout), self._free:
                while True:
                    connection = self._take() or await self._open()
                    reused = connection.used
                    try:
                        answer = await connection.ask(message)
                    except _Closed:
                        if reused:
                            continue
                        raise httpx.RemoteProtocolError("the connection ended without an answer") from None
                    if connection.alive:
                        self._idle.append(connection)
                    return answer
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {self._timeout} s") from None

    async def aclose(self) -> None:
        """Closes the connections."""
        while self._idle:
            self._idle.pop().close()

    def _message(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> bytes:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\n{self._host_header}{fields}Content-Length: {len(content)}\r\n\r\n"
        if head.count("\r\n") != 4 + len(headers) or " " in path:
            raise ValueError("a path or header with a space or line break")
        return head.encode("ascii") + content

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
        return None

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                _Connection, self._host, self._port, ssl=self._context, server_hostname=self._name()
            )
        except OSError as error:
            raise httpx.ConnectError(f"cannot connect: {type(error).__name__}") from error
        return connection

    def _name(self) -> str | None:
        return self._host if self._context is not None else None
