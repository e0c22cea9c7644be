"""The structures of time-stamps (RFC 3161 2.4), as types of `cryptography.hazmat.asn1`.

Shared by who asks and judges answers (`pki.timestamp`), by the authority, and by the token boundary that signs for it:
all three read the same strict DER. PKIFailureInfo is a BIT STRING of named bits, which DER writes without the zeros at
its end (X.690 11.2.2).
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki.der import any_value, encode, tlv

_SEQUENCE: Final = 0x30
_NULL: Final = b"\x05\x00"

MAX_NONCE_BITS: Final = 160
"""A nonce is a large random number (RFC 3161 2.4.1), and not negative; larger ones are not echoed here."""

_IMPRINT_OIDS: Final = {
    "sha256": x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1"),
    "sha384": x509.ObjectIdentifier("2.16.840.1.101.3.4.2.2"),
    "sha512": x509.ObjectIdentifier("2.16.840.1.101.3.4.2.3"),
}
IMPRINT_IDENTIFIER: Final = {name: tlv(_SEQUENCE, encode(oid)) for name, oid in _IMPRINT_OIDS.items()}
"""AlgorithmIdentifier (DER) of each hash that may be stamped, as we write it: without parameters (RFC 5754 2)."""
IMPRINT_ALGORITHMS: Final[dict[bytes, str]] = {
    tlv(_SEQUENCE, encode(oid) + parameters): name for name, oid in _IMPRINT_OIDS.items() for parameters in (b"", _NULL)
}
"""Both spellings of them, as hashlib names them."""


class Status(IntEnum):
    """PKIStatus (RFC 3161 2.4.2)."""

    GRANTED = 0
    GRANTED_WITH_MODS = 1
    REJECTION = 2
    WAITING = 3
    REVOCATION_WARNING = 4
    REVOCATION_NOTIFICATION = 5


class Failure(IntEnum):
    """PKIFailureInfo: numbers of the bits (RFC 3161 2.4.2)."""

    BAD_ALG = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    TIME_NOT_AVAILABLE = 14
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16
    ADD_INFO_NOT_AVAILABLE = 17
    SYSTEM_FAILURE = 25

    @property
    def bits(self) -> asn1.BitString:
        """A BIT STRING with this bit alone."""
        octets = bytearray(self // 8 + 1)
        octets[-1] = 0x80 >> self % 8
        return asn1.BitString(bytes(octets), 7 - self % 8)


@asn1.sequence
class MessageImprint:
    """The hash of what is stamped."""

    hash_algorithm: asn1.TLV
    hashed_message: bytes


@asn1.sequence
class Accuracy:
    """How far genTime may be from the truth, to both sides."""

    seconds: int | None
    millis: Annotated[int | None, asn1.Implicit(0)]
    micros: Annotated[int | None, asn1.Implicit(1)]


@asn1.sequence
class TstInfo:
    """TSTInfo with tsa and without extensions."""

    version: int
    policy: x509.ObjectIdentifier
    message_imprint: MessageImprint
    serial_number: int
    gen_time: asn1.GeneralizedTime
    accuracy: Accuracy | None
    ordering: Annotated[bool, asn1.Default(False)]
    nonce: int | None
    tsa: Annotated[asn1.TLV, asn1.Explicit(0)]


@asn1.sequence
class Extension:
    """An extension of a request; none is known here."""

    id: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class TimeStampReq:
    """What is asked for."""

    version: int
    message_imprint: MessageImprint
    req_policy: x509.ObjectIdentifier | None
    nonce: int | None
    cert_req: Annotated[bool, asn1.Default(False)]
    extensions: Annotated[list[Extension] | None, asn1.Implicit(0)]


@asn1.sequence
class PkiStatusInfo:
    """Whether it was granted; why not, in words and as a bit."""

    status: int
    status_string: list[str] | None
    fail_info: asn1.BitString | None


@asn1.sequence
class Granted:
    """TimeStampResp with a token."""

    status: PkiStatusInfo
    time_stamp_token: asn1.TLV


@asn1.sequence
class NotGranted:
    """TimeStampResp without."""

    status: PkiStatusInfo


def imprint_of(data: bytes, algorithm: str = "sha256") -> MessageImprint:
    """The imprint of `data` by a hash of `IMPRINT_IDENTIFIER`."""
    digest = hashlib.new(algorithm, data).digest()
    return MessageImprint(hash_algorithm=any_value(IMPRINT_IDENTIFIER[algorithm]), hashed_message=digest)
