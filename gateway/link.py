"""The line to the switch: one persistent TCP connection, many requests in flight.

What keeps a payment from believing the wrong thing, in the order in which an incoming message meets it:

1. its MAC is verified by the token over the bytes as they came; nothing of it is read before;
2. it decodes under the dialect, in the direction from the switch;
3. it is the answer to a request in flight: same MTI class, STAN, local time and date, acquirer, RRN, terminal;
4. it repeats what its request said: PAN, processing code, amount, currency and the rest of the echo table.

Whatever fails at 1 or 2 is dropped and counted, as if it had never come: the request it may have meant to answer runs
into its deadline, and an outcome that nobody can vouch for is reversed. Whatever passes 1 and 2 but answers nothing
(late, repeated, foreign) is filed (`on_unclaimed`).

Zone keys that the switch sends (0800/101) are handed on and answered once they are in use (`gateway.key_exchange`).
The line signs on before it carries payments and sends an echo every so often; when the switch does not answer either,
it closes and comes back, with growing pauses. When it breaks, requests in flight are told at once that no answer will
come.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from prometheus_client import Counter, Gauge

from gateway.backoff import pause
from gateway.errors import LinkDownError, NoAnswerError
from gateway.translation import times
from runtime.logging import get_logger
from shetab.dialect import MAC_SIZE, Dialect, Direction
from shetab.errors import FieldPresenceError, ShetabError
from shetab.framing import Framing
from shetab.message import Message

_SIGN_ON: Final = "001"
_SIGN_OFF: Final = "002"
_KEY_CHANGE: Final = "101"
_ECHO: Final = "301"
_APPROVED: Final = "00"
_NOT_SUPPORTED: Final = "40"  # ISO 8583:1987 table A.8: requested function not supported
_VERIFICATIONS: Final = 64
"""Answers being verified at once; beyond it the line stops reading, and TCP slows the switch down."""

_connected: Final = Gauge("kwbp_gateway_link_up", "1 while signed on to the switch")
_in_flight: Final = Gauge("kwbp_gateway_link_in_flight", "Requests waiting for the switch")
_refused: Final = Counter("kwbp_gateway_link_refused_total", "Messages from the switch that were not believed", ["why"])
_log = get_logger("gateway.link")


class MessageAuthentication(Protocol):
    """The zone MAC key, in the token."""

    async def mac(self, data: bytes) -> bytes:
        """The 8-byte MAC of `data`."""

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        """Whether `mac` is the MAC of `data`."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the switch is and how the line behaves; times in seconds."""

    host: str
    port: int
    institution: str
    """DE 33 of network management messages: who signs on."""
    framing: Framing
    connect_timeout: float = 5.0
    management_timeout: float = 10.0
    """Sign-on and echo unanswered for this long: the connection is given up."""
    echo_interval: float = 30.0
    first_pause: float = 0.2
    longest_pause: float = 10.0


class SwitchLink:
    """The client side of the line. `run` it as a task; `exchange` messages from others."""

    def __init__(
        self,
        settings: LinkSettings,
        dialect: Dialect,
        keys: MessageAuthentication,
        *,
        next_stan: Callable[[], Awaitable[str]],
        on_unclaimed: Callable[[Message], Awaitable[None]],
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        on_key: Callable[[Message], Awaitable[str]] | None = None,
    ) -> None:
        """`on_key` takes in the zone key of a 0800/101 and says what to answer; without it keys are not exchanged."""
        self._settings = settings
        self._dialect = dialect
        self._keys = keys
        self._next_stan = next_stan
        self._on_unclaimed = on_unclaimed
        self._clock = clock
        self._rng = rng
        self._on_key = on_key
        self._keys_taken = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._signed_on = False
        self._failures = 0
        self._waiting: dict[tuple[str, ...], tuple[Message, asyncio.Future[Message]]] = {}
        self._verifying: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_VERIFICATIONS)

    @property
    def signed_on(self) -> bool:
        """Whether payments can be sent right now."""
        return self._signed_on

    async def authenticate(self, message: Message) -> bytes:
        """The bytes of `message` with the token's MAC, ready for `exchange`. Nothing is sent.

        :raises ShetabError: the message breaks the dialect; whatever the token's client raises.
        """
        raw = self._dialect.encode(message)
        return self._dialect.with_mac(raw, await self._keys.mac(self._dialect.mac_input(raw)))

    async def exchange(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # T1 is part of the protocol
        """Send `raw`, the authenticated bytes of `message`, and wait `timeout` seconds for its answer.

        :raises LinkDownError: not signed on; no byte was written.
        :raises NoAnswerError: no believable answer in time, or the connection broke after the first byte.
        """
        if not self._signed_on:
            raise LinkDownError("not signed on to the switch")
        return await self._ask(message, raw, timeout)

    async def run(self) -> None:
        """Keep the line up until cancelled; then sign off and close."""
        while True:
            try:
                await self._session()
            except asyncio.CancelledError:
                raise
            except (OSError, TimeoutError, NoAnswerError, ShetabError, asyncio.IncompleteReadError) as error:
                _log.warning("no line to the switch", error=type(error).__name__)
            except Exception as error:  # the token's client may raise what it likes; the line must come back
                _log.error("line failed", error=type(error).__name__)
            self._failures += 1
            settings = self._settings
            wait = pause(self._failures, first=settings.first_pause, longest=settings.longest_pause, rng=self._rng)
            await asyncio.sleep(wait)

    # --- one connection ---------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        """Connect, sign on, keep alive until the connection ends."""
        settings = self._settings
        async with asyncio.timeout(settings.connect_timeout):
            reader, writer = await asyncio.open_connection(settings.host, settings.port)
        self._writer = writer
        reading = asyncio.create_task(self._read(reader))
        try:
            await self._manage(_SIGN_ON)
            self._failures = 0
            self._signed_on = not reading.done()
            _connected.set(self._signed_on)
            _log.info("signed on", host=settings.host, port=settings.port)
            while True:
                done, _ = await asyncio.wait({reading}, timeout=settings.echo_interval)
                if done:
                    reading.result()
                    return
                await self._manage(_ECHO)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._manage(_SIGN_OFF)
            raise
        finally:
            self._writer = None
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            writer.close()

    async def manage(self, code: str, more: Mapping[int, str]) -> str:
        """One network management exchange with the fields of `more`; the response code.

        :raises LinkDownError: not signed on. :raises NoAnswerError: no believable answer.
        """
        if not self._signed_on:
            raise LinkDownError("not signed on to the switch")
        return await self._managed(code, more)

    async def _manage(self, code: str) -> None:
        """One network management exchange; raises NoAnswerError or ConnectionError unless the switch agrees."""
        rc = await self._managed(code, {})
        if rc != _APPROVED:
            raise ConnectionError(f"the switch refused network management {code} with response code {rc}")

    async def _managed(self, code: str, more: Mapping[int, str]) -> str:
        stan = await self._next_stan()
        now = self._clock()
        fields = {**times(now), 11: stan, 33: self._settings.institution, 70: code, **more}
        message = Message("0800", fields)
        answer = await self._ask(message, await self.authenticate(message), self._settings.management_timeout)
        return answer[39]

    async def _ask(self, message: Message, raw: bytes, seconds: float) -> Message:
        writer = self._writer
        if writer is None:
            raise LinkDownError("not connected to the switch")
        key = self._dialect.match_key(message)
        if key in self._waiting:
            raise LinkDownError("a message with the same key is in flight")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (message, answer)
        _in_flight.inc()
        try:
            writer.write(self._settings.framing.frame(raw))
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise NoAnswerError(f"no answer to {message.mti} within {seconds:g} s") from None
        finally:
            _in_flight.dec()
            del self._waiting[key]

    def _abandon(self) -> None:
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NoAnswerError("the connection to the switch broke"))

    # --- what comes in ------------------------------------------------------------------------------------------------

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            await self._read_frames(reader)
        finally:
            # Whoever waits for an answer of this connection must not wait for its deadline, the echo included.
            self._signed_on = False
            _connected.set(0)
            self._abandon()

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
            await self._slots.acquire()
            task = asyncio.create_task(self._receive(raw))
            self._verifying.add(task)
            task.add_done_callback(self._received)

    def _received(self, task: asyncio.Task[None]) -> None:
        self._slots.release()
        self._verifying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _refused.labels("failed").inc()
            _log.error("an incoming message could not be handled", error=type(error).__name__)

    async def _receive(self, raw: bytes) -> None:
        if not await self._authentic(raw):
            _refused.labels("mac").inc()
            _log.error("a message from the switch has a wrong MAC", size=len(raw))
            return
        try:
            message = self._dialect.decode(raw, Direction.FROM_SWITCH)
        except ShetabError as error:
            _refused.labels("dialect").inc()
            _log.error("a message from the switch breaks the dialect", error=str(error))
            return
        if not message.is_response:
            await self._serve(message)
            return
        waiting = self._waiting.get(self._dialect.match_key(message))
        if waiting is not None and not waiting[1].done():
            try:
                self._dialect.check_echo(waiting[0], message)
            except FieldPresenceError as error:
                _refused.labels("echo").inc()
                _log.error("an answer does not repeat its request", mti=message.mti, field=error.field)
            else:
                waiting[1].set_result(message)
                return
        _refused.labels("unclaimed").inc()
        _log.warning("unclaimed answer", fields=dict(self._dialect.redact(message)))
        await self._on_unclaimed(message)

    async def _authentic(self, raw: bytes) -> bool:
        try:
            data = self._dialect.mac_input(raw)
            mac = bytes.fromhex(raw[len(data) :].decode("ascii"))
        except (ShetabError, ValueError):
            return False
        return len(mac) == MAC_SIZE and await self._keys.verify_mac(data, mac)

    async def _serve(self, request: Message) -> None:
        """Answer the switch's own network management: an echo, and zone keys; anything else is not served here."""
        fields = self._dialect.echoed_fields(request)
        code = _APPROVED if request[70] == _ECHO else _NOT_SUPPORTED
        if request[70] == _KEY_CHANGE and self._on_key is not None:
            async with self._keys_taken:  # in the order in which they come
                code = await self._on_key(request)
        fields |= {7: times(self._clock())[7], 39: code, 100: request[33]}
        raw = await self.authenticate(Message(self._dialect.response_mti(request.mti), fields))
        if self._writer is not None:
            self._writer.write(self._settings.framing.frame(raw))
