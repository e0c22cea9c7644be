"""TLS identities for tests: one small root, certificates for servers and callers below it.

tls = tls_issuer(folder)
tls("hsm")                                              # TlsFiles of a server on localhost
tls("gateway", uri="urn:kwbp:service:gateway")          # of a caller
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.client import TlsFiles

_LIFE = timedelta(days=2)


def tls_issuer(folder: Path) -> Callable[..., TlsFiles]:
    """`make(name, uri=None)` gives the files of an identity, made at the first call for a name."""
    now = datetime.now(UTC)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = _name("TLS test root")

    def build(
        subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list[tuple[x509.ExtensionType, bool]]
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + _LIFE)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(root_key, hashes.SHA256())

    root = build(root_name, root_key, [(x509.BasicConstraints(ca=True, path_length=None), True)])
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))

    def make(name: str, uri: str | None = None) -> TlsFiles:
        files = TlsFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / "root.pem")
        if not files.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            names: list[x509.GeneralName] = [
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
            if uri is not None:
                names.append(x509.UniformResourceIdentifier(uri))
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            certificate = build(
                _name(name),
                key,
                [(x509.SubjectAlternativeName(names), False), (x509.ExtendedKeyUsage(usages), False)],
            )
            files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        return files

    return make


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
