"""Fields to bytes and back, by the encoding of a dialect; the codec is `pyiso8583`.

What the codec cannot say is done here: packed numbers of any length, a sign before packed digits, track 2 in packed
form, and where the MAC is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import iso8583

from shetab.dialect_tables import Encoding, FieldRule
from shetab.errors import MacFormatError, MessageFormatError

MAC_SIZE: Final = 8
"""Bytes of a MAC: DE 64 and DE 128 are b8."""
MTI: Final = 0
"""Key of the MTI among the fields of `Octets.unpack`."""

_ENDLESS: Final = 1 << 30
_SIGNS: Final = {"C": "43", "D": "44"}
_SIGN_OF: Final = {packed: sign for sign, packed in _SIGNS.items()}


class _Spec(dict[str, dict[str, Any]]):
    """A specification in which a field that is not known has no bytes that would do."""

    def __missing__(self, field: str) -> dict[str, Any]:
        return {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": _ENDLESS}


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `start` to `end` of a message: its MTI ("t"), a bitmap ("p", "1") or a field, and what they say."""

    field: str
    start: int
    end: int
    value: str


class Octets:
    """One encoding of one set of fields."""

    def __init__(self, encoding: Encoding, fields: Mapping[int, FieldRule]) -> None:
        self._packed = encoding.numbers == "bcd"
        self._fields = fields
        raw_bitmaps, self._raw_octets = encoding.bitmaps == "raw", encoding.octets == "raw"
        self._mti_size = 2 if self._packed else 4
        self._bitmap_size = 8 if raw_bitmaps else 16
        self._mac_size = MAC_SIZE if self._raw_octets else 2 * MAC_SIZE
        bitmap = {"data_enc": "b" if raw_bitmaps else "ascii", "len_enc": "ascii", "len_type": 0}
        self.spec: dict[str, dict[str, Any]] = _Spec()
        self.spec |= {
            "h": {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": 0},
            "t": {
                "data_enc": "b" if self._packed else "ascii",
                "len_enc": "ascii",
                "len_type": 0,
                "max_len": self._mti_size,
            },
            "p": {**bitmap, "max_len": self._bitmap_size},
            "1": {**bitmap, "max_len": self._bitmap_size},
        }
        for number, rule in fields.items():
            self.spec[str(number)] = self._field(rule, encoding)

    def _field(self, rule: FieldRule, encoding: Encoding) -> dict[str, Any]:
        form = rule.format
        digits = form.length_digits
        packed_lengths = encoding.lengths == "bcd"
        spec: dict[str, Any] = {
            "data_enc": "ascii" if rule.text is None else rule.text.charset,
            "len_enc": "bcd" if packed_lengths else "ascii",
            "len_type": (digits + 1) // 2 if packed_lengths else digits,
            "max_len": form.size,
        }
        if self._packed and form.kind in ("n", "z"):
            spec |= {"data_enc": "b", "len_count": "nibbles", "left_pad": "0"}
        elif self._packed and form.kind == "x+n":
            spec |= {"data_enc": "b", "max_len": (form.size + 1) // 2}
        elif self._raw_octets and form.kind == "b":
            spec |= {"data_enc": "b", "max_len": form.size // 2}
        return spec

    def pack(self, mti: str, fields: Mapping[int, str], mac: bytes) -> bytes:
        """Bytes of a message whose fields keep their formats. The MAC is DE 64 if no field is beyond it, else 128."""
        document = {"t": mti, **{str(field): self._written(field, value) for field, value in fields.items()}}
        document["64" if max(fields) < 64 else "128"] = mac.hex().upper()
        return bytes(iso8583.encode(document, self.spec)[0])

    def unpack(self, raw: bytes) -> tuple[dict[int, str], MessageFormatError | None]:
        """Fields of `raw` by number, the MTI under `MTI`, the MAC with them; or the error to raise.

        It is returned, not raised: the codec's own error, which holds the whole message, must not be its context.
        """
        document, _, failure = self._decoded(raw)
        if failure is not None:
            return {}, failure
        mti = document.pop("t")
        document.pop("p")
        document.pop("1", None)
        return {MTI: mti, **{int(field): self._read(int(field), value) for field, value in document.items()}}, None

    def take_apart(self, raw: bytes) -> tuple[list[Piece], MessageFormatError | None]:
        """The pieces of `raw` in their order, as far as it can be read; and what stopped the reading, if anything."""
        document, octets, failure = self._decoded(raw)
        pieces: list[Piece] = []
        at = 0
        for field, parts in octets.items():
            if failure is not None and field == failure.field:
                break
            end = at + len(parts["len"]) + len(parts["data"])
            value = document.get(field, "")
            pieces.append(
                Piece(field, at, end, self._read(int(field), value) if field not in ("t", "p", "1") else value)
            )
            at = end
        return pieces, failure

    def _decoded(self, raw: bytes) -> tuple[Any, Any, MessageFormatError | None]:
        try:
            document, octets = iso8583.decode(raw, self.spec)
        except iso8583.DecodeError as error:
            rule = "cannot_be_decoded"
            if error.field.isdigit() and error.field not in self.spec:
                rule = "field_not_in_dialect"
            failure = MessageFormatError(mti=None, field=error.field, rule=rule, position=error.pos)
            return error.doc_dec, error.doc_enc, failure
        return document, octets, None

    def _written(self, field: int, value: str) -> str:
        kind = self._fields[field].format.kind
        if self._packed and kind == "x+n":
            return _SIGNS[value[0]] + value[1:]
        if self._packed and kind == "z":
            return value.replace("=", "D")
        return value

    def _read(self, field: int, value: str) -> str:
        kind = self._fields[field].format.kind
        if self._packed and kind == "x+n":
            return _SIGN_OF.get(value[:2], "?") + value[2:]
        if self._packed and kind == "z":
            return value.replace("D", "=")
        return value

    # --- MAC ---------------------------------------------------------------------------------------------------------

    def covered(self, raw: bytes) -> bytes:
        """What the MAC is computed over.

        :raises MacFormatError: `raw` has no MAC slot at its end.
        """
        if not self._shows_mac(raw):
            raise MacFormatError("the last bitmap does not show a MAC")
        return raw[: -self._mac_size]

    def mac_of(self, raw: bytes) -> bytes:
        """The 8 bytes in the MAC slot.

        :raises MacFormatError: no MAC slot, or bytes there that write no MAC.
        """
        slot = raw[len(self.covered(raw)) :]
        if not self._raw_octets:
            try:
                slot = bytes.fromhex(slot.decode("ascii"))
            except ValueError:
                slot = b""
        if len(slot) != MAC_SIZE:
            raise MacFormatError("the MAC slot does not hold a MAC")
        return slot

    def written_mac(self, mac: bytes) -> bytes:
        """The MAC as it is on the wire."""
        return mac if self._raw_octets else mac.hex().upper().encode("ascii")

    def _shows_mac(self, raw: bytes) -> bool:
        size = self._bitmap_size
        bitmaps = raw[self._mti_size : self._mti_size + 2 * size]
        primary = self._bits(bitmaps[:size])
        last = self._bits(bitmaps[size:]) if primary >> 63 else primary
        return bool(last & 1)

    def _bits(self, bitmap: bytes) -> int:
        if len(bitmap) != self._bitmap_size:
            return 0
        if self._bitmap_size == 8:
            return int.from_bytes(bitmap, "big")
        try:
            return int(bitmap, 16)
        except ValueError:
            return 0
