"""How every service listens: uvicorn with TLS 1.3, the caller taken from the client certificate, caps on what is read.

uvicorn does not hand the client certificate to the application; a small protocol class does, once a connection. TLS
judges the certificate when a connection is made; whether it still counts is asked for each request (`refusal`).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Literal

import uvicorn
from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.client import TlsFiles
from runtime.crowd import Crowd, Door
from runtime.identity import ANONYMOUS, SCOPE_KEY, Caller, caller_from_certificate, caller_of
from runtime.language import Message, Term
from runtime.logging import get_logger
from runtime.problems import Problem, reader_of
from runtime.shut_down import DRAIN, OrderedServer
from runtime.tls_reload import FollowingContext

ClientCertificate = Literal["required", "optional", "none"]
Application = Any  # an ASGI callable; uvicorn's own type is private
Refusal = Callable[[Caller], str | None]
"""Why a caller's certificate does not count now; None if it does."""
Larger = Callable[[Any], int | None]
"""Bytes that the body of this request (its ASGI scope) may have; None: as many as any other."""

MAX_BODY: Final = 256 * 1024  # bytes; protocol.md, global rule 7
MAX_HEAD: Final = 64 * 1024  # bytes of request line and headers, and of trailers
PATIENCE: Final = 30.0
"""Seconds in which a head must be whole (counted from the connection, or its first byte), and then a body.

And in which a caller must take something of the answers, once they pile up here.
"""
KEEP_ALIVE: Final = 65.0
"""Seconds that a connection may be idle: longer than our clients keep one, so that they close first."""
_AT_ONCE: Final = 64 * 1024  # bytes that are gathered for one write, at most
_FILES: Final = 65536
"""Descriptors that a service may have open, where the system allows it: connections shall not starve tokens and log."""

_MODES: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_NOT_STARTED: Final = 3
"""Exit status of a server that could not listen, as uvicorn's."""
_CYCLE_KEY: Final = "kwbp.cycle"
_log = get_logger("server")


class _WholeAnswers:
    """A transport that sends what is written in one turn of the event loop at once.

    The server writes head and body of an answer one after the other: over TLS two records, two system calls, and two
    packets, which is a good part of what a signature costs.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)
        self._size += len(data)
        if self._size > _AT_ONCE:
            self._send()  # so that whoever streams more than the caller takes is told to wait

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        written, self._written, self._size = self._written, [], 0
        if written and not self._transport.is_closing():
            self._transport.write(b"".join(written))


class _CallerProtocol(HttpToolsProtocol):
    """Puts the caller into the scope of each request of a connection; ends one whose headers do not end."""

    patience: float = PATIENCE
    _caller: Caller = ANONYMOUS
    _head_awaited = True
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _certificate: bytes | None = None
    on_lost: Callable[[], None] | None = None
    _swallowed = 0  # bytes that came since the application last saw anything of a request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if self._certificate:
            self._caller = caller_from_certificate(x509.load_der_x509_certificate(self._certificate))
        whole: Any = _WholeAnswers(transport, self.loop)
        super().connection_made(whole)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)
        self._head_awaited = False
        self._watch_head()
        self._watch_writing()

    def _watch_head(self) -> None:
        """A head that is awaited has its time; a timer runs only where one has not come at once."""
        if not self._head_awaited and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        elif self._head_awaited and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.patience, self.transport.close)

    def _watch_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()
        self._write_timer = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch_writing()

    def data_received(self, data: bytes) -> None:
        # The parser keeps an unfinished header or trailer to itself, however long it grows: count what it swallows.
        self._swallowed += len(data)
        # Only a request ends the time of an idle connection: no empty line does, nor the rest of a refused body.
        idle, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        super().data_received(data)
        self._watch_head()
        if idle is not None:
            if self._head_awaited or self.transport.is_closing() or not self.cycle.response_complete:
                idle.cancel()
            else:
                self.timeout_keep_alive_task = idle
        if self._swallowed > MAX_HEAD and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._swallowed = 0
        self._head_awaited = False
        super().on_headers_complete()
        scope: Any = self.scope
        scope[_CYCLE_KEY] = self.cycle

    def on_body(self, body: bytes) -> None:
        self._swallowed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._swallowed = 0
        super().on_message_complete()

    def on_message_begin(self) -> None:
        self._head_awaited = True
        super().on_message_begin()
        scope: Any = self.scope
        scope[SCOPE_KEY] = self._caller
        if self._certificate:
            scope.setdefault("extensions", {})["tls"] = {"client_cert": self._certificate}


def is_gone(scope: Any) -> bool:
    """Whether the caller of a request has hung up, so that nobody will read the answer."""
    cycle = scope.get(_CYCLE_KEY)
    return cycle is not None and bool(cycle.disconnected)


class BodyLimit:
    """ASGI middleware: refuses a body over `limit` bytes before the application sees any of the excess.

    And one that takes longer than `patience` seconds to come: 408, and the connection is closed. `larger` says for
    which requests the application reads the body in pieces, and how many bytes it may have then.
    """

    def __init__(
        self, app: Application, limit: int = MAX_BODY, patience: float = PATIENCE, larger: Larger | None = None
    ) -> None:
        self.app = app
        self.limit = limit
        self.patience = patience
        self.larger = larger
        self._problem = _too_big(limit)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem, limit = self._problem, self.limit
        larger = self.larger(scope) if self.larger is not None else None
        if larger is not None:
            problem, limit = _too_big(larger), larger
        received = 0
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                await problem.response(reader_of(scope))(scope, receive, send)
                return

        cycle = scope.get(_CYCLE_KEY)
        deadline: float | None = None

        async def whole() -> Any:
            nonlocal deadline
            if cycle is None or not cycle.more_body:  # it is here, or the application waits for the caller to hang up
                return await receive()
            if deadline is None:
                deadline = asyncio.get_running_loop().time() + self.patience
            try:
                async with asyncio.timeout_at(deadline):
                    return await receive()
            except TimeoutError:
                raise _too_slow(self.patience) from None

        async def limited() -> Any:
            nonlocal received
            message = await whole()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    raise problem.with_traceback(None)  # one for all requests: it would gather their frames
            return message

        try:
            await self.app(scope, limited, send)
        except Problem as raised:
            if raised is not problem:
                raise
            await problem.response(reader_of(scope))(scope, receive, send)
        except Exception:
            # `problems.install` has answered and logged it without its text; re-raised, uvicorn would log the text.
            return


def _too_big(limit: int) -> Problem:
    problem = Problem(413, "message-too-big", Message("the body is over {limit} bytes", limit=limit), clause="KWBP K1")
    problem.noted = True
    return problem


def _too_slow(seconds: float) -> Problem:
    headers = {"Connection": "close"}  # what still comes of the body is no request
    problem = Problem(
        408,
        "body-too-slow",
        Message("the body did not come within {seconds} s", seconds=f"{seconds:g}"),
        headers=headers,
    )
    problem.noted = True
    return problem


class KnownCallers:
    """ASGI middleware: refuses every request of a caller whose certificate does not count (any more)."""

    def __init__(self, app: Application, refusal: Refusal) -> None:
        self.app = app
        self.refusal = refusal

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        caller = caller_of(scope) if scope["type"] == "http" else ANONYMOUS
        reason = None if caller.certificate is None else self.refusal(caller)
        if reason is None:
            await self.app(scope, receive, send)
            return
        _log.warning("caller refused", caller=str(caller), reason=reason)
        problem = Problem(
            403,
            "certificate-refused",
            Message(
                "the client certificate of {caller} does not count: {reason}",
                caller=caller,
                reason=Term("reason", reason),
            ),
            clause="CPS 4.9.6",
        )
        await problem.response(reader_of(scope))(scope, receive, send)


def server_context(tls: TlsFiles, client_certificate: ClientCertificate) -> ssl.SSLContext:
    """A TLS 1.3 server context that asks for a client certificate as told.

    New connections use the files as they are then (`runtime.tls_reload`).
    """

    def load(context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls.certificate, tls.key)
        context.verify_mode = _MODES[client_certificate]
        if client_certificate != "none":
            context.load_verify_locations(tls.ca)

    trusted = [tls.ca] if client_certificate != "none" else []
    return FollowingContext(ssl.PROTOCOL_TLS_SERVER, [tls.certificate, tls.key, *trusted], load)


def _config(
    app: Application,
    tls: TlsFiles | None,
    client_certificate: ClientCertificate,
    *,
    host: str,
    port: int,
    max_body: int,
    refusal: Refusal | None,
    drain: float = DRAIN,
    patience: float = PATIENCE,
    keep_alive: float = KEEP_ALIVE,
    larger: Larger | None = None,
) -> uvicorn.Config:
    context = server_context(tls, client_certificate) if tls is not None else None
    known = app if refusal is None else KnownCallers(app, refusal)
    return uvicorn.Config(
        BodyLimit(known, max_body, patience, larger),
        host=host,
        port=port,
        http=type("CallerProtocol", (_CallerProtocol,), {"patience": patience}),
        ws="none",
        loop="uvloop",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive,  # type: ignore[arg-type]  # it goes to loop.call_later
        timeout_graceful_shutdown=drain,  # type: ignore[arg-type]  # it goes to asyncio.wait_for
        ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
    )


class _Doors(uvicorn.Server):
    """A server that accepts only as many connections as its crowd lets in; without one, all."""

    crowd: Crowd | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.crowd is None or sockets is None:
            await super().startup(sockets)
            return
        await super().startup([])
        config, protocol = self.config, self.config.http_protocol_class

        def make() -> asyncio.Protocol:
            made: asyncio.Protocol = protocol(  # type: ignore[call-arg]  # as uvicorn makes its own
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        doors = [
            Door(
                each,
                self.crowd,
                make,
                tls=config.ssl,
                handshake=getattr(protocol, "patience", PATIENCE),
                backlog=config.backlog,
            )
            for each in sockets
        ]
        self.servers = doors  # type: ignore[assignment]  # what uvicorn does with them, they can


class _Ordered(OrderedServer, _Doors):
    pass


def serve(
    app: Application,
    *,
    host: str,
    port: int,
    tls: TlsFiles | None,
    client_certificate: ClientCertificate = "required",
    max_body: int = MAX_BODY,
    larger: Larger | None = None,
    refusal: Refusal | None = None,
    notice: float = 0.0,
    drain: float = DRAIN,
    on_stop: Callable[[], None] = lambda: None,
    on_hurry: Callable[[], None] = lambda: None,
    crowd: Callable[[], Crowd] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return (`runtime.shut_down`); for the main thread.

    `refusal` is asked about the caller of each request, `on_stop` and `on_hurry` are called when the first and when a
    further signal came. `crowd` says how many connections there may be, once the limit of descriptors was raised. After
    it the process is not ended by these signals any more.
    """
    _raise_file_limit()
    config = _config(
        app,
        tls,
        client_certificate,
        host=host,
        port=port,
        max_body=max_body,
        refusal=refusal,
        drain=drain,
        larger=larger,
    )
    ordered = _Ordered(config, notice=notice, on_stop=on_stop, on_hurry=on_hurry)
    if crowd is None:
        ordered.run()
    else:
        ordered.crowd = crowd()
        try:
            listener = _bound(host, port)
        except OSError as error:
            _log.error("cannot listen", host=host, port=port, error=error.strerror)
            raise SystemExit(_NOT_STARTED) from None
        ordered.run([listener])
    _log.info("drained")


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def start(
    app: Application,
    *,
    tls: TlsFiles | None,
    client_certificate: ClientCertificate = "required",
    host: str = "127.0.0.1",
    port: int = 0,
    max_body: int = MAX_BODY,
    larger: Larger | None = None,
    refusal: Refusal | None = None,
    patience: float = PATIENCE,
    keep_alive: float = KEEP_ALIVE,
    ready_timeout: float = 20.0,
    crowd: Crowd | None = None,
) -> Iterator[str]:
    """Serve in a background thread and yield the base URL; port 0 takes a free one."""
    config = _config(
        app,
        tls,
        client_certificate,
        host=host,
        port=port,
        max_body=max_body,
        refusal=refusal,
        patience=patience,
        keep_alive=keep_alive,
        larger=larger,
    )
    server = _Doors(config)
    server.crowd = crowd
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # not the main thread
    listener = _bound(host, port)
    failure: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:  # handed to the caller's thread below
            failure.append(error)

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    _wait(lambda: server.started or bool(failure) or not thread.is_alive(), ready_timeout)
    if failure:
        raise failure[0]
    if not server.started:
        raise RuntimeError("the server did not start")
    try:
        yield f"{'https' if tls is not None else 'http'}://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(ready_timeout)
        listener.close()


class _Beside(_Doors):
    """A server in somebody else's event loop: signals are not its business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def beside(
    app: Application,
    *,
    tls: TlsFiles | None,
    host: str,
    port: int,
    client_certificate: ClientCertificate = "none",
    max_body: int = MAX_BODY,
    drain: float = DRAIN,
    crowd: Crowd | None = None,
) -> AsyncIterator[None]:
    """Serve another application beside the one whose event loop this is, until the block ends; then drain.

    :raises OSError: the address is not to be had.
    """
    listener = _bound(host, port)
    try:
        config = _config(
            app, tls, client_certificate, host=host, port=port, max_body=max_body, refusal=None, drain=drain
        )
        server = _Beside(config)
        server.crowd = crowd
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        listening = asyncio.create_task(server.listens.wait())
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        try:
            yield
        finally:
            server.should_exit = True
            await serving
    finally:
        listener.close()


def _wait(condition: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
