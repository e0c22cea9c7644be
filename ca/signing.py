"""Ask the token boundary for a signature, and believe nothing that comes back: compare (CPS 4.3.1, ca.md "compare").

The key is reached through `SigningService`: over mutual TLS in service, directly in a ceremony. Either way it sees the
whole TBS structure and checks it again before it signs (typed signing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NoReturn, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from ca.errors import CompareError, SigningError, SigningRefusedError, TokenUnavailableError
from cps.entitlement import PublicKey
from hsm_service.service import Basis, SigningService
from pki.algorithms import certificate_signature_identifier
from pki.bci import Bci
from pki.cms_signed import parse_signed_data, verify_signature
from pki.der import decode
from pki.errors import CmsError, DerError
from pki.keys import spki_der
from pki.oids import CT_BCI
from runtime.problems import Problem

T = TypeVar("T")

_CLAUSE: Final = "CPS 4.3.1"
_LATER: Final = frozenset({408, 429})  # what was sent came too slowly; too much was asked for
MOST_TOGETHER: Final = 250
"""Certificates that are asked for together: so many share one intent in the journal of the HSM service."""
LARGEST_TOGETHER: Final = 3 * 1024 * 1024
"""Bytes of what is asked for together, dossiers included; the service takes 4 MiB."""
_SUPERSEDED: Final = "crl-superseded"  # an authority was signing its next CRL: that one will do


def sign_certificate(
    signer: SigningService, key: str, tbs: bytes, issuer_key: PublicKey, basis: Basis | None = None
) -> x509.Certificate:
    """Have `tbs` signed by the key `key`, whose public half is `issuer_key`; `basis` is what it rests on.

    Raises SigningRefusedError (never again), TokenUnavailableError (try later), CompareError: what came back is not,
    byte for byte, what was linted, or its signature does not verify.
    """
    return _compared(_ask(lambda: signer.sign_certificate(key, tbs, basis)), tbs, issuer_key)


def sign_certificates(
    signer: SigningService,
    key: str,
    items: Sequence[tuple[bytes, bytes]],
    issuer_key: PublicKey,
    crls: tuple[bytes, ...],
) -> list[x509.Certificate | SigningError]:
    """As `sign_certificate` for many, each with its dossier; for each its certificate, or what is raised for one.

    They go over in parts that the service takes. One alone goes as one, so that it is the same request after a restart.
    """
    answers: list[x509.Certificate | SigningError] = []
    for part in _parts(items):
        try:
            if len(part) == 1:
                [(tbs, dossier)] = part
                signed: list[bytes | Problem] = [signer.sign_certificate(key, tbs, Basis(dossier, crls))]
            else:
                signed = signer.sign_certificates(key, part, crls)
        except Problem as problem:
            signed = [problem] * len(part)
        for (tbs, _dossier), answer in zip(part, signed, strict=True):
            try:
                der = answer if isinstance(answer, bytes) else _raise(answer)
                answers.append(_compared(der, tbs, issuer_key))
            except SigningError as error:
                answers.append(error)
    return answers


def _parts(items: Sequence[tuple[bytes, bytes]]) -> Iterator[Sequence[tuple[bytes, bytes]]]:
    """The items in parts of bounded number and size."""
    start = size = 0
    for place, item in enumerate(items):
        more = sum(map(len, item))
        if place > start and (place - start == MOST_TOGETHER or size + more > LARGEST_TOGETHER):
            yield items[start:place]
            start, size = place, 0
        size += more
    yield items[start:]


def _compared(der: bytes, tbs: bytes, issuer_key: PublicKey) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        _compare(der, certificate.tbs_certificate_bytes, tbs, certificate.signature, issuer_key)
    except (ValueError, InvalidSignature) as error:
        raise CompareError(
            f"the certificate that came back is not the one that was linted: {error}", clause=_CLAUSE
        ) from None
    return certificate


def sign_crl(
    signer: SigningService, key: str, tbs: bytes, issuer_key: PublicKey, version: int | None = None
) -> x509.CertificateRevocationList:
    """As `sign_certificate`, for a TBSCertList, signed by this version of the key."""
    der = _ask(lambda: signer.sign_crl(key, tbs, version))
    try:
        crl = x509.load_der_x509_crl(der)
        _compare(der, crl.tbs_certlist_bytes, tbs, crl.signature, issuer_key)
    except (ValueError, InvalidSignature) as error:
        raise CompareError(f"the CRL that came back is not the one that was sent: {error}", clause=_CLAUSE) from None
    return crl


def sign_crl_parts(
    signer: SigningService,
    key: str,
    parts: Callable[[], Iterable[bytes]],
    digest: Callable[[], bytes],
    issuer_key: PublicKey,
    version: int | None = None,
) -> bytes:
    """As `sign_crl` for a list that is not held: `parts` are its bytes, `digest` is theirs (`crl_hash`).

    The digest is asked for when the answer is there: the list may still be growing while it is sent.
    Returns what follows the TBSCertList in the CertificateList: AlgorithmIdentifier and signature, DER.
    """
    after = _ask(lambda: signer.sign_crl_parts(key, parts, version))
    identifier = certificate_signature_identifier(issuer_key)
    try:
        if not after.startswith(identifier):
            raise ValueError("the signature algorithm is not the one of the issuer's key")
        signature = decode(asn1.BitString, after[len(identifier) :])
        if signature.padding_bits():
            raise ValueError("the signature is not whole octets")
        _verify(issuer_key, signature.as_bytes(), digest(), Prehashed(crl_hash(issuer_key)))
    except (ValueError, DerError, InvalidSignature) as error:
        raise CompareError(
            f"what came back does not sign the CRL that was sent: {type(error).__name__}", clause=_CLAUSE
        ) from None
    return after


def sign_bci(signer: SigningService, key: str, bci: Bci) -> bytes:
    """SignedData (DER) over the list of all lists in force; raises as `sign_crl`."""
    return sign_statement(signer, key, CT_BCI, bci.to_der())


def sign_statement(signer: SigningService, key: str, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
    """SignedData (DER) by a key that speaks for the authority; raises as `sign_crl`."""
    der = _ask(lambda: signer.sign_cms(key, content_type.dotted_string, content))
    try:
        signed = parse_signed_data(der, content_type=content_type)
        verify_signature(signed)
    except CmsError as error:
        raise CompareError(f"what the key {key} gave back is no SignedData: {error}", clause=_CLAUSE) from None
    if signed.content != content:
        raise CompareError(f"what the key {key} signed is not what was sent", clause=_CLAUSE)
    return der


def crl_hash(issuer_key: PublicKey) -> hashes.SHA256 | hashes.SHA384:
    """What CRLs and certificates of this issuer are hashed with."""
    is_long = isinstance(issuer_key, ec.EllipticCurvePublicKey) and issuer_key.curve.key_size > 256
    return hashes.SHA384() if is_long else hashes.SHA256()


def version_of(signer: SigningService, key: str, public_key: PublicKey) -> int:
    """The version of `key` that is `public_key`, whether or not it is the one in use; raises SigningRefusedError."""
    spki = spki_der(public_key)
    for info in _ask(lambda: signer.list_versions(key)):
        if info.public_key == spki:
            return info.version
    raise SigningRefusedError(f"no version of the key {key} is the one that its certificate names", clause=_CLAUSE)


def verify_bytes(issuer_key: PublicKey, signature: bytes, data: bytes) -> None:
    """Check a signature by an authority over a TBSCertificate or TBSCertList (DER); raises InvalidSignature."""
    _verify(issuer_key, signature, data, crl_hash(issuer_key))


def _ask(call: Callable[[], T]) -> T:
    try:
        return call()
    except Problem as problem:
        _raise(problem)


def _raise(problem: Problem) -> NoReturn:
    """Raise what a problem of the HSM service means here."""
    if problem.status >= 500 or problem.status in _LATER or problem.type == _SUPERSEDED:
        raise TokenUnavailableError(f"the HSM service cannot sign now: {problem}") from problem
    raise SigningRefusedError(f"the HSM service will not sign this: {problem}", clause=problem.clause) from problem


def _compare(der: bytes, signed_tbs: bytes, tbs: bytes, signature: bytes, issuer_key: PublicKey) -> None:
    if signed_tbs != tbs:
        raise ValueError("other bytes were signed")
    identifier = certificate_signature_identifier(issuer_key)
    # The algorithm stands twice: inside, where it is signed, and beside the signature, where it is not.
    if not der[der.index(tbs) + len(tbs) :].startswith(identifier):
        raise ValueError("the signature algorithm is not the one of the issuer's key")
    verify_bytes(issuer_key, signature, tbs)


def _verify(
    issuer_key: PublicKey, signature: bytes, data: bytes, algorithm: Prehashed | hashes.SHA256 | hashes.SHA384
) -> None:
    if isinstance(issuer_key, rsa.RSAPublicKey):
        issuer_key.verify(signature, data, padding.PKCS1v15(), algorithm)
    else:
        issuer_key.verify(signature, data, ec.ECDSA(algorithm))
