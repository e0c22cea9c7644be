"""An installation whose tokens hold keys of every template, certified by the hierarchy of `pki_factory`.

    world = found(folder)                    # some seconds: RSA keys are made in SoftHSM2
    mine = world.copy(other_folder)          # at once: the same keys, to be changed freely
    with mine.vault() as vault: …

Its clock stands at `pki_factory.NOW`, so that certificates, CRLs and messages are valid.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import shake_128
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from audit import read
from hsm_service.app import create_app
from hsm_service.operation_docket import Approving
from hsm_service.provision import provision_tokens
from hsm_service.templates import built_in
from hsm_service.typed_cms import ContentValidator
from hsm_service.vault import Vault
from kwbp.codes import ErrorCode
from kwbp.fields import to_time
from kwbp.messages import AuthAckTBS, ErrorTBS
from kwbp.structure import encode
from kwbp.validators import VALIDATORS
from pki import oids
from pki.builder import tbs_certificate, tbs_crl
from pki.names import identity_uri, name
from pki.roles import Role
from runtime.client import TlsFiles, http_client
from runtime.problems import Problem
from runtime.secrets import Secret
from runtime.server import start
from runtime.settings import Home
from tests.support.pki_factory import DAY, NOW, PkiFactory, role_extensions
from tests.support.tls import tls_issuer

JUDGES: Final[Mapping[str, ContentValidator]] = {oid.dotted_string: judge for oid, judge in VALIDATORS.items()}
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Extensions = Mapping[str, tuple[x509.ExtensionType, bool]]

AUTHORITIES: Final = {
    "brand": ("brand-ca", Role.BRAND),
    "geopolitical-ca": ("geopolitical-ca", Role.GEOPOLITICAL),
    "merchant-ca": ("issuing-ca", Role.MERCHANT_CA),
    "merchant-ca-ec": ("issuing-ca-ec", Role.MERCHANT_CA),
    "merchant-ca-p256": ("issuing-ca-p256", Role.MERCHANT_CA),
    "lasting-ca": ("issuing-ca-recoverable", Role.MERCHANT_CA),
    "lasting-ca-ec": ("issuing-ca-ec-recoverable", Role.MERCHANT_CA),
}
"""CA keys of the world: template and role. The lasting ones can be backed up."""
OTHERS: Final = {
    "attestation": "attestation",
    "ra-system": "ra-system",
    "log-hsm": "log-hsm",
    "log-ca": "log-ca",
    "log-ra": "log-ra",
    "log-gateway": "log-gateway",
    "bci": "bci",
    "self-audit": "self-audit",
    "ocsp-responder": "ocsp-responder",
    "timestamp-authority": "timestamp-authority",
    "gateway-signing": "gateway-signing",
    "gateway-encryption": "gateway-encryption",
    "gateway-vault": "gateway-vault",
    "gateway-card-ids": "gateway-card-ids",
    "backup-recipient": "backup-recipient",
}
RESPONDERS: Final = {
    "ocsp-responder": ("merchant_ca", Role.OCSP_RESPONDER, ExtendedKeyUsageOID.OCSP_SIGNING),
    "timestamp-authority": ("operations_ca", Role.TIMESTAMP_AUTHORITY, ExtendedKeyUsageOID.TIME_STAMPING),
}
"""Authority, role and usage of the keys of OTHERS that speak of certificates and of time."""
RAW: Final = ("raw-ec", "raw-rsa-2048", "raw-rsa-3072")
"""Keys that sign digests, called like their templates, for `service:bench`."""
ZONE_KEYS: Final = {
    "zone-pin": 16,
    "zone-pin-des3": 24,
    "zone-pin-aes-128": 16,
    "zone-pin-aes-256": 32,
    "zone-mac": 16,
    "zone-mac-des2": 16,
    "zone-mac-aes-256": 32,
    "zone-master": 16,
    "zone-master-aes-256": 32,
}
"""Keys shared with the switch, called like their templates, and their bytes."""
SHOPS: Final = {
    "shop": ("merchant-signing", "M-1"),
    "shop-ec": ("merchant-signing-ec", "M-1"),
    "other-shop": ("merchant-signing-ec", "M-2"),
    "bare-shop": ("merchant-signing-ec", "M-1"),
}
"""Merchants' keys: template and owner. `bare-shop` has no certificate."""


class PublicOnly:
    """Stands for a key whose private half is in the token."""

    def __init__(self, public: PublicKey) -> None:
        self._public = public

    def public_key(self) -> PublicKey:
        return self._public


def public_key(spki: bytes) -> PublicKey:
    """The public key of a DER SubjectPublicKeyInfo."""
    key = load_der_public_key(spki)
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return key


def der(*certificates: x509.Certificate) -> list[bytes]:
    """The certificates in DER."""
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


@dataclass(frozen=True)
class World:
    """An installation and the hierarchy that certified its keys."""

    home: Home
    pki: PkiFactory

    def vault(self, **changes: Any) -> Vault:
        """The services' vault, at NOW, with the judges of the protocol and the trust of the hierarchy."""
        # Processes that tests kill open a world without its hierarchy: theirs ask for no approval.
        defaults = {"content_types": JUDGES, "clock": lambda: NOW, "approving": Approving(lambda: self.pki.trust())}
        return Vault.open(self.home, **{**defaults, **changes})

    def copy(self, folder: Path) -> World:
        """The same keys in another folder."""
        home = Home(folder / "home")
        shutil.copytree(self.home.path, home.path)
        for configuration in home.tokens.glob("*.conf"):
            text = configuration.read_text("utf-8").replace(str(self.home.tokens), str(home.tokens))
            configuration.write_text(text, "utf-8")
        return World(home, self.pki)

    def journal(self) -> list[dict[str, Any]]:
        """The entries of the audit journal."""

        return [dict(entry.entry) for entry in read(self.home.audit / "hsm.jsonl")]

    def last_entry(self) -> dict[str, Any]:
        """The newest entry of the audit journal."""
        with (self.home.audit / "hsm.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65_536))
            line = file.read().splitlines()[-1]
        entry: dict[str, Any] = json.loads(line)["entry"]
        return entry


@dataclass(frozen=True)
class Served:
    """The signing API of a world, with mutual TLS."""

    url: str
    world: World
    vault: Vault
    tls: Callable[..., TlsFiles]

    def identity(self, caller: str) -> TlsFiles:
        """The TLS files of `kind:name`; of somebody without a name for `anonymous`."""
        if caller == "anonymous":
            return self.tls("anonymous")
        return self.tls(caller.replace(":", "-"), uri=f"urn:kwbp:{caller}")

    def http(self, caller: str) -> httpx.Client:
        """A client that calls as `caller`."""
        return http_client(self.identity(caller), self.url)


@contextlib.contextmanager
def serving(world: World, folder: Path) -> Iterator[Served]:
    """The API of `world`, served until the end; TLS files are made in `folder`."""
    tls = tls_issuer(folder)
    with world.vault() as vault, start(create_app(vault), tls=tls("hsm")) as url:
        yield Served(url, world, vault, tls)


def found(folder: Path) -> World:
    """Tokens, keys of every template, and certificates for them."""
    home = Home(folder / "home")
    provision_tokens(home)
    pki = PkiFactory()
    home.trust_anchors.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    world = World(home, pki)
    with world.vault() as vault:
        ceremony = vault.as_caller("ceremony")
        for key, (template, role) in AUTHORITIES.items():
            spki = ceremony.generate_key(key, template).public_key
            ceremony.attach_certificate(key, der(*authority_chain(pki, key, role, public_key(spki))))
        for key, template in OTHERS.items():
            info = ceremony.generate_key(key, template)
            if built_in()[template].holds:
                ceremony.attach_certificate(key, der(*leaf_chain(pki, key, public_key(info.public_key))))
        for key in RAW:
            ceremony.generate_key(key, key, owner="bench")
        vault.keys.probe_key("ca")
        for key, (template, owner) in SHOPS.items():
            spki = ceremony.generate_key(key, template, owner=owner).public_key
            if key != "bare-shop":
                ceremony.attach_certificate(key, der(*merchant_chain(pki, owner, public_key(spki))))
        for key, size in ZONE_KEYS.items():
            components = tuple(Secret(shake_128(custodian).digest(size)) for custodian in (b"one", b"two"))
            ceremony.import_zone_key(key, key, components)
    return world


def authority_chain(pki: PkiFactory, key: str, role: Role, public: PublicKey) -> tuple[x509.Certificate, ...]:
    """The certificate of a CA key below the factory's root or brand, and what is above it."""
    issuer = pki.root if role is Role.BRAND else pki.brand
    carrier: Any = PublicOnly(public)
    credential = pki.issue(
        issuer,
        name(cn=f"Token {key}", o="KWBP Test"),
        role_extensions(role, path_length=1 if role is Role.BRAND else 0),
        key=carrier,
        not_after=NOW + 1000 * DAY,
    )
    return (credential.certificate, *credential.chain)


def leaf_chain(pki: PkiFactory, key: str, public: PublicKey) -> tuple[x509.Certificate, ...]:
    """The certificate of one of OTHERS and what is above it."""
    carrier: Any = PublicOnly(public)
    if key == "gateway-signing":
        credential = pki.gateway_signing(key=carrier)
    elif key == "gateway-encryption":
        credential = pki.gateway_encryption(key=carrier)
    elif key in RESPONDERS:
        issuer, role, usage = RESPONDERS[key]
        extensions = {**role_extensions(role), "extended_key_usage": (x509.ExtendedKeyUsage([usage]), True)}
        if role is Role.OCSP_RESPONDER:
            extensions["no_check"] = (x509.OCSPNoCheck(), False)
        credential = pki.issue(getattr(pki, issuer), name(cn=key, o="KWBP Test"), extensions, key=carrier)
    else:
        # Attestations are statements of the HSM service (cps.model.Signers.key_attestation), notices of the RA.
        credential = pki.service({"attestation": "hsm", "ra-system": "ra"}.get(key, key), key=carrier)
    return (credential.certificate, *credential.chain)


def merchant_chain(pki: PkiFactory, merchant_id: str, public: PublicKey) -> tuple[x509.Certificate, ...]:
    """A merchant's signing certificate and what is above it."""
    carrier: Any = PublicOnly(public)
    credential = pki.merchant(merchant_id, key=carrier)
    return (credential.certificate, *credential.chain)


# -- structures to sign ------------------------------------------------------------------------------------------------


def merchant_extensions(merchant_id: str = "M-3") -> dict[str, tuple[x509.ExtensionType, bool]]:
    """What makes a certificate a merchant's."""
    uri = x509.UniformResourceIdentifier(identity_uri("merchant", merchant_id))
    return {
        **role_extensions(Role.MERCHANT),
        "subject_alternative_name": (x509.SubjectAlternativeName([uri]), False),
    }


def certificate_tbs(
    issuer: x509.Certificate,
    issuer_key: PublicKey,
    *,
    public: PublicKey,
    extensions: Extensions | None = None,
    subject: x509.Name | None = None,
    issuer_name: x509.Name | None = None,
    authority_key: bytes | None = None,
    not_before: datetime = NOW - timedelta(minutes=1),
    not_after: datetime = NOW + 30 * DAY,
    serial: int | None = None,
) -> bytes:
    """TBSCertificate (DER), by default of a merchant below `issuer`; each argument is one thing to have otherwise."""
    key_identifier = authority_key if authority_key is not None else _key_identifier(issuer)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject or name(cn="M-3", o="Bookshop"))
        .issuer_name(issuer_name or issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number() | 1 << 100 if serial is None else serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if key_identifier:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(key_identifier, None, None), critical=False)
    for value, critical in (merchant_extensions() if extensions is None else extensions).values():
        builder = builder.add_extension(value, critical=critical)
    return tbs_certificate(builder, issuer_key)


def crl_tbs(
    issuer: x509.Certificate,
    issuer_key: PublicKey,
    *,
    number: int | None = 1,
    issuer_name: x509.Name | None = None,
    authority_key: bytes | None = None,
    this_update: datetime = NOW,
    next_update: datetime = NOW + DAY,
    revoked: Sequence[tuple[int, datetime]] = (),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """TBSCertList (DER) of `issuer`; each argument is one thing to have otherwise."""
    key_identifier = authority_key if authority_key is not None else _key_identifier(issuer)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer_name or issuer.subject)
        .last_update(this_update)
        .next_update(next_update)
    )
    if key_identifier:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(key_identifier, None, None), critical=False)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    for serial, date in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(date).build()
        builder = builder.add_revoked_certificate(entry)
    return tbs_crl(builder, issuer_key)


def _key_identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def acknowledgement(merchant_id: str = "M-1") -> bytes:
    """AuthAckTBS (DER): the smallest content that names its merchant."""
    return encode(
        AuthAckTBS(
            version=2,
            rrpid=b"\x01" * 20,
            xid=b"\x02" * 20,
            merchant_id=merchant_id,
            h_auth_res=b"\x03" * 32,
            accepted=True,
            date=to_time(NOW),
        )
    )


def error() -> bytes:
    """ErrorTBS (DER)."""
    return encode(
        ErrorTBS(
            version=2,
            error_code=ErrorCode.SIGNATURE_FAILURE,
            rrpid=b"\x01" * 20,
            xid=None,
            h_message=b"\x03" * 32,
            date=to_time(NOW),
            time_hint=None,
            clause="K6",
        )
    )


ACK: Final = oids.CT_AUTH_ACK.dotted_string
ERROR: Final = oids.CT_ERROR.dotted_string
INVOICE: Final = oids.CT_INVOICE.dotted_string

# -- calling ----------------------------------------------------------------------------------------------------------

CEREMONY: Final = "ceremony"
CA: Final = "service:ca"
OPERATOR: Final = "service:operator"
SHOP: Final = "merchant:M-1"
GATEWAY: Final = "service:gateway"
SUBJECT: Final = ec.generate_private_key(ec.SECP256R1()).public_key()
"""Somebody's key, to be certified."""


def refusal(call: Callable[[], object], status: int, slug: str) -> Problem:
    """The problem that `call` is refused with, which has this status and type."""
    with pytest.raises(Problem) as caught:
        call()
    assert (caught.value.status, caught.value.type) == (status, slug)
    return caught.value


def tbs(vault: Vault, key: str = "merchant-ca", **changes: Any) -> bytes:
    """TBSCertificate below the vault's key; see `certificate_tbs`."""
    pair = vault.key(key).pair()
    return certificate_tbs(pair.certificate, pair.public_key, **{"public": SUBJECT, **changes})


def crl(vault: Vault, number: int, key: str = "merchant-ca", **changes: Any) -> bytes:
    """TBSCertList of the vault's key; see `crl_tbs`."""
    pair = vault.key(key).pair()
    return crl_tbs(pair.certificate, pair.public_key, number=number, **changes)
