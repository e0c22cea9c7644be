"""Typed signing: every structure is parsed and understood before a key signs it. Here, what all its judges share.

Other signing services sign any digest they are handed, so whoever holds the credential can have anything signed. Here
the caller sends the structure itself: a TBSCertificate, a TBSCertList, a message content, a CertificationRequestInfo …
It is parsed strictly, compared with the key that is to sign it, and only then becomes an order to sign. Each kind of
structure has a judge in a module of its own, `typed_<kind>`.

Judges are pure: no token, no clock, no log. A refusal is a `Problem` with status 422 that names the rule (RFC 9457).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hsm_service.message import MessageWriter
from hsm_service.templates import Template
from pki.algorithms import certificate_signature_identifier
from pki.der import decode, encode
from pki.errors import CertificateError, DerError, PkiError
from pki.keys import spki_der
from runtime.problems import Problem

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far ahead of our clock a caller's may be."""

MIN_SERIAL_BITS: Final = 64  # CA/Browser Forum 7.1: at least 64 bits of a CSPRNG
MAX_SERIAL_BITS: Final = 159  # RFC 5280 4.1.2.2: 20 octets, positive
PLACEHOLDER: Final = b"\x00"
"""Stands where the signature goes while a structure is read by a parser that wants one."""

T = TypeVar("T")
X = TypeVar("X", bound=x509.ExtensionType)


@dataclass(frozen=True)
class SigningKey:
    """What the checks need to know of a key: its template, public half, and certificate chain (its own first)."""

    name: str
    version: int
    template: Template
    public_key: PublicKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def certificate(self) -> x509.Certificate:
        """The key's own certificate; a Problem 409 while it has none."""
        if not self.chain:
            raise Problem(409, "key-has-no-certificate", f"key {self.name} has no certificate yet: attach one first")
        return self.chain[0]

    @cached_property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return spki_der(self.public_key)

    @cached_property
    def algorithm(self) -> bytes:
        """The AlgorithmIdentifier (DER) that it signs X.509 structures with; CertificateError for a key with none."""
        return certificate_signature_identifier(self.public_key)

    @cached_property
    def issuer(self) -> Issuer:
        """What its certificate says to those below it; a Problem 409 while it has none."""
        return Issuer(self.certificate)

    @cached_property
    def writer(self) -> MessageWriter:
        """What writes the messages of this key; a Problem 409 while it has no certificate."""
        return MessageWriter(self.certificate, self.chain[1:])


class Issuer:
    """A CA's certificate, read once: what every certificate that the CA signs is compared with."""

    def __init__(self, certificate: x509.Certificate) -> None:
        constraints = extension_value(certificate, x509.BasicConstraints)
        self.certificate: Final = certificate
        self.name: Final = certificate.subject.public_bytes()
        self.key_identifier: Final = subject_key_identifier(certificate)
        self.not_before: Final = certificate.not_valid_before_utc
        self.not_after: Final = certificate.not_valid_after_utc
        self.path_length: Final = None if constraints is None else constraints.path_length


def check_algorithm(named: asn1.TLV, key: SigningKey) -> None:
    """Refuses another AlgorithmIdentifier than the one the key signs X.509 structures with (RFC 5280 4.1.1.2)."""
    if encode(named) != key.algorithm:
        raise refuse("algorithm-mismatch", f"the signature algorithm is not that of key {key.name}", "RFC 5280 4.1.2.3")


@contextlib.contextmanager
def reading(what: str, clause: str = "RFC 5280 4.1") -> Iterator[None]:
    """Refuses what the parser, which reads some members only when asked for them, finds unreadable then."""
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise refuse("malformed", f"a member of the {what} cannot be read", clause) from None


def parse(cls: type[T], der: bytes, what: str, **limits: Any) -> T:
    """The DER `der` as `cls` (a type of `cryptography.hazmat.asn1`); refuses what is not exactly one `what`."""
    try:
        return decode(cls, der, **limits)
    except DerError as error:
        raise refuse(error.reason.replace("_", "-"), f"not one {what} in DER", error.clause) from None


def sound(check: Callable[[], T]) -> T:
    """What `check` returns; its CertificateError as a refusal."""
    try:
        return check()
    except CertificateError as error:
        raise from_pki(error) from None


def from_pki(error: PkiError) -> Problem:
    """An error of `pki` as a refusal under the same reason and clause."""
    return refuse(error.reason.replace("_", "-"), error.detail, error.clause)


def refuse(slug: str, detail: str, clause: str | None) -> Problem:
    """The refusal (Problem 422) called `slug`, with the clause of the rule that refuses."""
    return Problem(422, slug, detail, clause=clause or None)


def authority_key_identifier(signed: x509.Certificate | x509.CertificateRevocationList) -> bytes | None:
    """The keyIdentifier of the issuer, None if it is not stated (RFC 5280 4.2.1.1, 5.2.1)."""
    found = extension_value(signed, x509.AuthorityKeyIdentifier)
    return found.key_identifier if found is not None else None


def subject_key_identifier(certificate: x509.Certificate) -> bytes:
    """The key identifier of a certificate; SHA-1 of its key where it states none (RFC 5280 4.2.1.2)."""
    found = extension_value(certificate, x509.SubjectKeyIdentifier)
    if found is not None:
        return found.digest
    public_key = certificate.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return x509.SubjectKeyIdentifier.from_public_key(public_key).digest


def extension_value(signed: x509.Certificate | x509.CertificateRevocationList, kind: type[X]) -> X | None:
    """The extension of this class, None if it is absent."""
    try:
        return signed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
