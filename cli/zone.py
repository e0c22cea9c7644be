"""What the installation agreed on with the switch and with hosts about keys: for the ceremony and the key service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway_keys.zones import HostZone
from runtime.line_settings import IsoHostSettings
from runtime.settings import Home, Settings
from shetab.dialect import Dialect
from shetab.prefixes import longest
from shetab.zone import SWITCH_ZONE, Zone

_JSON_DIALECT: Final = "shetab87_ascii"
"""`gateway.connectors.building.CANONICAL`: whose rules the JSON form keeps."""


def agreed_zone(home: Home, settings: Settings) -> Zone:
    """The zone of the gateway's dialect and of `[switch.zone]`.

    :raises ValueFormatError: kinds of keys that do not fit the dialect.
    """
    return Zone.of(Dialect.load(home.dialect(settings.gateway.dialect)), settings.switch.zone)


def host_zones(home: Home, settings: Settings) -> dict[str, HostZone]:
    """The zones of the connectors that have one of their own, by connector.

    :raises ValueFormatError: kinds of keys that do not fit the connector's dialect.
    """
    found = {}
    for name, host in settings.gateway.connectors.items():
        if host.zone is not None:
            spoken = host.dialect if isinstance(host, IsoHostSettings) else _JSON_DIALECT
            agreed = Zone.of(Dialect.load(home.dialect(spoken)), host.zone)
            found[name] = HostZone(agreed, host.zone.key_overlap or settings.gateway.key_overlap)
    return found


def zone_of_cards(settings: Settings) -> Callable[[str], str]:
    """In which zone an order of a card is sent, by its PAN: that of the connector that `[gateway.routes]` names."""
    routes, hosts = settings.gateway.routes, settings.gateway.connectors

    def zone_of(pan: str) -> str:
        name = longest(routes.prefixes, pan) or routes.default
        host = hosts.get(name)
        return SWITCH_ZONE if host is None or host.zone is None else name

    return zone_of
