"""The lines to one switch together: a connector that spreads requests over those that are signed on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

import prometheus_client

from gateway.errors import LinkBusyError, LinkDownError, NoAnswerError
from gateway.links.alarms import LinkAlarms
from gateway.links.clocks import NetworkClock
from gateway.links.in_flight import InFlight, Judge, abandon
from gateway.links.intake import Intake, MessageAuthentication
from gateway.links.line import ECHO, Line
from gateway.links.meters import LineState, Meters
from gateway.links.settings import LinkSettings
from gateway.translation import ORDERS, times
from runtime.lasting import lasting
from runtime.logging import get_logger
from shetab.dialect import Dialect
from shetab.message import Message

_KEY_CHANGE: Final = "101"
_APPROVED: Final = "00"
_NOT_SUPPORTED: Final = "40"  # ISO 8583:1987 table A.8: requested function not supported

_shed: Final = prometheus_client.Counter(
    "kwbp_gateway_link_shed_total", "Messages not sent because too many were under way", ["connector"]
)
_log = get_logger("gateway.link")


class SwitchLink:
    """The client side of the lines. `run` it as a task; `exchange` messages from others."""

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
        name: str = "switch",
    ) -> None:
        """`on_key` takes in the zone key of a 0800/101 and says what to answer; without it keys are not exchanged."""
        self.name = name
        self._settings = settings
        self._dialect = dialect
        self._keys = keys
        self._next_stan = next_stan
        self._clock = clock
        self._on_key = on_key
        self._keys_taken = asyncio.Lock()
        """Keys are taken in the order in which they come, whatever the line."""
        self._in_flight = InFlight(dialect)
        self._intake = Intake(dialect, keys, self._in_flight, on_unclaimed)
        addresses = [address for _ in range(settings.connections) for address in settings.addresses]
        self._lines = [
            Line(number, address, settings, self, Meters(name, number), clock=clock, rng=rng)
            for number, address in enumerate(addresses, start=1)
        ]
        self._alarms = LinkAlarms(name, len(self._lines), after=settings.alarm_after)
        self._network_clock = NetworkClock(name, settings.clock_limit, self._alarms)
        self._draining = False

    @property
    def signed_on(self) -> bool:
        """Whether payments can be sent right now."""
        return not self._draining and any(line.signed_on for line in self._lines)

    def lines(self) -> list[LineState]:
        """The lines as they are, for people."""
        return [line.state(self.name, self._network_clock.ahead) for line in self._lines]

    async def authenticate(self, message: Message) -> bytes:
        """The bytes of `message` with the token's MAC, ready for `exchange`. Nothing is sent.

        :raises ShetabError: the message breaks the dialect; whatever the token's client raises.
        """
        raw = self._dialect.encode(message)
        return self._dialect.with_mac(raw, await self._keys.mac(self._dialect.mac_input(raw)))

    async def exchange(
        self,
        message: Message,
        raw: bytes,
        timeout: float,  # noqa: ASYNC109  # T1 is part of the protocol
        judge: Judge | None = None,
    ) -> Message:
        """Send `raw`, the authenticated bytes of `message`, and wait `timeout` seconds for its answer.

        `judge` as in `gateway.ports.Connector`.

        :raises LinkDownError: not signed on, or too much under way (`LinkBusyError`); no byte was written.
        :raises NoAnswerError: no believable answer in time, or the connection broke after the first byte.
        """
        return await self._ask(self._pick(message, len(raw)), message, raw, timeout, judge)

    async def manage(self, code: str, more: Mapping[int, str]) -> str:
        """One network management exchange with the fields of `more`, on any line; the response code.

        :raises LinkDownError: not signed on. :raises NoAnswerError: no believable answer.
        """
        message = await self._management(code, more)
        raw = await self.authenticate(message)
        return (await self._ask(self._pick(message, len(raw)), message, raw, self._settings.management_timeout))[39]

    async def run(self) -> None:
        """Keep the lines up until cancelled; then let what is under way end, sign off and close."""
        self._draining = False
        self._alarms.look(0)
        running = [asyncio.create_task(lasting(f"line {line.number} of {self.name}", line.run)) for line in self._lines]
        try:
            await asyncio.wait(running)
        finally:
            if await self.drain():
                await asyncio.gather(*(line.sign_off() for line in self._lines))
            self._alarms.stop()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def drain(self) -> bool:
        """Take nothing new and wait for what is in flight; whether nothing is left.

        A switch that is signed off answers nothing: whoever signs off earlier makes outcomes unknown.
        """
        self._draining = True
        return await self._in_flight.none_left(self._settings.management_timeout)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _pick(self, message: Message, size: int) -> Line:
        """The line with least in flight."""
        if not self.signed_on:
            raise LinkDownError("not signed on to the switch")
        settings = self._settings
        up = [line for line in self._lines if line.signed_on]
        bound = min(settings.in_flight_total, settings.in_flight * len(up))
        kept = settings.kept_for_reversals if message.mti in ORDERS else 0
        room = [line for line in up if line.has_room(size)]
        if not room or len(self._in_flight) >= max(1, bound - kept):
            _shed.labels(self.name).inc()
            raise LinkBusyError("as much as the switch may be asked at once is under way")
        return min(room, key=lambda line: (line.meters.in_flight, line.meters.sent))

    async def _ask(
        self, line: Line, message: Message, raw: bytes, seconds: float, judge: Judge | None = None
    ) -> Message:
        with self._in_flight.entered(message, line.number, judge) as answer:
            if not line.write(raw):
                raise LinkDownError("not connected to the switch")
            began, in_time, sent = line.meters.asked(), False, self._clock()
            try:
                async with asyncio.timeout(seconds):
                    found = await answer
                in_time = True
            except TimeoutError:
                line.silent()
                raise NoAnswerError(f"no answer to {message.mti} within {seconds:g} s") from None
            finally:
                line.meters.answered(began, in_time=in_time)
            self._network_clock.answered(message, found, sent, self._clock())
            return found

    async def _management(self, code: str, more: Mapping[int, str]) -> Message:
        stan, now = await self._next_stan(), self._clock()
        return Message("0800", {**times(now), 11: stan, 33: self._settings.institution, 70: code, **more})

    # --- what lines need ----------------------------------------------------------------------------------------------

    async def manage_on(self, line: Line, code: str) -> None:
        """One network management exchange on `line`; NoAnswerError or ConnectionError unless the switch agrees."""
        message = await self._management(code, {})
        raw = await self.authenticate(message)
        rc = (await self._ask(line, message, raw, self._settings.management_timeout))[39]
        if rc != _APPROVED:
            raise ConnectionError(f"the switch refused network management {code} with response code {rc}")

    async def take(self, raw: bytes, line: Line) -> bool:
        """Judge a message that came on `line`, and serve it if it asks for something."""
        authentic, request = await self._intake.take(raw, line.meters)
        if request is not None:
            line.write(await self._served(request))
        return authentic

    def changed(self, line: Line) -> None:
        """A line is up, or its connection ended: then whoever waits for an answer of it is told, soon or at once."""
        up = sum(each.signed_on for each in self._lines)
        if not self._draining:
            self._alarms.look(up)
        if line.signed_on:
            return
        left = self._in_flight.of_line(line.number)
        own = [waiting for waiting in left if up == 0 or waiting.request.mti == "0800"]
        abandon(own)
        if others := [waiting for waiting in left if waiting not in own]:
            asyncio.get_running_loop().call_later(self._settings.handed_over, abandon, others)

    async def _served(self, request: Message) -> bytes:
        """The switch's own network management: an echo, and zone keys; anything else is not served here."""
        fields = self._dialect.echoed_fields(request)
        code = _APPROVED if request[70] == ECHO else _NOT_SUPPORTED
        if request[70] == _KEY_CHANGE and self._on_key is not None:
            async with self._keys_taken:
                code = await self._on_key(request)
        fields |= {7: times(self._clock())[7], 39: code, 100: request[33]}
        return await self.authenticate(Message(self._dialect.response_mti(request.mti), fields))
