"""Signing of a bare digest: only for keys that a ceremony made for it.

Everything else here is signed because this service understood it. Who holds such a key's credential can have anything
signed, so it exists for what has no other way (a foreign system, a measurement), says so in every listing (`raw`), and
carries no certificate of this hierarchy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from hsm_service.judging import SigningKey, refuse
from hsm_service.purposes import Purpose
from hsm_service.service import RawAlgorithm
from runtime.problems import Problem

DIGEST: Final = 32
"""Bytes of a SHA-256 digest, the only hash of these keys."""


@dataclass(frozen=True, slots=True)
class RawOrder:
    """A digest that the key may sign with the algorithm."""

    digest: bytes
    algorithm: RawAlgorithm


def check_raw(digest: bytes, algorithm: RawAlgorithm, key: SigningKey) -> RawOrder:
    """An order to sign the SHA-256 `digest` by `algorithm`.

    Refused: a key that was not made for it (409), an algorithm of another kind of key (422), another length (422).
    """
    if key.template.purpose is not Purpose.RAW:
        raise Problem(409, "key-misused", f"key {key.name} signs structures, never a digest", clause="CPS 6.2.1")
    if algorithm.startswith("rsa-") != isinstance(key.public_key, rsa.RSAPublicKey):
        raise refuse("algorithm-mismatch", f"{algorithm} is not of a key of template {key.template.name}", "RFC 8017 8")
    if len(digest) != DIGEST:
        raise refuse("digest-length", f"a SHA-256 digest has {DIGEST} bytes, not {len(digest)}", "FIPS 180-4 1")
    return RawOrder(digest, algorithm)
