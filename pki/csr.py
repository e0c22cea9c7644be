"""PKCS#10 requests at the door of enrolment (RFC 2986)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki.algorithms import CERTIFICATE_SIGNATURE_OIDS
from pki.der import decode
from pki.errors import UNREADABLE, CertificateError, CsrError, DerError
from pki.keys import screen_public_key, spki_sha256
from pki.signed import check_octets

LIMIT: Final = 16_384
"""Largest request accepted, bytes."""

_REMEMBERED: Final = 512
"""Requests whose proof of possession is remembered: at most so many times `LIMIT` bytes."""

_PEM: Final = re.compile(
    rb"-----BEGIN (?P<label>(?:NEW )?CERTIFICATE REQUEST)-----"
    rb"(?P<body>[A-Za-z0-9+/=\s]+)"
    rb"-----END (?P=label)-----"
)


def parse_csr(der_or_pem: bytes) -> x509.CertificateSigningRequest:
    """Read one request in DER or PEM and prove possession of its key.

    Raises CsrError: `too_big`, `malformed` (not DER, trailing bytes, several PEM blocks, unreadable extensions),
    `weak_algorithm` (request signed with anything but SHA-256/384 and RSA or ECDSA), `weak_key`,
    `bad_signature` (no proof of possession, RFC 2986 3).
    """
    if len(der_or_pem) > LIMIT:
        raise CsrError("too_big", f"at most {LIMIT} bytes", clause="RFC 2986")
    try:
        der = _to_der(der_or_pem)
        request = decode(x509.CertificateSigningRequest, der, limit=LIMIT)
        check_octets(der)
        list(request.extensions)
        list(request.subject)
        key = request.public_key()
        algorithm = request.signature_algorithm_oid
    except UnsupportedAlgorithm:
        raise CsrError("weak_algorithm", "unknown kind of key", clause="RFC 2986 4.1") from None
    except (DerError, *UNREADABLE):
        raise CsrError("malformed", "not one PKCS#10 request", clause="RFC 2986 4.2") from None
    if algorithm not in CERTIFICATE_SIGNATURE_OIDS:
        raise CsrError("weak_algorithm", "the request's signature algorithm is not accepted", clause="RFC 2986 4.2")
    try:
        screen_public_key(key)
    except CertificateError as error:
        raise CsrError(error.reason, error.detail, clause=error.clause) from None
    if not request.is_signature_valid:
        raise CsrError("bad_signature", "the requester did not prove possession of the key", clause="RFC 2986 3")
    return request


@dataclass(frozen=True, slots=True)
class RequestedKey:
    """The key of which a request proves possession, and SHA-256 (32 bytes) of its SubjectPublicKeyInfo."""

    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    spki_sha256: bytes


@lru_cache(maxsize=_REMEMBERED)
def requested_key(der: bytes) -> RequestedKey:
    """The key of the request `der`; raises as `parse_csr`.

    Remembered for a while, because it depends on the bytes alone and whoever certifies a case asks several times.
    """
    key = parse_csr(der).public_key()
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)  # no other kind gets through
    return RequestedKey(key, spki_sha256(key))


def _to_der(data: bytes) -> bytes:
    if data[:1] == b"\x30":
        return data
    match = _PEM.search(data)  # explanatory text around it is allowed (RFC 7468 2) and certtool writes it
    if match is None or data.count(b"-----BEGIN ") != 1:
        raise ValueError("neither DER nor one PEM block")
    try:
        return base64.b64decode(b"".join(match["body"].split()), validate=True)
    except binascii.Error:
        raise ValueError("PEM body is not base64") from None
