"""A zone key as a message carries it: DE 96 and DE 60 of network management 101.

DE 96 has room for the first 24 bytes of the wrapped key, which is all of a key of 16 bytes. DE 60 begins with the check
value, hexadecimal; what of the wrapped key is longer follows after a space, hexadecimal too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shetab.errors import ValueFormatError

_CARRIED: Final = 24
_CHECK_VALUES: Final = (3, 6)
_LONGEST: Final = 128
"""Bytes; the longest that there is has 56."""


@dataclass(frozen=True, slots=True)
class ZoneKeyData:
    """`wrapped` under the zone master key; `check_value` of 3 bytes, or 6 (`zone_keys.pair_kcv`)."""

    wrapped: bytes
    check_value: bytes

    def to_fields(self) -> dict[int, str]:
        """DE 60 and DE 96."""
        rest = self.wrapped[_CARRIED:].hex().upper()
        return {
            60: self.check_value.hex().upper() + (f" {rest}" if rest else ""),
            96: self.wrapped[:_CARRIED].hex().upper(),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[int, str]) -> ZoneKeyData:
        """The key in a message.

        :raises ValueFormatError: a field is missing, or has another form; the error has no digit of them.
        """
        check_value, _, rest = fields.get(60, "").partition(" ")
        try:
            found = cls(bytes.fromhex(fields.get(96, "") + rest), bytes.fromhex(check_value))
        except ValueError:
            found = cls(b"", b"")
        if found.to_fields() != {60: fields.get(60), 96: fields.get(96)}:
            raise ValueFormatError("zone key data", "must be hexadecimal: check value, and what does not fit DE 96")
        if len(found.check_value) not in _CHECK_VALUES or not _CARRIED <= len(found.wrapped) <= _LONGEST:
            raise ValueFormatError("zone key data", "must have a check value of 3 or 6 bytes and a wrapped key")
        return found
