"""The zone keys shared with the acquirer, in software, as the ceremony made them; `switch.key_ring` has those in use.

Each key comes from two component files (hexadecimal, as long as the key, mode 0600), the same that the acquirer's
custodians load into its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtime.secrets import read_secret
from shetab import zone_keys
from shetab.errors import ValueFormatError
from shetab.zone import Zone, ZoneKeyName
from switch.errors import KeyFileError

PIN_KEY_COMPONENTS: Final = ("zone-pin-component-1", "zone-pin-component-2")
MAC_KEY_COMPONENTS: Final = ("zone-mac-component-1", "zone-mac-component-2")
MASTER_KEY_COMPONENTS: Final = ("zone-master-component-1", "zone-master-component-2")
"""File names in the installation's `secrets` folder."""


class ZoneKeys:
    """Zone PIN key, zone MAC key and zone master key, as the ceremony made them, of the kinds that `agreed` names.

    Without a master key no keys are exchanged.
    """

    __slots__ = ("_master", "agreed", "mac_key", "pin_key")

    def __init__(self, pin_key: bytes, mac_key: bytes, master: bytes | None = None, agreed: Zone | None = None) -> None:
        self.pin_key = pin_key
        self.mac_key = mac_key
        self.agreed = agreed or Zone()
        self._master = master

    @classmethod
    def load(cls, secrets: Path, agreed: Zone | None = None) -> ZoneKeys:
        """Combine the component files in the folder `secrets`.

        :raises KeyFileError: a file is missing or malformed. :raises SecretFileError: others may read it.
        """
        agreed, master = agreed or Zone(), None
        if any((secrets / name).exists() for name in MASTER_KEY_COMPONENTS):  # zones of before have none
            master = _combine(secrets, MASTER_KEY_COMPONENTS, agreed.size("zone-master"))
        pin_key = _combine(secrets, PIN_KEY_COMPONENTS, agreed.size("zone-pin"))
        return cls(pin_key, _combine(secrets, MAC_KEY_COMPONENTS, agreed.size("zone-mac")), master, agreed)

    @property
    def check_values(self) -> tuple[str, str]:
        """Key check values of PIN key and MAC key, to compare with the acquirer's."""
        return self.agreed.kcv("zone-pin", self.pin_key), self.agreed.kcv("zone-mac", self.mac_key)

    @property
    def can_exchange(self) -> bool:
        """Whether there is a master key."""
        return self._master is not None

    def wrap(self, kind: ZoneKeyName, key: bytes) -> bytes:
        """A working key under the master key, as it goes over the line.

        :raises KeyFileError: there is none.
        """
        return self.agreed.wrap(kind, self._needed(), key)

    def unwrap(self, kind: ZoneKeyName, wrapped: bytes) -> bytes:
        """The working key again.

        :raises KeyFileError: there is no master key, or it is another one, or keys are of another kind by now.
        """
        try:
            return self.agreed.unwrap(kind, self._needed(), wrapped)
        except ValueFormatError:
            raise KeyFileError("the zone master key is not the one that zone keys were exchanged under") from None

    def _needed(self) -> bytes:
        if self._master is None:
            raise KeyFileError("there is no zone master key; the zone-key ceremony makes it")
        return self._master


def _combine(secrets: Path, names: Sequence[str], size: int) -> bytes:
    components = []
    for name in names:
        path = secrets / name
        if not path.exists():
            raise KeyFileError(f"{path} is missing; the zone-key ceremony makes it")
        try:
            components.append(zone_keys.parse_component(read_secret(path).reveal(), size))
        except ValueFormatError as error:
            raise KeyFileError(f"{path}: {error}") from None
    return zone_keys.combine(components)
