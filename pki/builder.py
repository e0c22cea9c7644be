"""What a CA key signs, before it is signed, and the signed object afterwards.

`cryptography` encodes certificates and CRLs well but insists on signing them at once. Here it signs with a key that has
no private half, so that the TBS bytes can be linted, approved and sent to a token; the real signature is joined to
exactly those bytes later.
"""

from __future__ import annotations

from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PublicKeyTypes

from pki.algorithms import certificate_signature_identifier
from pki.signed import assemble

_PLACEHOLDER: Final = b"\x00"


class _WithoutPrivateHalf:
    """States the issuer's public key and leaves a placeholder where the signature goes."""

    def __init__(self, public_key: PublicKeyTypes) -> None:
        self._public_key = public_key

    def sign(self, *_arguments: Any) -> bytes:
        return _PLACEHOLDER


# Siblings: a class registered as an RSA key would make every class below it one, too.
class _RsaWithoutPrivateHalf(_WithoutPrivateHalf):
    pass


class _EcWithoutPrivateHalf(_WithoutPrivateHalf):
    @property
    def curve(self) -> ec.EllipticCurve:
        return cast(ec.EllipticCurvePublicKey, self._public_key).curve


# Registered, not derived: the abstract classes demand decrypt, private_numbers, … which these keys do not have.
rsa.RSAPrivateKey.register(_RsaWithoutPrivateHalf)
ec.EllipticCurvePrivateKey.register(_EcWithoutPrivateHalf)


def _unsigned_key(issuer: PublicKeyTypes) -> tuple[CertificateIssuerPrivateKeyTypes, hashes.SHA256 | hashes.SHA384]:
    certificate_signature_identifier(issuer)  # refuses every other kind of key
    if isinstance(issuer, rsa.RSAPublicKey):
        return cast(rsa.RSAPrivateKey, _RsaWithoutPrivateHalf(issuer)), hashes.SHA256()
    key = cast(ec.EllipticCurvePrivateKey, _EcWithoutPrivateHalf(issuer))
    return key, hashes.SHA384() if key.curve.key_size > 256 else hashes.SHA256()


def tbs_certificate(builder: x509.CertificateBuilder, issuer_public_key: PublicKeyTypes) -> bytes:
    """Encode the DER TBSCertificate of a complete builder, for signing by `issuer_public_key`'s private half.

    ValueError if the builder is incomplete; CertificateError `weak_algorithm` for an issuer key of another kind.
    """
    key, algorithm = _unsigned_key(issuer_public_key)
    return builder.sign(key, algorithm).tbs_certificate_bytes


def tbs_crl(builder: x509.CertificateRevocationListBuilder, issuer_public_key: PublicKeyTypes) -> bytes:
    """Encode the DER TBSCertList of a complete builder; errors as `tbs_certificate`."""
    key, algorithm = _unsigned_key(issuer_public_key)
    return builder.sign(key, algorithm).tbs_certlist_bytes


def assemble_certificate(tbs: bytes, signature: bytes, issuer_public_key: PublicKeyTypes) -> bytes:
    """Join a DER TBSCertificate and its signature to a DER Certificate (RFC 5280 4.1). Nothing is verified.

    `signature` is PKCS#1 v1.5 with SHA-256 (RSA) or DER ECDSA-Sig-Value with SHA-256 (P-256) or SHA-384 (P-384).
    DerError if `tbs` is not one DER element.
    """
    return assemble(tbs, certificate_signature_identifier(issuer_public_key), signature)


def assemble_crl(tbs: bytes, signature: bytes, issuer_public_key: PublicKeyTypes) -> bytes:
    """Join a DER TBSCertList and its signature to a DER CertificateList (RFC 5280 5.1), as `assemble_certificate`."""
    return assemble(tbs, certificate_signature_identifier(issuer_public_key), signature)
