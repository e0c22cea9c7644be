"""PKCS#10 at the door: one request, in one encoding, with proof of possession of a fit key."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.csr import LIMIT, parse_csr, requested_key
from pki.errors import CsrError
from pki.keys import spki_sha256
from pki.names import name
from tests.support.der_surgery import indefinite, long_length, parse, with_unused_bit
from tests.support.judges import certtool, openssl
from tests.support.pki_factory import p256, rsa_key

KEY = p256()
BUILDER = x509.CertificateSigningRequestBuilder().subject_name(name(cn="M-1", o="Bookshop"))
REQUEST = BUILDER.sign(KEY, hashes.SHA256())
DER = REQUEST.public_bytes(Encoding.DER)
PEM = REQUEST.public_bytes(Encoding.PEM)


def refused(data: bytes) -> str:
    with pytest.raises(CsrError) as error:
        parse_csr(data)
    return error.value.reason


@pytest.mark.parametrize("data", [DER, PEM, b"For M-1:\n" + PEM + b"\n", PEM.replace(b"\n", b"\r\n")], ids=range(4))
def test_der_and_pem_are_read(data: bytes) -> None:
    request = parse_csr(data)
    assert request.public_bytes(Encoding.DER) == DER
    assert spki_sha256(request.public_key()) == spki_sha256(KEY.public_key())


def test_the_key_of_a_request_is_read_once_and_named_by_its_digest() -> None:
    requested = requested_key(DER)
    assert requested.public_key == KEY.public_key()
    assert requested.spki_sha256 == spki_sha256(KEY.public_key())
    assert requested_key(bytes(bytearray(DER))) is requested


def test_a_request_without_proof_of_possession_is_refused_however_often_it_comes() -> None:
    other = BUILDER.sign(p256(), hashes.SHA256()).public_bytes(Encoding.DER)
    swapped = DER[: -len(REQUEST.signature)] + other[-len(REQUEST.signature) :]
    for _ in range(2):
        with pytest.raises(CsrError):
            requested_key(swapped)


@pytest.mark.parametrize("key", [rsa_key(), ec.generate_private_key(ec.SECP384R1())], ids=["rsa", "p384"])
def test_every_fit_key_may_ask(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    request = BUILDER.sign(key, hashes.SHA384())
    assert parse_csr(request.public_bytes(Encoding.DER)) == request


def test_a_request_of_openssl_is_read(tmp_path: Path) -> None:
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/C=IR/O=Bookshop/CN=M-1", "-addext", "subjectAltName=URI:urn:kwbp:merchant:M-1",
            "-keyout", tmp_path / "key.pem", "-out", tmp_path / "csr.pem")  # fmt: skip
    request = parse_csr((tmp_path / "csr.pem").read_bytes())
    assert request.subject == name(cn="M-1", o="Bookshop")
    assert len(request.extensions) == 1


def test_a_request_of_certtool_is_read(tmp_path: Path) -> None:
    (tmp_path / "template").write_text('cn = "M-1"\norganization = "Bookshop"\nsigning_key\n')
    certtool("--generate-privkey", "--key-type=ecdsa", "--curve=secp256r1", "--outfile", tmp_path / "key.pem")
    certtool("--generate-request", "--load-privkey", tmp_path / "key.pem", "--template", tmp_path / "template",
             "--outfile", tmp_path / "csr.pem", "--hash=SHA256")  # fmt: skip
    assert parse_csr((tmp_path / "csr.pem").read_bytes()).is_signature_valid


@pytest.mark.parametrize(
    ("twin", "data"),
    [
        ("empty", b""),
        ("text", b"please"),
        ("truncated", DER[:-1]),
        ("trailing byte", DER + b"\x00"),
        ("indefinite length", indefinite(DER)),
        ("long length", long_length(DER)),
        ("two PEM blocks", PEM + PEM),
        ("two PEM blocks of different kinds", PEM + b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"),
        ("another PEM label", PEM.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE")),
        ("labels that differ", PEM.replace(b"BEGIN CERTIFICATE", b"BEGIN NEW CERTIFICATE")),
        ("PEM without its padding", b"-----BEGIN CERTIFICATE REQUEST-----\nMAA\n-----END CERTIFICATE REQUEST-----\n"),
        ("PEM of something else", b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"),
    ],
)
def test_malformed_requests_are_refused(twin: str, data: bytes) -> None:
    assert refused(data) == "malformed"


def test_a_large_request_is_refused_unread() -> None:
    padded = PEM + b"\n" * (LIMIT - len(PEM))
    assert parse_csr(padded) == REQUEST
    assert refused(padded + b"\n") == "too_big"


def test_a_repeated_extension_is_refused() -> None:
    twice = BUILDER.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
    tree = parse(twice.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER))
    extensions = tree.at(0, 3, 0, 1, 0)
    extensions.children.append(extensions.children[0])
    assert refused(tree.encode()) == "malformed"


def test_a_request_signed_by_another_key_is_refused() -> None:
    tree = parse(DER)
    other = parse(BUILDER.sign(p256(), hashes.SHA256()).public_bytes(Encoding.DER))
    tree.children[2] = other.children[2]
    assert refused(tree.encode()) == "bad_signature"


def test_a_changed_subject_is_refused() -> None:
    assert refused(DER.replace(b"Bookshop", b"Bankshop")) == "bad_signature"


def test_a_request_signed_with_sha1_is_refused(tmp_path: Path) -> None:
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", tmp_path / "key.pem")
    sha1 = openssl("req", "-new", "-key", tmp_path / "key.pem", "-subj", "/CN=M-1", "-sha1", "-outform", "DER")
    assert refused(sha1) == "weak_algorithm"


def test_a_request_for_a_small_rsa_key_is_refused() -> None:
    small = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    assert refused(BUILDER.sign(small, hashes.SHA256()).public_bytes(Encoding.DER)) == "weak_key"


def test_a_request_for_another_kind_of_key_is_refused() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())):
        algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        assert refused(BUILDER.sign(key, algorithm).public_bytes(Encoding.DER)) == "weak_algorithm"


def test_a_request_for_an_unheard_of_key_is_refused() -> None:
    tree = parse(DER)
    tree.at(0, 2, 0, 0).content = bytes.fromhex("2a8648ce3d0263")
    assert refused(tree.encode()) == "weak_algorithm"


def test_a_key_that_is_no_point_of_its_curve_is_refused() -> None:
    tree = parse(DER)
    point = tree.at(0, 2, 1)
    point.content = point.content[:-1] + bytes((point.content[-1] ^ 1,))
    assert refused(tree.encode()) == "malformed"


def test_a_signature_that_is_not_whole_octets_is_refused() -> None:
    """The same request, respelt: the last bit of its signature is zero and is said to be unused."""
    assert (
        refused(with_unused_bit(lambda: BUILDER.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER))) == "malformed"
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize("filler", [b" ", b"\n", b"A", b"A "], ids=["blanks", "lines", "letters", "both"])
def test_a_block_without_end_is_refused_without_a_search_of_all_ways_to_cut_it(filler: bytes) -> None:
    endless = (b"-----BEGIN CERTIFICATE REQUEST-----" + filler * LIMIT)[:LIMIT]
    for _ in range(100):
        assert refused(endless) == "malformed"
