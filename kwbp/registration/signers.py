"""Who signs in registration: services by their identity, applicants by the key that they want certified."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kwbp.codes import ErrorCode
from kwbp.common import Received, require, verify_path, verify_signature
from kwbp.errors import ProtocolError
from kwbp.structure import Structure
from pki.csr import parse_csr
from pki.errors import CsrError
from pki.keys import spki_sha256
from pki.names import identity_uri, identity_uris, name
from pki.path import Trust
from pki.roles import Role

RA: Final = identity_uri("service", "ra")
"""Identity of the registration authority."""
GATEWAY: Final = identity_uri("service", "gateway")
"""Identity of a gateway before it has certificates of the protocol."""
T = TypeVar("T", bound=Structure)
_LIFETIME: Final = timedelta(days=1)


def issuer_identity(bin_: str) -> str:
    """Identity of the bank that issues cards of this BIN (its first six digits)."""
    return identity_uri("service", f"issuer-{bin_[:6]}")


def verify_service(
    received: Received[T],
    identity: str,
    *,
    trust: Trust,
    now: datetime,
    check: str,
    path_check: str = "K5",
    signature_check: str = "K6",
) -> None:
    """K5 and K6 for a service, which must be `identity`.

    :raises ProtocolError: as `kwbp.common.verify_signer`; roleNotAllowed at `check` if it is another service.
    """
    verify_path(
        received.signer, received.signed.certificates, role=Role.SERVICE, trust=trust, now=now, check=path_check
    )
    verify_signature(received, check=signature_check)
    require(
        identity in identity_uris(received.signer),
        ErrorCode.ROLE_NOT_ALLOWED,
        check,
        f"message must be signed by {identity}",
    )


def requested_keys(requests: Mapping[str, bytes], *, check: str) -> dict[str, bytes]:
    """SHA-256 of the SubjectPublicKeyInfo of each PKCS#10 (DER), by purpose, after proof of possession.

    :raises ProtocolError: signatureFailure for a request that its key did not sign, invalidCertificate for any other
        fault, or for one key in two requests; at `check`.
    """
    keys = {}
    for purpose, request in requests.items():
        try:
            keys[purpose] = spki_sha256(parse_csr(request).public_key())
        except CsrError as error:
            bad = error.reason == "bad_signature"
            code = ErrorCode.SIGNATURE_FAILURE if bad else ErrorCode.INVALID_CERTIFICATE
            raise ProtocolError(code, check, f"PKCS#10 must be sound ({error.reason})") from None
    require(
        len(set(keys.values())) == len(keys),
        ErrorCode.INVALID_CERTIFICATE,
        check,
        "each purpose must have a key of its own",
    )
    return keys


def verify_own_key(received: Received[T], keys: Collection[bytes], *, check: str) -> None:
    """K6 for an applicant, and that one of `keys` (SHA-256 of SubjectPublicKeyInfo) signed.

    :raises ProtocolError: signatureFailure at K6; invalidCertificate at `check`.
    """
    verify_signature(received)
    require(
        spki_sha256(received.signer.public_key()) in keys,
        ErrorCode.INVALID_CERTIFICATE,
        check,
        "request must be signed with a key to be certified",
    )


def self_signed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, now: datetime) -> x509.Certificate:
    """The certificate beside a signature of a key that has none yet: it names nobody and carries the key."""
    subject = name(cn="KWBP applicant", c=None)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFETIME)
        .not_valid_after(now + _LIFETIME)
        .sign(key, hashes.SHA256())
    )
