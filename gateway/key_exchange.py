"""The gateway's part in the exchange of zone keys: it asks, takes in what the switch sends, and looks after their age.

    gateway                            switch
    0800/101, index of the key held ─►
                                    ◄─ 0810
                                    ◄─ 0800/101, next index, check value, key under the master key
    key in the token, in use
    0810                            ─►  in use

The key goes from the message into the token as it came; that it is in use is written there before the switch is told.
A gateway that is killed before it answers comes back with the new key, whose first MAC tells the switch as much; one
that is killed before the key was written comes back with the old one, which the switch still knows. MACs are made with
the new key from then on, and those of messages in flight are verified with the one before, for as long as the key
service is set to (`gateway.key_overlap`); then the old one is destroyed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from prometheus_client import Counter, Gauge

from gateway.errors import LinkError
from runtime.language import Message as Told
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.errors import ShetabError, ValueFormatError
from shetab.key_data import ZoneKeyData
from shetab.message import Message
from shetab.response_codes import OUT_OF_STEP
from shetab.subfields import ZONE_KEY_KINDS, SecurityControl, ZoneKeyKind
from shetab.zone import SWITCH_ZONE

_TAKEN: Final = "00"
_MALFORMED: Final = "30"
_NOT_CERTAIN: Final = "96"
"""It may be in the token or not: the switch sends the same key again when it is asked."""
_ELSEWHERE: Final = "key-change-elsewhere"
_KINDS: Final[dict[str, ZoneKeyKind]] = {kind: kind for kind in ZONE_KEY_KINDS}

_age: Final = Gauge("kwbp_gateway_zone_key_age_seconds", "Age of the zone key in use", ["zone", "key"])
_changes: Final = Counter("kwbp_gateway_zone_keys_total", "Zone keys that the other end sent", ["zone", "key", "rc"])
_log = get_logger("gateway.keys")


class HeldKey(Protocol):
    """A zone key in use, as the key service tells of it."""

    @property
    def key(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def check_value(self) -> str: ...
    @property
    def since(self) -> str: ...
    @property
    def replaced_still_valid(self) -> int: ...


class ZoneKeyStore(Protocol):
    """The zone keys, in the token."""

    async def receive_zone_key(self, key: str, index: int, wrapped: bytes, check_value: bytes) -> HeldKey:
        """Take in a key; Problem `wrong-check-value`, `wrong-key-index`: the one in use stays."""

    async def tend_zone_keys(self) -> Sequence[HeldKey]:
        """The keys in use; those replaced long enough ago are destroyed."""


class Line(Protocol):
    """As much of `gateway.links.link.SwitchLink` as asking needs."""

    @property
    def signed_on(self) -> bool: ...

    async def manage(self, code: str, more: dict[int, str]) -> str:
        """One network management exchange; the response code."""


class Turn(Protocol):
    """As `gateway.leases.Lease`."""

    async def take(self) -> bool: ...
    async def end(self) -> None: ...


@dataclass(frozen=True, slots=True)
class KeyExchangeSettings:
    """When keys are changed without anybody's command; times in seconds but for `lifetime`."""

    at_sign_on: bool = True
    """Whether the first sign-on of a run asks for new keys."""
    lifetime: timedelta = timedelta(days=1)
    """A key of this age is changed."""
    tick: float = 15.0
    """How often ages are looked at, and old keys destroyed."""
    arrival: float = 10.0
    """How long a key that was agreed to may take to come."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """A zone key in use, for people: `changes_at` is when it is changed by itself."""

    zone: str
    key: str
    index: int
    check_value: str
    since: datetime
    changes_at: datetime
    replaced_still_valid: int


class KeyExchange:
    """Both directions: `serve` what the switch sends, `change` what somebody asks for; `run` looks after the ages."""

    def __init__(
        self,
        settings: KeyExchangeSettings,
        keys: ZoneKeyStore,
        *,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None] = lambda step: None,
        turn: Turn | None = None,
        zone: str = SWITCH_ZONE,
    ) -> None:
        """`keys` are those of the zone called `zone`.

        `turn` is had by one at a time of gateways that share the keys; without it there is one.
        """
        self._zone = zone
        self._turn = turn
        self._begun = clock()
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._checkpoint = checkpoint
        self._arrived: dict[ZoneKeyKind, asyncio.Event] = {kind: asyncio.Event() for kind in ZONE_KEY_KINDS}
        self._changing = asyncio.Lock()
        self._asked_at_sign_on = not settings.at_sign_on

    async def serve(self, request: Message) -> str:
        """What to answer to a key that the switch sent, once it is in use or refused: DE 39."""
        try:
            kind, index = SecurityControl.from_de53(request.get(53) or "").changed()
            sent = ZoneKeyData.from_fields(request.fields)
        except ValueFormatError:
            _log.error("the switch sent a key that cannot be read", alarm=True)
            return _MALFORMED
        self._checkpoint(f"{kind}-came")
        rc = await self._take(kind, index, sent.wrapped, sent.check_value)
        _changes.labels(self._zone, kind, rc).inc()
        if rc == _TAKEN:
            self._checkpoint(f"{kind}-taken")
            self._arrived[kind].set()
            _log.info(
                "zone key changed", zone=self._zone, key=kind, index=index, check_value=sent.check_value.hex().upper()
            )
        else:
            _log.error("a zone key was not taken", zone=self._zone, key=kind, index=index, rc=rc, alarm=True)
        return rc

    async def _take(self, kind: ZoneKeyKind, index: int, wrapped: bytes, check_value: bytes) -> str:
        try:
            await self._keys.receive_zone_key(kind, index, wrapped, check_value)
        except Problem as problem:
            _log.warning("the key service did not take a zone key", key=kind, reason=problem.type)
            return OUT_OF_STEP[kind] if problem.status < 500 and problem.status != 429 else _NOT_CERTAIN
        except Exception as error:  # whatever the client raises: it may have been taken
            _log.error("the key service did not answer about a zone key", key=kind, error=type(error).__name__)
            return _NOT_CERTAIN
        return _TAKEN

    async def change(
        self, line: Line, kinds: tuple[ZoneKeyKind, ...] = ZONE_KEY_KINDS, *, seen: Mapping[str, int] | None = None
    ) -> list[KeyState]:
        """Ask for the next keys and wait for them; the keys then in use.

        `seen` are indexes by kind: a key that has another one by now was changed by another gateway, and stays.

        Problem 503 `key-change-failed`: the line is down, the switch refused or did not send the key in time. Whatever
        came of it, a key is in use that the switch knows. Problem 503 `key-change-elsewhere`: another gateway is at it.
        """
        async with self._changing:
            if self._turn is not None and not await self._turn.take():
                raise Problem(503, _ELSEWHERE, "another gateway is changing the zone keys")
            try:
                held = {state.key: state for state in await self.state()}
                for kind in kinds:
                    if seen is None or seen[kind] == held[kind].index:
                        await self._ask(line, kind, held[kind].index)
            finally:
                if self._turn is not None:
                    await self._turn.end()
        return await self.state()

    async def _ask(self, line: Line, kind: ZoneKeyKind, held: int) -> None:
        arrived = self._arrived[kind]
        arrived.clear()
        try:
            rc = await line.manage("101", {53: SecurityControl.of_change(kind, held).to_de53()})
            if rc != _TAKEN:
                raise _failed(Told("the switch refused to change {key} with response code {code}", key=kind, code=rc))
            async with asyncio.timeout(self._settings.arrival):
                await arrived.wait()
        except TimeoutError:
            if any(state.key == kind and state.index != held for state in await self.state()):
                return  # it came to another gateway's line
            raise _failed(Told("the next {key} did not come", key=kind)) from None
        except (LinkError, OSError, ShetabError) as error:
            raise _failed(Told("{key} was not asked for: {fault}", key=kind, fault=str(error))) from None

    async def state(self) -> list[KeyState]:
        """The keys in use. Keys whose overlap is over are destroyed on the way.

        :raises Problem: the key service's trouble.
        """
        found = []
        for held in await self._keys.tend_zone_keys():
            since = datetime.fromisoformat(held.since)
            _age.labels(self._zone, held.key).set(max(0.0, (self._clock() - since).total_seconds()))
            found.append(
                KeyState(
                    zone=self._zone,
                    key=held.key,
                    index=held.index,
                    check_value=held.check_value,
                    since=since,
                    changes_at=since + self._settings.lifetime,
                    replaced_still_valid=held.replaced_still_valid,
                )
            )
        return found

    async def run(self, line: Line) -> None:
        """Change what is due, destroy what is over, until cancelled. No failure ends it."""
        while True:
            try:
                await self.look(line)
            except Problem as problem:
                _log.warning("zone keys could not be looked after", reason=problem.detail)
            except Exception as error:  # the next look may find it better
                _log.error("zone keys could not be looked after", error=type(error).__name__)
            await asyncio.sleep(self._settings.tick if line.signed_on else min(1.0, self._settings.tick))

    async def look(self, line: Line) -> None:
        """One look: at the first sign-on every key is changed, later those that are too old."""
        states, now = await self.state(), self._clock()
        if not line.signed_on:
            return
        due = tuple(_KINDS[state.key] for state in states if self._is_old(state) or state.changes_at <= now)
        if due:
            try:
                await self.change(line, due, seen={state.key: state.index for state in states})
            except Problem as problem:
                self._asked_at_sign_on |= problem.type != _ELSEWHERE
                raise
        self._asked_at_sign_on = True

    def _is_old(self, state: KeyState) -> bool:
        """At the first sign-on of a run: not new since it began, by the doing of another gateway."""
        return not self._asked_at_sign_on and state.since <= self._begun


def _failed(detail: Told) -> Problem:
    return Problem(503, "key-change-failed", detail)
