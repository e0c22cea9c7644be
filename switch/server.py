"""The TCP side: connections, frames, one task a message, so that a delayed answer holds up no other.

An acquirer may have several connections. Each is signed on for itself, and what came on one is answered on it; a zone
key is sent on one of them and is good on all. With a TLS context every connection is TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Sequence
from typing import Final

from runtime.logging import get_logger
from shetab.errors import FramingError
from shetab.framing import Framing
from shetab.subfields import ZoneKeyKind
from switch.processing import Processor, Reply, Session
from switch.records import Line

_AT_ONCE: Final = 256
"""Messages of one connection under way; beyond it the connection is not read, and TCP slows the sender down."""

_CONNECTIONS: Final = 64
"""At once. Whoever connects beyond is hung up on: each costs memory before anything is known of it."""

_log = get_logger("switch.server")


class SwitchServer:
    """Listens in a thread with an event loop of its own. `start` it, read `port`, `close` it."""

    def __init__(
        self, processor: Processor, framing: Framing, *, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._processor = processor
        self._framing = framing
        self._host = host
        self._wanted_port = port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="switch-line", daemon=True)
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._stop: asyncio.Event | None = None
        self._connections: dict[asyncio.StreamWriter, Session] = {}
        self.port = 0

    def start(self) -> None:
        """Listen. When this returns, connections are accepted.

        :raises OSError: the address is not to be had.
        """
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop listening, break the connections, end the thread."""
        if self._thread.is_alive() and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def listening(self) -> bool:
        """True while connections are accepted."""
        return self._started.is_set() and self._failure is None and self._thread.is_alive()

    def break_connections(self) -> None:
        """Abort every connection, as a network that fails."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def change_keys(self, institution: str, kinds: Sequence[ZoneKeyKind]) -> bool:
        """Send an acquirer its next zone keys over its newest signed-on connection; False if there is none.

        :raises KeyFileError: there is no master key.
        """
        return asyncio.run_coroutine_threadsafe(self._change_keys(institution, kinds), self._loop).result()

    async def _change_keys(self, institution: str, kinds: Sequence[ZoneKeyKind]) -> bool:
        signed_on = [each for each in self._connections.items() if each[1].institution == institution]
        if not signed_on:
            return False
        writer, session = signed_on[-1]
        for kind in kinds:
            frame = self._framing.frame(await self._processor.offer(session, kind))
            if writer.is_closing() or writer not in self._connections or session.institution is None:
                return False  # it ended or signed off meanwhile; the key is sent again when one is asked for
            writer.write(frame)
        return True

    def _abort_all(self) -> None:
        for writer in self._connections:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            server = await asyncio.start_server(self._connection, self._host, self._wanted_port, ssl=self._tls)
        except OSError as error:
            self._failure = error
            self._started.set()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        _log.info("listening", host=self._host, port=self.port)
        async with server:
            await self._stop.wait()
            server.close()
            self._abort_all()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS:
            writer.transport.abort()
            return
        session = Session()
        slots = asyncio.Semaphore(_AT_ONCE)
        under_way: set[asyncio.Task[None]] = set()
        self._connections[writer] = session
        try:
            while True:
                prefix = await reader.readexactly(self._framing.prefix_size)
                raw = await reader.readexactly(self._framing.length(prefix))
                await slots.acquire()
                task = asyncio.create_task(self._message(raw, session, writer))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                task.add_done_callback(lambda _: slots.release())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except FramingError as error:
            _log.warning("connection closed", error=str(error))
        finally:
            del self._connections[writer]
            writer.close()

    async def _message(self, raw: bytes, session: Session, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._processor.handle(raw, session)
        except Exception as error:  # the line outlives a message that fails; what failed is in no log but by its class
            self._processor.statistics.dropped["failed"] += 1
            _log.error("message failed", error=type(error).__name__)
            return
        if reply.disconnect:
            writer.transport.abort()
            return
        if reply.after:
            await asyncio.sleep(reply.after)
        for frame in reply.frames:
            if not writer.is_closing():
                writer.write(self._spoilt(frame, reply) or self._framing.frame(frame))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if reply.torn:
            writer.close()

    def _spoilt(self, frame: bytes, reply: Reply) -> bytes | None:
        """The bytes of a frame that is not whole, or whose prefix lies; None: it is sound."""
        whole = self._framing.frame(frame)
        if reply.torn:
            return whole[: len(whole) // 2]
        if reply.too_long:
            return b"\xff" * self._framing.prefix_size + frame
        return None

    def lines(self) -> list[Line]:
        """The open connections."""
        return [
            Line(":".join(map(str, (writer.get_extra_info("peername") or ("",))[:2])), session.institution)
            for writer, session in list(self._connections.items())
        ]
