"""Writing SignedData for one signer, fast: what does not change from message to message is encoded once a key.

The bytes are those of `pki.cms_signed` (the tests compare them), where the profile is explained; there each structure
is composed and checked anew, which costs more than a P-256 signature in the token. What varies here are the content,
its type, the time, and the signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki import oids
from pki.algorithms import SHA256_IDENTIFIER, SignatureSuite
from pki.der import encode, sha256, tlv

_OCTET_STRING: Final = 0x04
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_CONTEXT_0: Final = 0xA0
_DIRECTORY_NAME: Final = 0xA4
_FIRST_GENERALIZED_YEAR: Final = 2050  # RFC 5652 11.3

_object_identifier = lru_cache(maxsize=64)(encode)


def _sequence(*members: bytes) -> bytes:
    return tlv(_SEQUENCE, b"".join(members))


def _set_of(members: Iterable[bytes], tag: int = _SET) -> bytes:
    """SET OF in DER order (X.690 11.6)."""
    return tlv(tag, b"".join(sorted(members)))


def _attribute(kind: x509.ObjectIdentifier, value: bytes) -> bytes:
    return _sequence(_object_identifier(kind), tlv(_SET, value))


class MessageWriter:
    """Makes the SignedData of one certificate and its chain (without the root). Immutable; safe for threads."""

    def __init__(self, signer: x509.Certificate, chain: Sequence[x509.Certificate]) -> None:
        issuer, serial = signer.issuer.public_bytes(), encode(signer.serial_number)
        ess_cert_id = _sequence(
            tlv(_OCTET_STRING, signer.fingerprint(hashes.SHA256())),
            _sequence(_sequence(tlv(_DIRECTORY_NAME, issuer)), serial),
        )
        self._signing_certificate = _attribute(oids.AA_SIGNING_CERTIFICATE_V2, _sequence(_sequence(ess_cert_id)))
        self._before_attributes = encode(1) + _sequence(issuer, serial) + SHA256_IDENTIFIER
        self._after_attributes = SignatureSuite.for_key(signer.public_key()).identifier
        self._before_content = encode(3) + _set_of([SHA256_IDENTIFIER])
        certificates = dict.fromkeys(each.public_bytes(Encoding.DER) for each in (signer, *chain))
        self._certificates = _set_of(certificates, _CONTEXT_0)

    def signed_attributes(self, content_type: x509.ObjectIdentifier, content: bytes, signing_time: datetime) -> bytes:
        """As `pki.cms_signed.build_signed_attributes`: the DER SET OF Attribute that is signed."""
        if content_type == oids.DATA or signing_time.tzinfo is None:
            raise ValueError("neither id-data nor a time without zone is signed")
        return _set_of(
            (
                _attribute(oids.AA_CONTENT_TYPE, _object_identifier(content_type)),
                _attribute(oids.AA_SIGNING_TIME, _time(signing_time.astimezone(UTC))),
                _attribute(oids.AA_MESSAGE_DIGEST, tlv(_OCTET_STRING, sha256(content))),
                self._signing_certificate,
            )
        )

    def assemble(
        self, content_type: x509.ObjectIdentifier, content: bytes, signed_attributes: bytes, signature: bytes
    ) -> bytes:
        """As `pki.cms_signed.assemble_signed_data`: the DER ContentInfo."""
        signer_info = _sequence(
            self._before_attributes,
            bytes((_CONTEXT_0,)) + signed_attributes[1:],  # [0] IMPLICIT in place of SET OF
            self._after_attributes,
            tlv(_OCTET_STRING, signature),
        )
        signed = _sequence(
            self._before_content,
            _sequence(_object_identifier(content_type), tlv(_CONTEXT_0, tlv(_OCTET_STRING, content))),
            self._certificates,
            tlv(_SET, signer_info),
        )
        return _sequence(_object_identifier(oids.SIGNED_DATA), tlv(_CONTEXT_0, signed))


def _time(utc: datetime) -> bytes:
    if utc.year < _FIRST_GENERALIZED_YEAR:
        return tlv(_UTC_TIME, utc.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return tlv(_GENERALIZED_TIME, utc.strftime("%Y%m%d%H%M%SZ").encode("ascii"))
