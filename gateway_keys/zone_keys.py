"""The zone-key ceremony: components for two custodians, and their loading into the gateway's token.

    home/secrets/zone-pin-component-1, -2      zone PIN key
    home/secrets/zone-mac-component-1, -2      zone MAC key
    home/secrets/zone-master-component-1, -2   zone master key, under which the next ones of both come

These are the switch's; a connector with a zone of its own has its own, called zone-pin-NAME and so on. What kinds of
keys they are was agreed with the other end of the zone (`shetab.zone`). Each file is one custodian's (ISO 11568-2 4.4):
as many hexadecimal digits as the key has, mode 0600; the key is the XOR of both. For the moment of the ceremony
components and key are in the memory of the process that loads them, a command that ends then; no service ever
has them. The other end loads the same components; that both hold the same key is seen by its check value, which is no
secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway_keys.errors import ZoneKeyError
from hsm_service.errors import WrongCheckValue
from hsm_service.keys import KeyKind, Usage
from hsm_service.purposes import USAGES
from hsm_service.vault import Vault
from runtime.secrets import Secret, read_secret, write_secret
from shetab.errors import ValueFormatError
from shetab.zone import SWITCH_ZONE, Zone, ZoneKeyName, key_label
from shetab.zone_keys import KEY_SIZE, KeyAlgorithm, aes_kcv, check_strength, combine, parse_component, wrap

CUSTODIANS: Final = 2
CEREMONY: Final = "ceremony"

_TEMPLATES: Final[dict[tuple[ZoneKeyName, KeyAlgorithm], str]] = {
    ("zone-pin", "des2"): "zone-pin",
    ("zone-pin", "des3"): "zone-pin-des3",
    ("zone-pin", "aes-128"): "zone-pin-aes-128",
    ("zone-pin", "aes-256"): "zone-pin-aes-256",
    ("zone-mac", "aes-128"): "zone-mac",
    ("zone-mac", "aes-256"): "zone-mac-aes-256",
    ("zone-mac", "des2"): "zone-mac-des2",
    ("zone-master", "aes-128"): "zone-master",
    ("zone-master", "aes-256"): "zone-master-aes-256",
}


@dataclass(frozen=True, slots=True)
class ZoneKey:
    """One of a zone's keys."""

    kind: ZoneKeyName
    zone: str = SWITCH_ZONE
    """Which zone: the switch's, or that of the connector of this name."""

    @property
    def name(self) -> str:
        """That of the key, and the start of its component files."""
        return key_label(self.kind, self.zone)

    def files(self, secrets: Path) -> tuple[Path, ...]:
        """The component files, one a custodian."""
        return tuple(secrets / f"{self.name}-component-{number}" for number in range(1, CUSTODIANS + 1))

    def template(self, zone: Zone) -> str:
        """The key template that it is made from."""
        return _TEMPLATES[self.kind, zone.algorithm(self.kind)]


ZONE_PIN: Final = ZoneKey("zone-pin")
ZONE_MAC: Final = ZoneKey("zone-mac")
ZONE_MASTER: Final = ZoneKey("zone-master")
WORKING_KEYS: Final = (ZONE_PIN, ZONE_MAC)
ZONE_KEYS: Final = (*WORKING_KEYS, ZONE_MASTER)


def keys_of(zone: str) -> tuple[ZoneKey, ...]:
    """The keys of the zone of this name: PIN, MAC and master key."""
    return tuple(ZoneKey(each.kind, zone) for each in ZONE_KEYS)


def make_components(
    secrets: Path, zone: Zone | None = None, *, of: str = SWITCH_ZONE, rng: Callable[[int], bytes] = os.urandom
) -> tuple[Path, ...]:
    """Write the component files of the zone `of` that are missing; which were written.

    :param zone: what was agreed on. :param rng: `rng(n)` gives n random bytes.
    """
    zone, written = zone or Zone(), []
    for zone_key in keys_of(of):
        for path in zone_key.files(secrets):
            if not path.exists():
                write_secret(path, rng(zone.size(zone_key.kind)).hex().upper().encode() + b"\n")
                written.append(path)
    return tuple(written)


def read_components(secrets: Path, zone_key: ZoneKey, zone: Zone | None = None) -> tuple[Secret, ...]:
    """The components of a key, as long as it is.

    :raises ZoneKeyError: a file is missing or malformed. :raises SecretFileError: others may read it.
    """
    zone, components = zone or Zone(), []
    for path in zone_key.files(secrets):
        if not path.exists():
            raise ZoneKeyError(f"{path} is missing: its custodian has not brought the component")
        try:
            components.append(Secret(parse_component(read_secret(path).reveal(), zone.size(zone_key.kind))))
        except ValueFormatError as error:
            raise ZoneKeyError(f"{path}: {error}") from None
    return tuple(components)


def load(vault: Vault, secrets: Path, zone: Zone | None = None, *, of: str = SWITCH_ZONE) -> dict[str, str]:
    """Load the keys of the zone `of` that the vault does not hold yet; the check value of each by name.

    The token computes it.

    Check values are hexadecimal digits in upper case (ANSI X9.24-1), as custodians and the other end compare them.

    A key that was changed over the line since (`gateway_keys.zone_exchange`) is no more that of its components.

    :raises ZoneKeyError: components are missing, malformed or weak, or make another key than the token already holds,
        or one of another kind.
    :raises Problem: the vault refuses; 409 names what the token would have to do and cannot.
    :raises HsmError: the token's trouble.
    """
    zone = zone or Zone()
    held = {key.name for key in vault.list_keys(CEREMONY)}
    return {zone_key.name: _load(vault, zone_key, secrets, zone, held) for zone_key in keys_of(of)}


def _load(vault: Vault, zone_key: ZoneKey, secrets: Path, zone: Zone, held: set[str]) -> str:
    components = read_components(secrets, zone_key, zone)
    value = _combined(secrets, zone_key, components, zone)
    expected, agreed = zone.kcv(zone_key.kind, value), zone.algorithm(zone_key.kind)
    if zone_key.name not in held:
        vault.import_zone_key(CEREMONY, zone_key.name, zone_key.template(zone), components)
    key = vault.key(zone_key.name)
    if key.template.algorithm != agreed:
        raise ZoneKeyError(f"the token holds a {zone_key.name} key of {key.template.algorithm}, not of {agreed}")
    token, ref = key.use()
    if zone_key.kind == ZONE_MASTER.kind:
        # The token uses it for nothing but unwrapping: that it is the same key is seen by what it unwraps.
        probe = os.urandom(KEY_SIZE)
        wrapped = wrap(value, probe)
        try:
            token.try_zone_key(ref, KeyKind.AES, Usage.MAC, wrapped, bytes.fromhex(aes_kcv(probe)))
        except WrongCheckValue:
            raise ZoneKeyError(
                f"the token holds a {zone_key.name} key with another check value than {expected}"
            ) from None
        return expected
    found = token.check_value(ref, USAGES[key.template.purpose]).hex().upper()
    if key.row.version == 1 and found != expected:
        raise ZoneKeyError(f"the token holds a {zone_key.name} key with check value {found}, not {expected}")
    return found


def _combined(secrets: Path, zone_key: ZoneKey, components: tuple[Secret, ...], zone: Zone) -> bytes:
    try:
        value = combine([each.reveal() for each in components])
        check_strength(zone.algorithm(zone_key.kind), value)
    except ValueFormatError as error:
        raise ZoneKeyError(f"{zone_key.files(secrets)[0]} and those beside it: {error}") from None
    return value
