"""Who is on a certificate revocation list, found fast and kept small (RFC 5280 5.1.2.6, 5.3).

A list may have a million entries. As Python objects they would take most of a gigabyte, and the library's own search
walks the whole list (0.1 s) for each question. Here a list is read once, at about a microsecond an entry, into one
sorted string of fixed rows, 25 bytes each: the serial number and where its entry begins. A question is a binary search,
and only the entry that is found is decoded.

That the structure is DER was decided by the parser of the library before; what is decided here for every entry, at
once, is that we understand all of it: one entry with a critical extension spoils the list.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki.der import decode, tlv
from pki.errors import DerError, PathError

_KEY: Final = 21  # octets of the largest serial number, 20, and one for the sign
_PLACE: Final = 4
_ROW: Final = _KEY + _PLACE
_INTEGER: Final = 0x02
_SEQUENCE: Final = 0x30
_LONG_FORM: Final = 0x80
_ENTRY_LIMIT: Final = 4096
_CLAUSE: Final = "RFC 5280 5.3"

_REASONS: Final = {
    0: x509.ReasonFlags.unspecified,
    1: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
    6: x509.ReasonFlags.certificate_hold,
    8: x509.ReasonFlags.remove_from_crl,
    9: x509.ReasonFlags.privilege_withdrawn,
    10: x509.ReasonFlags.aa_compromise,
}
"""CRLReason of RFC 5280 5.3.1."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a list says of a certificate: since when (aware UTC), why, and from when on the key is doubted."""

    at: datetime
    reason: x509.ReasonFlags = x509.ReasonFlags.unspecified
    invalidity_date: datetime | None = None

    @property
    def held(self) -> bool:
        """Suspended, and may be released; until then it counts as revoked."""
        return self.reason is x509.ReasonFlags.certificate_hold


@asn1.sequence
class _Extension:
    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _Entry:
    serial: asn1.TLV
    at: asn1.UTCTime | asn1.GeneralizedTime
    extensions: list[_Extension] | None


@asn1.sequence
class _Extensions:
    members: list[_Extension]


class Entries:
    """The entries of one list: `len`, `in` and `get` by serial number.

    Raises PathError on construction: `unknown_critical_extension` if an entry has a critical extension, so that the
    list must not be used at all (RFC 5280 5.3), `bad_extension` if an entry is outside the profile.
    """

    __slots__ = ("_der", "_rows")

    def __init__(self, der: bytes) -> None:
        """Index the DER CertificateList `der`, which the parser of `cryptography` has accepted."""
        self._der: Final = der
        self._rows: Final = _Rows(b"".join(sorted(_rows(der))))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, serial: object) -> bool:
        return isinstance(serial, int) and self.get(serial) is not None

    def get(self, serial: int) -> Revocation | None:
        """What the list says of this serial number; None if it is not listed."""
        try:
            key = serial.to_bytes(_KEY, "big", signed=True)
        except OverflowError:
            return None
        found = bisect_left(self._rows, key)
        if found == len(self._rows):
            return None
        row = self._rows[found]
        return self._read(int.from_bytes(row[_KEY:], "big")) if row.startswith(key) else None

    def _read(self, place: int) -> Revocation:
        _, _, end = element(self._der, place)
        entry = decode(_Entry, self._der[place:end], limit=_ENTRY_LIMIT)
        at = entry.at.as_datetime()
        return Revocation(at.replace(tzinfo=UTC), *_meaning(entry.extensions or []))


class _Rows(Sequence[bytes]):
    """A sorted string of rows, seen as a sequence: what `bisect` searches."""

    __slots__ = ("_rows", "_size")

    def __init__(self, rows: bytes) -> None:
        self._rows: Final = rows
        self._size: Final = len(rows) // _ROW

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]  # bisect takes no slices
        return self._rows[index * _ROW : (index + 1) * _ROW]


def element(der: bytes, place: int) -> tuple[int, int, int]:
    """Tag, start and end of the contents of the DER element (one-byte tag) that begins at `place`."""
    size, start = der[place + 1], place + 2
    if size >= _LONG_FORM:
        octets = size - _LONG_FORM
        size, start = int.from_bytes(der[start : start + octets], "big"), start + octets
    return der[place], start, start + size


def _listed(der: bytes) -> tuple[int, int]:
    """Where revokedCertificates' contents begin and end; the same place twice if the field is absent."""
    place = element(der, element(der, 0)[1])[1]
    if der[place] == _INTEGER:  # version
        place = element(der, place)[2]
    place = element(der, element(der, place)[2])[2]  # signature, issuer
    place = element(der, place)[2]  # thisUpdate
    tag, start, end = element(der, place)
    if tag not in (_SEQUENCE, 0xA0):  # nextUpdate
        tag, start, end = element(der, end)
    return (start, end) if tag == _SEQUENCE else (0, 0)


def _rows(der: bytes) -> list[bytes]:
    rows = []
    place, stop = _listed(der)
    while place < stop:
        _, start, end = element(der, place)
        serial = start + 2  # a serial number is short: anything longer is refused below
        time = serial + der[start + 1]
        if time - serial > _KEY:
            raise PathError("bad_extension", "serial number of more than 20 octets", clause="RFC 5280 4.1.2.2")
        sign = b"\xff" if der[serial] & 0x80 else b"\x00"
        rows.append(der[serial:time].rjust(_KEY, sign) + place.to_bytes(_PLACE, "big"))
        extensions = time + 2 + der[time + 1]
        if extensions < end:
            _understand(der[extensions:end])
        place = end
    return rows


@lru_cache(maxsize=1024)
def _understand(extensions: bytes) -> None:
    """Refuse crlEntryExtensions (DER) that we do not understand. Few different ones recur on a list."""
    try:
        members = decode(_Extensions, tlv(_SEQUENCE, extensions)).members
    except DerError:
        raise _unreadable() from None
    _meaning(members)


def _meaning(extensions: list[_Extension]) -> tuple[x509.ReasonFlags, datetime | None]:
    """Reason and invalidity date; no extension of an entry of ours is critical (RFC 5280 5.3.1, 5.3.2)."""
    reason, since = x509.ReasonFlags.unspecified, None
    for extension in extensions:
        if extension.critical:
            raise PathError("unknown_critical_extension", "CRL entry with a critical extension", clause=_CLAUSE)
        if extension.oid == x509.CRLReason.oid:
            reason = _reason(extension.value)
        elif extension.oid == x509.InvalidityDate.oid:
            since = _time(extension.value)
    return reason, since


def _reason(value: bytes) -> x509.ReasonFlags:
    """CRLReason ::= ENUMERATED, in DER three octets."""
    if len(value) != 3 or value[:2] != b"\x0a\x01" or value[2] not in _REASONS:
        raise _unreadable()
    return _REASONS[value[2]]


def _time(value: bytes) -> datetime:
    try:
        return decode(asn1.GeneralizedTime, value, limit=_ENTRY_LIMIT).as_datetime().replace(tzinfo=UTC)
    except DerError:
        raise _unreadable() from None


def _unreadable() -> PathError:
    return PathError("bad_extension", "CRL entry cannot be read", clause=_CLAUSE)
