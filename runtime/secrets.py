"""Secrets at rest and in memory: token PINs, key passphrases, zone-key components.

A secret lives in a file that only its owner can read, is read into a `Secret`, and leaves it only by `reveal()`, so
that every place which handles clear bytes can be found by searching for that one word.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

_PIN_ALPHABET: Final = "0123456789"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class SecretFileError(Exception):
    """A secret file is missing, readable by others, or already there."""


class Secret:
    """Bytes that no log, trace, pickle or comparison can leak."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The clear bytes. Hold them no longer than the call that needs them."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret as a dictionary key would be compared in variable time

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


def read_secret(path: Path) -> Secret:
    """Read a secret file (content stripped of one trailing newline); refuse one that group or others may touch."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise SecretFileError(f"cannot read the secret file {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & _OTHERS:
            raise SecretFileError(f"{path} has mode {mode:04o}; expected 0600: run chmod 600 on it")
        return Secret(file.read().removesuffix(b"\n"))


def write_secret(path: Path, value: bytes) -> None:
    """Create `path` with mode 0600 and `value`; refuse to overwrite, so that no secret is lost by a second run."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise SecretFileError(f"{path} is already there; a secret is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())


def random_pin(rng: Callable[[int], bytes] = os.urandom, *, digits: int = 16) -> Secret:
    """A uniformly random decimal PIN; `rng(n)` gives n random bytes."""
    out: list[str] = []
    while len(out) < digits:
        # 250 is the largest multiple of ten below 256: bytes above it would favour the low digits.
        out.extend(_PIN_ALPHABET[byte % 10] for byte in rng(digits) if byte < 250)
    return Secret("".join(out[:digits]).encode())
