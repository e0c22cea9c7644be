"""A whole KWBP certificate hierarchy with software keys, for tests.

    pki = PkiFactory()                                    # root → brand → four issuing CAs, P-256, valid around NOW
    shop = pki.merchant("M-1", acquirer_bin="603799")     # Credential: .certificate .key .chain
    pki.revoke(shop)
    trust = pki.trust()                                   # pinned root, CA certificates, a current CRL of each CA

`Credential.sign(content_type, content)` signs CMS as the holder would. Every certificate that the factory makes passes
`pki.path.validate_path`; `issue` takes the parts of a certificate that a hostile twin wants different.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from pki import cms_signed
from pki.cms_enveloped import oaep, parse_auth_enveloped
from pki.crl import CrlSet
from pki.extensions import (
    AccountBinding,
    CertificateType,
    GatewayData,
    MerchantData,
    OfficerData,
    RoleGrant,
    SealingSuites,
)
from pki.names import identity_uri, name
from pki.path import Trust
from pki.roles import ONLY_USAGE, PROFILES, Role

NOW: Final = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)
"""The moment at which the factory's world is valid. OpenSSL takes it as `-attime`."""

DAY: Final = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
IBAN: Final = "IR570560123456789012345678"
CONTENT: Final = bytes.fromhex("3006020102020103")
"""Some DER to sign or seal where nobody reads it."""
CPS_URI: Final = "https://pki.example/cps/1.0.0"


def p256() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


shared_keys: Path | None = None
"""A folder that the processes of a run share (`tests/conftest.py`)."""


@lru_cache(maxsize=16)
def rsa_key(number: int = 0, bits: int = 3072) -> rsa.RSAPrivateKey:
    """The RSA key `number` of this test run: slow to make, therefore made once and shared."""
    if shared_keys is None:
        return rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    path = shared_keys / f"{number}-{bits}"
    if not path.exists():
        made = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
        mine = path.with_name(f"{path.name}.{os.getpid()}")
        mine.write_bytes(made.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        with suppress(FileExistsError):  # another process was quicker
            path.hardlink_to(mine)
        mine.unlink()
    key = load_der_private_key(path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@dataclass(frozen=True)
class Credential:
    """A certificate with its key and the CA certificates above it, root excluded."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...]
    now: datetime = NOW

    @property
    def der(self) -> bytes:
        """DER of the certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    def sign(
        self, content_type: x509.ObjectIdentifier, content: bytes, *, signing_time: datetime | None = None
    ) -> bytes:
        """Sign DER content as CMS SignedData; returns the DER ContentInfo with the chain inside."""
        return cms_signed.sign(
            content_type,
            content,
            key=self.key,
            signer=self.certificate,
            chain=self.chain,
            signing_time=signing_time or self.now,
        )

    def signer(self) -> Callable[[x509.ObjectIdentifier, bytes], bytes]:
        """The callable `sign(content_type, content)` that protocol code takes."""
        return lambda content_type, content: self.sign(content_type, content)

    def write(self, directory: Path, stem: str) -> tuple[Path, Path]:
        """Write `<stem>.pem` (leaf, then chain) and `<stem>.key` (PKCS#8, mode 0600); returns both paths."""
        certificate, key = directory / f"{stem}.pem", directory / f"{stem}.key"
        certificate.write_bytes(pem(self.certificate, *self.chain))
        key.touch(mode=0o600)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key


def unseal(sealed: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """Open an AuthEnvelopedData with a key in memory, as the token does: OAEP, then AES-256-GCM."""
    envelope = parse_auth_enveloped(sealed)
    content_key = key.decrypt(envelope.encrypted_key, oaep(envelope.suite))
    return AESGCM(content_key).decrypt(envelope.nonce, envelope.ciphertext + envelope.tag, None)


def pem(*objects: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """Concatenated PEM of certificates or CRLs."""
    return b"".join(item.public_bytes(Encoding.PEM) for item in objects)


@dataclass
class Authority:
    """A CA of the factory: its credential and what it has revoked."""

    credential: Credential
    role: Role
    revoked: dict[int, datetime] = field(default_factory=dict)
    crl_number: int = 1

    @property
    def certificate(self) -> x509.Certificate:
        return self.credential.certificate

    def crl(
        self,
        now: datetime,
        *,
        next_update: datetime | None = None,
        number: int | None = None,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
        key: Key | None = None,
    ) -> x509.CertificateRevocationList:
        """A full CRL made an hour before `now` and current for a day."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - timedelta(hours=1))
            .next_update(next_update or now + DAY)
            .add_extension(x509.CRLNumber(self.crl_number if number is None else number), critical=False)
            .add_extension(_authority_key_identifier(self.certificate), critical=False)
        )
        for value, critical in extensions:
            builder = builder.add_extension(value, critical=critical)
        for serial, date in self.revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(date).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(key or self.credential.key, hashes.SHA256())


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def key_usage(usages: Iterable[str]) -> x509.KeyUsage:
    """KeyUsage from the attribute names of `x509.KeyUsage`."""
    wanted = frozenset(usages)
    return x509.KeyUsage(**{usage: usage in wanted for usage in _USAGES})


def role_extensions(role: Role, *, path_length: int | None = None) -> dict[str, tuple[x509.ExtensionType, bool]]:
    """The extensions that make a certificate of `role`: name → (value, critical)."""
    profile = PROFILES[role]
    extensions: dict[str, tuple[x509.ExtensionType, bool]] = {
        "basic_constraints": (x509.BasicConstraints(ca=profile.is_ca, path_length=path_length), True),
        "key_usage": (key_usage(profile.key_usage), True),
    }
    if profile.policies:
        policies = [
            x509.PolicyInformation(policy, [CPS_URI])
            for policy in sorted(profile.policies, key=lambda oid: oid.dotted_string)
        ]
        extensions["policies"] = (x509.CertificatePolicies(policies), False)
    if profile.certificate_type:
        extensions["certificate_type"] = (CertificateType(profile.certificate_type).to_extension(), False)
    if role in ONLY_USAGE:
        extensions["extended_key_usage"] = (x509.ExtendedKeyUsage([ONLY_USAGE[role]]), role is Role.TIMESTAMP_AUTHORITY)
    return extensions


class PkiFactory:
    """Root, brand, cardholder, merchant, gateway and operations CA with everything below, valid around `now`."""

    def __init__(self, *, now: datetime = NOW, make_key: Callable[[], Key] = p256, brand: str = "KWBP Test") -> None:
        self.now = now
        self.make_key = make_key
        self.brand_name = brand
        self.root = self._self_signed()
        self.brand = self.authority(Role.BRAND, self.root, path_length=1)
        self.cardholder_ca = self.authority(Role.CARDHOLDER_CA, self.brand, path_length=0)
        self.merchant_ca = self.authority(Role.MERCHANT_CA, self.brand, path_length=0)
        self.gateway_ca = self.authority(Role.GATEWAY_CA, self.brand, path_length=0)
        self.operations_ca = self.authority(Role.OPERATIONS_CA, self.brand, path_length=0)

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """The six CAs, root first."""
        return (
            self.root,
            self.brand,
            self.cardholder_ca,
            self.merchant_ca,
            self.gateway_ca,
            self.operations_ca,
        )

    # Certificates

    def _self_signed(self) -> Authority:
        key = self.make_key()
        subject = name(cn=f"{self.brand_name} Root CA", o=self.brand_name)
        certificate = self.build(
            subject=subject,
            issuer=subject,
            public_key=key.public_key(),
            issuer_key=key,
            extensions=role_extensions(Role.ROOT),
            not_after=self.now + 3650 * DAY,
        )
        return Authority(Credential(certificate, key, (), self.now), Role.ROOT)

    def authority(
        self, role: Role, issuer: Authority, *, path_length: int | None = None, label: str = "", **changes: Any
    ) -> Authority:
        """Make a CA of `role` below `issuer`."""
        subject = name(cn=f"{self.brand_name} {label or role} CA", o=self.brand_name)
        extensions = role_extensions(role, path_length=path_length)
        changes.setdefault("not_after", self.now + 1825 * DAY)
        return Authority(self.issue(issuer, subject, extensions, **changes), role)

    def issue(
        self,
        issuer: Authority,
        subject: x509.Name,
        extensions: Mapping[str, tuple[x509.ExtensionType, bool]],
        *,
        key: Key | None = None,
        **changes: Any,
    ) -> Credential:
        """Issue a certificate with exactly these extensions and key identifiers; `changes` go to `build`."""
        key = key or self.make_key()
        certificate = self.build(
            subject=subject,
            issuer=issuer.certificate.subject,
            public_key=key.public_key(),
            issuer_key=issuer.credential.key,
            issuer_certificate=issuer.certificate,
            extensions=extensions,
            **changes,
        )
        above = () if issuer.role is Role.ROOT else (issuer.certificate, *issuer.credential.chain)
        return Credential(certificate, key, above, self.now)

    def build(
        self,
        *,
        subject: x509.Name,
        issuer: x509.Name,
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        issuer_key: Key,
        extensions: Mapping[str, tuple[x509.ExtensionType, bool]],
        issuer_certificate: x509.Certificate | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        serial: int | None = None,
        algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
    ) -> x509.Certificate:
        """Sign one certificate; valid from a day before `now` for 90 days unless told otherwise."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number() if serial is None else serial)
            .not_valid_before(not_before or self.now - DAY)
            .not_valid_after(not_after or self.now + 90 * DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
        if issuer_certificate is not None:
            builder = builder.add_extension(_authority_key_identifier(issuer_certificate), critical=False)
        for value, critical in extensions.values():
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(issuer_key, algorithm or hashes.SHA256())

    def leaf(
        self,
        role: Role,
        issuer: Authority,
        subject: x509.Name,
        *,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        own: Sequence[x509.ExtensionType] = (),
        replace: Mapping[str, tuple[x509.ExtensionType, bool]] | None = None,
        **changes: Any,
    ) -> Credential:
        """Issue an end-entity certificate of `role`; `replace` overrides or adds extensions by name."""
        extensions = role_extensions(role)
        names = [x509.UniformResourceIdentifier(uri) for uri in uris] + [x509.DNSName(host) for host in dns]
        if names:
            extensions["subject_alternative_name"] = (x509.SubjectAlternativeName(names), False)
        for number, value in enumerate(own):
            extensions[f"own_{number}"] = (value, False)
        extensions.update(replace or {})
        return self.issue(issuer, subject, extensions, **changes)

    def cardholder(self, commitment: str = "commitment-to-a-card", **changes: Any) -> Credential:
        """A cardholder certificate whose common name is `commitment`."""
        changes.setdefault("issuer", self.cardholder_ca)
        subject = name(cn=commitment, o=self.brand_name)
        return self.leaf(Role.CARDHOLDER, subject=subject, **changes)

    def merchant(
        self,
        merchant_id: str = "M-1",
        *,
        acquirer_bin: str = "603799",
        shop: str = "Bookshop",
        online: bool = True,
        iban: str = IBAN,
        **changes: Any,
    ) -> Credential:
        """A merchant signing certificate with merchantData, account binding and `urn:kwbp:merchant:<id>`."""
        changes.setdefault("issuer", self.merchant_ca)
        data = MerchantData(merchant_id=merchant_id, acquirer_bin=acquirer_bin, name=shop, country=364, online=online)
        binding = AccountBinding.of(iban, b"\x01" * 16)
        return self.leaf(
            Role.MERCHANT,
            subject=name(cn=merchant_id, o=shop),
            uris=[identity_uri("merchant", merchant_id)],
            own=[data.to_extension(), binding.to_extension()],
            **changes,
        )

    def gateway_signing(self, gateway_id: str = "GW-1", *, acquirer_bin: str = "603799", **changes: Any) -> Credential:
        """A gateway signing certificate."""
        return self._gateway(Role.GATEWAY_SIGNING, gateway_id, acquirer_bin, (), changes)

    def gateway_encryption(
        self,
        gateway_id: str = "GW-1",
        *,
        acquirer_bin: str = "603799",
        suites: tuple[str, ...] = ("oaep-sha256", "oaep-sha1"),
        key: Key | None = None,
        **changes: Any,
    ) -> Credential:
        """A gateway encryption certificate; its key is RSA (shared in the process) unless given."""
        own = (SealingSuites(suites).to_extension(),) if suites else ()
        changes["key"] = key or rsa_key(0)
        return self._gateway(Role.GATEWAY_ENCRYPTION, gateway_id, acquirer_bin, own, changes)

    def _gateway(
        self,
        role: Role,
        gateway_id: str,
        acquirer_bin: str,
        own: tuple[x509.ExtensionType, ...],
        changes: dict[str, Any],
    ) -> Credential:
        changes.setdefault("issuer", self.gateway_ca)
        data = GatewayData(gateway_id=gateway_id, acquirer_bin=acquirer_bin)
        return self.leaf(
            role,
            subject=name(cn=gateway_id, o="Acquirer"),
            uris=[identity_uri("gateway", gateway_id)],
            own=[data.to_extension(), *own],
            **changes,
        )

    def officer(
        self,
        person_id: str = "officer-1",
        *,
        organisation: str = "RA",
        roles: tuple[str, ...] = ("vetting",),
        grants: tuple[RoleGrant, ...] = (),
        **changes: Any,
    ) -> Credential:
        """An officer certificate with `urn:kwbp:officer:<person id>`."""
        changes.setdefault("issuer", self.operations_ca)
        data = OfficerData(person_id=person_id, organisation=organisation, roles=roles, grants=grants)
        return self.leaf(
            Role.OFFICER,
            subject=name(cn=person_id, o=organisation),
            uris=[identity_uri("officer", person_id)],
            own=[data.to_extension()],
            **changes,
        )

    def service(
        self, service: str = "gateway", *, uris: Sequence[str] = (), dns: Sequence[str] = ("localhost",), **changes: Any
    ) -> Credential:
        """A service certificate, for TLS or CMS, with `urn:kwbp:service:<name>` unless other `uris` are given."""
        changes.setdefault("issuer", self.operations_ca)
        return self.leaf(
            Role.SERVICE,
            subject=name(cn=service, o=self.brand_name),
            uris=uris or [identity_uri("service", service)],
            dns=dns,
            **changes,
        )

    # Status

    def issuer_of(self, certificate: x509.Certificate) -> Authority:
        """The CA of the factory that issued `certificate`."""
        return next(a for a in self.authorities if a.certificate.subject == certificate.issuer)

    def revoke(self, credential: Credential, *, at: datetime | None = None) -> None:
        """Put a certificate on its issuer's next CRL."""
        authority = self.issuer_of(credential.certificate)
        authority.revoked[credential.certificate.serial_number] = at or self.now - timedelta(minutes=1)
        authority.crl_number += 1

    def crls(self, now: datetime | None = None) -> tuple[x509.CertificateRevocationList, ...]:
        """A current CRL of every CA."""
        return tuple(authority.crl(now or self.now) for authority in self.authorities)

    def trust(self, now: datetime | None = None) -> Trust:
        """The pinned root, every CA certificate and every CRL."""
        return Trust(
            anchors=(self.root.certificate,),
            intermediates=tuple(authority.certificate for authority in self.authorities[1:]),
            crls=CrlSet(self.crls(now)),
        )

    def write(self, directory: Path, now: datetime | None = None) -> None:
        """Write `root.pem`, `cas.pem` and `crls.pem` for command-line judges."""
        (directory / "root.pem").write_bytes(pem(self.root.certificate))
        (directory / "cas.pem").write_bytes(pem(*(a.certificate for a in self.authorities[1:])))
        (directory / "crls.pem").write_bytes(pem(*self.crls(now)))
