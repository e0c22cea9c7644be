"""An authoriser that is asked over HTTPS with JSON: `POST /v1/transactions`, one message in, its answer out.

Authentic is what comes over TLS from the holder of the certificate that the settings name, who knows us by ours; where
the agreement wants it, both bodies carry a MAC by the zone key in the token too (`kwbp-mac`, hexadecimal). Nothing else
of HTTP is believed to say anything of money:

    what comes of a request                                    means
    no connection, no TLS, no free connection                  not sent: `LinkDownError`
    4xx with a problem document (RFC 9457), where no MAC is    not taken in: `NotAcceptedError`; certain
    agreed (see `answers`)
    408, 409, 425: somebody may be working on it               unknown
    5xx, another 4xx, 2xx with what is no answer to this       unknown: `NoAnswerError`
    an answer that nobody can judge, the token being away      unknown
    no answer in time, connection broken after the request     unknown
    200 with the answer to this very request                   the answer

A request that ran into its deadline is listened to for a while longer; what it answers then is filed as late. A repeat
carries the same `idempotency-key` as what it repeats; a reversal has one of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpx
import prometheus_client

from gateway.connectors.answers import MAC_HEADER, MEDIA_TYPE, Answers
from gateway.errors import LinkBusyError, LinkDownError, NoAnswerError
from gateway.links.alarms import LinkAlarms
from gateway.links.in_flight import Judge
from gateway.links.intake import MessageAuthentication
from gateway.links.meters import LineState, Meters
from gateway.translation import ORDERS
from runtime.client import AsyncTransport
from runtime.lasting import is_ending
from runtime.logging import get_logger
from shetab.dialect import MAC_SIZE, Dialect
from shetab.json_form import JsonForm
from shetab.message import Message

PATH: Final = "/v1/transactions"
HEALTH: Final = "/health/ready"
IDEMPOTENCY_KEY: Final = "idempotency-key"
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_ECHO: Final = "301"
_APPROVED: Final = "00"
_NOT_SUPPORTED: Final = "40"  # ISO 8583:1987 table A.8

_shed: Final = prometheus_client.Counter(
    "kwbp_gateway_authoriser_shed_total", "Messages not sent because too many were under way", ["connector"]
)
_log = get_logger("gateway.authoriser")


@dataclass(frozen=True, slots=True)
class AuthoriserSettings:
    """How an authoriser is asked; times in seconds."""

    url: str
    connections: int = 32
    """Requests under way at once, those included that are listened to for a late answer; beyond it nothing is sent."""
    kept_for_reversals: int = 8
    """Of `connections`, not to be had by new orders: what gives money back gets through when orders crowd."""
    with_mac: bool = False
    look_every: float = 5.0
    """How often an authoriser is asked whether it is there, to know that before an order is sent."""
    management_timeout: float = 10.0
    """A look unanswered for this long: it is not there. At the end, so long is waited for what is under way."""
    late: float = 60.0
    """How long after its deadline an answer is still listened to."""
    alarm_after: float = 30.0


class HttpAuthoriser:
    """The connector. `run` it as a task; it closes `transport` when it ends.

    `transport` must know the other side by its certificate and present ours; its own deadline must be longer than any
    deadline of a request and `late` together.
    """

    def __init__(
        self,
        name: str,
        settings: AuthoriserSettings,
        dialect: Dialect,
        transport: AsyncTransport,
        keys: MessageAuthentication,
        *,
        on_unclaimed: Callable[[Message], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self.name = name
        self._settings = settings
        self._dialect = dialect
        self._form = JsonForm(dialect)
        self._transport = transport
        self._keys = keys
        self._on_unclaimed = on_unclaimed
        self._clock = clock
        self._meters = Meters(name, 1)
        self._answers = Answers(
            name, dialect, keys, self._meters, with_mac=settings.with_mac, on_unclaimed=on_unclaimed
        )
        self._alarms = LinkAlarms(name, 1, after=settings.alarm_after)
        self._up = False
        self._draining = False
        self._since = clock()
        self._under_way: set[asyncio.Task[Message]] = set()
        self._waited_for: set[asyncio.Task[Message]] = set()
        """Those of them whose deadline is to come."""
        self._keys_in_flight: set[str] = set()
        self._filing: set[asyncio.Task[None]] = set()
        """Late answers being filed: the loop itself holds tasks only weakly."""

    @property
    def signed_on(self) -> bool:
        """Whether it said that it is ready when it was last asked."""
        return self._up and not self._draining

    def lines(self) -> list[LineState]:
        """As one line, for people."""
        meters = self._meters
        state = LineState(
            connector=self.name,
            line=1,
            address=self._settings.url,
            tls=self._settings.url.startswith("https://"),
            state="up" if self._up else "down",
            since=self._since,
            in_flight=meters.in_flight,
            sent=meters.sent,
            received=meters.received,
            refused=meters.refused.total(),
            reconnects=meters.reconnects,
            p50_ms=meters.quantile_ms(0.5),
            p99_ms=meters.quantile_ms(0.99),
        )
        return [state]

    async def authenticate(self, message: Message) -> bytes:
        """The body of the request, after its MAC where there is one. Nothing is sent.

        :raises ShetabError: the message breaks the dialect; whatever the token's client raises.
        """
        body = self._form.encode(message)
        return (await self._keys.mac(body) if self._settings.with_mac else b"") + body

    async def exchange(
        self,
        message: Message,
        raw: bytes,
        timeout: float,  # noqa: ASYNC109  # T1 is part of the protocol
        judge: Judge | None = None,
    ) -> Message:
        """Send `raw`, what `authenticate` gave for `message`, and wait `timeout` seconds for its answer.

        `judge` is never asked: most authorisers agree on no MAC, and the others' is verified here.

        :raises LinkDownError: not sent (`LinkBusyError`: too much under way), or not taken in (`NotAcceptedError`).
        :raises NoAnswerError: unknown.
        """
        if not self.signed_on:
            raise LinkDownError("the authoriser is not there")
        settings = self._settings
        kept = settings.kept_for_reversals if message.mti in ORDERS else 0
        if len(self._under_way) >= max(1, settings.connections - kept):
            _shed.labels(self.name).inc()
            raise LinkBusyError("as much as the authoriser may be asked at once is under way")
        key = idempotency_key(self._dialect, message)
        if key in self._keys_in_flight:
            raise LinkDownError("a message with the same key is in flight")
        self._keys_in_flight.add(key)
        asking = asyncio.create_task(self._ask(message, raw, key))
        self._under_way.add(asking)
        self._waited_for.add(asking)
        asking.add_done_callback(lambda task: self._landed(task, key))
        began, in_time = self._meters.asked(), False
        try:
            done, _ = await asyncio.wait({asking}, timeout=timeout)
            if not done:
                raise NoAnswerError(f"no answer to {message.mti} within {timeout:g} s")
            in_time = True
            if asking.cancelled():
                raise NoAnswerError("the gateway stopped before the answer came")
            return asking.result()
        finally:
            self._waited_for.discard(asking)
            self._meters.answered(began, in_time=in_time)
            if not in_time:  # the deadline, or whoever waited was cancelled: what comes now is late
                asking.add_done_callback(self._late)
                asyncio.get_running_loop().call_later(settings.late, asking.cancel)

    async def manage(self, code: str, more: Mapping[int, str]) -> str:
        """An echo (301) asks whether it is there; there is no other network management over HTTP."""
        if code != _ECHO:
            return _NOT_SUPPORTED
        await self._look()
        if not self._up:
            raise LinkDownError("the authoriser is not there")
        return _APPROVED

    async def run(self) -> None:
        """Ask every so often whether it is there, until cancelled; then let what is under way end."""
        self._draining = False
        self._alarms.look(0)
        try:
            while True:
                try:
                    await self._look()
                except Exception as error:  # whatever it is, the next look may find it better
                    _log.error(
                        "the authoriser could not be looked for", connector=self.name, error=type(error).__name__
                    )
                    self._is_up(False)
                await asyncio.sleep(self._settings.look_every)
        finally:
            await self.drain()
            self._alarms.stop()
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, *self._filing, return_exceptions=True)
            if is_ending():
                await self._transport.aclose()

    async def drain(self) -> bool:
        """Take nothing new and wait for what has its deadline to come; whether nothing is left of it."""
        self._draining = True
        if not self._waited_for:
            return True
        _, left = await asyncio.wait(set(self._waited_for), timeout=self._settings.management_timeout)
        return not left

    # --- one request --------------------------------------------------------------------------------------------------

    async def _ask(self, message: Message, raw: bytes, key: str) -> Message:
        size = MAC_SIZE if self._settings.with_mac else 0
        headers = {"content-type": MEDIA_TYPE, "accept": MEDIA_TYPE, IDEMPOTENCY_KEY: key}
        if size:
            headers[MAC_HEADER] = raw[:size].hex().upper()
        try:
            response = await self._transport.request("POST", PATH, content=raw[size:], headers=headers)
        except _NOT_SENT as error:
            self._is_up(False)
            raise LinkDownError(f"the authoriser cannot be reached: {type(error).__name__}") from None
        except httpx.TransportError as error:
            self._meters.wrote()
            raise NoAnswerError(f"the connection to the authoriser broke: {type(error).__name__}") from None
        self._meters.wrote()
        self._meters.came()
        return await self._answers.judge(message, response)

    def _landed(self, task: asyncio.Task[Message], key: str) -> None:
        self._under_way.discard(task)
        self._keys_in_flight.discard(key)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may be left to

    def _late(self, task: asyncio.Task[Message]) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        self._meters.refuse("unclaimed")
        filing = asyncio.create_task(self._file(task.result()))
        self._filing.add(filing)
        filing.add_done_callback(self._filing.discard)

    async def _file(self, answer: Message) -> None:
        try:
            await self._on_unclaimed(answer)
        except Exception as error:  # the order book is away; what is unknown stays so, and is reversed
            _log.error("a late answer could not be filed", connector=self.name, error=type(error).__name__)

    # --- whether it is there ------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self._settings.management_timeout):
                response = await self._transport.request("GET", HEALTH)
        except (httpx.TransportError, TimeoutError) as error:
            _log.warning("no authoriser", connector=self.name, error=type(error).__name__)
            self._is_up(False)
        else:
            self._is_up(response.status_code == 200)

    def _is_up(self, up: bool) -> None:
        if up != self._up:
            self._up, self._since = up, self._clock()
            self._meters.is_up(up)
            if up:
                self._meters.came_back()
        if not self._draining:
            self._alarms.look(int(up))


def idempotency_key(dialect: Dialect, message: Message) -> str:
    """SHA-256 (hexadecimal) of what a message has in common with its repeats and with no other message."""
    return hashlib.sha256("\x1f".join(dialect.match_key(message)).encode("ascii")).hexdigest()
