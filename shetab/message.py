"""One ISO 8583 message: MTI, data elements, MAC. Knows nothing of a dialect; shows none of its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shetab.types import Pan, Rial


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """`fields` maps data element number to text as on the wire, without bitmaps (1, 65) and MAC (64, 128).

    Binary elements are upper-case hexadecimal text. `mac` is the 8 bytes of the MAC slot, None while not yet made.
    """

    mti: str
    fields: Mapping[int, str]
    mac: bytes | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(sorted(self.fields.items()))))

    def __repr__(self) -> str:
        return f"<Message {self.mti} with {','.join(map(str, self.fields))}>"

    def __getitem__(self, field: int) -> str:
        return self.fields[field]

    def __contains__(self, field: int) -> bool:
        return field in self.fields

    def get(self, field: int) -> str | None:
        """Text of the data element, or None if absent."""
        return self.fields.get(field)

    @property
    def pan(self) -> Pan:
        """DE 2.

        :raises ValueFormatError: wrong length or Luhn digit. KeyError if absent.
        """
        return Pan.parse(self.fields[2])

    @property
    def amount(self) -> Rial:
        """DE 4 in rial. KeyError if absent."""
        return Rial.from_de4(self.fields[4])

    @property
    def is_response(self) -> bool:
        """ISO 8583 4.1.3: third digit of the MTI odd."""
        return self.mti[2] in "13579"
