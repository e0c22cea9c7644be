"""The zone keys shared with the acquirer, in software: MAC of the line, PIN blocks.

Each key comes from two component files (32 hexadecimal digits each, mode 0600), the same that the acquirer's custodians
load into its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtime.secrets import read_secret
from shetab import mac, pin_block, zone_keys
from shetab.errors import ValueFormatError
from shetab.pin_block import PinBlockFormat
from shetab.types import Pan, Pin
from switch.errors import KeyFileError

PIN_KEY_COMPONENTS: Final = ("zone-pin-component-1", "zone-pin-component-2")
MAC_KEY_COMPONENTS: Final = ("zone-mac-component-1", "zone-mac-component-2")
"""File names in the installation's `secrets` folder."""


class ZoneKeys:
    """Zone PIN key (double-length TDES) and zone MAC key (AES-128)."""

    __slots__ = ("_mac_key", "_pin_key")

    def __init__(self, pin_key: bytes, mac_key: bytes) -> None:
        self._pin_key = pin_key
        self._mac_key = mac_key

    @classmethod
    def load(cls, secrets: Path) -> ZoneKeys:
        """Combine the component files in the folder `secrets`.

        :raises KeyFileError: a file is missing or malformed. :raises SecretFileError: others may read it.
        """
        return cls(_combine(secrets, PIN_KEY_COMPONENTS), _combine(secrets, MAC_KEY_COMPONENTS))

    @property
    def check_values(self) -> tuple[str, str]:
        """Key check values of PIN key and MAC key, to compare with the acquirer's."""
        return zone_keys.tdes_kcv(self._pin_key), zone_keys.aes_kcv(self._mac_key)

    def mac(self, data: bytes) -> bytes:
        """MAC of a message, 8 bytes."""
        return mac.message_mac(self._mac_key, data)

    def verify_mac(self, data: bytes, received: bytes) -> bool:
        """True if `received` is the MAC of `data`; constant time."""
        return mac.verify_message_mac(self._mac_key, data, received)

    def open_pin_block(self, block: bytes, pan: Pan, block_format: PinBlockFormat) -> Pin:
        """The PIN of an 8-byte block under the zone PIN key.

        :raises PinBlockError: it is not a block of this format for this PAN.
        """
        return pin_block.parse(pin_block.decrypt(block, self._pin_key), pan, allowed=frozenset({block_format}))


def _combine(secrets: Path, names: Sequence[str]) -> bytes:
    components = []
    for name in names:
        path = secrets / name
        if not path.exists():
            raise KeyFileError(f"{path} is missing; the zone-key ceremony makes it")
        try:
            components.append(zone_keys.parse_component(read_secret(path).reveal()))
        except ValueFormatError as error:
            raise KeyFileError(f"{path}: {error}") from None
    return zone_keys.combine(components)
