"""An RSA key that was found sound in this process is not proven sound again when it is loaded again.

OpenSSL proves both primes of each RSA key that is loaded, which takes longer than most tests. A service loads few keys;
tests load the same ones for each of their services. The first load of a key is the real one, and what is refused is
refused each time. Services in processes of their own load theirs as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any


def check_once() -> None:
    """From here on, in this process: before anything is imported that loads keys."""
    from cryptography.hazmat.primitives import serialization

    for name in ("load_der_private_key", "load_pem_private_key"):
        setattr(serialization, name, _remembering(getattr(serialization, name)))


def _remembering(load: Callable[..., Any]) -> Callable[..., Any]:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    sound: set[tuple[bytes, bytes | None]] = set()

    def loaded(
        data: bytes, password: bytes | None, backend: Any = None, *, unsafe_skip_rsa_key_validation: bool = False
    ) -> Any:
        known = (sha256(data).digest(), None if password is None else bytes(password))
        skip = unsafe_skip_rsa_key_validation or known in sound
        key = load(data, password, backend, unsafe_skip_rsa_key_validation=skip)
        if isinstance(key, RSAPrivateKey) and not unsafe_skip_rsa_key_validation:
            sound.add(known)
        return key

    return loaded
