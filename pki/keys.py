"""Which public keys may be certified or believed (KWBP global rule 2; CPS key rules).

Screening is cheap enough to run on every certificate that is met: sizes, the exponent, small factors, two primes so
near that Fermat finds them, and the Infineon key generator's fingerprint (CVE-2017-15361).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pki.der import sha256
from pki.errors import CertificateError

MIN_RSA_BITS: Final = 3072
MAX_RSA_BITS: Final = 8192
MIN_EXPONENT: Final = 65_537
MAX_EXPONENT_BITS: Final = 64
FERMAT_ROUNDS: Final = 100
_CLAUSE: Final = "KWBP global rule 2"


def _primes(limit: int) -> list[int]:
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for n in range(2, math.isqrt(limit) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return [n for n, prime in enumerate(sieve) if prime]


_SMALL_PRIMES: Final = _primes(2_000)
_PRIMORIAL: Final = math.prod(_SMALL_PRIMES)
# ROCA: modulo each of these primes, a fingerprinted modulus lies in the subgroup that 65537 generates
# (Nemec et al., The Return of Coppersmith's Attack, CCS 2017, section 3.2).
# Primes whose subgroup is everything tell nothing.
_ROCA: Final = [
    (prime, subgroup)
    for prime in _SMALL_PRIMES
    if 2 < prime <= 167 and len(subgroup := frozenset(pow(65_537, i, prime) for i in range(prime - 1))) < prime - 1
]


def screen_public_key(key: PublicKeyTypes) -> None:
    """Accept RSA of 3072 to 8192 bits with a sound modulus and exponent, P-256 and P-384.

    Raises CertificateError `weak_key` for a key that is too small or can be factored cheaply, `weak_algorithm` for any
    other kind of key. (That an EC point is on its curve was checked when the key was loaded.)
    """
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        _screen_rsa(numbers.n, numbers.e)
    elif not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)):
        raise CertificateError("weak_algorithm", "keys are RSA, P-256 or P-384", clause=_CLAUSE)


@lru_cache(maxsize=4096)  # the same keys sign on every payment, and a verdict on numbers never changes
def _screen_rsa(n: int, e: int) -> None:
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise _weak(f"RSA of {n.bit_length()} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    if e < MIN_EXPONENT or e % 2 == 0 or e.bit_length() > MAX_EXPONENT_BITS:
        raise _weak(f"RSA exponent is not odd, at least {MIN_EXPONENT} and at most {MAX_EXPONENT_BITS} bits")
    if math.gcd(n, _PRIMORIAL) != 1:
        raise _weak("RSA modulus has a small factor")
    if all(n % prime in subgroup for prime, subgroup in _ROCA):
        raise _weak("RSA modulus has the fingerprint of CVE-2017-15361")
    if _fermat_finds_factors(n):
        raise _weak("RSA primes are too near to each other")


def _fermat_finds_factors(n: int) -> bool:
    a = math.isqrt(n - 1) + 1  # ceiling of the square root
    for _ in range(FERMAT_ROUNDS):
        rest = a * a - n
        if math.isqrt(rest) ** 2 == rest:
            return True
        a += 1
    return False


def _weak(detail: str) -> CertificateError:
    return CertificateError("weak_key", detail, clause=_CLAUSE)


def spki_der(key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo of `key`, DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki_sha256(key: PublicKeyTypes) -> bytes:
    """SHA-256 of the DER SubjectPublicKeyInfo, 32 bytes: the name of a key across certificates."""
    return sha256(spki_der(key))
