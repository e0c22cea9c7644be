"""Data elements with an inner layout: DE 48 (CVV2; one-time password), DE 53 (security control), DE 62 (purchase and
request), DE 90 (original data elements).

`pyiso8583` sees them as plain text; these functions build and read the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from shetab.errors import ValueFormatError
from shetab.message import Message
from shetab.types import Cvv2, Rial, is_ascii_digits

Language = Literal["fa", "en"]
ZoneKeyKind = Literal["zone-pin", "zone-mac"]
ZONE_KEY_KINDS: Final[tuple[ZoneKeyKind, ...]] = ("zone-mac", "zone-pin")
"""The zone keys that come over the line, by the names that the ceremony gives them."""

_LANGUAGES: Final[dict[Language, str]] = {"fa": "00", "en": "01"}
_LANGUAGE_OF: Final[dict[str, Language]] = {code: language for language, code in _LANGUAGES.items()}
_RESERVED: Final = "  "
_NO_CVV2: Final = "    "
_NO_FEE: Final = "C00000000"


@dataclass(frozen=True, slots=True)
class AdditionalData:
    """DE 48 of an online sale: 2 reserved spaces, CVV2 right-justified in 4 and zero-filled, language 00 or 01.

    `cvv2` is None when the buyer gave none (4 spaces). Read back, a CVV2 has always 4 digits, because the zero-filling
    cannot be told from the value: compare with `matches`.
    """

    cvv2: Cvv2 | None
    language: Language = "fa"

    def to_de48(self) -> str:
        """8 characters of DE 48."""
        cvv2 = _NO_CVV2 if self.cvv2 is None else self.cvv2.reveal().zfill(4)
        return f"{_RESERVED}{cvv2}{_LANGUAGES[self.language]}"

    @classmethod
    def from_de48(cls, text: str) -> AdditionalData:
        """Read DE 48; anything after the language is ignored.

        :raises ValueFormatError: too short, reserved characters in use, CVV2 no digits, unknown language.
        """
        reserved, cvv2, language = text[:2], text[2:6], text[6:8]
        if reserved != _RESERVED or language not in _LANGUAGE_OF:
            raise ValueFormatError("DE 48", "must be 2 spaces, 4 characters of CVV2 and language 00 or 01")
        return cls(None if cvv2 == _NO_CVV2 else Cvv2.parse(cvv2), _LANGUAGE_OF[language])

    def matches(self, expected: Cvv2) -> bool:
        """Constant-time comparison after zero-filling both to 4 digits; False if no CVV2 came."""
        return self.cvv2 is not None and Cvv2(self.cvv2.reveal().zfill(4)) == Cvv2(expected.reveal().zfill(4))


@dataclass(frozen=True, slots=True)
class PasswordNotice:
    """DE 48 of the answer to a request for a one-time password: until when it is good, and where it was sent.

    14 digits YYYYMMDDhhmmss in UTC, one space, the telephone number with its middle hidden. Never the password.
    """

    valid_until: datetime
    sent_to: str

    _LAYOUT = re.compile(r"([0-9]{14}) ([0-9]{2,6}\*{3,8}[0-9]{2,4})")

    def to_de48(self) -> str:
        """The text of DE 48; `valid_until` (aware) is cut to whole seconds."""
        return f"{self.valid_until.astimezone(UTC):%Y%m%d%H%M%S} {self.sent_to}"

    @classmethod
    def from_de48(cls, text: str) -> PasswordNotice:
        """Read DE 48.

        :raises ValueFormatError: another layout, no date of the calendar, or a number that is not masked.
        """
        match = cls._LAYOUT.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            return cls(datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC), match[2])
        except ValueError:
            raise ValueFormatError("DE 48", "must be a time in UTC and a masked telephone number") from None


@dataclass(frozen=True, slots=True)
class SecurityControl:
    """DE 53: PIN block format (2 digits), index of the zone PIN key (2), index of the zone MAC key (2), 10 zeros.

    Indexes run from 1 to 99. The layout is this dialect's reading of the sub-fields that the public tables name. What a
    MAC is made with is seen by verifying it: the index tells which key the sender held when it wrote the message.

    A key change has PIN block format 0 and exactly one index (`of_change`, `changed`).
    """

    pin_block_format: int
    pin_key_index: int = 1
    mac_key_index: int = 1

    _LAYOUT = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})0{10}")

    def to_de53(self) -> str:
        """16 digits of DE 53."""
        return f"{self.pin_block_format:02d}{self.pin_key_index:02d}{self.mac_key_index:02d}{'0' * 10}"

    @classmethod
    def of_change(cls, kind: ZoneKeyKind, index: int) -> SecurityControl:
        """DE 53 of a key change: the key of `kind` that has this index."""
        return cls(0, index if kind == "zone-pin" else 0, index if kind == "zone-mac" else 0)

    def changed(self) -> tuple[ZoneKeyKind, int]:
        """Kind and index of the key that a key change is about.

        :raises ValueFormatError: a PIN block format, no index, or both.
        """
        if self.pin_block_format == 0 and (self.pin_key_index == 0) is not (self.mac_key_index == 0):
            return ("zone-pin", self.pin_key_index) if self.pin_key_index else ("zone-mac", self.mac_key_index)
        raise ValueFormatError("DE 53", "a key change has exactly one key index and no PIN block format")

    @classmethod
    def from_de53(cls, text: str) -> SecurityControl:
        """Read DE 53.

        :raises ValueFormatError: not 16 digits, or the last ten not zero.
        """
        match = cls._LAYOUT.fullmatch(text)
        if match is None:
            raise ValueFormatError("DE 53", "must be three two-digit numbers and 10 zeros")
        return cls(*(int(part) for part in match.groups()))


@dataclass(frozen=True, slots=True)
class OriginalDataElements:
    """DE 90 (n42): MTI, STAN, transmission time (DE 7), acquirer (DE 32) and forwarder (DE 33) of another message.

    The institutions are kept without the zeros that fill them to 11 digits.
    """

    mti: str
    stan: str
    transmission_time: str
    acquirer: str
    forwarder: str

    @classmethod
    def of(cls, request: Message) -> OriginalDataElements:
        """Taken from the stored request as it was sent; a response must not be used, its DE 7 and DE 33 differ.

        :raises ValueFormatError: `request` is a response.
        """
        if request.is_response:
            raise ValueFormatError("DE 90", "must be built from the request, not from its response")
        return cls(request.mti, request[11], request[7], request[32].lstrip("0"), (request.get(33) or "").lstrip("0"))

    def to_de90(self) -> str:
        """42 digits of DE 90, institutions right-justified and zero-filled."""
        return f"{self.mti}{self.stan}{self.transmission_time}{self.acquirer:0>11}{self.forwarder:0>11}"

    @classmethod
    def from_de90(cls, text: str) -> OriginalDataElements:
        """Read DE 90.

        :raises ValueFormatError: not 42 digits.
        """
        if len(text) != 42 or not is_ascii_digits(text):
            raise ValueFormatError("DE 90", "must have 42 digits")
        return cls(text[:4], text[4:10], text[10:20], text[20:31].lstrip("0"), text[31:].lstrip("0"))


@dataclass(frozen=True, slots=True)
class ReplacementAmounts:
    """DE 95 (an42) of a partial reversal: what the original amounts to from now on. No fees: their fields are zero."""

    amount: Rial

    def to_de95(self) -> str:
        """42 characters of DE 95: amount in the transaction's and in the settlement's currency, two fees."""
        amount = self.amount.to_de4()
        return f"{amount}{amount}{_NO_FEE}{_NO_FEE}"

    @classmethod
    def from_de95(cls, text: str) -> ReplacementAmounts:
        """Read DE 95.

        :raises ValueFormatError: another form, two different amounts, or a fee.
        """
        amount, settled, fees = text[:12], text[12:24], text[24:]
        if amount != settled or fees != 2 * _NO_FEE:
            raise ValueFormatError("DE 95", "must be the same amount twice and no fees")
        return cls(Rial.from_de4(amount))


@dataclass(frozen=True, slots=True)
class Coding:
    """DE 62 of our messages: the purchase as buyer and merchant know it, and what is done to it after its order.

    With the XID an issuer can ask for the signed order. `action` is empty in the order itself and in whatever takes the
    order as a whole back because its outcome is unknown.
    """

    xid: bytes
    action: str = ""

    _LAYOUT = re.compile(r"KWBP2 ([0-9a-f]{40})(?: ([A-Z]{1,12}))?")

    def to_de62(self) -> str:
        """Text of DE 62."""
        return f"KWBP2 {self.xid.hex()}" + (f" {self.action}" if self.action else "")

    @classmethod
    def from_de62(cls, text: str) -> Coding:
        """Read DE 62.

        :raises ValueFormatError: another form.
        """
        match = cls._LAYOUT.fullmatch(text)
        if match is None:
            raise ValueFormatError("DE 62", "must be KWBP2, an XID in hexadecimal, and at most one action")
        return cls(bytes.fromhex(match[1]), match[2] or "")
