"""Whether an order that comes now can be collected, and if not, why: looked at every few seconds, told at once.

    starting      the gateway has not reached its keys yet
    stopping      it was told to end
    line          no connector is signed on
    keys          the key service does not answer
    database      the order book does not answer
    repository    the status of certificates cannot be had
    journal       (degraded) the journal grows and its checkpoints are not signed
    clock         (degraded) this machine's clock and that of the database's server differ: what other gateways work on
                  would be taken for lost, or left alone for too long

`/health/ready` must be cheap: what takes a round trip is what the last look found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from prometheus_client import REGISTRY, Gauge

from audit.log_key import key_name
from gateway.open_work import open_work
from gateway.ports import CmsSigner, TrustSource
from gateway.store import OrderStore
from runtime.logging import get_logger

EVERY: Final = 5.0
"""Seconds between two looks."""
_PATIENCE: Final = 4.0
"""Seconds that one thing has to answer."""
_UNSIGNED: Final = 300.0
"""Seconds for which entries of the journal may be unsigned: several of the checkpointer's intervals."""

_CLOCKS: Final = timedelta(seconds=5)
"""By which clocks of gateways that share a server may differ from its own."""

_offset: Final = Gauge("kwbp_gateway_clock_offset_seconds", "How far the clock is ahead of the database server's")
_needed: Final = Gauge("kwbp_gateway_dependency_up", "1 if what the gateway needs answered at the last look", ["what"])
_log = get_logger("gateway.health")


class Watch:
    """What the gateway needs. `run` it as a task; `missing` and `degraded` are read at any time."""

    def __init__(
        self,
        store: OrderStore,
        signer: CmsSigner,
        trust: TrustSource,
        *,
        key: str,
        clock: Callable[[], datetime],
        every: float = EVERY,
    ) -> None:
        """`key` is the name of the key whose description is asked for."""
        self._store = store
        self._clock = clock
        self._every = every
        self._clock_is_off = False
        self._looks: dict[str, Callable[[], Awaitable[object]]] = {
            "keys": lambda: signer.describe_key(key),
            "database": lambda: open_work(store, clock()),  # and its metrics
            "repository": lambda: trust.trust(clock()),
        }
        self._missing: tuple[str, ...] = ()
        self._signed: float | None = None
        self._signed_at = clock()
        self.degraded: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what did not answer at the last look."""
        return self._missing

    async def run(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every)

    async def look(self) -> None:
        """Look once at everything, at the same time."""
        found = await asyncio.gather(*(self._answers(name, look) for name, look in self._looks.items()))
        missing = tuple(name for name, answers in zip(self._looks, found, strict=True) if not answers)
        if missing != self._missing:
            _log.warning("needed and away" if missing else "all that is needed is there", missing=missing)
        self._missing = missing
        await self._compare_clocks()
        journal = ("journal",) if self._is_journal_unsigned() else ()
        self.degraded = (*journal, "clock") if self._clock_is_off else journal

    async def _answers(self, name: str, look: Callable[[], Awaitable[Any]]) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE):
                await look()
            up = True
        except Exception as error:  # whatever it is, it is away
            _log.info("no answer", what=name, error=type(error).__name__)
            up = False
        _needed.labels(name).set(up)
        return up

    async def _compare_clocks(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                offset = await self._store.clock_offset(self._clock)
        except Exception:  # it is away, which `missing` says
            return
        _offset.set(offset.total_seconds())
        is_off = abs(offset) > _CLOCKS
        if is_off and not self._clock_is_off:
            _log.error("the clock is not the database's", ahead=round(offset.total_seconds(), 1), alarm=True)
        self._clock_is_off = is_off

    def _is_journal_unsigned(self) -> bool:
        """Whether there is something to sign, and for long no checkpoint was."""
        log, now = {"log": key_name("gateway")}, self._clock()
        signed = REGISTRY.get_sample_value("kwbp_log_checkpoints_total", log)
        if signed != self._signed or not REGISTRY.get_sample_value("kwbp_log_unsigned_entries", log):
            self._signed, self._signed_at = signed, now
        return (now - self._signed_at).total_seconds() > _UNSIGNED
