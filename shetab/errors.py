"""Errors of `shetab`. No message and no attribute ever holds a PAN, PIN, CVV2, expiry or key.

ShetabError
├── ValueFormatError      text is not a PAN, PIN, CVV2, expiry, rial amount, national code, IBAN…
├── DialectError          a message breaks the dialect: names MTI, field, rule and the class of the value
│   ├── MessageFormatError    bytes that cannot be decoded, or a field with the wrong characters or length
│   └── FieldPresenceError    a field that is missing, not allowed, or not echoed as the rules of the MTI ask
├── PinBlockError         a clear PIN block that no PIN of this PAN can have produced
├── MacFormatError        a MAC slot is absent, in the wrong place, or a key or MAC has the wrong length
└── FramingError          a length prefix of zero, or beyond the limit of the link
"""

from __future__ import annotations


class ShetabError(Exception):
    """Base of everything this package raises on bad input."""


class ValueFormatError(ShetabError):
    """`type_name` says what the text should have been, `rule` what it broke; the text itself is not kept."""

    def __init__(self, type_name: str, rule: str) -> None:
        super().__init__(f"not a {type_name}: {rule}")
        self.type_name = type_name
        self.rule = rule


class DialectError(ShetabError):
    """`field` is the data element number ("52"), "t" for the MTI, "p" or "1" for a bitmap.

    `rule` is a stable slug, `value_class` describes the value without showing it ("5 characters: digits, letters").
    `position` is the byte at which the codec stopped, if it did. Of a dialect whose wire has numbers of its own, MTI
    and field are those of the wire where its tables are broken, and the canonical ones where those are.
    """

    def __init__(
        self, *, mti: str | None, field: str, rule: str, value_class: str = "", position: int | None = None
    ) -> None:
        shown = f" ({value_class})" if value_class else ""
        super().__init__(f"MTI {mti or 'unknown'} field {field}: {rule}{shown}")
        self.mti = mti
        self.field = field
        self.rule = rule
        self.value_class = value_class
        self.position = position


class MessageFormatError(DialectError):
    """Bytes that are no message of the dialect, or a field whose characters or length break its format."""


class FieldPresenceError(DialectError):
    """A field is missing, not allowed for the MTI and direction, or differs from the request it answers."""


class PinBlockError(ShetabError):
    """ISO 9564-1: control nibble, length, digits or fill of a clear PIN block are wrong. One text for all of them."""

    def __init__(self) -> None:
        super().__init__("PIN block does not match its format and PAN")


class MacFormatError(ShetabError):
    """The MAC slot, key or MAC cannot be what the dialect says. Not used for a MAC that merely does not match."""


class FramingError(ShetabError):
    """A frame on the link has a length outside 1..limit."""
