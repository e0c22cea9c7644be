"""The zones of an installation: whose keys are asked for by name, and what is done with each alone.

There is the switch's, and one for each connector with a section of its own (`shetab.zone`). A request names its zone,
and nothing of another one is used for it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway_keys import orders, wire
from gateway_keys.orders import PinKey, SealedPin
from gateway_keys.zone_exchange import ZoneExchange
from gateway_keys.zone_keys import keys_of
from hsm_service.lending import Running
from hsm_service.steps import Steps
from hsm_service.templates import Operation
from hsm_service.vault import Vault
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.types import Pan, Pin
from shetab.zone import SWITCH_ZONE, Zone

OVERLAP: Final = timedelta(seconds=60)
_MAC_RECORDS: Final = {Operation.MAC: "generate-mac", Operation.VERIFY_MAC: "verify-mac"}
"""What the journal calls them."""

_log = get_logger("gateway.keys")


@dataclass(frozen=True, slots=True)
class HostZone:
    """What was agreed on with one other end: what PIN blocks and MACs are, and how long an old key counts."""

    agreed: Zone
    overlap: timedelta = OVERLAP


@dataclass(frozen=True, slots=True)
class NamedZone:
    """A zone and the names of its keys."""

    name: str
    agreed: Zone
    pin: str
    mac: str
    exchange: ZoneExchange

    def check_kind(self, vault: Vault, name: str, algorithm: str) -> None:
        """Problem 503 `not-able` for a key of another kind than the settings agree on with the other end."""
        held = vault.key(name).template.algorithm
        if held != algorithm:
            section = "switch.zone" if self.name == SWITCH_ZONE else f"gateway.connectors.{self.name}.zone"
            raise Problem(503, "not-able", f"key {name} is {held}; the zone agreed on {algorithm}: see [{section}]")

    def seal(self, vault: Vault, caller: str, pin: Pin | None, pan: Pan) -> Steps[SealedPin]:
        """The PIN under the zone's PIN key, which is lent for it alone: an operation of its own on the record."""
        self.check_kind(vault, self.pin, self.agreed.pin_key)
        block_format = self.agreed.pin_block_format
        if pin is None:
            return SealedPin(None, block_format, vault.key(self.pin).row.version)

        def work(running: Running) -> Steps[SealedPin]:
            key = running.keys[self.pin]
            block = yield from orders.seal_pin(PinKey(key.token, key.ref, block_format), pin, pan)
            return SealedPin(block, block_format, key.key.row.version)

        keys = {self.pin: Operation.PIN_BLOCK}
        return (yield from vault.lending.steps(caller, "seal-pin", keys, work, input_sha256=None))


class Zones:
    """All zones of an installation, by name. Methods block that do not return steps."""

    def __init__(
        self,
        switch: HostZone,
        names: tuple[str, str, str],
        others: Mapping[str, HostZone],
        *,
        clock: Callable[[], datetime],
    ) -> None:
        """:param names: of the PIN, MAC and master key shared with the switch; the others' are called by their zone."""
        self._zones = {SWITCH_ZONE: _named(SWITCH_ZONE, switch, names, clock)}
        for zone, each in others.items():
            pin, mac, master = (key.name for key in keys_of(zone))
            self._zones[zone] = _named(zone, each, (pin, mac, master), clock)

    def find(self, name: str) -> NamedZone:
        """Problem 422 for a zone that there is none of."""
        zone = self._zones.get(name)
        if zone is None:
            raise Problem(422, "zone-unknown", f"there is no zone {name}: see [gateway.connectors]")
        return zone

    def receive(self, vault: Vault, caller: str, request: wire.ReceiveZoneKeyRequest) -> wire.ZoneKeyAnswer:
        """See `ZoneExchange.receive`."""
        with vault.lending.refusals(caller, "receive-zone-key", [], input_sha256=None):
            zone = self.find(request.zone)
        return zone.exchange.receive(vault, caller, request)

    def tend(self, vault: Vault, caller: str, request: wire.TendZoneKeysRequest) -> wire.ZoneKeysAnswer:
        """See `ZoneExchange.tend`."""
        with vault.lending.refusals(caller, "tend-zone-keys", [], input_sha256=None):
            zone = self.find(request.zone)
        return zone.exchange.tend(vault, caller, request)

    def generate_mac(
        self, vault: Vault, caller: str, request: wire.GenerateMacRequest
    ) -> Steps[wire.GenerateMacAnswer]:
        """The MAC of an ISO 8583 message under the MAC key of its zone that is in use."""
        zone = yield from self._asked(vault, caller, Operation.MAC, request.zone)
        return wire.GenerateMacAnswer(mac=(yield from _mac(zone, vault, caller, Operation.MAC, request.data)))

    def verify_mac(self, vault: Vault, caller: str, request: wire.VerifyMacRequest) -> Steps[wire.VerifyMacAnswer]:
        """Whether the MAC is right under its zone's key in use, or under one that was replaced just now.

        Compared in constant time, here, so that the right one is not told.
        """
        zone = yield from self._asked(vault, caller, Operation.VERIFY_MAC, request.zone)
        for version in zone.exchange.verifying(vault):
            mac = yield from _mac(zone, vault, caller, Operation.VERIFY_MAC, request.data, version)
            if hmac.compare_digest(mac, request.mac):
                return wire.VerifyMacAnswer(valid=True)
        return wire.VerifyMacAnswer(valid=False)

    def _asked(self, vault: Vault, caller: str, operation: Operation, name: str) -> Steps[NamedZone]:
        """The zone that a MAC is of; Problem 422, on the record, for one that there is none of."""
        try:
            return self.find(name)
        except Problem as error:
            yield from vault.lending.refuse(caller, _MAC_RECORDS[operation], [], error, input_sha256=None)
            raise


def _mac(
    zone: NamedZone, vault: Vault, caller: str, operation: Operation, data: bytes, version: int | None = None
) -> Steps[bytes]:
    name, what = zone.mac, _MAC_RECORDS[operation]
    versions = {} if version is None else {name: version}
    algorithm = zone.agreed.mac_algorithm
    if not data and algorithm.padding == 1:
        raise Problem(422, "invalid-request", "an X9.19 MAC with padding method 1 is not of an empty message")
    zone.check_kind(vault, name, zone.agreed.mac_key)

    def work(running: Running) -> Steps[bytes]:
        key = running.keys[name]
        return (yield from orders.message_mac(key.token, key.ref, data, algorithm))

    keys = {name: operation}
    return (yield from vault.lending.steps(caller, what, keys, work, input_sha256=None, versions=versions))


def _named(name: str, of: HostZone, keys: tuple[str, str, str], clock: Callable[[], datetime]) -> NamedZone:
    if of.agreed.is_deterministic:
        what = "PIN blocks of format 0: equal PINs of a card give equal blocks under a key; agree on format 3"
        _log.warning(what, zone=name)
    pin, mac, master = keys
    exchange = ZoneExchange(pin=pin, mac=mac, master=master, overlap=of.overlap, clock=clock, zone=name)
    return NamedZone(name, of.agreed, pin, mac, exchange)
