"""What comes in on a line: believed, filed, served, or refused and counted. See the package for the order and why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.links.in_flight import InFlight
from gateway.links.meters import Meters
from runtime.logging import get_logger
from shetab.dialect import Dialect, Direction
from shetab.errors import FieldPresenceError, ShetabError
from shetab.message import Message

_log = get_logger("gateway.link")


class MessageAuthentication(Protocol):
    """The zone MAC key, in the token."""

    async def mac(self, data: bytes) -> bytes:
        """The 8-byte MAC of `data`."""

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        """Whether `mac` is the MAC of `data`."""


class Intake:
    """Judges what comes; shared by all lines of a link, because an answer may come on any of them."""

    def __init__(
        self,
        dialect: Dialect,
        keys: MessageAuthentication,
        in_flight: InFlight,
        on_unclaimed: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._dialect = dialect
        self._keys = keys
        self._in_flight = in_flight
        self._on_unclaimed = on_unclaimed

    async def take(self, raw: bytes, meters: Meters) -> tuple[bool, Message | None]:
        """Whether `raw` is an authentic message of the dialect; and itself, if it is a request that must be served."""
        try:
            message = self._dialect.decode(raw, Direction.FROM_SWITCH)
        except ShetabError as error:
            meters.refuse("dialect")
            _log.error("a message from the switch breaks the dialect", error=str(error))
            return False, None
        if not await self._authentic(raw, message):
            meters.refuse("mac")
            _log.error("a message from the switch has a wrong MAC", size=len(raw))
            return False, None
        if not message.is_response:
            if self._in_flight.holds(message):
                meters.refuse("reflected")
                _log.error("a message of our own came back", mti=message.mti, alarm=True)
                return False, None
            return True, message
        waiting = self._in_flight.find(message)
        if waiting is not None:
            try:
                self._dialect.check_echo(waiting.request, message)
            except FieldPresenceError as error:
                meters.refuse("echo")
                _log.error("an answer does not repeat its request", mti=message.mti, field=error.field)
            else:
                waiting.answer.set_result(message)
                return True, None
        meters.refuse("unclaimed")
        _log.warning("unclaimed answer", fields=dict(self._dialect.redact(message)))
        await self._on_unclaimed(message)
        return True, None

    async def _authentic(self, raw: bytes, message: Message) -> bool:
        """Whether the MAC of a message that decodes is right."""
        data, mac = self._dialect.mac_input(raw), self._dialect.mac_of(raw)
        right = await self._judged(message, data, mac)
        return await self._keys.verify_mac(data, mac) if right is None else right

    async def _judged(self, message: Message, data: bytes, mac: bytes) -> bool | None:
        """What who waits for it says of the MAC; None if nobody does, or it is not for them to say.

        One message at a time: a second one that may be the answer, a copy mostly, is verified without them.
        """
        waiting = self._in_flight.find(message) if message.is_response else None
        if waiting is None or waiting.judge is None:
            return None
        try:
            self._dialect.check_echo(waiting.request, message)
        except FieldPresenceError:
            return None  # it is no answer, whatever its MAC
        judge, waiting.judge = waiting.judge, None
        right = None
        try:
            right = await judge(message, data, mac)
        finally:
            if not right:  # what comes next may be the answer
                waiting.judge = judge
        return right
