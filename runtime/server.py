"""How every service listens: uvicorn with TLS 1.3, the caller taken from the client certificate, a cap on bodies.

uvicorn does not hand the client certificate to the application; a small protocol class does, once a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import uvicorn
from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.client import TlsFiles
from runtime.identity import ANONYMOUS, SCOPE_KEY, Caller, caller_from_certificate
from runtime.logging import get_logger
from runtime.problems import Problem

ClientCertificate = Literal["required", "optional", "none"]
Application = Any  # an ASGI callable; uvicorn's own type is private

MAX_BODY: Final = 256 * 1024  # bytes; protocol.md, global rule 7

_MODES: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_log = get_logger("server")


class _CallerProtocol(HttpToolsProtocol):
    """Puts the caller into the scope of each request of a connection."""

    _caller: Caller = ANONYMOUS
    _certificate: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if self._certificate:
            self._caller = caller_from_certificate(x509.load_der_x509_certificate(self._certificate))
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope[SCOPE_KEY] = self._caller
        if self._certificate:
            scope.setdefault("extensions", {})["tls"] = {"client_cert": self._certificate}


class BodyLimit:
    """ASGI middleware: refuses a body over `limit` bytes before the application sees any of the excess."""

    def __init__(self, app: Application, limit: int = MAX_BODY) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = Problem(413, "message-too-big", f"the body is over {self.limit} bytes", clause="KWBP K1")
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > self.limit):
                await problem.response()(scope, receive, send)
                return
        received = 0

        async def limited() -> Any:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.limit:
                    raise problem
            return message

        try:
            await self.app(scope, limited, send)
        except Problem as raised:
            if raised is not problem:
                raise
            await problem.response()(scope, receive, send)
        except Exception:
            # `problems.install` has answered and logged it without its text; re-raised, uvicorn would log the text.
            return


def server_context(tls: TlsFiles, client_certificate: ClientCertificate) -> ssl.SSLContext:
    """A TLS 1.3 server context that asks for a client certificate as told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(tls.certificate, tls.key)
    context.verify_mode = _MODES[client_certificate]
    if client_certificate != "none":
        context.load_verify_locations(tls.ca)
    return context


def _config(
    app: Application,
    tls: TlsFiles | None,
    client_certificate: ClientCertificate,
    *,
    host: str,
    port: int,
    max_body: int,
) -> uvicorn.Config:
    context = server_context(tls, client_certificate) if tls is not None else None
    return uvicorn.Config(
        BodyLimit(app, max_body),
        host=host,
        port=port,
        http=_CallerProtocol,
        ws="none",
        loop="uvloop",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=65,  # longer than our clients keep a connection, so that they close first
        timeout_graceful_shutdown=10,
        ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
    )


def serve(
    app: Application,
    *,
    host: str,
    port: int,
    tls: TlsFiles | None,
    client_certificate: ClientCertificate = "required",
    max_body: int = MAX_BODY,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return."""
    _log.info("listening", host=host, port=port, tls=tls is not None, client_certificate=client_certificate)
    uvicorn.Server(_config(app, tls, client_certificate, host=host, port=port, max_body=max_body)).run()


@contextlib.contextmanager
def start(
    app: Application,
    *,
    tls: TlsFiles | None,
    client_certificate: ClientCertificate = "required",
    host: str = "127.0.0.1",
    port: int = 0,
    max_body: int = MAX_BODY,
    ready_timeout: float = 20.0,
) -> Iterator[str]:
    """Serve in a background thread and yield the base URL; port 0 takes a free one."""
    config = _config(app, tls, client_certificate, host=host, port=port, max_body=max_body)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # not the main thread
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
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


def _wait(condition: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
