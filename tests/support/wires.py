"""Taps: what passes each wire in clear, inside TLS, and the line to the switch; for tests of who sees what.

with tapped(wires):  servers of this process are tapped at their ASGI edge, key services' clients where they send
SwitchTap(wires, port).port   stands between a gateway and its switch
"""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx
import pytest

from kwbp.errors import ProtocolError
from kwbp.wrapper import unwrap
from pki.oids import CT_ERROR
from runtime import keepalive, server
from shetab.dialect import Dialect
from shetab.framing import Framing

REFUSALS: Final = "refusals"


class Wires:
    """Everything that went over each wire, by its name; and all refusals, whoever gave them."""

    def __init__(self) -> None:
        self.seen: dict[str, list[bytes]] = defaultdict(list)

    def add(self, wire: str, *parts: bytes) -> None:
        self.seen[wire] += parts

    def answered(self, wire: str, status: int, body: bytes) -> None:
        self.add(wire, body)
        if status >= 400 or is_error(body):
            self.add(REFUSALS, body)


def is_error(body: bytes) -> bool:
    """Whether this is a message of the protocol that refuses."""
    with suppress(ProtocolError):
        return unwrap(body, expected=[CT_ERROR]) is not None
    return False


class TappedApp:
    """An ASGI application; what comes in and goes out is noted."""

    def __init__(self, app: Any, wires: Wires, wire: str) -> None:
        self._app, self._wires, self._wire = app, wires, wire

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wire = self._wire if not scope["path"].startswith("/orders") else "merchant-operator"
        heads = [b"%s: %s" % each for each in scope["headers"]]
        self._wires.add(wire, scope["raw_path"] + b"?" + scope["query_string"], *heads)
        asked, answered, status = bytearray(), bytearray(), 0

        async def noted() -> Any:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def told(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._wires.add(wire, *(b"%s: %s" % (name, value) for name, value in message["headers"]))
            answered.extend(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, noted, told)
        finally:
            self._wires.add(wire, bytes(asked))
            self._wires.answered(wire, status, bytes(answered))


class TappedTransport(httpx.BaseTransport):
    """The same for a client whose server has no socket."""

    def __init__(self, real: httpx.BaseTransport, wires: Wires, wire: str) -> None:
        self._real, self._wires, self._wire = real, wires, wire

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._wires.add(self._wire, str(request.url).encode(), request.read())
        response = self._real.handle_request(request)
        self._wires.answered(self._wire, response.status_code, response.read())
        return response


@contextmanager
def tapped(wires: Wires, *, name: Callable[[str], str | None], keys_port: int) -> Iterator[None]:
    """While it lasts, servers that start are tapped under `name(their title)`, and calls to the key service."""
    start, exchange = server.start, keepalive._Pool.exchange

    def tapped_start(app: Any, **options: Any) -> Any:
        wire = name(getattr(app, "title", ""))
        return start(app if wire is None else TappedApp(app, wires, wire), **options)

    async def tapped_exchange(self: Any, message: bytes, **options: Any) -> httpx.Response:
        if self.origin[2] != keys_port:
            return await exchange(self, message, **options)
        head = message.partition(b"\r\n")[0]
        wire = "merchant-keys" if b"/keys/merchant-" in head else "gateway-keys"
        wires.add(wire, message)
        response = await exchange(self, message, **options)
        wires.answered(wire, response.status_code, response.content)
        return response

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "start", tapped_start)
        patched.setattr(keepalive._Pool, "exchange", tapped_exchange)
        yield


class SwitchTap:
    """A relay before the switch: bytes as they come, and the data elements that they decode to as JSON."""

    def __init__(self, wires: Wires, target: int) -> None:
        self._wires, self._target = wires, target
        self._dialect, self._framing = Dialect.load("shetab87_ascii"), Framing()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        rest = b""
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                self._wires.add("gateway-switch", data)
                messages, rest = self._framing.split(rest + data)
                for message in messages:
                    fields = {str(number): value for number, value in self._dialect.decode(message).fields.items()}
                    self._wires.add("gateway-switch", json.dumps(fields).encode())
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
