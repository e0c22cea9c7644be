"""Ask the token boundary for a signature, and believe nothing that comes back: compare (CPS 4.3.1, ca.md "compare").

The key is reached through `SigningService`: over mutual TLS in service, directly in a ceremony. Either way it sees the
whole TBS structure and checks it again before it signs (typed signing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ca.errors import CompareError, SigningRefusedError, TokenUnavailableError
from ca.prepare import PublicKey
from hsm_service.errors import HsmError
from pki.algorithms import certificate_signature_identifier
from runtime.problems import Problem

_CLAUSE: Final = "CPS 4.3.1"
_BUSY: Final = 429


class KeyInfo(Protocol):
    """What the token boundary says about a key; `public_key` is SubjectPublicKeyInfo, DER."""

    @property
    def name(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def public_key(self) -> bytes: ...
    @property
    def attributes(self) -> Mapping[str, bool]: ...
    @property
    def certificate_chain(self) -> Sequence[bytes]: ...


class CertificateSigner(Protocol):
    """The part of the signing service that the running CA needs."""

    def sign_certificate(self, name: str, tbs: bytes) -> bytes:
        """TBSCertificate in, Certificate out (DER), signed by the key `name`."""

    def sign_crl(self, name: str, tbs: bytes) -> bytes:
        """TBSCertList in, CertificateList out (DER), signed by the key `name`."""


class KeyRoom(CertificateSigner, Protocol):
    """The part of the signing service that a ceremony needs: opened tokens, which make and certify keys."""

    def list_keys(self) -> Sequence[KeyInfo]: ...

    def generate_key(self, name: str, template: str, *, owner: str | None = None) -> KeyInfo: ...

    def describe_key(self, name: str) -> KeyInfo: ...

    def certification_request(self, name: str, subject: bytes, san_uris: Sequence[str] = ()) -> bytes: ...

    def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None: ...


def sign_certificate(signer: CertificateSigner, key: str, tbs: bytes, issuer_key: PublicKey) -> x509.Certificate:
    """Have `tbs` signed by the key `key`, whose public half is `issuer_key`.

    Raises SigningRefusedError (never again), TokenUnavailableError (try later), CompareError: what came back is not,
    byte for byte, what was linted, or its signature does not verify.
    """
    der = _ask(lambda: signer.sign_certificate(key, tbs))
    try:
        certificate = x509.load_der_x509_certificate(der)
        _compare(der, certificate.tbs_certificate_bytes, tbs, certificate.signature, issuer_key)
    except (ValueError, InvalidSignature) as error:
        raise CompareError(
            f"the certificate that came back is not the one that was linted: {error}", clause=_CLAUSE
        ) from None
    return certificate


def sign_crl(signer: CertificateSigner, key: str, tbs: bytes, issuer_key: PublicKey) -> x509.CertificateRevocationList:
    """As `sign_certificate`, for a TBSCertList."""
    der = _ask(lambda: signer.sign_crl(key, tbs))
    try:
        crl = x509.load_der_x509_crl(der)
        _compare(der, crl.tbs_certlist_bytes, tbs, crl.signature, issuer_key)
    except (ValueError, InvalidSignature) as error:
        raise CompareError(f"the CRL that came back is not the one that was sent: {error}", clause=_CLAUSE) from None
    return crl


def _ask(call: Callable[[], bytes]) -> bytes:
    try:
        return call()
    except (Problem, HsmError) as error:
        if error.status >= 500 or error.status == _BUSY:
            raise TokenUnavailableError(f"the HSM service cannot sign now: {error}") from error
        raise SigningRefusedError(f"the HSM service refuses to sign this: {error}") from error
    except httpx.TransportError as error:
        raise TokenUnavailableError(f"the HSM service does not answer: {type(error).__name__}") from error


def _compare(der: bytes, signed_tbs: bytes, tbs: bytes, signature: bytes, issuer_key: PublicKey) -> None:
    if signed_tbs != tbs:
        raise ValueError("other bytes were signed")
    identifier = certificate_signature_identifier(issuer_key)
    # The algorithm stands twice: inside, where it is signed, and beside the signature, where it is not.
    if not der[der.index(tbs) + len(tbs) :].startswith(identifier):
        raise ValueError("the signature algorithm is not the one of the issuer's key")
    if isinstance(issuer_key, rsa.RSAPublicKey):
        issuer_key.verify(signature, tbs, padding.PKCS1v15(), hashes.SHA256())
    else:
        long = issuer_key.curve.key_size > 256
        issuer_key.verify(signature, tbs, ec.ECDSA(hashes.SHA384() if long else hashes.SHA256()))
