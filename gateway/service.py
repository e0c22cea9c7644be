"""The gateway as a process: its parts, and where they are.

db/gateway.sqlite      order book and merchant registry
audit/gateway.jsonl    what was refused, and exactly why
tls/gateway.key, .pem  TLS identity `urn:kwbp:service:gateway`, towards merchants and the HSM service

A `checkpoint` is handed in by tests of what a crash leaves behind; a process that is started normally has none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final

from audit.journal import Journal
from audit.keeper import LogKeeper
from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.known_callers import KnownCallers
from ca.status_client import AsyncStatusCache
from gateway.app import create_app
from gateway.authorization import AuthorizationSettings
from gateway.gateway import Gateway, GatewayConfig, Resources
from gateway.key_exchange import KeyExchangeSettings
from gateway.link import LinkSettings
from gateway.public_app import create_public_app
from gateway.reversal import ReversalSettings
from gateway.settling.forwarding import ForwardingSettings
from gateway.store import OrderStore
from gateway_keys.client import GatewayKeysClient
from hsm_service.client import AsyncHsmClient, HsmClient
from hsm_service.retry import ONCE
from pki.path import Trust
from runtime import server
from runtime.client import async_http_client
from runtime.problems import Problem
from runtime.settings import Home, Settings
from shetab.framing import Framing

_CONNECTIONS: Final = 64
_KEY_SERVICE_TIMEOUT: Final = 10.0  # seconds
_REPOSITORY_TIMEOUT: Final = 5.0


class RepositoryTrust:
    """Status from the CA's repository. When it cannot be had, nothing is judged: the same may be sent again."""

    def __init__(self, cache: AsyncStatusCache) -> None:
        self._cache = cache

    async def trust(self, now: datetime) -> Trust:
        """The trust in force; raises Problem 503."""
        try:
            return await self._cache.trust(now)
        except StatusError:
            raise Problem(503, "status-unavailable", "the status of certificates cannot be had", clause="G4") from None


def config_of(settings: Settings) -> GatewayConfig:
    """The gateway's configuration out of the installation's settings."""
    own, switch = settings.gateway, settings.switch
    return GatewayConfig(
        gateway_id=own.gateway_id,
        acquirer_bin=own.acquirer_bin,
        authorization=AuthorizationSettings(answer_timeout=own.answer_timeout, ack_timeout=own.ack_timeout),
        reversal=ReversalSettings(answer_timeout=own.answer_timeout, first_pause=own.reversal_interval),
        settling=ForwardingSettings(
            answer_timeout=own.answer_timeout,
            first_pause=own.reversal_interval,
            pan_kept=own.card_kept,
            fee=own.settlement_fee,
        ),
        key_exchange=KeyExchangeSettings(
            at_sign_on=own.key_change_at_sign_on, lifetime=own.key_lifetime, tick=own.key_tick
        ),
        link=LinkSettings(switch.host, switch.port, own.acquirer_bin, Framing(switch.length_prefix)),
    )


@asynccontextmanager
async def opened(
    home: Home,
    settings: Settings,
    *,
    keeper: LogKeeper | None = None,
    checkpoint: Callable[[str], None] = lambda step: None,
) -> AsyncIterator[Gateway]:
    """The gateway of an installation with its files and lines open, not yet started.

    `keeper` has its log signed; only a gateway of a test goes without.

    :raises StoreLockedError: it runs already.
    """
    hierarchy = load_hierarchy(home.pki)
    async with AsyncExitStack() as stack:
        key_service = await stack.enter_async_context(
            async_http_client(
                home.tls_files("gateway"), settings.hsm.url, timeout=_KEY_SERVICE_TIMEOUT, connections=_CONNECTIONS
            )
        )
        repository = await stack.enter_async_context(
            async_http_client(None, settings.repository.url, timeout=_REPOSITORY_TIMEOUT)
        )
        status = AsyncStatusCache(
            settings.repository.url,
            hierarchy.anchors,
            hierarchy.intermediates,
            settings.gateway.status_max_age,
            client=repository,
            with_bci=True,
        )
        extends = None if keeper is None else keeper.extends
        journal = stack.enter_context(Journal.open(home.audit / "gateway.jsonl", extends=extends))
        if keeper is not None:
            _have_signed(journal, keeper, home, settings, stack)
        resources = Resources(
            store=stack.enter_context(OrderStore.open(home.db / "gateway.sqlite")),
            journal=journal,
            signer=AsyncHsmClient(key_service, retry=ONCE),  # gateway.signing has a schedule of its own
            keys=GatewayKeysClient(key_service),
            trust=RepositoryTrust(status),
            clock=_now,
            rng=os.urandom,
        )
        gateway = Gateway(config_of(settings), resources, checkpoint=checkpoint)
        own = settings.gateway
        if own.public_port is not None:
            tls = home.tls_files("gateway")
            public = server.beside(create_public_app(gateway), tls=tls, host=own.host, port=own.public_port)
            await stack.enter_async_context(public)
        yield gateway


def _have_signed(journal: Journal, keeper: LogKeeper, home: Home, settings: Settings, stack: AsyncExitStack) -> None:
    """Signatures of the log come over a connection of their own: its thread blocks, the gateway's loop must not."""
    signer = stack.enter_context(
        HsmClient.connect(settings.hsm.url, home.tls_files("gateway"), timeout=_KEY_SERVICE_TIMEOUT)
    )
    keeper.keep(journal, lambda content: signer.sign(keeper.key.name, "checkpoint", content).signed)
    stack.callback(keeper.close)


def run(
    home: Home,
    settings: Settings,
    *,
    keeper: LogKeeper | None = None,
    checkpoint: Callable[[str], None] = lambda step: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let the orders under way come to their end."""
    own = settings.gateway
    server.serve(
        create_app(partial(opened, home, settings, keeper=keeper, checkpoint=checkpoint)),
        host=own.host,
        port=own.port,
        tls=home.tls_files("gateway"),
        client_certificate="required",
        refusal=KnownCallers(home.pki, clock=_now).refusal,
    )


def _now() -> datetime:
    return datetime.now(UTC)
