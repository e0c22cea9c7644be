"""Put a certificate together from its profile and its holder: the TBSCertificate, not yet signed (CPS 7.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from ca.errors import RandomnessError, RequestError
from ca.profile import EXTENDED_KEY_USAGES, POLICIES, PolicyName, Profile, crl_partitions
from ca.publication import Publication
from cps.entitlement import Holder, PublicKey
from pki.algorithms import certificate_signature_identifier
from pki.builder import tbs_certificate
from pki.extensions import CertificateType
from pki.keys import spki_der
from pki.roles import role_of
from runtime.language import Message

Rng = Callable[[int], bytes]

ROOT: Final = "root"
_SERIAL_BYTES: Final = 16
_DRAWS: Final = 8
_AUTHORITIES: Final = 256  # and profiles: of so many is remembered what all their certificates have in common


@dataclass(frozen=True)
class Issuer:
    """An authority that signs: its name here (also its file name in the repository) and its certificate.

    What its certificate says is read once.
    """

    name: str
    certificate: x509.Certificate

    @cached_property
    def public_key(self) -> PublicKey:
        """Its key."""
        return certified_key(self.certificate)

    @cached_property
    def spki(self) -> bytes:
        """Its key as DER SubjectPublicKeyInfo."""
        return spki_der(self.public_key)

    @cached_property
    def signature_identifier(self) -> bytes:
        """How its key signs, as DER AlgorithmIdentifier."""
        return certificate_signature_identifier(self.public_key)

    @cached_property
    def key_identifier(self) -> bytes:
        """Its subjectKeyIdentifier (RFC 5280 4.2.1.2)."""
        return self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest

    @cached_property
    def subject(self) -> x509.Name:
        """Its name, as its certificate has it."""
        return self.certificate.subject

    @cached_property
    def is_root(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.certificate.issuer == self.subject

    @cached_property
    def crl_partitions(self) -> int:
        """Into how many partitions its serial numbers are divided; 1: there are none."""
        return crl_partitions(self.certificate)


def certified_key(certificate: x509.Certificate) -> PublicKey:
    """The public key of a certificate, which is RSA or on a named curve; raises RequestError for others."""
    return supported_key(certificate.public_key())


def supported_key(key: object) -> PublicKey:
    """`key` itself if it is RSA or on a named curve; raises RequestError for others."""
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise RequestError(
            Message("keys of type {kind} are not certified", kind=type(key).__name__), clause="CPS 6.1.5"
        )
    return key


def new_serial(rng: Rng) -> int:
    """A positive serial number of 128 random bits, at most 17 octets in DER (RFC 5280 4.1.2.2, CPS 7.1).

    A draw below 2^64 is thrown away, so that the number is never shorter than what a linter counts as random; raises
    RandomnessError if that happens again and again, which chance does once in 2^512.
    """
    for _ in range(_DRAWS):
        serial = int.from_bytes(rng(_SERIAL_BYTES), "big")
        if serial >= 1 << 64:
            return serial
    raise RandomnessError("the random number generator draws nothing but small numbers", clause="CPS 7.1")


def validity(
    profile: Profile, issuer: Issuer | None, now: datetime, limit: datetime | None
) -> tuple[datetime, datetime]:
    """notBefore and notAfter (aware UTC, whole seconds): within the profile, the issuer's own life, and `limit`."""
    now = now.replace(microsecond=0)
    not_before, not_after = now - profile.validity.backdate, now + profile.validity.max - profile.validity.backdate
    if issuer is not None:
        not_before = max(not_before, issuer.certificate.not_valid_before_utc)
        not_after = min(not_after, issuer.certificate.not_valid_after_utc)
    if limit is not None:
        not_after = min(not_after, limit.replace(microsecond=0))
    if not_after <= now:
        raise RequestError(
            Message("it would end on {time}, before it begins to serve", time=f"{not_after:%Y-%m-%dT%H:%M:%SZ}"),
            clause="CPS 6.3.2",
        )
    return not_before, not_after


def prepare(
    profile: Profile, holder: Holder, *, issuer: Issuer | None, serial: int, now: datetime, publication: Publication
) -> bytes:
    """The TBSCertificate (DER) of `holder` under `profile`; `issuer` is None for a self-signed root.

    Raises RequestError where the holder's data do not fit the profile. What the result must look like is checked again,
    independently of how it was made, by `ca.lints`.
    """
    _check_holder(profile, holder, issuer)
    not_before, not_after = validity(profile, issuer, now, holder.not_after)
    issuer_key = issuer.public_key if issuer else holder.public_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(holder.subject)
        .issuer_name(issuer.subject if issuer else holder.subject)
        .public_key(holder.public_key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.AuthorityKeyIdentifier(key_identifier(issuer, issuer_key), None, None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(holder.public_key), critical=False)
        .add_extension(
            x509.BasicConstraints(profile.ca is not None, profile.ca.path_length if profile.ca else None), critical=True
        )
        .add_extension(profile.key_usage_extension(), critical=True)
    )
    if profile.extended_key_usage:
        usages = [EXTENDED_KEY_USAGES[name] for name in profile.extended_key_usage]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=profile.critical_usage)
    if profile.ocsp_no_check:
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    if profile.policies:
        builder = builder.add_extension(_policies(profile.policies, publication.cps_uri), critical=False)
    if holder.alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(holder.alternative_names), critical=False)
    if issuer is not None:
        address = publication.distribution_point(issuer.name, serial, issuer.crl_partitions)
        builder = builder.add_extension(
            x509.CRLDistributionPoints([_distribution_point(address)]), critical=False
        ).add_extension(authority_information_access(profile, issuer, publication), critical=False)
    if profile.set_certificate_type:
        certificate_type = CertificateType(profile.set_certificate_type)
        builder = builder.add_extension(certificate_type.to_extension(), critical=False)
    for extension in holder.extensions:
        builder = builder.add_extension(extension.to_extension(), critical=False)
    return tbs_certificate(builder, issuer_key)


@lru_cache(maxsize=_AUTHORITIES)
def _policies(names: tuple[PolicyName, ...], cps_uri: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(POLICIES[name], [cps_uri]) for name in names])


@lru_cache(maxsize=_AUTHORITIES)
def _distribution_point(url: str) -> x509.DistributionPoint:
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)


def authority_information_access(
    profile: Profile, issuer: Issuer, publication: Publication
) -> x509.AuthorityInformationAccess:
    """Where the issuer's certificate is, and who answers for the status (RFC 5280 4.2.2.1).

    No responder answers for what a root certified, whose key is never in service, nor for responders themselves.
    """
    answered = not issuer.is_root and not profile.ocsp_no_check
    return _access(publication.certificate_url(issuer.name), publication.ocsp_url if answered else None)


@lru_cache(maxsize=_AUTHORITIES)
def _access(ca_url: str, ocsp_url: str | None) -> x509.AuthorityInformationAccess:
    ca = x509.UniformResourceIdentifier(ca_url)
    access = [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, ca)]
    if ocsp_url is not None:
        ocsp = x509.UniformResourceIdentifier(ocsp_url)
        access.insert(0, x509.AccessDescription(AuthorityInformationAccessOID.OCSP, ocsp))
    return x509.AuthorityInformationAccess(access)


def key_identifier(issuer: Issuer | None, issuer_key: PublicKey) -> bytes:
    """The issuer's subjectKeyIdentifier as its certificate has it (RFC 5280 4.2.1.1)."""
    if issuer is None:
        return x509.SubjectKeyIdentifier.from_public_key(issuer_key).digest
    return issuer.key_identifier


def _may_issue(issuer: Issuer, profile: Profile) -> bool:
    """Leaves have one issuer, which the profile names; where authorities stand is decided at the ceremony."""
    if profile.ca is None:
        return issuer.name == profile.issuer
    return role_of(issuer.certificate) in profile.role.profile.issuers


def _check_holder(profile: Profile, holder: Holder, issuer: Issuer | None) -> None:
    if (issuer is None) != (profile.issuer == "self"):
        raise RequestError(f"{profile.name} is issued by {profile.issuer}", clause="CPS 7.1")
    if issuer is not None and not _may_issue(issuer, profile):
        raise RequestError(f"{profile.name} is issued by {profile.issuer}, not by {issuer.name}", clause="CPS 7.1")
    refusal = profile.key.refusal(holder.public_key)
    if refusal is not None:
        raise RequestError(refusal, clause="CPS 6.1.5")
    rule = profile.identity
    if (holder.identity is None) != (rule is None) or (rule and holder.identity and not rule.accepts(holder.identity)):
        raise RequestError(
            Message(
                "the identity {identity} is not one of the profile {profile}",
                identity=repr(holder.identity),
                profile=profile.name,
            ),
            clause="CPS 3.1.1",
        )
    if holder.hosts and not (rule and rule.hosts):
        raise RequestError(Message("host names belong into TLS certificates only"), clause="CPS 3.1.1")
    if holder.origins and not (rule and rule.origin):
        raise RequestError(Message("an origin belongs into a merchant's certificate only"), clause="CPS 3.1.1")
