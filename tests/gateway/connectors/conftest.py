"""The three kinds of connector, each with a peer that does as it is told, behind one face."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from gateway.connectors.authoriser import AuthoriserSettings, HttpAuthoriser
from gateway.links.link import SwitchLink
from gateway.ports import ShownConnector
from runtime.client import keepalive_client
from runtime.problems import Problem
from shetab.message import Message
from tests.gateway.conftest import NOW, LateCounter, link_settings, until
from tests.support.scripted_authoriser import ScriptedAuthoriser
from tests.support.scripted_switch import DIALECT, ScriptedSwitch, SoftwareMac

Peer = ScriptedSwitch | ScriptedAuthoriser


@dataclass
class Bench:
    """A running connector, its peer, and what it filed."""

    connector: ShownConnector
    peer: Peer
    filed: list[Message] = field(default_factory=list)
    keys: BreakableMac = field(default_factory=lambda: BreakableMac())
    running: asyncio.Task[None] | None = None
    book_is_away: bool = False

    async def ask(self, message: Message, within: float = 10.0) -> Message:
        return await self.connector.exchange(message, await self.connector.authenticate(message), within)

    async def file(self, message: Message) -> None:
        if self.book_is_away:
            raise OSError("the database is away")
        self.filed.append(message)


class BreakableMac(SoftwareMac):
    """The token, which may be away."""

    away = False

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        if self.away:
            raise Problem(503, "token-away", "the token is away")
        return await super().verify_mac(data, mac)


Opening = Callable[..., AbstractAsyncContextManager[Bench]]


def _lines(*, network_management: bool) -> Opening:
    @asynccontextmanager
    async def opened(*, wait: bool = True, **settings: Any) -> AsyncIterator[Bench]:
        async with ScriptedSwitch() as peer:
            keys = BreakableMac()
            link = SwitchLink(
                link_settings(peer.port, network_management=network_management, **settings),
                DIALECT,
                keys,
                next_stan=LateCounter(),
                on_unclaimed=lambda message: bench.file(message),
                clock=lambda: NOW,
                rng=lambda size: bytes(size),
                name="bench",
            )
            bench = Bench(link, peer, keys=keys)
            async with _running(bench, wait=wait):
                yield bench

    return opened


@asynccontextmanager
async def _authoriser(*, wait: bool = True, **settings: Any) -> AsyncIterator[Bench]:
    async with ScriptedAuthoriser() as peer:
        keys = BreakableMac()
        url = f"http://127.0.0.1:{peer.port}"
        limit = settings.pop("in_flight", 32)
        connector = HttpAuthoriser(
            "bench",
            AuthoriserSettings(url, connections=limit, look_every=0.05, late=5.0, **{"with_mac": True, **settings}),
            DIALECT,
            keepalive_client(None, url, timeout=60.0, connections=limit + 1),
            keys,
            on_unclaimed=lambda message: bench.file(message),
            clock=lambda: NOW,
        )
        bench = Bench(connector, peer, keys=keys)
        async with _running(bench, wait=wait):
            yield bench


@asynccontextmanager
async def _running(bench: Bench, *, wait: bool) -> AsyncIterator[None]:
    task = bench.running = asyncio.create_task(bench.connector.run())
    try:
        if wait:
            await until(lambda: bench.connector.signed_on)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


KINDS: Final[dict[str, Opening]] = {
    "switch": _lines(network_management=True),
    "direct host": _lines(network_management=False),
    "authoriser": _authoriser,
}


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest) -> Opening:
    """`async with opened() as bench`."""
    return KINDS[request.param]
