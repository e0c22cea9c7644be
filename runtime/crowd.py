"""How many connections a port may have, in all and from one address: beyond that they are closed as they are accepted.

A connection costs a file descriptor from the moment on that it is accepted, long before anybody is known by a
certificate. Ports of one process share these: a port for anybody must not take them from a port for customers. So each
port has a number of its own, counted before TLS, and no address may have all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import socket
import ssl
from collections import Counter as Tally
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge

from runtime.logging import get_logger

_PAUSE: Final = 0.1
"""Seconds in which nothing is accepted after the system had no descriptor for it."""
_NETWORK: Final = 64  # bits of an IPv6 address that tell subscribers apart
_open: Final = Gauge("kwbp_server_connections", "Open connections", ["port"])
_refused: Final = Counter("kwbp_server_connections_refused_total", "Connections closed at once", ["port", "reason"])
_log = get_logger("server")


class Crowd:
    """The connections of one port, `port` by name: `total` at most, and `of_one` from one address."""

    def __init__(self, port: str, *, total: int, of_one: int) -> None:
        self.port = port
        self._total = total
        self._of_one = of_one
        self._from: Tally[str] = Tally()
        _open.labels(port).set(0)
        for reason in ("total", "address", "descriptors"):
            _refused.labels(port, reason)

    def enter(self, address: str) -> bool:
        """Count a connection from `address`; False, and nothing counted, if there is no place for it."""
        one = whence(address)
        if self._from.total() >= self._total:
            _refused.labels(self.port, "total").inc()
            return False
        if self._from[one] >= self._of_one:
            _refused.labels(self.port, "address").inc()
            return False
        self._from[one] += 1
        _open.labels(self.port).inc()
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted is closed."""
        self._from[whence(address)] -= 1
        if not self._from[whence(address)]:
            del self._from[whence(address)]
        _open.labels(self.port).dec()

    def note_no_descriptor(self) -> None:
        """The system had none for a connection."""
        _refused.labels(self.port, "descriptors").inc()


def whence(address: str) -> str:
    """What counts as one address: that of IPv4, the network of a subscriber of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _NETWORK), strict=False))
    return str(parsed)


def share_of_descriptors(part: float) -> int:
    """So many of the descriptors that this process may have open, at least one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else max(1, int(soft * part))


class Door:
    """Accepts on a bound socket for a server, as far as the crowd lets; `close` it as an `asyncio.Server`."""

    def __init__(
        self,
        listener: socket.socket,
        crowd: Crowd,
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None,
        handshake: float,
        backlog: int,
    ) -> None:
        """`handshake`: seconds that TLS may take."""
        self._listener = listener
        self._crowd = crowd
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake = handshake
        self._connecting: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        listener.listen(backlog)
        self.sockets = [listener]
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        self._accepting.cancel()

    async def wait_closed(self) -> None:
        """Until nothing is accepted any more."""
        await asyncio.gather(self._accepting, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:
                self._crowd.note_no_descriptor()
                _log.error("nothing can be accepted", port=self._crowd.port, error=error.strerror, alarm=True)
                await asyncio.sleep(_PAUSE)
                continue
            if not self._crowd.enter(address[0]):
                connection.close()
                continue
            task = asyncio.create_task(self._connect(connection, address[0]))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket, address: str) -> None:
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._crowd.leave(address)

        def protocol() -> asyncio.Protocol:
            made = self._make_protocol()
            made.on_lost = leave  # type: ignore[attr-defined]  # `runtime.server`'s protocol has it
            return made

        try:
            with contextlib.suppress(OSError):  # ssl.SSLError and what a client does in the handshake among them
                await asyncio.get_running_loop().connect_accepted_socket(
                    protocol,
                    connection,
                    ssl=self._tls,
                    ssl_handshake_timeout=self._handshake if self._tls is not None else None,
                )
                return
            leave()
            connection.close()
        except BaseException:
            leave()
            connection.close()
            raise
