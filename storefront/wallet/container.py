"""The wallet file: one JSON document, sealed under a passphrase.

    line 1   header, canonical JSON: format, version, Argon2id parameters, salt, nonce (hex), whether tries are counted
    rest     AES-256-GCM ciphertext of the document, the header line its additional data

Argon2id (RFC 9106) makes each guess of the passphrase cost memory and time. The header is authenticated, so nobody can
lower the cost for the next writer; its parameters are bounded before they are used, so a hostile file cannot exhaust
the machine. A write goes to a new file that replaces the old one: a crash leaves one of the two, whole. Wrong
passphrases are counted (`storefront.wallet.lockout`).

An exported wallet has the same form under another format name and a passphrase of its own, and no counted tries.
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
from storefront.files import make_folder, write_whole
from storefront.wallet.lockout import Clock, Tries, utc_now

WALLET: Final = "kwbp-wallet"
EXPORT: Final = "kwbp-wallet-export"
"""Formats, as the header names them: neither is taken for the other."""

_VERSION: Final = 1
_MEMORY_KIB: Final = 64 * 1024  # RFC 9106 4, second recommended option: 64 MiB, 3 passes
_PASSES: Final = 3
_LANES: Final = 4
_LIMITS: Final = {"memory_kib": (8 * 1024, 256 * 1024), "passes": (1, 16), "lanes": (1, 16)}
_HEADER_LIMIT: Final = 1024  # bytes

Random = Callable[[int], bytes]


def create(
    path: Path, passphrase: Secret, document: dict[str, Any], *, rng: Random = os.urandom, clock: Clock = utc_now
) -> None:
    """Make a new wallet file; refuses to replace one that is there."""
    make_folder(path.parent)
    with _alone(path):
        if path.exists():
            raise WalletError("{file} is already a wallet", file=path)
        Tries(path, clock).begin()
        _write(path, passphrase, document, rng)


def read(path: Path, passphrase: Secret, *, clock: Clock = utc_now) -> dict[str, Any]:
    """The document in the wallet file.

    Raises WalletError if there is no wallet, WalletLocked if the passphrase is wrong or the file was changed, LockedOut
    if that was so too often.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WalletError("there is no wallet at {file}", file=path) from None
    with Tries(path, clock).attempt(expected=_counts_tries(content)):
        return unseal(content, passphrase, WALLET)


@contextmanager
def editing(
    path: Path, passphrase: Secret, *, rng: Random = os.urandom, clock: Clock = utc_now
) -> Iterator[dict[str, Any]]:
    """Open the wallet, let the caller change the document, and write it back if the block ends without an error."""
    _require_wallet(path)
    with _alone(path):
        document = read(path, passphrase, clock=clock)
        yield document
        _write(path, passphrase, document, rng)


def change_passphrase(
    path: Path, old: Secret, new: Secret, *, rng: Random = os.urandom, clock: Clock = utc_now
) -> None:
    """Seal the wallet anew: a fresh salt, and so a fresh key. Whenever it stops, one of the two opens the whole wallet.

    No copy under the old one stays behind, as far as names of files go; whether the disk forgets the blocks of a file
    that was replaced is the disk's affair.
    """
    _require_wallet(path)
    with _alone(path):
        _write(path, new, read(path, old, clock=clock), rng)


def seal(passphrase: Secret, document: dict[str, Any], format_: str, *, rng: Random = os.urandom) -> bytes:
    """The content of a file of this format."""
    nonce = rng(12)
    header: dict[str, Any] = {
        "format": format_,
        "version": _VERSION,
        "kdf": "argon2id",
        "memory_kib": _MEMORY_KIB,
        "passes": _PASSES,
        "lanes": _LANES,
        "salt": rng(16).hex(),
        "nonce": nonce.hex(),
    }
    if format_ == WALLET:
        header["tries"] = True
    header_line = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    clear = json.dumps(document, ensure_ascii=False, sort_keys=True).encode()
    # A fresh salt makes a fresh key for each write, so the random nonce can never meet the same key twice.
    return header_line + b"\n" + AESGCM(_derive(passphrase, header)).encrypt(nonce, clear, header_line)


def unseal(content: bytes, passphrase: Secret, format_: str) -> dict[str, Any]:
    """The document in the content of a file of this format.

    :raises WalletLocked: the passphrase is wrong, or the file was changed, or is another.
    """
    header_line, separator, ciphertext = content.partition(b"\n")
    try:
        if not separator or len(header_line) > _HEADER_LIMIT:
            raise ValueError("no header")
        header = json.loads(header_line)
        if header["format"] != format_ or header["version"] != _VERSION:
            raise ValueError("another format")
        key = _derive(passphrase, header)
        nonce = bytes.fromhex(header["nonce"])
        clear = AESGCM(key).decrypt(nonce, ciphertext, header_line)
        document = json.loads(clear)
    except (InvalidTag, ValueError, KeyError, TypeError, OverflowError, RecursionError, MemoryError):
        # One answer for every cause: the file tells a thief nothing about the passphrase.
        raise WalletLocked("the passphrase is wrong, or the wallet file was changed") from None
    assert isinstance(document, dict)
    return document


def _counts_tries(content: bytes) -> bool:
    """Whether a record of tries belongs to this wallet. Wallets of before there were records have none."""
    try:
        return bool(json.loads(content[:_HEADER_LIMIT].partition(b"\n")[0])["tries"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _require_wallet(path: Path) -> None:
    if not path.exists():
        raise WalletError("there is no wallet at {file}", file=path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else makes or changes the wallet meanwhile."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WalletBusy("another process has {file} open", file=path) from None
        yield
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
    write_whole(path, seal(passphrase, document, WALLET, rng=rng))
