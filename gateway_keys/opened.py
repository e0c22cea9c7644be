"""What the gateway may see of an opened order; the same on both sides of the API."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from kwbp.password import AskedPassword
from shetab.types import Cvv2, Expiry, Pan
from shetab.zone import SWITCH_ZONE


@dataclass(frozen=True, slots=True)
class OpenedOrder:
    """Card data for one message to the switch.

    The PIN is in `pin_block` alone: ISO 9564-1 under the zone PIN key, 8 bytes or (format 4) 16. `pan_sealed` gives the
    PAN back to `unseal_pan` for this XID: it may be stored for a reversal, `masked_pan` and `card_id` too; the rest may
    not.
    """

    pan: Pan
    expiry: Expiry
    cvv2: Cvv2 | None
    pin_block: bytes | None
    pan_sealed: bytes
    masked_pan: str
    card_id: bytes
    """Tells the card from others, under the key that `card_key_version` and `card_key_check` (8 bytes) name."""
    card_key_check: bytes = b""
    card_key_version: int = 1
    pin_key_index: int = 1
    """Of the zone PIN key of the block, for DE 53; and the next, of the zone MAC key in use."""
    mac_key_index: int = 1
    pin_block_format: int = 3
    """ISO 9564-1 format of the block, for DE 53 too."""
    zone: str = SWITCH_ZONE
    """Of the keys that these are: the order must go to the connector of this zone."""


@dataclass(frozen=True, slots=True, repr=False)
class OpenedPasswordRequest:
    """A holder's request for a one-time password, opened and judged in the token boundary. Has no repr.

    `pan` and `expiry` are for one message to the switch. Whether `card` is revoked is still to be asked; `chain` came
    with it.
    """

    asked: AskedPassword
    pan: Pan
    expiry: Expiry
    card: x509.Certificate
    chain: tuple[x509.Certificate, ...]
