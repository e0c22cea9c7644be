"""The closed list of AlgorithmIdentifiers, as the exact bytes they may have.

An algorithm with parameters is compared, not interpreted: a list of byte strings cannot be talked into a default salt,
a missing MGF or a shorter tag. Where tools disagree whether SHA-256 carries NULL parameters (RFC 5754 2 allows both),
each spelling is listed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pki.der import encode, tlv
from pki.errors import CertificateError
from pki.oids import ECDSA_WITH_SHA256, RSAES_OAEP, RSASSA_PSS, SHA256

_SEQUENCE: Final = 0x30
_NULL: Final = b"\x05\x00"
_MGF1: Final = x509.ObjectIdentifier("1.2.840.113549.1.1.8")
_SHA256_WITH_RSA: Final = x509.ObjectIdentifier("1.2.840.113549.1.1.11")
_ECDSA_WITH_SHA384: Final = x509.ObjectIdentifier("1.2.840.10045.4.3.3")
_SHA384_WITH_RSA: Final = x509.ObjectIdentifier("1.2.840.113549.1.1.12")


def _sequence(*members: bytes) -> bytes:
    return tlv(_SEQUENCE, b"".join(members))


def _identifier(oid: x509.ObjectIdentifier, parameters: bytes = b"") -> bytes:
    return _sequence(encode(oid), parameters)


def _explicit(number: int, content: bytes) -> bytes:
    return tlv(0xA0 | number, content)


_SHA256_SPELLINGS: Final = (_identifier(SHA256), _identifier(SHA256, _NULL))
SHA256_IDENTIFIERS: Final = frozenset(_SHA256_SPELLINGS)
SHA256_IDENTIFIER: Final = _SHA256_SPELLINGS[0]
"""What we write: without parameters (RFC 5754 2)."""


def _pss(digest: bytes, mgf_digest: bytes) -> bytes:
    salt = encode(32)
    parameters = _sequence(
        _explicit(0, digest), _explicit(1, _identifier(_MGF1, mgf_digest)), _explicit(2, salt)
    )  # RFC 4055 3.1; trailerField 1 is the default and therefore absent in DER
    return _identifier(RSASSA_PSS, parameters)


def _oaep_sha256(digest: bytes, mgf_digest: bytes) -> bytes:
    parameters = _sequence(_explicit(0, digest), _explicit(1, _identifier(_MGF1, mgf_digest)))
    return _identifier(RSAES_OAEP, parameters)  # RFC 4055 4.1; the empty label is the default


class SignatureSuite(StrEnum):
    """How messages are signed (KWBP global rule 2)."""

    RSA_PSS_SHA256 = "rsa-pss-sha256"
    ECDSA_SHA256 = "ecdsa-sha256"

    @classmethod
    def for_key(cls, key: PublicKeyTypes) -> SignatureSuite:
        """Name the one suite of a public key: RSA → PSS, P-256 → ECDSA; CertificateError `weak_algorithm` otherwise."""
        if isinstance(key, rsa.RSAPublicKey):
            return cls.RSA_PSS_SHA256
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            return cls.ECDSA_SHA256
        raise CertificateError("weak_algorithm", "messages are signed with RSA or P-256", clause="KWBP global rule 2")

    @property
    def identifier(self) -> bytes:
        """The AlgorithmIdentifier we write, DER. PSS carries NULL parameters, as OpenSSL and GnuTLS write it."""
        return _SUITE_IDENTIFIER[self]


_SUITE_IDENTIFIER: Final = {
    SignatureSuite.RSA_PSS_SHA256: _pss(_SHA256_SPELLINGS[1], _SHA256_SPELLINGS[1]),
    SignatureSuite.ECDSA_SHA256: _identifier(ECDSA_WITH_SHA256),
}

SIGNATURE_IDENTIFIERS: Final[dict[bytes, SignatureSuite]] = {
    **{_pss(d, m): SignatureSuite.RSA_PSS_SHA256 for d in _SHA256_SPELLINGS for m in _SHA256_SPELLINGS},
    _identifier(ECDSA_WITH_SHA256): SignatureSuite.ECDSA_SHA256,
}
"""Every spelling of a message signature algorithm that is accepted."""


class SealingSuite(StrEnum):
    """How the content key of a sealed object is transported (RFC 3560); the content cipher is always AES-256-GCM."""

    OAEP_SHA1 = "oaep-sha1"
    OAEP_SHA256 = "oaep-sha256"

    @property
    def identifier(self) -> bytes:
        """The AlgorithmIdentifier we write, DER; byte for byte the SMIMECapability of RFC 3560 5."""
        return _SEALING_IDENTIFIER[self]


_SEALING_IDENTIFIER: Final = {
    SealingSuite.OAEP_SHA1: _identifier(RSAES_OAEP, _sequence()),
    SealingSuite.OAEP_SHA256: _oaep_sha256(_SHA256_SPELLINGS[0], _SHA256_SPELLINGS[0]),
}

SEALING_IDENTIFIERS: Final[dict[bytes, SealingSuite]] = {
    _SEALING_IDENTIFIER[SealingSuite.OAEP_SHA1]: SealingSuite.OAEP_SHA1,
    **{_oaep_sha256(d, m): SealingSuite.OAEP_SHA256 for d in _SHA256_SPELLINGS for m in _SHA256_SPELLINGS},
}
"""Every spelling of a key transport algorithm that is accepted. PKCS#1 v1.5 is not among them."""

CERTIFICATE_SIGNATURE_OIDS: Final = frozenset(
    {_SHA256_WITH_RSA, _SHA384_WITH_RSA, ECDSA_WITH_SHA256, _ECDSA_WITH_SHA384}
)
"""Signature algorithms of certificates, CRLs and PKCS#10 requests: the ones every tool reads, without SHA-1."""


_RSA_IDENTIFIER: Final = _identifier(_SHA256_WITH_RSA, _NULL)
_P256_IDENTIFIER: Final = _identifier(ECDSA_WITH_SHA256)
_P384_IDENTIFIER: Final = _identifier(_ECDSA_WITH_SHA384)


def certificate_signature_identifier(issuer_key: PublicKeyTypes) -> bytes:
    """Name, as DER AlgorithmIdentifier, how `issuer_key` signs certificates and CRLs.

    RSA → sha256WithRSAEncryption, P-256 → ecdsa-with-SHA256, P-384 → ecdsa-with-SHA384 (RFC 4055, RFC 5758);
    CertificateError `weak_algorithm` for any other key.
    """
    if isinstance(issuer_key, rsa.RSAPublicKey):
        return _RSA_IDENTIFIER
    if isinstance(issuer_key, ec.EllipticCurvePublicKey):
        if isinstance(issuer_key.curve, ec.SECP256R1):
            return _P256_IDENTIFIER
        if isinstance(issuer_key.curve, ec.SECP384R1):
            return _P384_IDENTIFIER
    raise CertificateError(
        "weak_algorithm", "certificates are signed with RSA, P-256 or P-384", clause="RFC 5280 4.1.1.2"
    )
