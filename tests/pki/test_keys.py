"""Which public keys are fit to be certified or believed."""

from __future__ import annotations

import math
import random

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pki.errors import CertificateError
from pki.keys import screen_public_key, spki_der, spki_sha256
from tests.support.judges import openssl
from tests.support.pki_factory import p256, rsa_key

SMALL = [n for n in range(3, 2000) if all(n % d for d in range(2, math.isqrt(n) + 1))]
RANDOM = random.Random(15361)


def modulus(n: int, e: int = 65_537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(e, n).public_key()


def odd_without_small_factors(bits: int) -> int:
    while True:
        n = RANDOM.getrandbits(bits) | 1 << (bits - 1) | 1 << (bits - 2) | 1
        if all(n % p for p in SMALL):
            return n


def near_primes() -> rsa.RSAPublicKey:
    """Two factors so near that Fermat's method meets them at once. (It asks for no primality.)"""
    p = odd_without_small_factors(1536)
    q = p + 2
    while any(q % small == 0 for small in SMALL):
        q += 2
    return modulus(p * q)


def infineon_fingerprint() -> rsa.RSAPublicKey:
    """A modulus that is a power of 65537 modulo every small prime, like those of the broken generator."""
    primorial = math.prod(p for p in SMALL if p <= 167)
    while True:
        n = RANDOM.getrandbits(3072 - primorial.bit_length()) * 2 * primorial + pow(65_537, 4711, 2 * primorial)
        if n.bit_length() == 3072 and n % 2 and all(n % p for p in SMALL):
            return modulus(n)


@pytest.mark.parametrize(
    "key",
    [
        rsa_key().public_key(),
        p256().public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        modulus(rsa_key().public_key().public_numbers().n, 2**63 + 1),
    ],
    ids=["rsa-3072", "p256", "p384", "large exponent"],
)
def test_sound_keys_pass(key: PublicKeyTypes) -> None:
    screen_public_key(key)
    screen_public_key(key)  # and again, from memory


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("2048 bits", modulus(odd_without_small_factors(2048)), "bits"),
        ("3071 bits", modulus(odd_without_small_factors(3071)), "bits"),
        ("8193 bits", modulus(odd_without_small_factors(8193)), "bits"),
        ("exponent 3", modulus(rsa_key().public_key().public_numbers().n, 3), "exponent"),
        ("exponent 65535", modulus(rsa_key().public_key().public_numbers().n, 65_535), "exponent"),
        ("exponent of 65 bits", modulus(rsa_key().public_key().public_numbers().n, 2**64 + 1), "exponent"),
        ("factor 1999", modulus(odd_without_small_factors(3072) * 1999), "small factor"),
        ("near primes", near_primes(), "near"),
        ("ROCA", infineon_fingerprint(), "CVE-2017-15361"),
    ],
)
def test_weak_rsa_keys_are_refused(name: str, key: rsa.RSAPublicKey, said: str) -> None:
    with pytest.raises(CertificateError, match=said) as refused:
        screen_public_key(key)
    assert refused.value.reason == "weak_key"


def test_an_even_exponent_is_refused_whoever_loads_it() -> None:
    """The library loads none, so the numbers are handed over as a key would."""

    class Loaded:
        def public_numbers(self) -> rsa.RSAPublicNumbers:
            return rsa.RSAPublicNumbers(65_538, rsa_key().public_key().public_numbers().n)

    rsa.RSAPublicKey.register(Loaded)
    with pytest.raises(CertificateError, match="exponent"):
        screen_public_key(Loaded())  # type: ignore[arg-type]  # registered as an RSAPublicKey on the line above


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ],
    ids=["p521", "secp256k1", "ed25519"],
)
def test_other_kinds_of_keys_are_refused(key: PublicKeyTypes) -> None:
    with pytest.raises(CertificateError) as refused:
        screen_public_key(key)
    assert refused.value.reason == "weak_algorithm"


def test_a_key_is_named_by_its_spki() -> None:
    key = p256().public_key()
    der = openssl("pkey", "-pubin", "-outform", "DER", stdin=pem(key))
    assert spki_der(key) == der
    assert spki_sha256(key) == bytes.fromhex(openssl("dgst", "-sha256", "-r", stdin=der).split()[0].decode())


def pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
