"""The zone-key ceremony: components for two custodians, and their loading into the gateway's token.

    home/secrets/zone-pin-component-1, -2      zone PIN key, 2-key TDES
    home/secrets/zone-mac-component-1, -2      zone MAC key, AES-128
    home/secrets/zone-master-component-1, -2   zone master key, AES-128, under which the next ones of both come

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
from hsm_service.errors import WrongCheckValue
from hsm_service.keys import KeyKind
from hsm_service.vault import Vault
from runtime.secrets import Secret, read_secret, write_secret
from shetab.errors import ValueFormatError
from shetab.zone_keys import KEY_SIZE, aes_kcv, combine, parse_component, tdes_kcv, wrap

CUSTODIANS: Final = 2
CEREMONY: Final = "ceremony"


@dataclass(frozen=True, slots=True)
class ZoneKey:
    """One kind of zone key. `name` is that of the key, of its template, and the start of its component files.

    `kcv` computes the check value from the clear key, in software.
    """

    name: str
    kcv: Callable[[bytes], str]

    def files(self, secrets: Path) -> tuple[Path, ...]:
        """The component files, one a custodian."""
        return tuple(secrets / f"{self.name}-component-{number}" for number in range(1, CUSTODIANS + 1))


ZONE_PIN: Final = ZoneKey("zone-pin", tdes_kcv)
ZONE_MAC: Final = ZoneKey("zone-mac", aes_kcv)
ZONE_MASTER: Final = ZoneKey("zone-master", aes_kcv)
WORKING_KEYS: Final = (ZONE_PIN, ZONE_MAC)
ZONE_KEYS: Final = (*WORKING_KEYS, ZONE_MASTER)


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


def load(vault: Vault, secrets: Path) -> dict[str, str]:
    """Load the zone keys that the vault does not hold yet; the check value of each by name, as the token computes it.

    Check values are 6 hexadecimal digits in upper case (ANSI X9.24-1), as custodians and the other end compare them.

    A key that was changed over the line since (`gateway_keys.zone_exchange`) is no more that of its components.

    :raises ZoneKeyError: components are missing or malformed, or make another key than the token already holds.
    :raises Problem: the vault refuses. :raises HsmError: the token's trouble.
    """
    held = {key.name for key in vault.list_keys(CEREMONY)}
    return {zone_key.name: _load(vault, zone_key, secrets, held) for zone_key in ZONE_KEYS}


def _load(vault: Vault, zone_key: ZoneKey, secrets: Path, held: set[str]) -> str:
    components = read_components(secrets, zone_key)
    expected = zone_key.kcv(combine([each.reveal() for each in components]))
    if zone_key.name not in held:
        vault.import_zone_key(CEREMONY, zone_key.name, zone_key.name, components)
    key = vault.key(zone_key.name)
    token, ref = key.use()
    if zone_key is ZONE_MASTER:
        # The token uses it for nothing but unwrapping: that it is the same key is seen by what it unwraps.
        probe = os.urandom(KEY_SIZE)
        wrapped = wrap(combine([each.reveal() for each in components]), probe)
        try:
            token.try_zone_key(ref, KeyKind.AES, wrapped, bytes.fromhex(aes_kcv(probe)))
        except WrongCheckValue:
            raise ZoneKeyError(
                f"the token holds a {zone_key.name} key with another check value than {expected}"
            ) from None
        return expected
    found = token.check_value(ref).hex().upper()
    if key.row.version == 1 and found != expected:
        raise ZoneKeyError(f"the token holds a {zone_key.name} key with check value {found}, not {expected}")
    return found
