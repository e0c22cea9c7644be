"""What a certificate is for, decided from three statements that must agree (KWBP global rule 4).

SET's certificateType, the certificate policy and keyUsage each say something about the holder. A certificate has a role
only if together they are exactly one row of the table below; anything else has none, and is refused.

| role               | certificateType | policies              | keyUsage                            | issued by      |
| ------------------ | --------------- | --------------------- | ----------------------------------- | -------------- |
| root               | rca             | –                     | keyCertSign, cRLSign                | itself         |
| brand              | bca             | anyPolicy             | keyCertSign, cRLSign                | root           |
| geopolitical       | gca             | anyPolicy             | keyCertSign, cRLSign                | brand          |
| cardholder-ca      | cca             | cardholder            | keyCertSign, cRLSign                | brand*         |
| merchant-ca        | mca             | merchantOnline        | keyCertSign, cRLSign                | brand*         |
| gateway-ca         | pca             | gateway               | keyCertSign, cRLSign                | brand*         |
| operations-ca      | –               | officer and service   | keyCertSign, cRLSign                | brand          |
| cardholder         | card            | cardholder            | digitalSignature, contentCommitment | cardholder-ca  |
| merchant           | mer             | merchantOnline        | digitalSignature, contentCommitment | merchant-ca    |
| gateway-signing    | pgwy            | gateway               | digitalSignature, contentCommitment | gateway-ca     |
| gateway-encryption | pgwy            | gateway               | keyEncipherment                     | gateway-ca     |
| officer            | –               | officer               | digitalSignature, contentCommitment | operations-ca  |
| service            | –               | service               | digitalSignature                    | operations-ca  |
| ocsp-responder     | –               | ocsp                  | digitalSignature                    | any CA         |
| timestamp-authority | –              | timeStamp             | digitalSignature                    | operations-ca  |

The last two state the extendedKeyUsage ocspSigning and timeStamping (critical) and no other, and nobody else states
those. Nobody states anyExtendedKeyUsage.

* or by a geopolitical CA, which stands between the brand and the CAs of a country or region (SET Book 2).

CA rows also need basicConstraints with CA:TRUE, the others must not have it. A responder of certificate status speaks
for the CA that certified it (RFC 6960 4.2.2.2), which therefore may be any.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.errors import CertificateError
from pki.extensions import CertificateType, extensions_of
from pki.oids import (
    POLICY_CARDHOLDER,
    POLICY_GATEWAY,
    POLICY_MERCHANT_ONLINE,
    POLICY_OCSP,
    POLICY_OFFICER,
    POLICY_SERVICE,
    POLICY_TIMESTAMP,
)

ANY_POLICY: Final = x509.ObjectIdentifier("2.5.29.32.0")
_CLAUSE: Final = "KWBP global rule 4"
_KEY_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


class Role(StrEnum):
    """What the holder of a certificate may do."""

    ROOT = "root"
    BRAND = "brand"
    GEOPOLITICAL = "geopolitical"
    CARDHOLDER_CA = "cardholder-ca"
    MERCHANT_CA = "merchant-ca"
    GATEWAY_CA = "gateway-ca"
    OPERATIONS_CA = "operations-ca"
    CARDHOLDER = "cardholder"
    MERCHANT = "merchant"
    GATEWAY_SIGNING = "gateway-signing"
    GATEWAY_ENCRYPTION = "gateway-encryption"
    OFFICER = "officer"
    SERVICE = "service"
    OCSP_RESPONDER = "ocsp-responder"
    TIMESTAMP_AUTHORITY = "timestamp-authority"

    @property
    def profile(self) -> RoleProfile:
        """The row of the table above."""
        return PROFILES[self]


@dataclass(frozen=True)
class RoleProfile:
    """One row of the table: what a certificate of the role states, and which roles may issue it.

    `key_usage` uses the attribute names of `x509.KeyUsage`.
    """

    certificate_type: frozenset[str]
    policies: frozenset[x509.ObjectIdentifier]
    key_usage: frozenset[str]
    issuers: frozenset[Role]

    @property
    def is_ca(self) -> bool:
        """Whether holders issue certificates."""
        return "key_cert_sign" in self.key_usage


_CA: Final = frozenset({"key_cert_sign", "crl_sign"})
_SIGN: Final = frozenset({"digital_signature", "content_commitment"})
_SEAL: Final = frozenset({"key_encipherment"})
_AUTHENTICATE: Final = frozenset({"digital_signature"})


def _row(
    certificate_type: str, policies: tuple[x509.ObjectIdentifier, ...], usage: frozenset[str], *issuers: Role
) -> RoleProfile:
    return RoleProfile(frozenset(certificate_type.split()), frozenset(policies), usage, frozenset(issuers))


PROFILES: Final[dict[Role, RoleProfile]] = {
    Role.ROOT: _row("rca", (), _CA, Role.ROOT),
    Role.BRAND: _row("bca", (ANY_POLICY,), _CA, Role.ROOT),
    Role.GEOPOLITICAL: _row("gca", (ANY_POLICY,), _CA, Role.BRAND),
    Role.CARDHOLDER_CA: _row("cca", (POLICY_CARDHOLDER,), _CA, Role.BRAND, Role.GEOPOLITICAL),
    Role.MERCHANT_CA: _row("mca", (POLICY_MERCHANT_ONLINE,), _CA, Role.BRAND, Role.GEOPOLITICAL),
    Role.GATEWAY_CA: _row("pca", (POLICY_GATEWAY,), _CA, Role.BRAND, Role.GEOPOLITICAL),
    Role.OPERATIONS_CA: _row("", (POLICY_OFFICER, POLICY_SERVICE), _CA, Role.BRAND),
    Role.CARDHOLDER: _row("card", (POLICY_CARDHOLDER,), _SIGN, Role.CARDHOLDER_CA),
    Role.MERCHANT: _row("mer", (POLICY_MERCHANT_ONLINE,), _SIGN, Role.MERCHANT_CA),
    Role.GATEWAY_SIGNING: _row("pgwy", (POLICY_GATEWAY,), _SIGN, Role.GATEWAY_CA),
    Role.GATEWAY_ENCRYPTION: _row("pgwy", (POLICY_GATEWAY,), _SEAL, Role.GATEWAY_CA),
    Role.OFFICER: _row("", (POLICY_OFFICER,), _SIGN, Role.OPERATIONS_CA),
    Role.SERVICE: _row("", (POLICY_SERVICE,), _AUTHENTICATE, Role.OPERATIONS_CA),
    Role.OCSP_RESPONDER: _row(
        "",
        (POLICY_OCSP,),
        _AUTHENTICATE,
        Role.BRAND,
        Role.GEOPOLITICAL,
        Role.CARDHOLDER_CA,
        Role.MERCHANT_CA,
        Role.GATEWAY_CA,
        Role.OPERATIONS_CA,
    ),
    Role.TIMESTAMP_AUTHORITY: _row("", (POLICY_TIMESTAMP,), _AUTHENTICATE, Role.OPERATIONS_CA),
}


_Stated = tuple[frozenset[str], frozenset[x509.ObjectIdentifier], bool]


def _by_statements() -> dict[_Stated, list[Role]]:
    found: dict[_Stated, list[Role]] = {}
    for role, row in PROFILES.items():
        found.setdefault((row.certificate_type, row.policies, row.is_ca), []).append(role)
    return found


_BY_STATEMENTS: Final = _by_statements()
"""The roles, in the order of the table, that share certificateType, policies and CA flag."""

ONLY_USAGE: Final = {
    Role.OCSP_RESPONDER: ExtendedKeyUsageOID.OCSP_SIGNING,
    Role.TIMESTAMP_AUTHORITY: ExtendedKeyUsageOID.TIME_STAMPING,
}
"""The one extendedKeyUsage that these roles state, and no other role."""


@lru_cache(maxsize=4096)
def role_of(certificate: x509.Certificate) -> Role:
    """As `read_role`, which it remembers."""
    return read_role(certificate)


def read_role(certificate: x509.Certificate) -> Role:
    """Name the role of a certificate that will hardly come again, such as one that is about to be signed.

    Raises CertificateError: `bad_key_usage` if type, policy and CA flag name a role but keyUsage is missing or another
    one, or extendedKeyUsage is that of another, `wrong_role` if they name none, `bad_extension` if one cannot be read.
    """
    statements = _statements(certificate)
    candidates = _BY_STATEMENTS.get((statements.certificate_type, statements.policies, statements.is_ca))
    if candidates is None:
        raise CertificateError("wrong_role", "certificateType, policies and CA flag name no role", clause=_CLAUSE)
    for role in candidates:
        if PROFILES[role].key_usage == statements.key_usage:
            _check_extended_key_usage(role, statements)
            return role
    raise CertificateError("bad_key_usage", f"keyUsage is not that of {candidates[0]}", clause=_CLAUSE)


@dataclass(frozen=True)
class _Statements:
    certificate_type: frozenset[str]
    policies: frozenset[x509.ObjectIdentifier]
    key_usage: frozenset[str]
    extended_key_usage: frozenset[x509.ObjectIdentifier]
    is_extended_critical: bool
    is_ca: bool


def _check_extended_key_usage(role: Role, said: _Statements) -> None:
    """Status and time are signed by keys that do nothing else, and by no other (RFC 6960 4.2.2.2, RFC 3161 2.3).

    Nobody may be used for anything, and the extension of a time-stamp authority is critical (RFC 3161 2.3).
    """
    stated = said.extended_key_usage
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in stated:
        raise CertificateError("bad_key_usage", "extendedKeyUsage for anything", clause=_CLAUSE)
    if role is Role.TIMESTAMP_AUTHORITY and not said.is_extended_critical:
        raise CertificateError("bad_key_usage", "extendedKeyUsage is not critical", clause="RFC 3161 2.3")
    for only, usage in ONLY_USAGE.items():
        if (role is only) != (usage in stated) or (role is only and len(stated) != 1):
            raise CertificateError("bad_key_usage", f"extendedKeyUsage is not that of {role}", clause=_CLAUSE)


def _statements(certificate: x509.Certificate) -> _Statements:
    certificate_type = CertificateType.from_certificate(certificate)
    policies: frozenset[x509.ObjectIdentifier] = frozenset()
    key_usage: frozenset[str] = frozenset()
    extended_key_usage: frozenset[x509.ObjectIdentifier] = frozenset()
    is_ca = is_extended_critical = False
    for extension in extensions_of(certificate):
        value = extension.value
        if isinstance(value, x509.CertificatePolicies):
            policies = frozenset(policy.policy_identifier for policy in value)
        elif isinstance(value, x509.KeyUsage):
            key_usage = frozenset(usage for usage in _KEY_USAGES if getattr(value, usage))
        elif isinstance(value, x509.ExtendedKeyUsage):
            extended_key_usage, is_extended_critical = frozenset(value), extension.critical
        elif isinstance(value, x509.BasicConstraints):
            is_ca = value.ca
    return _Statements(
        certificate_type=certificate_type.bits if certificate_type else frozenset(),
        policies=policies,
        key_usage=key_usage,
        extended_key_usage=extended_key_usage,
        is_extended_critical=is_extended_critical,
        is_ca=is_ca,
    )
