"""The zone-key ceremony: components for two custodians, and their loading into the gateway's token.

    home/secrets/zone-pin-component-1, -2      zone PIN key, 2-key TDES
    home/secrets/zone-mac-component-1, -2      zone MAC key, AES-128

Each file is one custodian's (ISO 11568-2 4.4): 32 hexadecimal digits, mode 0600; the key is the XOR of both and exists
in clear only in the moment it is loaded. The other end of the zone loads the same components; that both hold the same
key is seen by its check value, which is no secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway_keys.errors import ZoneKeyError
from hsm_service.keys import KeyKind, KeyRef, Usage
from hsm_service.tokens import Token
from runtime.secrets import Secret, read_secret, write_secret
from shetab.errors import ValueFormatError
from shetab.zone_keys import KEY_SIZE, parse_component

CUSTODIANS: Final = 2


@dataclass(frozen=True, slots=True)
class ZoneKey:
    """One kind of zone key: its name as a key and as the start of its component files, and what it is for."""

    name: str
    kind: KeyKind
    usage: Usage

    def files(self, secrets: Path) -> tuple[Path, ...]:
        """The component files, one a custodian."""
        return tuple(secrets / f"{self.name}-component-{number}" for number in range(1, CUSTODIANS + 1))


ZONE_PIN: Final = ZoneKey("zone-pin", KeyKind.DES2, Usage.PIN_BLOCK)
ZONE_MAC: Final = ZoneKey("zone-mac", KeyKind.AES, Usage.MAC)
ZONE_KEYS: Final = (ZONE_PIN, ZONE_MAC)


def make_components(secrets: Path, *, rng: Callable[[int], bytes] = os.urandom) -> tuple[Path, ...]:
    """Write the component files that are missing; which were written. `rng(n)` gives n random bytes."""
    written = []
    for zone_key in ZONE_KEYS:
        for path in zone_key.files(secrets):
            if not path.exists():
                write_secret(path, rng(KEY_SIZE).hex().upper().encode() + b"\n")
                written.append(path)
    return tuple(written)


def read_components(secrets: Path, zone_key: ZoneKey) -> tuple[Secret, ...]:
    """The components of a key, 16 bytes each.

    :raises ZoneKeyError: a file is missing or malformed. :raises SecretFileError: others may read it.
    """
    components = []
    for path in zone_key.files(secrets):
        if not path.exists():
            raise ZoneKeyError(f"{path} is missing: its custodian has not brought the component")
        try:
            components.append(Secret(parse_component(read_secret(path).reveal())))
        except ValueFormatError as error:
            raise ZoneKeyError(f"{path}: {error}") from None
    return tuple(components)


def check_value(token: Token, ref: KeyRef) -> str:
    """Key check value, 6 hexadecimal digits in upper case, as custodians compare it (ANSI X9.24-1)."""
    return token.check_value(ref).hex().upper()
