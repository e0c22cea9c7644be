"""What an issuing bank signs: confirmations that OpenSSL verifies, with its own identity or not at all."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cps.card_confirmation import parse_card_confirmation
from pki import oids
from pki.cms_signed import parse_signed_data, verify_signature
from runtime.settings import Home
from switch.confirmation import sign_confirmation
from switch.errors import BankError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ENDS = NOW + timedelta(days=700)
SPKI = bytes(range(1, 33))
COMMITMENT = "A" * 43


class Issuer:
    """An issuing bank's identity in an installation's tls folder, self-signed."""

    def __init__(self, home: Home, bin_: str, *, names: str | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Issuer {bin_}")])
        uri = x509.UniformResourceIdentifier(f"urn:kwbp:service:issuer-{names or bin_}")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=365))
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.files = home.tls_files(f"issuer-{bin_}")
        self.files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.write_key(self.key)

    def write_key(self, key: ec.EllipticCurvePrivateKey) -> None:
        self.files.key.unlink(missing_ok=True)
        self.files.key.touch(mode=0o600)
        self.files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "bank")
    home.create()
    return home


def confirm(home: Home) -> bytes:
    return sign_confirmation(
        home.tls_files("issuer-603770"),
        commitment=COMMITMENT,
        spki_sha256=SPKI,
        bin_="603770",
        expires_at=ENDS,
        issuer="Keshavarzi",
        now=NOW,
    )


def refused() -> pytest.RaisesExc[BankError]:
    return pytest.RaisesExc(BankError, check=lambda error: error.reason == "issuer_identity")


def test_it_says_what_the_registration_authority_asks(home: Home, tmp_path: Path) -> None:
    issuer = Issuer(home, "603770")
    statement = confirm(home)
    signed = parse_signed_data(statement, content_type=oids.CT_CARD_CONFIRMATION)
    verify_signature(signed)
    confirmation = parse_card_confirmation(signed.content)
    assert (confirmation.bin, confirmation.issuer) == ("603770", "Keshavarzi")
    assert (confirmation.commitment, confirmation.spki_sha256) == (COMMITMENT, SPKI)
    assert confirmation.expires_at.as_datetime() == ENDS
    path = tmp_path / "confirmation.p7s"
    path.write_bytes(statement)
    done = subprocess.run(
        [
            *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", path, "-purpose", "any"),
            *("-CAfile", issuer.files.certificate, "-attime", str(int(NOW.timestamp()))),
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == signed.content


def test_without_an_identity(home: Home) -> None:
    with refused():
        confirm(home)


def test_with_another_banks_identity(home: Home) -> None:
    Issuer(home, "603770", names="621986")
    with refused():
        confirm(home)


def test_with_another_key(home: Home) -> None:
    Issuer(home, "603770").write_key(ec.generate_private_key(ec.SECP256R1()))
    with refused():
        confirm(home)
