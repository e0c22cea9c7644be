"""The gateway as a process: its parts, and where they are.

db/gateway.sqlite      order book and merchant registry, unless `[gateway] database` names a server that replicas share
audit/gateway.jsonl    what was refused, and exactly why; each replica has its own
audit/gateway.replica  the name of this replica, drawn at its first start
tls/gateway.key, .pem  TLS identity `urn:kwbp:service:gateway`, towards merchants and the HSM service

A `checkpoint` is handed in by tests of what a crash leaves behind; a process that is started normally has none.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from audit.journal import Journal
from audit.keeper import LogKeeper
from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.known_callers import KnownCallers
from ca.status_client import AsyncStatusCache
from gateway.acquirer import routes as acquirer_routes
from gateway.acquirer.fees import FeeSchedule, FeesError
from gateway.acquirer.list_folder import ListFolderSettings
from gateway.acquirer.payment_file import Payer
from gateway.acquirer.service import AcquirerSettings
from gateway.app import create_app
from gateway.authorization import AuthorizationSettings
from gateway.backoff import pause
from gateway.connectors.building import exchange_of, hosts, switch_link, table
from gateway.dual_control import DualControl
from gateway.gateway import Gateway, GatewayConfig, Resources
from gateway.limits.guard import Limits
from gateway.limits.watched import WatchedRules
from gateway.public_app import create_public_app
from gateway.reversal import LoopRuns, ReversalSettings
from gateway.reversal_workflows import DurableRuns
from gateway.routing import SWITCH
from gateway.settling.forwarding import ForwardingSettings
from gateway.store import OrderStore
from gateway_keys.client import GatewayKeysClient
from hsm_service.client import AsyncHsmClient, HsmClient
from hsm_service.retry import ONCE
from pki.path import Trust
from runtime import server
from runtime.client import keepalive_client
from runtime.crowd import Crowd, share_of_descriptors
from runtime.database import open_database
from runtime.logging import get_logger
from runtime.problems import Problem
from runtime.replica import replica_name
from runtime.settings import GatewaySettings, Home, Settings
from runtime.shut_down import DRAIN
from runtime.uptime import Uptime

_CONNECTIONS: Final = 64
_KEY_SERVICE_TIMEOUT: Final = 10.0  # seconds
_REPOSITORY_TIMEOUT: Final = 5.0
_LONGEST_PAUSE: Final = 5.0
_OF_MERCHANTS, _OF_CARDS = 0.6, 0.1
"""Parts of the descriptors that connections of the two ports may have; the rest is for files, lines, the database."""
_log = get_logger("gateway")


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


def fees_of(own: GatewaySettings) -> FeeSchedule:
    """The file of fees, or the one fee of the settings.

    :raises FeesError: the file cannot be used, or both are set.
    """
    if own.fees is None:
        return FeeSchedule.fixed(own.settlement_fee)
    if own.settlement_fee:
        raise FeesError("settlement_fee and fees are both set: which is meant?")
    return FeeSchedule.load(own.fees)


def acquirer_of(home: Home, settings: Settings) -> AcquirerSettings:
    """The acquirer's part of the settings.

    :raises PaymentFileError: the account that is paid from is none.
    """
    own = settings.gateway
    payer = None if own.payer_iban is None else Payer(own.payer_name, own.payer_iban, own.payer_bic)
    keys = {SWITCH: home.pki / "switch-lists.pem"} | own.list_keys
    folders = ListFolderSettings(
        {route: home.path / folder for route, folder in own.list_folders.items()}, due=own.list_due
    )
    return AcquirerSettings(payer, DualControl(own.dual_control), keys, folders)


def config_of(settings: Settings) -> GatewayConfig:
    """The gateway's configuration out of the installation's settings."""
    own = settings.gateway
    return GatewayConfig(
        gateway_id=own.gateway_id,
        acquirer_bin=own.acquirer_bin,
        dialect=own.dialect,
        floods=own.floods,
        authorization=AuthorizationSettings(answer_timeout=own.answer_timeout, ack_timeout=own.ack_timeout),
        reversal=ReversalSettings(
            answer_timeout=own.answer_timeout,
            first_pause=own.reversal_interval,
            longest_pause=own.reversal_longest_pause,
            most_attempts=own.reversal_attempts,
            most_age=own.reversal_age,
            lost_run=2 * own.lease,
            tidy=own.lease,
        ),
        alarms=own.alarms,
        hold_kept=min(own.hold_kept, own.card_kept * 0.9),
        settling=ForwardingSettings(
            answer_timeout=own.answer_timeout,
            first_pause=own.reversal_interval,
            pan_kept=own.card_kept,
            fees=fees_of(own),
        ),
        key_exchange=exchange_of(own),
        link=switch_link(None, settings),
        routes=table(settings),
    )


@asynccontextmanager
async def opened(
    home: Home,
    settings: Settings,
    *,
    keeper: LogKeeper | None = None,
    checkpoint: Callable[[str], None] = lambda step: None,
    durable: bool = True,
) -> AsyncIterator[Gateway]:
    """The gateway of an installation with its files and lines open, not yet started.

    `keeper` has its log signed; only a gateway of a test goes without. `durable`: reversals are workflows, of which a
    process can have one set; a gateway in a thread of a test has them in its loop.

    :raises StoreLockedError: it runs already.
    :raises LimitRulesError: the file of limits is wrong.
    """
    hierarchy = load_hierarchy(home.pki)
    async with AsyncExitStack() as stack:
        key_service = keepalive_client(
            home.tls_files("gateway"), settings.hsm.url, timeout=_KEY_SERVICE_TIMEOUT, connections=_CONNECTIONS
        )
        stack.push_async_callback(key_service.aclose)
        repository = keepalive_client(None, settings.repository.url, timeout=_REPOSITORY_TIMEOUT)
        stack.push_async_callback(repository.aclose)
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
        store = stack.enter_context(_order_book(home, settings))
        overdue = timedelta(seconds=settings.gateway.lease)
        runs = DurableRuns.of(store, clock=_now, overdue=overdue) if durable else LoopRuns
        resources = Resources(
            store=store,
            journal=journal,
            signer=AsyncHsmClient(key_service, retry=ONCE),  # gateway.signing has a schedule of its own
            keys=GatewayKeysClient(key_service),
            trust=RepositoryTrust(status),
            clock=_now,
            uptime=_uptime(),
            rng=os.urandom,
            limits=Limits(WatchedRules(settings.gateway.limits)),
            runs=runs,
        )
        config = config_of(settings)
        config = replace(
            config,
            dialect=home.dialect(config.dialect),
            link=switch_link(home, settings),
            hosts=hosts(home, settings),
            acquirer=acquirer_of(home, settings),
        )
        gateway = Gateway(config, resources, checkpoint=checkpoint)
        own = settings.gateway
        if own.public_port is not None:
            tls = home.tls_files("gateway")
            public = server.beside(
                create_public_app(gateway), tls=tls, host=own.host, port=own.public_port, crowd=_cards(settings)
            )
            await stack.enter_async_context(public)
        yield gateway


def _order_book(home: Home, settings: Settings) -> OrderStore:
    own = settings.gateway
    # The name with the journal, which one process has open at a time.
    replica = replica_name(home.audit / "gateway.replica", os.urandom)
    target = own.database or home.db / "gateway.sqlite"
    return OrderStore.open(target, replica=replica, lease=timedelta(seconds=own.lease))


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
    """Serve until SIGTERM or SIGINT, then let the orders under way come to their end.

    A database server that is away is waited for, before anything is opened: nobody has to start anything again.
    """
    own = settings.gateway
    _wait_for_server(own.database)
    app = create_app(partial(opened, home, settings, keeper=keeper, checkpoint=checkpoint))

    def end() -> None:
        if (gateway := getattr(app.state, "gateway", None)) is not None:  # none yet, if the signal came that early
            gateway.end()

    server.serve(
        app,
        host=own.host,
        port=own.port,
        tls=home.tls_files("gateway"),
        client_certificate="required",
        refusal=KnownCallers(home.pki, clock=_now).refusal,
        larger=acquirer_routes.larger,
        notice=own.notice,
        drain=own.answer_timeout + DRAIN,  # whoever waits for the switch gets its answer
        on_stop=end,
        crowd=lambda: _merchants(settings),
    )


def _wait_for_server(url: str | None, *, sleep: Callable[[float], None] = time.sleep) -> None:
    if url is None or make_url(url).get_backend_name() == "sqlite":
        return
    engine, attempt = open_database(url), 0
    while True:
        try:
            engine.connect().close()
            break
        except OperationalError as error:
            attempt += 1
            wait = pause(attempt, first=0.5, longest=_LONGEST_PAUSE, rng=os.urandom)
            # What libpq says names host, user and database; a password is never in a URL.
            _log.warning("waiting for the database", reason=str(error.orig).strip(), seconds=round(wait, 1))
            sleep(wait)
    engine.dispose()


def _merchants(settings: Settings) -> Crowd:
    own = settings.gateway.floods
    total = min(own.connections, share_of_descriptors(_OF_MERCHANTS))
    return Crowd("merchants", total=total, of_one=own.connections_of_one)


def _cards(settings: Settings) -> Crowd:
    own = settings.gateway.floods
    total = min(own.public_connections, share_of_descriptors(_OF_CARDS))
    return Crowd("cards", total=total, of_one=own.public_connections_of_one)


def _now() -> datetime:
    return datetime.now(UTC)


def _uptime() -> Uptime:
    return Uptime.of_this_machine()
