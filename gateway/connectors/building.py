"""From the settings to connectors and routes: adding a host or a prefix needs no code.

What is wrong is said when the gateway starts, before it takes an order: an unknown connector in a route, a dialect or a
certificate that is not there.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from gateway.connectors.authoriser import AuthoriserSettings, HttpAuthoriser
from gateway.errors import RoutingError
from gateway.key_exchange import KeyExchange, KeyExchangeSettings
from gateway.links.intake import MessageAuthentication
from gateway.links.link import SwitchLink
from gateway.links.settings import Address, LinkSettings
from gateway.ports import ShownConnector
from gateway.routing import SWITCH, RouteTable
from runtime.client import AsyncTransport, TlsFiles, client_context, keepalive_client
from runtime.line_settings import (
    ConnectorSettings,
    HttpHostSettings,
    IsoHostSettings,
    LineLimits,
    LineTls,
    MutualTls,
    host_and_port,
)
from runtime.settings import GatewaySettings, Home, Settings
from runtime.zone_settings import HostZoneSettings
from shetab.dialect import Dialect
from shetab.framing import Framing
from shetab.json_form import LARGEST
from shetab.message import Message
from shetab.zone import SWITCH_ZONE

CANONICAL: Final = "shetab87_ascii"
"""The dialect whose rules the JSON form keeps."""
_NOWHERE: Final = "none"
"""TOML knows no null."""
_HTTP_DEADLINE: Final = 120.0
"""Seconds. Beyond any deadline of a request and the time that late answers are listened to."""


@dataclass(frozen=True, slots=True)
class IsoHost:
    """A host on lines of its own."""

    link: LinkSettings
    dialect: str
    exchange: KeyExchangeSettings | None = None
    """How the keys of its zone are changed; None: they stay, or are another's to change."""
    own_zone: bool = False
    """Whether it has zone keys of its own, called by its name; else it works with those of the switch."""


@dataclass(frozen=True, slots=True)
class Authoriser:
    """A service that is asked over HTTPS; `connect` makes its transport."""

    settings: AuthoriserSettings
    connect: Callable[[], AsyncTransport]
    own_zone: bool = False


Host = IsoHost | Authoriser


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What connectors share with the rest of the gateway."""

    keys: Callable[[str], MessageAuthentication]
    """Those of a zone, by its name."""
    exchanges: Mapping[str, KeyExchange]
    """Of the connectors that have one, by name."""
    next_stan: Callable[[], Awaitable[str]]
    on_unclaimed: Callable[[str, Message], Awaitable[None]]
    """Told the connector's name, too."""
    clock: Callable[[], datetime]
    rng: Callable[[int], bytes]


def switch_link(home: Home | None, settings: Settings) -> LinkSettings:
    """The lines to the switch; without `home` no file is looked at, and there is no TLS."""
    own = settings.switch
    addresses = (Address(own.host, own.port), *(Address(*host_and_port(each)) for each in own.also))
    institution = settings.gateway.acquirer_bin
    return _link(home, addresses, institution, own.length_prefix, own.connections, own.lines, own.tls)


def hosts(home: Home, settings: Settings) -> dict[str, Host]:
    """What the settings name beside the switch.

    :raises RoutingError: a dialect, a certificate or a key that is not there or is none.
    """
    found: dict[str, Host] = {}
    for name, each in settings.gateway.connectors.items():
        try:
            found[name] = _host(home, each, settings.gateway)
        except (OSError, ValueError) as error:  # ssl.SSLError is one
            raise RoutingError(f"the connector {name} cannot be: {error}") from error
    return found


def own_zones(found: Mapping[str, Host]) -> frozenset[str]:
    """Names of the connectors with zone keys of their own."""
    return frozenset(name for name, host in found.items() if host.own_zone)


def exchange_of(own: GatewaySettings, zone: HostZoneSettings | None = None) -> KeyExchangeSettings:
    """How zone keys are changed: as `[gateway]` says, where the zone's own section says nothing else."""
    at_sign_on = None if zone is None else zone.key_change_at_sign_on
    return KeyExchangeSettings(
        at_sign_on=own.key_change_at_sign_on if at_sign_on is None else at_sign_on,
        lifetime=(zone and zone.key_lifetime) or own.key_lifetime,
        tick=own.key_tick,
    )


def _host(home: Home, own: ConnectorSettings, gateway: GatewaySettings) -> Host:
    if isinstance(own, IsoHostSettings):
        dialect = home.dialect(own.dialect)
        Dialect.load(dialect)  # the connector loads it again, with a clock
        exchanges = own.zone is not None and own.network_management
        return IsoHost(
            _iso_link(home, own, gateway.acquirer_bin),
            dialect,
            exchange_of(gateway, own.zone) if exchanges else None,
            own_zone=own.zone is not None,
        )
    settings = AuthoriserSettings(
        own.url,
        own.connections,
        own.kept_for_reversals,
        with_mac=own.mac,
        look_every=own.look_every,
        management_timeout=own.management_timeout,
    )
    _context(home, own.tls)  # the transport makes it again
    return Authoriser(settings, _transport(home, own), own_zone=own.zone is not None)


def table(settings: Settings) -> RouteTable:
    """The routes.

    :raises RoutingError: one leads to a connector that the settings do not name.
    """
    own = settings.gateway.routes
    default = None if own.default == _NOWHERE else own.default
    named = {SWITCH, *settings.gateway.connectors}
    if unknown := sorted({*own.prefixes.values(), *([] if default is None else [default])} - named):
        raise RoutingError(f"the routes name {', '.join(unknown)}, and there is no such connector")
    return RouteTable(dict(own.prefixes), default)


def connectors(found: Mapping[str, Host], around: Surroundings) -> dict[str, ShownConnector]:
    """The hosts as connectors, by name."""
    return {name: _connector(name, host, around) for name, host in found.items()}


def _connector(name: str, host: Host, around: Surroundings) -> ShownConnector:
    on_unclaimed = partial(around.on_unclaimed, name)
    keys = around.keys(name if host.own_zone else SWITCH_ZONE)
    if isinstance(host, IsoHost):
        exchange = around.exchanges.get(name)
        return SwitchLink(
            host.link,
            Dialect.load(host.dialect, clock=around.clock),
            keys,
            next_stan=around.next_stan,
            on_unclaimed=on_unclaimed,
            clock=around.clock,
            rng=around.rng,
            on_key=None if exchange is None else exchange.serve,
            name=name,
        )
    return HttpAuthoriser(
        name,
        host.settings,
        Dialect.load(CANONICAL, clock=around.clock),
        host.connect(),
        keys,
        on_unclaimed=on_unclaimed,
        clock=around.clock,
    )


def _iso_link(home: Home, host: IsoHostSettings, institution: str) -> LinkSettings:
    addresses = tuple(Address(*host_and_port(each)) for each in host.addresses)
    return _link(
        home,
        addresses,
        institution,
        host.length_prefix,
        host.connections,
        host.limits,
        host.tls,
        network_management=host.network_management,
    )


def _link(
    home: Home | None,
    addresses: tuple[Address, ...],
    institution: str,
    length_prefix: int,
    connections: int,
    limits: LineLimits,
    tls: LineTls | None,
    *,
    network_management: bool = True,
) -> LinkSettings:
    return LinkSettings(
        addresses,
        institution,
        Framing(length_prefix),
        connections=connections,
        network_management=network_management,
        tls=None if tls is None or home is None else _context(home, tls),
        server_name=None if tls is None else tls.name,
        **limits.model_dump(),
    )


def tls_files(home: Home, tls: MutualTls, *, own: str) -> TlsFiles:
    """The files of one side; what is not set is that of the service `own` of the installation."""
    default = home.tls_files(own)

    def chosen(path: Path | None, otherwise: Path) -> Path:
        return otherwise if path is None else home.path / path

    return TlsFiles(
        chosen(tls.certificate, default.certificate), chosen(tls.key, default.key), chosen(tls.trust_anchor, default.ca)
    )


def _context(home: Home, tls: MutualTls) -> ssl.SSLContext:
    return client_context(tls_files(home, tls, own="gateway"))


def _transport(home: Home, host: HttpHostSettings) -> Callable[[], AsyncTransport]:
    files = tls_files(home, host.tls, own="gateway")
    return lambda: keepalive_client(
        files,
        host.url,
        timeout=_HTTP_DEADLINE,
        connections=host.connections + 1,  # one to look whether it is there
        largest_answer=2 * LARGEST,
    )
