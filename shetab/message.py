"""One ISO 8583 message: MTI, data elements, MAC. Knows nothing of a dialect; shows none of its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from shetab.types import Pan, Rial


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """`fields` maps data element number to text as on the wire, without bitmaps (1, 65) and MAC (64, 128).

    Numbers and codes are those of ISO 8583:1987, whatever is on the wire. Binary elements are upper-case hexadecimal
    text. `mac` is the 8 bytes of the MAC slot, None while not yet made. `kept` are fields of the wire, by their numbers
    there, that say more than the canonical fields do (one of two action codes that mean the same): what is read is
    written again as it came. `original_at` is when that took place which DE 90 names (aware; its DE 12 and 13, with the
    year): DE 90 holds its DE 7 alone, which of an advice is another moment. None: the moment of that DE 7. `local_at`
    is when the message itself took place (its own DE 12 and 13, with the year), where that is old: it is a repeat.
    None: the latest such moment.
    """

    mti: str
    fields: Mapping[int, str]
    mac: bytes | None = None
    kept: Mapping[int, str] = field(default_factory=dict)
    original_at: datetime | None = None
    local_at: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(sorted(self.fields.items()))))
        object.__setattr__(self, "kept", MappingProxyType(dict(sorted(self.kept.items()))))

    def __repr__(self) -> str:
        return f"<Message {self.mti} with {','.join(map(str, self.fields))}>"

    def __getitem__(self, number: int) -> str:
        return self.fields[number]

    def __contains__(self, number: int) -> bool:
        return number in self.fields

    def get(self, number: int) -> str | None:
        """Text of the data element, or None if absent."""
        return self.fields.get(number)

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
