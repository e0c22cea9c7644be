"""What the installation agreed on with the switch about keys: for the ceremony and the key service."""

from __future__ import annotations

from runtime.settings import Home, Settings
from shetab.dialect import Dialect
from shetab.zone import Zone


def agreed_zone(home: Home, settings: Settings) -> Zone:
    """The zone of the gateway's dialect and of `[switch.zone]`.

    :raises ValueFormatError: kinds of keys that do not fit the dialect.
    """
    return Zone.of(Dialect.load(home.dialect(settings.gateway.dialect)), settings.switch.zone)
