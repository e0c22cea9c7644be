"""Certificates that are attached to keys: whether a chain is this key's, whole, and of the right role."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from hsm_service.judging import SigningKey
from pki.der import decode
from pki.errors import DerError, PkiError
from pki.keys import spki_der
from pki.names import identity_uri, identity_uris
from pki.roles import Role, role_of
from runtime.problems import Problem

LONGEST_CHAIN: Final = 8


def check_chain(
    chain: Sequence[bytes], key: SigningKey, owner: str | None, anchors: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """The certificates of `chain` (DER, the key's own first, without the root), if the key may carry them.

    Each must have signed the one before it; the last must be signed by one of `anchors`, when any are pinned. The first
    must certify this very key, for a role that the key's template holds, and name the key's owner. A root key carries
    its self-signed certificate alone. Raises Problem 422.
    """
    if not 1 <= len(chain) <= LONGEST_CHAIN:
        raise _refuse("bad-chain", f"a chain has 1 to {LONGEST_CHAIN} certificates", "RFC 5280 6.1")
    try:
        certificates = tuple(decode(x509.Certificate, der) for der in chain)
        own = certificates[0]
        if spki_der(own.public_key()) != spki_der(key.public_key):
            raise _refuse("foreign-certificate", f"the first certificate is not of key {key.name}", "RFC 5280 4.1.2.7")
        role = role_of(own)
        identities = identity_uris(own)
    except DerError as error:
        raise _refuse("malformed", "a certificate of the chain is not one in DER", error.clause) from None
    except PkiError as error:
        raise _refuse(error.reason.replace("_", "-"), error.detail, error.clause) from None
    except ValueError:
        raise _refuse("malformed", "a certificate of the chain cannot be read", "RFC 5280 4.1") from None
    if role not in key.template.holds:
        raise _refuse("role-not-allowed", f"a key of template {key.template.name} is no {role}", "KWBP global rule 4")
    if owner is not None and identity_uri("merchant", owner) not in identities:
        raise _refuse("owner-mismatch", f"the certificate does not name the owner of key {key.name}", "CPS 3.1.1")
    _check_links(certificates, role, anchors)
    return certificates


def _check_links(certificates: tuple[x509.Certificate, ...], role: Role, anchors: Sequence[x509.Certificate]) -> None:
    if role is Role.ROOT:
        if len(certificates) != 1 or not _issued(certificates[0], certificates[0]):
            raise _refuse("bad-chain", "a root carries its self-signed certificate alone", "RFC 5280 3.2")
        return
    if any(certificate.issuer == certificate.subject for certificate in certificates):
        raise _refuse("bad-chain", "the chain is given without the root", "KWBP global rule 2")
    if not all(_issued(subject, issuer) for subject, issuer in pairwise(certificates)):
        raise _refuse("bad-chain", "each certificate of the chain is signed by the next", "RFC 5280 6.1")
    if anchors and not any(_issued(certificates[-1], anchor) for anchor in anchors):
        raise _refuse("bad-chain", "the last certificate of the chain is signed by the pinned root", "RFC 5280 6.1")


def _issued(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _refuse(slug: str, detail: str, clause: str) -> Problem:
    return Problem(422, slug, detail, clause=clause)
