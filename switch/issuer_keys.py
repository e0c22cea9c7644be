"""The issuer's secret: how a bank recognises a card, its CVV2, expiry and PIN without keeping any of them.

One 32-byte master key in a file of mode 0600; each use has its own key derived from it (HKDF, RFC 5869). Without the
file the database alone does not let anybody test PANs or PINs. A real issuer keeps the master key in its own HSM.
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from runtime.secrets import read_secret, write_secret
from shetab.types import Cvv2, Expiry, Pan, Pin
from switch.errors import KeyFileError

_MASTER_SIZE: Final = 32


class IssuerKeys:
    """Keyed functions over card data; every result is safe to store."""

    def __init__(self, master: bytes) -> None:
        if len(master) != _MASTER_SIZE:
            raise KeyFileError(f"an issuer key has {_MASTER_SIZE} bytes")

        def derive(purpose: str) -> bytes:
            return HKDFExpand(hashes.SHA256(), 32, f"kwbp switch {purpose}".encode()).derive(master)

        self._lookup_key = derive("pan look-up")
        self._cvv2_key = derive("cvv2")
        self._expiry_key = derive("expiry")
        self._pin_key = derive("pin")
        self._password_key = derive("one-time password")
        self._fingerprint_key = derive("fingerprint")
        self._reference_key = derive("card reference")

    @classmethod
    def load_or_create(cls, path: Path, *, rng: Callable[[int], bytes]) -> IssuerKeys:
        """Read the key file (64 hexadecimal digits), or make it with `rng` if there is none.

        :raises KeyFileError: another content. :raises SecretFileError: others may read it.
        """
        if not path.exists():
            write_secret(path, rng(_MASTER_SIZE).hex().encode("ascii"))
        try:
            master = binascii.unhexlify(read_secret(path).reveal())
        except binascii.Error:
            master = b""
        if len(master) != _MASTER_SIZE:
            raise KeyFileError(f"{path} must hold {2 * _MASTER_SIZE} hexadecimal digits")
        return cls(master)

    def pan_lookup(self, pan: Pan) -> bytes:
        """32 bytes under which the card is found."""
        return self._mac(self._lookup_key, pan.reveal())

    def cvv2(self, pan: Pan, expiry: Expiry) -> Cvv2:
        """The 4 digits printed on the card. Derived, so that nothing has to be kept to verify them."""
        digest = self._mac(self._cvv2_key, f"{pan.reveal()}={expiry.reveal()}")
        return Cvv2(f"{int.from_bytes(digest, 'big') % 10_000:04d}")

    def expiry_value(self, pan: Pan, expiry: Expiry) -> bytes:
        """32 bytes to compare a presented expiry by."""
        return self._mac(self._expiry_key, f"{pan.reveal()}={expiry.reveal()}")

    def pin_value(self, pan: Pan, pin: Pin) -> bytes:
        """32 bytes to compare a presented PIN by."""
        return self._mac(self._pin_key, f"{pan.reveal()}={pin.reveal()}")

    def password_value(self, pan: Pan, xid: bytes, password: Pin) -> bytes:
        """32 bytes to compare a one-time password by that is presented for the purchase `xid`."""
        return self._mac(self._password_key, f"{pan.reveal()}={xid.hex()}={password.reveal()}")

    def fingerprint(self, fields: Mapping[int, str]) -> bytes:
        """32 bytes by which a repeat is told from another request with the same trace number.

        MTI and DE 7 change in a repeat and are left out by the caller.
        """
        return self._mac(self._fingerprint_key, repr(sorted(fields.items())))

    def card_reference(self, pan: Pan) -> bytes:
        """32 bytes by which others may recognise that a card is the same one, and nothing else."""
        return self._mac(self._reference_key, pan.reveal())

    @staticmethod
    def _mac(key: bytes, text: str) -> bytes:
        return hmac.digest(key, text.encode(), "sha256")
