"""The wallet file: one JSON document, sealed under a passphrase.

    line 1   header, canonical JSON: format, version, Argon2id parameters, salt, nonce (hex)
    rest     AES-256-GCM ciphertext of the document, the header line its additional data

Argon2id (RFC 9106) makes each guess of the passphrase cost memory and time. The header is authenticated, so nobody can
lower the cost for the next writer; its parameters are bounded before they are used, so a hostile file cannot exhaust
the machine. A write goes to a new file that replaces the old one: a crash leaves one of the two, whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from runtime.secrets import Secret
from storefront.errors import WalletBusy, WalletError, WalletLocked
from storefront.files import write_whole

_FORMAT: Final = "kwbp-wallet"
_VERSION: Final = 1
_MEMORY_KIB: Final = 64 * 1024  # RFC 9106 4, second recommended option: 64 MiB, 3 passes
_PASSES: Final = 3
_LANES: Final = 4
_LIMITS: Final = {"memory_kib": (8 * 1024, 1024 * 1024), "passes": (1, 16), "lanes": (1, 16)}
_HEADER_LIMIT: Final = 1024  # bytes

Random = Callable[[int], bytes]


def create(path: Path, passphrase: Secret, document: dict[str, Any], *, rng: Random = os.urandom) -> None:
    """Make a new wallet file; refuses to replace one that is there."""
    if path.exists():
        raise WalletError(f"{path} is already a wallet")
    _write(path, passphrase, document, rng)


def read(path: Path, passphrase: Secret) -> dict[str, Any]:
    """The document in the wallet file.

    Raises WalletError if there is no wallet, WalletLocked if the passphrase is wrong or the file was changed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WalletError(f"there is no wallet at {path}") from None
    header_line, separator, ciphertext = content.partition(b"\n")
    try:
        if not separator or len(header_line) > _HEADER_LIMIT:
            raise ValueError("no header")
        header = json.loads(header_line)
        if header["format"] != _FORMAT or header["version"] != _VERSION:
            raise ValueError("another format")
        key = _derive(passphrase, header)
        nonce = bytes.fromhex(header["nonce"])
        clear = AESGCM(key).decrypt(nonce, ciphertext, header_line)
        document = json.loads(clear)
    except (InvalidTag, ValueError, KeyError, TypeError):
        # One answer for every cause: the file tells a thief nothing about the passphrase.
        raise WalletLocked("the passphrase is wrong, or the wallet file was changed") from None
    assert isinstance(document, dict)
    return document


@contextmanager
def editing(path: Path, passphrase: Secret, *, rng: Random = os.urandom) -> Iterator[dict[str, Any]]:
    """Open the wallet, let the caller change the document, and write it back if the block ends without an error."""
    lock = path.with_name(path.name + ".lock")
    if not path.exists():
        raise WalletError(f"there is no wallet at {path}")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WalletBusy(f"another process has {path} open") from None
        document = read(path, passphrase)
        yield document
        _write(path, passphrase, document, rng)
    finally:
        os.close(descriptor)


def _derive(passphrase: Secret, header: dict[str, Any]) -> bytes:
    parameters = {name: int(header[name]) for name in _LIMITS}
    for name, (low, high) in _LIMITS.items():
        if not low <= parameters[name] <= high:
            raise ValueError(name)
    salt = bytes.fromhex(header["salt"])
    if len(salt) != 16:
        raise ValueError("salt")
    kdf = Argon2id(
        salt=salt,
        length=32,
        iterations=parameters["passes"],
        lanes=parameters["lanes"],
        memory_cost=parameters["memory_kib"],
    )
    return kdf.derive(passphrase.reveal())


def _write(path: Path, passphrase: Secret, document: dict[str, Any], rng: Random) -> None:
    nonce = rng(12)
    header: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "kdf": "argon2id",
        "memory_kib": _MEMORY_KIB,
        "passes": _PASSES,
        "lanes": _LANES,
        "salt": rng(16).hex(),
        "nonce": nonce.hex(),
    }
    header_line = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    clear = json.dumps(document, ensure_ascii=False, sort_keys=True).encode()
    # A fresh salt makes a fresh key for each write, so the random nonce can never meet the same key twice.
    ciphertext = AESGCM(_derive(passphrase, header)).encrypt(nonce, clear, header_line)
    write_whole(path, header_line + b"\n" + ciphertext)
