"""Keys that people and services keep in files: made here, their PKCS#10 requests too.

An officer's or buyer's key file is an encrypted PKCS#8 (PEM); the key of a service's own TLS is plain
PEM in a file of mode 0600, since the service must start without a person.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cli import output
from cli.typed import hidden
from runtime.secrets import Secret, SecretFileError, read_secret, write_secret

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class AlgorithmChoice(StrEnum):
    """Kinds of key on the command line."""

    RSA = "rsa-3072"
    EC = "ec-p256"


def generate(algorithm: AlgorithmChoice) -> PrivateKey:
    """A new software key."""
    if algorithm is AlgorithmChoice.RSA:
        return rsa.generate_private_key(65537, 3072)
    return ec.generate_private_key(ec.SECP256R1())


def save(path: Path, key: PrivateKey, passphrase: Secret | None) -> None:
    """Write the key as PKCS#8 PEM, mode 0600, encrypted if there is a passphrase; never over an existing file."""
    protection: KeySerializationEncryption = (
        NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.reveal())
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))


def load(path: Path, passphrase: Secret | None) -> PrivateKey:
    """Read a key file; ends the command if it cannot be opened."""
    try:
        key = load_pem_private_key(read_secret(path).reveal(), passphrase.reveal() if passphrase else None)
    except SecretFileError as error:
        output.fail(str(error))
    except (ValueError, TypeError):
        output.fail(f"{path} cannot be opened", hint="is it the right passphrase for this key?")
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        output.fail(f"{path} holds neither an RSA nor an EC key")
    return key


def request(
    key: PrivateKey, subject: x509.Name, *, uris: Sequence[str] = (), hosts: Sequence[str] = ()
) -> x509.CertificateSigningRequest:
    """A PKCS#10 request, signed by the key itself (proof of possession)."""
    alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    for host in hosts:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            alternatives.append(x509.DNSName(host))
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256())


def passphrase_from(file: Path | None, prompt: str, *, confirm: bool = False) -> Secret:
    """A passphrase from a file of mode 0600, else typed in."""
    if file is not None:
        try:
            return read_secret(file)
        except SecretFileError as error:
            output.fail(str(error))
    typed = hidden(f"{prompt}: ")
    if confirm and hidden("Once more: ") != typed:
        output.fail("the two entries differ")
    if not typed:
        output.fail("an empty passphrase protects nothing")
    return Secret(typed.encode())
