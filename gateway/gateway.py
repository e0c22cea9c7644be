"""The gateway as a whole: its parts put together, started in order, stopped in order.

It starts without waiting for anybody: the order book is put right at once, then the certificates are asked for until
the key service answers, then the line and the reversals begin. Until then `ready` is false and every request is
answered 503.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from audit.journal import Journal
from gateway.acknowledgement import Acknowledgement
from gateway.acquirer.list_folder import ListFolders
from gateway.acquirer.service import AcquirerService, AcquirerSettings
from gateway.authorization import Authorization, AuthorizationSettings
from gateway.backoff import pause
from gateway.card_inquiry import CardInquiries
from gateway.certificate_requests import CertificateRequests
from gateway.connectors.building import Host, IsoHost, Surroundings, connectors, own_zones
from gateway.disclosures import Disclosures
from gateway.errors import IdentityError
from gateway.guarding.admission import Admission
from gateway.guarding.believable import sealed_to_us, signed_by_ours
from gateway.guarding.watch import Watch
from gateway.identity import GatewayCertificates
from gateway.inquiry import Inquiries
from gateway.key_exchange import KeyExchange, KeyExchangeSettings, KeyState
from gateway.leases import Lease
from gateway.limits.guard import Limits
from gateway.links.link import SwitchLink
from gateway.links.meters import LineState
from gateway.links.settings import LinkSettings
from gateway.merchants import MerchantRegistry
from gateway.operating.commands import OrderCommands
from gateway.operating.officer_acts import OfficerActs
from gateway.operating.watching import OrderWatch
from gateway.order import Order
from gateway.password_book import PasswordBook
from gateway.passwords import Passwords
from gateway.patience import Patience
from gateway.ports import CmsSigner, Connector, GatewayKeys, ShownConnector, TrustSource
from gateway.refusals import Refusals
from gateway.reversal import Attempts, LoopRuns, ReversalRuns, Reversals, ReversalSettings
from gateway.routing import SWITCH, Routes, RouteTable
from gateway.settling.forwarding import ForwardingSettings
from gateway.settling.service import Needs, SettlingService
from gateway.signing import AnswerSigner
from gateway.store import OrderStore
from gateway.translation import unclaimed
from runtime.flood_settings import FloodSettings
from runtime.language import Message as Told
from runtime.lasting import lasting, until_done
from runtime.logging import get_logger
from runtime.problems import Problem
from runtime.settings import OrderAlarms
from runtime.uptime import Uptime
from shetab.dialect import Dialect
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.zone import SWITCH_ZONE

_LONGEST_PAUSE: Final = 5.0
_KEY_CHANGE: Final = timedelta(minutes=2)
"""Longer than it takes to change every zone key."""
_log = get_logger("gateway")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """How one gateway is set up. Its id and acquirer must be those in its certificates."""

    gateway_id: str
    acquirer_bin: str
    authorization: AuthorizationSettings
    reversal: ReversalSettings
    settling: ForwardingSettings
    link: LinkSettings
    floods: FloodSettings = field(default_factory=FloodSettings)
    alarms: OrderAlarms = field(default_factory=OrderAlarms)
    hold_kept: timedelta = timedelta(days=28)
    """How long after its acknowledgement a hold lapses: what nobody has captured of it is given back."""
    acquirer: AcquirerSettings = field(default_factory=AcquirerSettings)
    hosts: Mapping[str, Host] = field(default_factory=dict)
    """What authorises beside the switch, by name."""
    routes: RouteTable = field(default_factory=RouteTable)
    key_exchange: KeyExchangeSettings | None = None
    """With the switch; without it the zone keys of the ceremony stay."""
    dialect: str = "shetab87_ascii"
    signing_key: str = "gateway-signing"
    encryption_key: str = "gateway-encryption"


@dataclass(frozen=True, slots=True)
class Resources:
    """What the gateway works with and does not own: who makes them closes them, after `Gateway.stop`."""

    store: OrderStore
    journal: Journal
    signer: CmsSigner
    keys: GatewayKeys
    trust: TrustSource
    clock: Callable[[], datetime]
    uptime: Uptime
    rng: Callable[[int], bytes]
    limits: Limits = field(default_factory=Limits)
    runs: Callable[[Attempts], ReversalRuns] = LoopRuns
    """How reversals are driven."""


@dataclass(frozen=True, slots=True)
class _Parts:
    certificates: CertificateRequests
    authorization: Authorization
    acknowledgement: Acknowledgement
    inquiries: Inquiries
    card_inquiries: CardInquiries
    passwords: Passwords
    link: SwitchLink
    routes: Routes
    connectors: Mapping[str, ShownConnector]
    key_exchanges: Mapping[str, tuple[KeyExchange, Connector]]
    """By zone: the exchange of its keys, and the connector that they are exchanged with."""
    reversals: Reversals
    settling: SettlingService


class Gateway:
    """One payment gateway. `start` and `stop` it in the event loop that serves it.

    `checkpoint` is called with the name of each step right after it: a place to stand still or fall, for tests of what
    a crash leaves behind.
    """

    def __init__(
        self, config: GatewayConfig, resources: Resources, *, checkpoint: Callable[[str], None] = lambda step: None
    ) -> None:
        self._config = config
        self._resources = resources
        self._checkpoint = checkpoint
        self.merchants = MerchantRegistry(resources.store, dialect=Dialect.load(config.dialect))
        self.disclosures = Disclosures(resources.store)
        self.acquirer = AcquirerService(
            config.acquirer,
            resources.store,
            acquirer=config.acquirer_bin,
            fees=config.settling.fees,
            clock=resources.clock,
            rng=resources.rng,
            checkpoint=checkpoint,
            on_wanted=self._wake_reconciliation,
        )
        self._lists = ListFolders(
            config.acquirer.list_folders,
            self.acquirer,
            resources.store,
            clock=resources.clock,
            checkpoint=checkpoint,
        )
        self.admission = Admission(config.floods, clock=resources.clock)
        self.watch = Watch(
            resources.store, resources.signer, resources.trust, key=config.signing_key, clock=resources.clock
        )
        self.commands = OrderCommands(
            resources.store,
            resources.journal,
            clock=resources.clock,
            on_reversal=self._wake_reversals,
            dual_control=config.acquirer.dual_control,
        )
        self.officer_acts = OfficerActs(
            resources.store,
            resources.journal,
            resources.trust,
            gateway_id=config.gateway_id,
            clock=resources.clock,
        )
        self._orders = OrderWatch(
            resources.store, config.alarms, clock=resources.clock, connectors=(SWITCH, *config.hosts)
        )
        self._parts: _Parts | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether an order that comes now can be collected."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why an order that comes now cannot be collected; see `gateway.guarding.watch`."""
        own = []
        if self.admission.ended:
            own.append("stopping")
        if self._parts is None:
            own.append("starting")
        elif not self._parts.routes.signed_on:
            own.append("line")
        return (*own, *self.watch.missing)

    @property
    def lines(self) -> dict[str, bool]:
        """The connectors by name, and whether each is signed on; none while the gateway has not reached its keys."""
        return {} if self._parts is None else {each.name: each.signed_on for each in self._parts.routes}

    def end(self) -> None:
        """Let no new message in; those under way come to their end. Safe in a signal handler."""
        self.admission.end()

    @property
    def store(self) -> OrderStore:
        return self._resources.store

    @property
    def clock(self) -> Callable[[], datetime]:
        return self._resources.clock

    @property
    def limits(self) -> Limits:
        return self._resources.limits

    def _wake_reversals(self) -> None:
        if self._parts is not None:  # else they look by themselves when they begin
            self._parts.reversals.wake()

    def _wake_reconciliation(self) -> None:
        if self._parts is not None:
            self._parts.settling.reconciliation.wake()

    async def start(self) -> None:
        """Put the order book right after whatever ended the last run, then begin in the background."""
        now = self._resources.clock()
        recovered = await self._resources.store.recover_own(now)
        for order in recovered:
            _log.warning("outcome unknown after a restart", order=str(order.key))
        self._keep("watch over what is needed", self.watch.run)
        self._keep("watch over orders", self._orders.run)
        if self._config.acquirer.list_folders.folders:
            self._keep("folders of lists", self._lists.run)
        self._tasks.append(asyncio.create_task(until_done("beginning", self._begin)))

    def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.create_task(lasting(name, work)))

    async def stop(self) -> None:
        """Let the orders under way come to their end, then close the line."""
        self.end()
        if self._parts is not None:
            await self._parts.authorization.drain()
            await self._parts.settling.drain()
            await self._parts.passwords.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def authorize(self, tls_merchant_id: str, data: bytes) -> bytes:
        """AuthReq to AuthRes or Error; see `Authorization.answer`."""
        await self.merchants.refresh()
        return await self._begun().authorization.answer(tls_merchant_id, data)

    async def acknowledge(self, tls_merchant_id: str, data: bytes) -> bytes | None:
        """AuthAck to nothing or Error; see `Acknowledgement.take`."""
        return await self._begun().acknowledgement.take(tls_merchant_id, data)

    async def inquire(self, tls_merchant_id: str, data: bytes) -> bytes:
        """InqReq to InqRes or Error; see `Inquiries.answer`."""
        return await self._begun().inquiries.answer(tls_merchant_id, data)

    async def inquire_as_card(self, data: bytes) -> bytes:
        """InqReq of a card to InqRes or Error; see `CardInquiries.answer`."""
        return await self._begun().card_inquiries.answer(data)

    async def password(self, tls_merchant_id: str, data: bytes) -> bytes:
        """OTPReq to OTPRes or Error; see `Passwords.answer`."""
        await self.merchants.refresh()
        return await self._begun().passwords.answer(tls_merchant_id, data)

    async def settle(self, tls_merchant_id: str, data: bytes) -> bytes:
        """A request of rows 19 to 22 to its Res or Error; see `SettlingService.answer`."""
        await self.merchants.refresh()
        return await self._begun().settling.answer(tls_merchant_id, data)

    @property
    def settling(self) -> SettlingService:
        """Rows 19 to 23, once the gateway has its keys."""
        return self._begun().settling

    def line_states(self) -> list[LineState]:
        """The lines of all connectors."""
        return [line for connector in self._begun().connectors.values() for line in connector.lines()]

    @property
    def routes(self) -> Routes:
        """Which connector serves which cards, once the gateway has its keys."""
        return self._begun().routes

    async def zone_keys(self) -> list[KeyState]:
        """The zone keys in use, of all zones; Problem for the key service's trouble."""
        exchanges = _exchanges_of(self._begun()).values()
        return [state for exchange, _connector in exchanges for state in await exchange.state()]

    async def change_zone_keys(self, zone: str | None = None) -> list[KeyState]:
        """Have the other end send new zone keys, of one zone or of all; see `KeyExchange.change`."""
        exchanges = _exchanges_of(self._begun())
        if zone is not None and zone not in exchanges:
            raise Problem(404, "no-key-exchange", Told("this gateway exchanges no keys of a zone {zone}", zone=zone))
        changed: list[KeyState] = []
        for name in exchanges if zone is None else (zone,):
            exchange, connector = exchanges[name]
            changed += await exchange.change(connector)
        return changed

    async def certificates(self, tls_merchant_id: str, data: bytes) -> bytes:
        """PCertReq to PCertRes or Error; see `CertificateRequests.answer`."""
        return await self._begun().certificates.answer(tls_merchant_id, data)

    def _begun(self) -> _Parts:
        if self._parts is None:
            raise Problem(503, "starting", "the gateway has not reached its keys yet", headers={"retry-after": "1"})
        return self._parts

    async def _begin(self) -> None:
        certificates = await self._load_certificates()
        self._parts = self._assemble(certificates)
        for name, connector in self._parts.connectors.items():
            self._keep(f"connector {name}", connector.run)
        for zone, (exchange, with_whom) in self._parts.key_exchanges.items():
            self._keep(f"keys of zone {zone}", partial(exchange.run, with_whom))
        self._keep("reversals", self._parts.reversals.run)
        self._keep("settling", self._parts.settling.run)

    def _key_exchange(self, zone: str, settings: KeyExchangeSettings) -> KeyExchange:
        resources = self._resources
        turn = "zone-keys" if zone == SWITCH else f"zone-keys-{zone}"
        return KeyExchange(
            settings,
            resources.keys.of_zone(zone),
            clock=resources.clock,
            checkpoint=self._checkpoint,
            turn=Lease(resources.store, turn, lasts=_KEY_CHANGE, clock=resources.clock),
            zone=zone,
        )

    async def _load_certificates(self) -> GatewayCertificates:
        config, attempt = self._config, 0
        while True:
            attempt += 1
            try:
                found = await GatewayCertificates.load(
                    self._resources.signer, signing_key=config.signing_key, encryption_key=config.encryption_key
                )
                own = found.encryption
                if (own.gateway_id, own.acquirer_bin) == (config.gateway_id, config.acquirer_bin):
                    return found
                _log.error("the certificates are another gateway's", named=own.gateway_id, acquirer=own.acquirer_bin)
            except (Problem, IdentityError) as error:
                _log.warning("no certificates yet", reason=str(error))
            except Exception as error:  # whatever it is, the next try may find it gone
                _log.error("no certificates yet", error=type(error).__name__)
            await asyncio.sleep(pause(attempt, first=0.2, longest=_LONGEST_PAUSE, rng=self._resources.rng))

    def _assemble(self, certificates: GatewayCertificates) -> _Parts:
        config, resources = self._config, self._resources
        dialect, codes = Dialect.load(config.dialect, clock=resources.clock), ResponseCodes.load()
        signer = AnswerSigner(resources.signer, config.signing_key)
        believable = signed_by_ours(resources.trust, resources.clock)
        refusals = Refusals(signer, resources.journal, believable=believable, clock=resources.clock)

        async def next_stan() -> str:
            return await resources.store.next_stan(config.acquirer_bin, resources.clock())

        async def file(connector: str, answer: Message) -> None:
            late = replace(unclaimed(codes, answer), route=connector)
            order = await resources.store.file_unclaimed(late, resources.clock())
            if order is None and await settling.claims(answer):
                return
            _note_unclaimed(answer, order)
            reversals.wake()

        exchanges = {name: self._key_exchange(name, settings) for name, settings in _exchanged(config).items()}
        on_key = exchanges[SWITCH].serve if SWITCH in exchanges else None
        link = SwitchLink(
            config.link,
            dialect,
            resources.keys.of_zone(SWITCH_ZONE),
            next_stan=next_stan,
            on_unclaimed=partial(file, SWITCH),
            clock=resources.clock,
            rng=resources.rng,
            on_key=on_key,
            name=SWITCH,
        )
        around = Surroundings(resources.keys.of_zone, exchanges, next_stan, file, resources.clock, resources.rng)
        found: dict[str, ShownConnector] = {SWITCH: link, **connectors(config.hosts, around)}
        routes = Routes(found, config.routes, own_zones=own_zones(config.hosts))
        patience = Patience(resources.uptime, timedelta(seconds=config.authorization.ack_timeout))
        reversals = Reversals(
            config.reversal,
            resources.store,
            routes,
            resources.keys,
            codes,
            patience,
            clock=resources.clock,
            rng=resources.rng,
            checkpoint=self._checkpoint,
            runs=resources.runs,
        )
        authorization = Authorization(
            config.authorization,
            certificates.encryption,
            store=resources.store,
            patience=patience,
            disclosures=self.disclosures,
            limits=resources.limits,
            merchants=self.merchants,
            routes=routes,
            keys=resources.keys,
            signer=signer,
            refusals=refusals,
            trust=resources.trust,
            dialect=dialect,
            codes=codes,
            clock=resources.clock,
            checkpoint=self._checkpoint,
            on_unknown=reversals.wake,
        )
        acknowledgement = Acknowledgement(
            store=resources.store,
            patience=patience,
            refusals=refusals,
            trust=resources.trust,
            clock=resources.clock,
            checkpoint=self._checkpoint,
            on_reversal=reversals.wake,
            hold_kept=config.hold_kept,
        )
        inquiries = Inquiries(
            store=resources.store,
            disclosures=self.disclosures,
            signer=signer,
            refusals=refusals,
            trust=resources.trust,
            clock=resources.clock,
        )
        card_inquiries = CardInquiries(
            store=resources.store,
            disclosures=self.disclosures,
            signer=signer,
            refusals=refusals,
            trust=resources.trust,
            clock=resources.clock,
        )
        passwords = Passwords(
            certificates.encryption,
            answer_timeout=config.authorization.answer_timeout,
            book=PasswordBook(resources.store),
            merchants=self.merchants,
            routes=routes,
            keys=resources.keys,
            signer=signer,
            # Of a budget of its own: any wallet has a merchant pass on junk, and its orders need signed refusals.
            refusals=Refusals(signer, resources.journal, believable=sealed_to_us, clock=resources.clock),
            trust=resources.trust,
            dialect=dialect,
            clock=resources.clock,
            checkpoint=self._checkpoint,
        )
        told = CertificateRequests(
            certificates, signer=signer, refusals=refusals, trust=resources.trust, clock=resources.clock
        )
        settling = SettlingService(
            config.settling,
            certificates.encryption,
            Needs(
                orders=resources.store,
                merchants=self.merchants,
                routes=routes,
                keys=resources.keys,
                signer=signer,
                refusals=refusals,
                trust=resources.trust,
                dialect=dialect,
                codes=codes,
                clock=resources.clock,
                rng=resources.rng,
                checkpoint=self._checkpoint,
            ),
        )
        return _Parts(
            told,
            authorization,
            acknowledgement,
            inquiries,
            card_inquiries,
            passwords,
            link,
            routes,
            found,
            {name: (exchange, found[name]) for name, exchange in exchanges.items()},
            reversals,
            settling,
        )


def _exchanged(config: GatewayConfig) -> dict[str, KeyExchangeSettings]:
    """How the keys of each zone that are exchanged at all are, by zone."""
    found = {} if config.key_exchange is None else {SWITCH: config.key_exchange}
    for name, host in config.hosts.items():
        if isinstance(host, IsoHost) and host.exchange is not None:
            found[name] = host.exchange
    return found


def _exchanges_of(parts: _Parts) -> Mapping[str, tuple[KeyExchange, Connector]]:
    if not parts.key_exchanges:
        raise Problem(409, "no-key-exchange", "this gateway exchanges no zone keys")
    return parts.key_exchanges


def _note_unclaimed(answer: Message, order: Order | None) -> None:
    if order is None:
        _log.error("an answer of nobody", mti=answer.mti, rc=answer.get(39))
    elif order.late_approved:
        _log.warning("late approval, to be reversed", order=str(order.key), state=order.state)
    else:
        _log.info("late or repeated answer", order=str(order.key), mti=answer.mti, rc=answer.get(39))
