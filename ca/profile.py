"""Certificate profiles: what each kind of certificate looks like, as data (`profiles/*.yaml`, CPS 7.1).

A profile says everything about a certificate that does not depend on its holder. Who may hold one is the CPS's business
(`cps`), what a holder is called comes with the application; how a certificate is put together from both stands in
`ca.prepare`, and what must hold of the result in `ca.lints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Final, Literal

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ca import ceilings
from ca.errors import ProfileError
from pki import oids
from pki.names import parse_identity
from pki.roles import Role, role_of

KeyUsageName = Literal[
    "digital_signature", "content_commitment", "key_encipherment", "key_cert_sign", "crl_sign"
]  # the names of cryptography's x509.KeyUsage; nothing else is ever certified
UsageName = Literal["server_auth", "client_auth", "ocsp_signing", "time_stamping"]
PolicyName = Literal["any", "cardholder", "merchant-online", "gateway", "officer", "service", "ocsp", "time-stamp"]
ExtensionName = Literal[
    "merchant_data",
    "account_binding",
    "gateway_data",
    "officer_data",
    "sealing_suites",
    "identity_checked",
    "hashed_root_key",
]
AttributeName = Literal["common_name", "organization_name", "organizational_unit_name", "country_name"]
Curve = Literal["P-256", "P-384"]

EXTENDED_KEY_USAGES: Final[Mapping[UsageName, x509.ObjectIdentifier]] = {
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "time_stamping": ExtendedKeyUsageOID.TIME_STAMPING,
}
POLICIES: Final[Mapping[PolicyName, x509.ObjectIdentifier]] = {
    "any": x509.ObjectIdentifier("2.5.29.32.0"),  # RFC 5280 4.2.1.4 anyPolicy
    "cardholder": oids.POLICY_CARDHOLDER,
    "merchant-online": oids.POLICY_MERCHANT_ONLINE,
    "gateway": oids.POLICY_GATEWAY,
    "officer": oids.POLICY_OFFICER,
    "service": oids.POLICY_SERVICE,
    "ocsp": oids.POLICY_OCSP,
    "time-stamp": oids.POLICY_TIMESTAMP,
}
ATTRIBUTES: Final[Mapping[AttributeName, x509.ObjectIdentifier]] = {
    "country_name": NameOID.COUNTRY_NAME,
    "organization_name": NameOID.ORGANIZATION_NAME,
    "organizational_unit_name": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "common_name": NameOID.COMMON_NAME,
}
_CURVES: Final[Mapping[str, Curve]] = {"secp256r1": "P-256", "secp384r1": "P-384"}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Validity(_Model):
    """How long a certificate lives (CPS 6.3.2), and how far its start is set back for clocks that run slow."""

    max: timedelta = Field(gt=timedelta(0))
    backdate: timedelta = Field(ge=timedelta(0), le=timedelta(hours=1))


class KeyRule(_Model):
    """Which public keys are certified (CPS 6.1.5): the least RSA modulus in bits (none: no RSA), and curves."""

    rsa: int | None = Field(default=None, ge=3072)
    curves: frozenset[Curve] = frozenset()

    def refusal(self, key: object) -> str | None:
        """Why this key does not fit, or None."""
        if isinstance(key, rsa.RSAPublicKey):
            if self.rsa is None:
                return "RSA keys are not certified by this profile"
            return None if key.key_size >= self.rsa else f"RSA of {key.key_size} bits; at least {self.rsa} are needed"
        if isinstance(key, ec.EllipticCurvePublicKey):
            named = _CURVES.get(key.curve.name)
            return None if named in self.curves else f"curve {named or key.curve.name} is not certified by this profile"
        return f"keys of type {type(key).__name__} are not certified"


class CrlRule(_Model):
    """How an authority's CRLs are made (CPS 4.9.7): how long one serves, and when at the latest the next is signed."""

    lifetime: timedelta = Field(gt=timedelta(0))
    renew_before: timedelta = Field(gt=timedelta(0), description="sign the next one this long before nextUpdate")
    backdate: timedelta = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="thisUpdate is set back for relying parties whose clock runs slow",
    )
    full_up_to: int = Field(
        default=5_000_000,
        ge=0,
        description="entries up to which a revocation brings a full list, above it a delta: only where nobody judges"
        " holders by the published folder's full lists alone, as is done for callers over TLS and officers",
    )
    partitions: Literal[1, 2, 4, 8, 16] = Field(
        default=1,
        description="further lists of a part of the serials each; certificates name theirs, so it never changes",
    )

    @model_validator(mode="after")
    def _renewed_in_time(self) -> CrlRule:
        if self.renew_before >= self.lifetime:
            raise ValueError("a CRL is renewed after it was made")
        return self


class Authority(_Model):
    """What makes a certificate an authority's: basicConstraints (RFC 5280 4.2.1.9) and its CRLs."""

    path_length: int = Field(ge=0, le=3)
    crl: CrlRule


class SubjectRule(_Model):
    """Which attributes the distinguished name has (CPS 3.1.1), and what must not hide in them (CPS 3.1.3)."""

    required: tuple[AttributeName, ...] = Field(min_length=1)
    optional: tuple[AttributeName, ...] = ()
    forbid: frozenset[Literal["email", "pan"]] = frozenset()

    @model_validator(mode="after")
    def _disjoint(self) -> SubjectRule:
        if set(self.required) & set(self.optional):
            raise ValueError("an attribute is either required or optional")
        return self


class IdentityRule(_Model):
    """subjectAltName (RFC 5280 4.2.1.6): one identity URI, and by profile the shop's origin or TLS host names."""

    kinds: frozenset[Literal["service", "merchant", "officer", "gateway"]] = Field(min_length=1)
    origin: bool = Field(default=False, description="may carry https:// origins beside the identity")
    hosts: bool = Field(default=False, description="may carry DNS names and IP addresses")

    def accepts(self, uri: str) -> bool:
        """Whether `uri` is `urn:kwbp:<kind>:<name>` of one of the kinds."""
        parsed = parse_identity(uri)
        return parsed is not None and parsed[0] in self.kinds


class ExtensionRule(_Model):
    """Which of KWBP's own extensions (`pki.extensions`) a certificate carries."""

    required: frozenset[ExtensionName] = frozenset()
    optional: frozenset[ExtensionName] = frozenset()


class Profile(_Model):
    """One kind of certificate."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    section: str = Field(description="CPS section it implements")
    description: str
    role: Role
    issuer: str = Field(description="name of the authority that issues it, or `self`")
    validity: Validity
    key: KeyRule
    ca: Authority | None = None
    key_usage: frozenset[KeyUsageName] = Field(min_length=1)
    extended_key_usage: tuple[UsageName, ...] = ()
    critical_usage: bool = Field(default=False, description="extendedKeyUsage is critical (RFC 3161 2.3)")
    ocsp_no_check: bool = Field(default=False, description="nobody asks for its status (RFC 6960 4.2.2.2.1)")
    policies: tuple[PolicyName, ...] = ()
    set_certificate_type: frozenset[str] = frozenset()
    subject: SubjectRule
    identity: IdentityRule | None = None
    extensions: ExtensionRule = ExtensionRule()

    @model_validator(mode="after")
    def _coherent(self) -> Profile:
        # Relying parties read the role back from these statements (KWBP global rule 4): they must say the same.
        row = self.role.profile
        if (self.key_usage, self.set_certificate_type) != (row.key_usage, row.certificate_type):
            raise ValueError(f"key_usage and set_certificate_type are not those of the role {self.role}")
        if frozenset(POLICIES[name] for name in self.policies) != row.policies:
            raise ValueError(f"policies are not those of the role {self.role}")
        if (self.ca is not None) != row.is_ca:
            raise ValueError(f"ca: is given for authorities, and {self.role} is{'' if row.is_ca else ' not'} one")
        if self.issuer not in ({"self"} if self.role is Role.ROOT else row.issuers):
            raise ValueError(f"the role {self.role} is issued by {' or '.join(sorted(row.issuers))}")
        limits = ceilings.passed(
            self.role,
            validity=self.validity.max,
            rsa=self.key.rsa,
            path_length=self.ca.path_length if self.ca else None,
            crl_lifetime=self.ca.crl.lifetime if self.ca else None,
        )
        if found := "; ".join(limits):
            raise ValueError(found)
        return self

    def key_usage_extension(self) -> x509.KeyUsage:
        """The keyUsage extension with exactly the bits of this profile."""
        return x509.KeyUsage(
            digital_signature="digital_signature" in self.key_usage,
            content_commitment="content_commitment" in self.key_usage,
            key_encipherment="key_encipherment" in self.key_usage,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign="key_cert_sign" in self.key_usage,
            crl_sign="crl_sign" in self.key_usage,
            encipher_only=False,
            decipher_only=False,
        )


def load_profile(text: str) -> Profile:
    """A profile from YAML; raises ProfileError naming the field that is not as expected."""
    try:
        return Profile.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise ProfileError(f"the profile is not as expected: {error}", clause="CPS 7.1") from None


@cache
def profiles() -> Mapping[str, Profile]:
    """The profiles that come with the product, by name."""
    found: dict[str, Profile] = {}
    for entry in sorted(files("ca").joinpath("profiles").iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            profile = load_profile(entry.read_text(encoding="utf-8"))
            if entry.name != f"{profile.name}.yaml":
                raise ProfileError(f"{entry.name} holds the profile {profile.name!r}", clause="CPS 7.1")
            found[profile.name] = profile
    return found


def crl_partitions(authority: x509.Certificate) -> int:
    """Into how many partitions the serials of an authority are divided, by its profile; 1: there are none."""
    role = role_of(authority)
    rules = (profile.ca.crl for profile in profiles().values() if profile.ca is not None and profile.role is role)
    return next(rules).partitions
