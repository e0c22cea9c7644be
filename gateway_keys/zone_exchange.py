"""Zone keys that come over the line, for the gateway: taken in, told of, destroyed after their time.

A zone key's index on the line runs from 1 to 99 and round again; the key of the ceremony is 1, each change counts one
on. Inside, it is a version of the key in the registry. The gateway hands on what the switch sent, wrapped as it came;
the key itself is in the token alone. A replaced MAC key still verifies for `overlap`, then it is destroyed; a replaced
PIN key does nothing any more, and is destroyed at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from gateway_keys import wire
from gateway_keys.zone_keys import ZONE_MAC, ZONE_PIN
from hsm_service.custody import Key
from hsm_service.key_states import KeyState
from hsm_service.key_versions import Standing
from hsm_service.vault import Vault
from runtime.problems import Problem
from shetab.zone import SWITCH_ZONE
from shetab.zone_keys import HIGHEST_INDEX

_TEND: Final = "tend-zone-keys"


def index_of(version: int) -> int:
    """The index on the line of a version of a zone key."""
    return (version - 1) % HIGHEST_INDEX + 1


class ZoneExchange:
    """What the gateway service may have done with the keys of a zone, by their names. All methods block."""

    def __init__(
        self,
        *,
        pin: str,
        mac: str,
        master: str,
        overlap: timedelta,
        clock: Callable[[], datetime],
        zone: str = SWITCH_ZONE,
    ) -> None:
        self._zone = zone
        self._working = {ZONE_PIN.kind: pin, ZONE_MAC.kind: mac}
        self._kinds = {name: kind for kind, name in self._working.items()}
        self._mac = mac
        self._master = master
        self._overlap = overlap
        self._clock = clock

    def receive(self, vault: Vault, caller: str, request: wire.ReceiveZoneKeyRequest) -> wire.ZoneKeyAnswer:
        """Take in the key that the switch sent; see `hsm_service.zone_working_keys`.

        Problem 422 `wrong-check-value`, 409 `wrong-key-index`; the key in use stays.
        """
        name = next((name for kind, name in self._working.items() if kind == request.key), None)
        if name is None:
            raise Problem(422, "invalid-request", f"{request.key!r} is none of {', '.join(self._working)}")
        in_use = vault.key(name).row.version
        version = next((each for each in (in_use, in_use + 1) if index_of(each) == request.index), 0)
        key = vault.zone_keys.receive(caller, self._master, name, version, request.wrapped, request.check_value)
        return self._told(vault, key)

    def tend(self, vault: Vault, caller: str, _request: wire.TendZoneKeysRequest) -> wire.ZoneKeysAnswer:
        """Destroy the keys whose overlap is over, and tell of those in use."""
        names = list(self._working.values())
        with vault.lending.refusals(caller, _TEND, names, input_sha256=None):
            keys = [vault.key(name) for name in names]
        vault.zone_keys.end_replaced(caller, names, self._overlap)
        return wire.ZoneKeysAnswer(keys=[self._told(vault, key) for key in keys])

    def verifying(self, vault: Vault) -> list[int]:
        """Versions of the MAC key that a message may be under: the one in use, and those replaced just now."""
        now = self._clock()
        found = []
        for key in vault.versions(self._mac):
            if key.standing is Standing.IN_USE:
                found.append(key.row.version)
            elif key.standing is Standing.RETIRED and key.row.state is KeyState.ENABLED:
                ends = key.row.retires_at
                if ends is None or now < ends + self._overlap:  # None: replaced this moment
                    found.append(key.row.version)
        return found

    def _told(self, vault: Vault, key: Key) -> wire.ZoneKeyAnswer:
        row = key.row
        return wire.ZoneKeyAnswer(
            key=self._kinds[row.name],
            zone=self._zone,
            index=index_of(row.version),
            check_value=vault.zone_keys.check_value(key).hex().upper(),
            since=(row.activates_at or row.created).isoformat(),
            replaced_still_valid=len([each for each in vault.versions(row.name) if _waits(each)]),
        )


def _waits(key: Key) -> bool:
    return key.standing is Standing.RETIRED and key.row.state is not KeyState.DESTROYED
