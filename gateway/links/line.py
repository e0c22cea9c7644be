"""One line: a connection that signs on, is kept alive, and comes back with growing pauses when it ends.

A line that breaks soon after every sign-on comes back ever more slowly: only a message that was believed, beyond the
sign-on itself, sets the pauses back. Nothing is written beyond what the buffer may hold: a peer that reads nothing
holds up no other line, and its echo cannot even be sent, which ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol

from gateway.backoff import pause
from gateway.errors import LinkError
from gateway.links.meters import LineState, Meters
from gateway.links.settings import Address, LinkSettings
from runtime.logging import get_logger
from shetab.errors import FramingError, ShetabError

SIGN_ON: Final = "001"
SIGN_OFF: Final = "002"
ECHO: Final = "301"
_VERIFICATIONS: Final = 64
"""Messages of a line being verified at once; beyond it the line stops reading, and TCP slows the switch down."""

_log = get_logger("gateway.link")


class Owner(Protocol):
    """As much of `gateway.links.link.SwitchLink` as a line needs."""

    async def manage_on(self, line: Line, code: str) -> None:
        """One network management exchange on this line; raises unless the switch agrees."""

    async def take(self, raw: bytes, line: Line) -> bool:
        """Judge a message that came; whether it is authentic."""

    def changed(self, line: Line) -> None:
        """The line is up, or not any more."""


class Line:
    """`run` it as a task."""

    def __init__(
        self,
        number: int,
        address: Address,
        settings: LinkSettings,
        owner: Owner,
        meters: Meters,
        *,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
    ) -> None:
        self.number = number
        self.meters = meters
        self._address = address
        self._settings = settings
        self._owner = owner
        self._clock = clock
        self._rng = rng
        self._writer: asyncio.StreamWriter | None = None
        self._failures = 0
        self._refused_in_a_row = 0
        self._unanswered_in_a_row = 0
        self._given_up = False
        self._verifying: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_VERIFICATIONS)
        self._state = "down"
        self._since = clock()

    @property
    def signed_on(self) -> bool:
        """Whether messages may go out on it."""
        return self._state == "up"

    def state(self, connector: str, clock_ahead: float | None) -> LineState:
        """The line for people, as one of `connector`, whose clock ours is ahead of so much."""
        meters = self.meters
        return LineState(
            connector=connector,
            line=self.number,
            address=str(self._address),
            tls=self._settings.tls is not None,
            state=self._state,
            since=self._since,
            in_flight=meters.in_flight,
            sent=meters.sent,
            received=meters.received,
            refused=meters.refused.total(),
            reconnects=meters.reconnects,
            p50_ms=meters.quantile_ms(0.5),
            p99_ms=meters.quantile_ms(0.99),
            clock_ahead=clock_ahead,
        )

    def has_room(self, size: int) -> bool:
        """Whether one more request of `size` bytes may go out."""
        return self.meters.in_flight < self._settings.in_flight and self._unsent(size) <= self._settings.write_buffer

    def write(self, raw: bytes) -> bool:
        """Send a message; False if it was not sent, because there is no connection or the peer reads nothing."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return False
        framed = self._settings.framing.frame(raw)
        if self._unsent(len(framed)) > self._settings.write_buffer:
            return False
        writer.write(framed)
        self.meters.wrote()
        return True

    def silent(self) -> None:
        """A request was not answered in time. Where no echo tells, too many of them tell that nobody is there."""
        self._unanswered_in_a_row += 1
        if not self._settings.network_management and self._unanswered_in_a_row >= self._settings.unanswered_in_a_row:
            self._abort("nothing was answered for too long")

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        while True:
            try:
                await self._session()
            except asyncio.CancelledError:
                raise
            except (OSError, TimeoutError, LinkError, ShetabError, asyncio.IncompleteReadError) as error:
                _log.warning("no line to the switch", line=self.number, error=type(error).__name__)
            except Exception as error:  # the token's client may raise what it likes; the line must come back
                _log.error("line failed", line=self.number, error=type(error).__name__)
            self._failures += 1
            settings = self._settings
            await asyncio.sleep(
                pause(self._failures, first=settings.first_pause, longest=settings.longest_pause, rng=self._rng)
            )
            self.meters.came_back()

    async def sign_off(self) -> None:
        """Take leave, if signed on; nothing goes out on the line afterwards."""
        if self.signed_on and self._settings.network_management:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._owner.manage_on(self, SIGN_OFF)
        self._is("down")

    # --- one connection -----------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        """Connect, sign on, keep alive until the connection ends."""
        settings = self._settings
        self._is("connecting")
        name = None if settings.tls is None else settings.server_name or self._address.host
        try:
            async with asyncio.timeout(settings.connect_timeout):
                reader, writer = await asyncio.open_connection(
                    self._address.host, self._address.port, ssl=settings.tls, server_hostname=name
                )
        except BaseException:
            self._is("down")
            raise
        self._writer = writer
        self._given_up = False
        self._refused_in_a_row = self._unanswered_in_a_row = 0
        _keep_alive(writer)
        reading = asyncio.create_task(self._read(reader))
        try:
            if settings.network_management:
                self._is("signing on")
                await self._owner.manage_on(self, SIGN_ON)
            if not reading.done():
                self._is("up")
                _log.info("signed on", line=self.number, address=str(self._address))
            while True:
                interval = settings.echo_interval if settings.network_management else None
                done, _ = await asyncio.wait({reading}, timeout=interval)
                if done:
                    reading.result()
                    return
                await self._owner.manage_on(self, ECHO)
                self._failures = 0
        finally:
            self._writer = None
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            # Not `close`: what the peer did not read would be kept, and flushed, for as long as it reads nothing.
            if self._unsent_of(writer):
                writer.transport.abort()
            else:
                writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            await self._read_frames(reader)
        except FramingError:
            self.meters.refuse("framing")
            raise
        finally:
            # Whoever waits for an answer of this connection must not wait for its deadline, the echo included.
            self._is("down")

    async def _read_frames(self, reader: asyncio.StreamReader) -> None:
        framing = self._settings.framing
        while True:
            try:
                prefix = await reader.readexactly(framing.prefix_size)
                raw = await reader.readexactly(framing.length(prefix))
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                return
            self.meters.came()
            await self._slots.acquire()
            if self._given_up:  # what was read before the connection was aborted is not looked at any more
                self._slots.release()
                raise ConnectionAbortedError
            task = asyncio.create_task(self._judge(self._owner.take(raw, self)))
            self._verifying.add(task)
            task.add_done_callback(self._verified)

    async def _judge(self, judged: Awaitable[bool]) -> None:
        if await judged:
            self._refused_in_a_row = self._unanswered_in_a_row = 0
            if self.signed_on:
                self._failures = 0
            return
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= self._settings.refused_in_a_row:
            self._abort("nothing that came could be believed")

    def _verified(self, task: asyncio.Task[None]) -> None:
        self._slots.release()
        self._verifying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.meters.refuse("failed")
            _log.error("an incoming message could not be handled", line=self.number, error=type(error).__name__)

    def _abort(self, why: str) -> None:
        if self._writer is not None:
            _log.error("line closed", line=self.number, why=why, alarm=True)
            self._given_up = True
            self._writer.transport.abort()

    def _is(self, state: str) -> None:
        if state == self._state:
            return
        was_up, self._state, self._since = self.signed_on, state, self._clock()
        self.meters.is_up(self.signed_on)
        if was_up or self.signed_on or state == "down":
            self._owner.changed(self)

    def _unsent(self, size: int) -> int:
        return size + (0 if self._writer is None else self._unsent_of(self._writer))

    @staticmethod
    def _unsent_of(writer: asyncio.StreamWriter) -> int:
        return writer.transport.get_write_buffer_size()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the system notice a peer that is gone without a word, where there is a socket to ask that of."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
