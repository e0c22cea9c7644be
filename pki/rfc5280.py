"""Certification path validation as RFC 5280 6.1 writes it: the layer below the roles of KWBP.

`process` judges a path from what its bytes say; time and revocation are asked beside it (`check_validity`,
`CrlSet.status`), because they change. Which keys and algorithms are strong enough is the caller's rule. `pki.path`
puts KWBP's rules on top, which are narrower; what KWBP has no use for (mappings, name constraints, …) is refused there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pki.algorithms import CERTIFICATE_SIGNATURE_OIDS
from pki.errors import UNREADABLE, PathError
from pki.extensions import extension_value, extensions_of
from pki.name_constraints import NameConstraints, comparable
from pki.oids import POLICY_MAPPINGS
from pki.policy_tree import PolicySettings, PolicyTree

_PROCESSED: Final = frozenset(
    kind.oid
    for kind in (
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.CertificatePolicies,
        x509.PolicyConstraints,
        x509.InhibitAnyPolicy,
        x509.NameConstraints,
        x509.SubjectAlternativeName,
        x509.CRLDistributionPoints,
    )
) | {POLICY_MAPPINGS}

Signed = Callable[[x509.Certificate, x509.Certificate], bool]
"""Whether the first certificate was signed by the key of the second, strongly enough."""


def is_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer`'s key made the signature, with an algorithm of the list; False if either cannot be read."""
    try:
        key, parameters = issuer.public_key(), certificate.signature_algorithm_parameters
        algorithm = certificate.signature_hash_algorithm
        if certificate.signature_algorithm_oid not in CERTIFICATE_SIGNATURE_OIDS or algorithm is None:
            return False
        if isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.PKCS1v15):
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, parameters, algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, parameters)
        else:
            return False
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def process(
    path: Sequence[x509.Certificate],
    settings: PolicySettings = PolicySettings(),  # noqa: B008  # frozen
    *,
    signed: Signed = is_signed,
) -> frozenset[x509.ObjectIdentifier]:
    """Judge `path`, from the anchor down to the target, by everything but time and revocation.

    Returns the user-constrained policy set (RFC 5280 6.1.6). The anchor is believed: of it, only the name and the key
    are used. Raises PathError: `unknown_issuer` (names do not chain), `bad_signature`, `not_a_ca`, `path_too_long`,
    `bad_key_usage`, `policy_refused`, `name_refused`, `unknown_critical_extension`, `bad_extension`;
    CertificateError `bad_extension` if extensions cannot be read.
    """
    issuer, *below = path
    policies = PolicyTree(len(below), settings)
    constraints = NameConstraints()
    allowed = len(below)
    for place, certificate in enumerate(below, 1):
        last = place == len(below)
        extensions = extensions_of(certificate)
        self_issued = comparable(certificate.subject) == comparable(certificate.issuer)
        if comparable(certificate.issuer) != comparable(issuer.subject):
            raise PathError("unknown_issuer", "names do not chain", clause="RFC 5280 6.1.3 (a)(4)")
        if not signed(certificate, issuer):
            raise PathError("bad_signature", "not signed by the issuer", clause="RFC 5280 6.1.3 (a)(1)")
        if last or not self_issued:
            constraints.check(certificate.subject, extension_value(extensions, x509.SubjectAlternativeName))
        policies.take(extensions, self_issued=self_issued, last=last)
        if not last:
            stated = extension_value(extensions, x509.NameConstraints)
            if stated is not None:
                constraints.add(stated)
            allowed = _check_ca(extensions, allowed, self_issued=self_issued)
        if any(extension.critical and extension.oid not in _PROCESSED for extension in extensions):
            raise PathError("unknown_critical_extension", "not processed", clause="RFC 5280 6.1.4 (o)")
        issuer = certificate
    return policies.policies


def _check_ca(extensions: x509.Extensions, allowed: int, *, self_issued: bool) -> int:
    """6.1.4 (k) to (n): how many CAs may follow below this one."""
    basic = extension_value(extensions, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise PathError("not_a_ca", "issuer is not a CA", clause="RFC 5280 6.1.4 (k)")
    if not self_issued:
        if not allowed:
            raise PathError("path_too_long", "more CAs than one above allows", clause="RFC 5280 6.1.4 (l)")
        allowed -= 1
    usage = extension_value(extensions, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise PathError("bad_key_usage", "issuer may not sign certificates", clause="RFC 5280 6.1.4 (n)")
    return allowed if basic.path_length is None else min(allowed, basic.path_length)


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """PathError `not_yet_valid` or `expired` at `now` (aware UTC)."""
    if now < certificate.not_valid_before_utc:
        raise PathError("not_yet_valid", "before notBefore", clause="RFC 5280 6.1.3 (a)(2)")
    if now > certificate.not_valid_after_utc:
        raise PathError("expired", "after notAfter", clause="RFC 5280 6.1.3 (a)(2)")
