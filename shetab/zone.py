"""What the two ends of a zone agreed on: the form of PIN blocks, how messages are authenticated, and by what keys.

Both ends are told the same by their settings; on the line, DE 53 says the format of a PIN block and the index of a key,
and nothing else is negotiated. The values are checked against each other once, when they are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from shetab import zone_keys
from shetab.errors import ValueFormatError
from shetab.mac import MacAlgorithm
from shetab.pin_block import PinBlockFormat
from shetab.zone_keys import KEY_SIZES, KeyAlgorithm

_PIN_KEYS: Final[dict[PinBlockFormat, tuple[KeyAlgorithm, ...]]] = {
    PinBlockFormat.FORMAT_0: ("des2", "des3"),
    PinBlockFormat.FORMAT_3: ("des2", "des3"),
    PinBlockFormat.FORMAT_4: ("aes-128", "aes-256"),
}
_MAC_KEYS: Final[dict[MacAlgorithm, tuple[KeyAlgorithm, ...]]] = {
    MacAlgorithm.AES_CMAC: ("aes-128", "aes-256"),
    MacAlgorithm.X9_19: ("des2",),
    MacAlgorithm.X9_19_PADDING_2: ("des2",),
}
"""The first of each is what is taken where nothing is said."""


class SpokenDialect(Protocol):
    """As much of `shetab.dialect.Dialect` as is about keys."""

    @property
    def pin_block_format(self) -> int: ...
    @property
    def mac_algorithm(self) -> str: ...


class KindsOfKeys(Protocol):
    """The section `[switch.zone]` of the settings; None: the first kind that fits."""

    @property
    def pin_key(self) -> KeyAlgorithm | None: ...
    @property
    def mac_key(self) -> KeyAlgorithm | None: ...
    @property
    def master_key(self) -> KeyAlgorithm | None: ...
    @property
    def mac_padding(self) -> int: ...


ZoneKeyName = Literal["zone-pin", "zone-mac", "zone-master"]
SWITCH_ZONE: Final = "switch"
"""The zone shared with the switch, which every installation has. Others are called like the connector they are with."""


def key_label(kind: ZoneKeyName, zone: str = SWITCH_ZONE) -> str:
    """What a key of a zone is called in registry, token and component files: zone-pin, or zone-pin-melli."""
    return kind if zone == SWITCH_ZONE else f"{kind}-{zone}"


@dataclass(frozen=True, slots=True)
class Zone:
    """The agreement. `pin_key`, `mac_key` and `master_key` are kinds of keys; build it with `agreed`."""

    pin_block_format: PinBlockFormat = PinBlockFormat.FORMAT_3
    mac_algorithm: MacAlgorithm = MacAlgorithm.AES_CMAC
    pin_key: KeyAlgorithm = "des2"
    mac_key: KeyAlgorithm = "aes-128"
    master_key: KeyAlgorithm = "aes-128"

    @classmethod
    def agreed(
        cls,
        pin_block_format: int = 3,
        mac_algorithm: str = "aes-cmac",
        pin_key: KeyAlgorithm | None = None,
        mac_key: KeyAlgorithm | None = None,
        master_key: KeyAlgorithm | None = None,
        mac_padding: int = 1,
    ) -> Zone:
        """The zone of these settings; a kind of key that is not said is the first that fits.

        :raises ValueFormatError: a format or algorithm that there is none of, or a key that does not fit it; or a
            master key that is weaker than a key that it would carry (ISO 11568-2 4.7.2).
        """
        try:
            block_format, algorithm = PinBlockFormat(pin_block_format), MacAlgorithm(mac_algorithm)
            if algorithm is MacAlgorithm.X9_19 and mac_padding == 2:
                algorithm = MacAlgorithm.X9_19_PADDING_2
        except ValueError:
            raise ValueFormatError(
                "zone", "PIN block formats are 0, 3 and 4, MACs aes-cmac, x9.19 and x9.19-padding-2"
            ) from None
        pin_key = pin_key or _PIN_KEYS[block_format][0]
        mac_key = mac_key or _MAC_KEYS[algorithm][0]
        strong = "aes-256" in (pin_key, mac_key)
        master_key = master_key or ("aes-256" if strong else "aes-128")
        if pin_key not in _PIN_KEYS[block_format]:
            raise ValueFormatError(
                "zone PIN key", f"of format {block_format:d} is {' or '.join(_PIN_KEYS[block_format])}"
            )
        if mac_key not in _MAC_KEYS[algorithm]:
            raise ValueFormatError("zone MAC key", f"of {algorithm} is {' or '.join(_MAC_KEYS[algorithm])}")
        if master_key not in ("aes-128", "aes-256") or (strong and master_key != "aes-256"):
            raise ValueFormatError("zone master key", "is aes-128 or aes-256, and no weaker than the keys under it")
        return cls(block_format, algorithm, pin_key, mac_key, master_key)

    @classmethod
    def of(cls, dialect: SpokenDialect, kinds: KindsOfKeys) -> Zone:
        """The zone of a dialect, which says format and MAC, and of settings, which say what keys and padding.

        :raises ValueFormatError: as `agreed`.
        """
        return cls.agreed(
            dialect.pin_block_format,
            dialect.mac_algorithm,
            kinds.pin_key,
            kinds.mac_key,
            kinds.master_key,
            kinds.mac_padding,
        )

    @property
    def is_deterministic(self) -> bool:
        """Whether equal PINs of a card give equal blocks (format 0): to be warned about."""
        return self.pin_block_format is PinBlockFormat.FORMAT_0

    def algorithm(self, kind: ZoneKeyName) -> KeyAlgorithm:
        """The kind of the key called `kind`."""
        return {"zone-pin": self.pin_key, "zone-mac": self.mac_key, "zone-master": self.master_key}[kind]

    def has_mac_pair(self, kind: str) -> bool:
        """Whether the key called `kind` is one of ANSI X9.19, which comes as a pair (`zone_keys.single_des_part`)."""
        return kind == "zone-mac" and self.mac_algorithm is not MacAlgorithm.AES_CMAC

    def kcv(self, kind: ZoneKeyName, key: bytes) -> str:
        """The check value of `key` as the one called `kind`, hexadecimal."""
        return zone_keys.kcv(self.algorithm(kind), key, pair=self.has_mac_pair(kind))

    def new_key(self, kind: ZoneKeyName, rng: Callable[[int], bytes]) -> bytes:
        """A new key called `kind`; `rng(n)` gives n random bytes. TDES keys have odd parity, and no weak part."""
        while True:
            key = rng(self.size(kind))
            if self.algorithm(kind) in ("des2", "des3"):
                key = zone_keys.with_odd_parity(key)
            with contextlib.suppress(ValueFormatError):
                zone_keys.check_strength(self.algorithm(kind), key)
                return key

    def wrap(self, kind: ZoneKeyName, master: bytes, key: bytes) -> bytes:
        """`key`, as it goes over the line as the one called `kind`."""
        return zone_keys.wrap_pair(master, key) if self.has_mac_pair(kind) else zone_keys.wrap(master, key)

    def unwrap(self, kind: ZoneKeyName, master: bytes, wrapped: bytes) -> bytes:
        """The key called `kind` again.

        :raises ValueFormatError: it is none under this master key, or of another size.
        """
        key = (zone_keys.unwrap_pair if self.has_mac_pair(kind) else zone_keys.unwrap)(master, wrapped)
        if len(key) != self.size(kind):
            raise ValueFormatError("wrapped zone key", "is of another size than was agreed on")
        return key

    def size(self, kind: ZoneKeyName) -> int:
        """Bytes of the key called `kind`."""
        return KEY_SIZES[self.algorithm(kind)]
