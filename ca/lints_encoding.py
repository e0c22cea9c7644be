"""Blocking rules on how a certificate is written down, beneath what a parser shows (RFC 5280 4.1, RFC 3279)."""

from __future__ import annotations

from typing import Annotated, Final

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec

from ca.lint_rule import Rules, Subject
from pki.der import decode
from pki.errors import DerError

RULES: Final = Rules()
_LARGEST: Final = 8192  # bytes: a chain of five fits into one TLS flight and one message of the protocol


@asn1.sequence
class _TbsCertificate:
    version: Annotated[int | None, asn1.Explicit(0)]
    serial_number: asn1.TLV
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV
    extensions: asn1.TLV


@RULES.rule("tbs-form", "RFC 5280 4.1.2.8; CPS 7.1")
def _form(subject: Subject) -> str | None:
    try:
        decode(_TbsCertificate, subject.tbs, limit=len(subject.tbs))
    except DerError:
        return "it has unique identifiers, or lacks a field"
    return None


@RULES.rule("size", "CPS 7.1")
def _size(subject: Subject) -> str | None:
    size = len(subject.tbs)
    return f"it has {size} bytes, more than {_LARGEST}" if size > _LARGEST else None


@RULES.rule("public-key-encoding", "RFC 3279 2.3.1; RFC 5480 2.1")
def _public_key_encoding(subject: Subject) -> str | None:
    if subject.spki not in subject.tbs:
        return "the key is not written as RSA with NULL parameters, or as an uncompressed point on a named curve"
    return None


@RULES.rule("key-usage-fits-key", "RFC 5480 3; CPS 6.1.7")
def _usage_fits(subject: Subject) -> str | None:
    key = subject.key
    if isinstance(key, ec.EllipticCurvePublicKey) and "key_encipherment" in subject.profile.key_usage:
        return "keys on elliptic curves do not encipher keys"
    return None


@RULES.rule("own-key", "CPS 6.1.1")
def _own_key(subject: Subject) -> str | None:
    same = subject.spki == subject.issuer_spki
    if subject.issuer is not None and same:
        return "it certifies the key that signs it"
    if subject.issuer is None and not same:
        return "a root is signed by the key that it certifies"
    return None
