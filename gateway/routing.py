"""Which connector a card's transactions go to: the longest prefix of the PAN that the table names, else the default.

The choice is made once, when an order is VERIFIED, and kept in its row (`orders.route`). Whatever follows of the order
(reversal, capture, credit) goes where the order went, also after the table was changed: another host knows nothing of
it. An order whose connector is not in the settings any more waits: `MissingConnector` is never signed on, and
`gateway.operating.watching` raises an alarm as long as reversals wait for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import LinkDownError, RoutingError
from gateway.links.in_flight import Judge
from gateway.ports import Connector
from runtime.logging import get_logger
from shetab.message import Message
from shetab.prefixes import LONGEST_PREFIX, longest
from shetab.types import Pan
from shetab.zone import SWITCH_ZONE

SWITCH: Final = "switch"
"""The connector that every installation has, and the default of the table."""

_log = get_logger("gateway.routing")


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Prefixes of PANs by the name of the connector that serves them."""

    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Prefix (1 to 11 digits) to connector. A longer one goes before a shorter one, so no two can be in doubt."""
    default: str | None = SWITCH
    """Where all other cards go; None: nowhere, such orders are declined."""

    def __post_init__(self) -> None:
        """:raises RoutingError: a prefix that is none."""
        for prefix in self.prefixes:
            if not (prefix.isascii() and prefix.isdigit() and len(prefix) <= LONGEST_PREFIX):
                raise RoutingError(f"a prefix has 1 to {LONGEST_PREFIX} digits: {prefix!r} is none")

    def find(self, digits: str) -> str | None:
        """The connector of a card that begins with `digits`, by the longest prefix."""
        return longest(self.prefixes, digits) or self.default


class Routes:
    """The connectors by name, and the table. Stateless: what an order was given is in its row."""

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        table: RouteTable | None = None,
        *,
        own_zones: frozenset[str] = frozenset(),
    ) -> None:
        """`own_zones` names the connectors with zone keys of their own; the others work with those of the switch.

        :raises RoutingError: the table names a connector that there is none of.
        """
        self._own_zones = own_zones
        self.table = RouteTable() if table is None else table
        self._connectors = dict(connectors)
        named = {*self.table.prefixes.values(), *([] if self.table.default is None else [self.table.default])}
        if unknown := sorted(named - self._connectors.keys()):
            raise RoutingError(f"the routes name {', '.join(unknown)}, and there is no such connector")

    def __iter__(self) -> Iterator[Connector]:
        return iter(self._connectors.values())

    @property
    def signed_on(self) -> bool:
        """Whether any order at all can be sent right now."""
        return any(connector.signed_on for connector in self)

    def up(self) -> frozenset[str | None]:
        """Names of the connectors that are signed on, and None if the main one is."""
        names = frozenset[str | None](connector.name for connector in self if connector.signed_on)
        return names | {None} if self.main.signed_on else names

    @property
    def main(self) -> Connector:
        """The connector of messages that are about no card: the default, or the first if there is no default."""
        name = self.table.default
        return next(iter(self)) if name is None else self._connectors[name]

    def choose(self, pan: Pan) -> str | None:
        """The name of the connector for a new order of this card; None if no route leads to its issuer."""
        return self.table.find(pan.reveal())

    def zone_of(self, name: str) -> str:
        """Under whose zone keys messages of this connector are."""
        return name if name in self._own_zones else SWITCH_ZONE

    def of(self, name: str | None) -> Connector:
        """The connector that an order was given; the main one for an order that was given none."""
        if name is None:
            return self.main
        return self._connectors.get(name) or MissingConnector(name)


class MissingConnector:
    """Stands for a connector that orders were given and that the settings do not name any more: it is always down."""

    signed_on: Final = False

    def __init__(self, name: str) -> None:
        self.name = name

    async def authenticate(self, message: Message) -> bytes:
        """:raises LinkDownError: always."""
        raise self._missing()

    async def exchange(
        self,
        message: Message,
        raw: bytes,
        timeout: float,  # noqa: ASYNC109  # as in Connector
        judge: Judge | None = None,
    ) -> Message:
        """:raises LinkDownError: always."""
        raise self._missing()

    async def manage(self, code: str, more: Mapping[int, str]) -> str:
        """:raises LinkDownError: always."""
        raise self._missing()

    async def run(self) -> None:
        """Nothing to keep up."""

    def _missing(self) -> LinkDownError:
        _log.error("an order's connector is not in the settings", connector=self.name, alarm=True)
        return LinkDownError(f"there is no connector {self.name} any more")
