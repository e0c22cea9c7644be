"""How many digests are signed one after the other by one key: what surrounds the token's operation, by mechanism."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives import hashes

from hsm_service import encodings, mechanisms
from hsm_service.errors import BadInput
from hsm_service.keys import KeyKind


@dataclass(frozen=True, slots=True)
class Batch:
    """A signature mechanism: of which keys, what the token is given for a digest, and what becomes of its answer."""

    kind: KeyKind
    prepare: Callable[[bytes], bytes]
    operation: Callable[[Any, bytes], bytes]
    finish: Callable[[bytes], bytes]


def _same(value: bytes) -> bytes:
    return value


def _pkcs1v15(algorithm: hashes.HashAlgorithm) -> Batch:
    return Batch(KeyKind.RSA, partial(encodings.digest_info, algorithm=algorithm), mechanisms.sign_pkcs1v15, _same)


BATCHES: Final[Mapping[str, Batch]] = {
    "pss-sha256": Batch(KeyKind.RSA, _same, mechanisms.sign_pss, _same),
    "pkcs1v15-sha256": _pkcs1v15(hashes.SHA256()),
    "pkcs1v15-sha384": _pkcs1v15(hashes.SHA384()),
    "pkcs1v15-sha512": _pkcs1v15(hashes.SHA512()),
    "ecdsa": Batch(KeyKind.EC, _same, mechanisms.sign_ecdsa, encodings.ecdsa_signature),
}
"""By the names of `token_operations.DigestMechanism`."""


def batch(mechanism: str) -> Batch:
    """The row of a mechanism; raises BadInput if there is none."""
    found = BATCHES.get(mechanism)
    if found is None:
        raise BadInput(f"no mechanism {mechanism!r}; there are {sorted(BATCHES)}")
    return found
