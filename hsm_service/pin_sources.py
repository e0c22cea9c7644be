"""Where the PIN of a token comes from. A source is called each time a token is logged in to, and gives a `Secret`.

    file:/abs/path     a file of mode 0600, read afresh each time: a changed PIN needs no restart
    credential:NAME    a systemd credential, $CREDENTIALS_DIRECTORY/NAME (systemd.exec "LoadCredential=")
    fd:N               a file descriptor inherited at the start; a pipe is read once, its PIN kept in memory
    prompt:            asked on the terminal, without echo; for ceremonies
    shares:            asked in shares, of different custodians in turn, without echo (`pin_shares`); for ceremonies

This is the notation of `pin-source` in a `pkcs11:` URI (RFC 7512 2.4), of which only `file:` is everybody's. A command
(`|…`) is refused: it would run with the rights of the process that holds the tokens. Every source raises
SecretFileError if it has no PIN to give; nothing was then tried on the token.
"""

from __future__ import annotations

import getpass
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from hsm_service.pin_shares import PinShare, ShareError, ShareSet, check_next, join, read_share
from runtime.secrets import Secret, SecretFileError, read_secret

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
_LONGEST_PIN: Final = 255
_SHARE_ATTEMPTS: Final = 3
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_HOSTS: Final = ("//localhost/", "///")


def _tell(text: str) -> None:
    """One line for those at the terminal."""
    sys.stderr.write(f"{text}\n")


class PinSource(Protocol):
    """Gives the PIN of one token; str() says where it comes from, for people."""

    def __call__(self) -> Secret: ...


@dataclass(frozen=True)
class PinFile:
    """A file that only its owner may touch."""

    path: Path

    def __call__(self) -> Secret:
        return _checked(read_secret(self.path), self)

    def __str__(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True)
class PinCredential:
    """A credential that systemd put into a folder which only the service can read."""

    name: str
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False, compare=False)

    def __call__(self) -> Secret:
        folder = self.environment.get(CREDENTIALS_VARIABLE)
        if not folder or not Path(folder).is_absolute():
            raise SecretFileError(
                f"{self} needs systemd: {CREDENTIALS_VARIABLE} is not set; see LoadCredential= in systemd.exec"
            )
        path = Path(folder) / self.name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise SecretFileError(f"cannot read the credential {path}: {error.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            # Not `read_secret`'s rule: systemd lets the service's user in by an ACL, whose mask shows as group bits.
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IRWXO:
                raise SecretFileError(f"the credential {path} can be read by every user")
            return _pin(file.read(_LONGEST_PIN + 2), self)

    def __str__(self) -> str:
        return f"credential:{self.name}"


@dataclass
class PinDescriptor:
    """A descriptor that whoever started us left open.

    A file is read from its beginning at each call. A pipe can be read once: its PIN is then kept, so that the token can
    be logged in to again after it was lost; and the descriptor is closed.
    """

    number: int
    _kept: Secret | None = field(default=None, repr=False, compare=False)

    def __call__(self) -> Secret:
        if self._kept is not None:
            return self._kept
        try:
            if stat.S_ISREG(os.fstat(self.number).st_mode):
                return _pin(os.pread(self.number, _LONGEST_PIN + 2, 0), self)
            with os.fdopen(self.number, "rb") as pipe:
                self._kept = _pin(pipe.read(_LONGEST_PIN + 2), self)
        except OSError as error:
            raise SecretFileError(f"cannot read {self}: {error.strerror}") from None
        return self._kept

    def __str__(self) -> str:
        return f"fd:{self.number}"


@dataclass(frozen=True)
class PinPrompt:
    """A person at a terminal."""

    label: str
    ask: Callable[[str], str] = field(default=getpass.getpass, repr=False, compare=False)
    at_terminal: Callable[[], bool] = field(default=sys.stdin.isatty, repr=False, compare=False)

    def __call__(self) -> Secret:
        if not self.at_terminal():
            # getpass would fall back to a terminal that echoes.
            raise SecretFileError(f"the PIN of token {self.label!r} is asked on a terminal, and there is none")
        return _pin(self.ask(f"PIN of token {self.label}: ").encode(), self)

    def __str__(self) -> str:
        return "prompt:"


@dataclass(frozen=True)
class PinShares:
    """Custodians at a terminal, each with a share of words; `of` is the set, where its record is there.

    A share that cannot be right is asked for again, three times; the PIN is given only once it is known to be right.
    """

    label: str
    of: ShareSet | None = field(default=None, compare=False)
    ask: Callable[[str], str] = field(default=getpass.getpass, repr=False, compare=False)
    at_terminal: Callable[[], bool] = field(default=sys.stdin.isatty, repr=False, compare=False)
    tell: Callable[[str], None] = field(default=_tell, repr=False, compare=False)

    def __call__(self) -> Secret:
        if not self.at_terminal():
            raise SecretFileError(f"the shares of token {self.label!r} are asked on a terminal, and there is none")
        shares: list[PinShare] = []
        needed = self.of.needed if self.of is not None else None
        while needed is None or len(shares) < needed:
            share = self._next(shares, "?" if needed is None else str(needed))
            shares.append(share)
            needed = share.needed
        try:
            return join(self.label, shares, self.of)
        except ShareError as error:
            raise SecretFileError(f"{self}: {error}; nothing was tried on the token") from None

    def _next(self, before: list[PinShare], needed: str) -> PinShare:
        fault = ""
        for _attempt in range(_SHARE_ATTEMPTS):
            try:
                share = read_share(self.ask(f"Share {len(before) + 1} of {needed} of the PIN of token {self.label}: "))
                check_next(before, share, self.of)
            except ShareError as error:
                fault = str(error)
                self.tell(f"{fault}.")
                continue
            holder = f" of {self.of.custodians[share.number - 1]}" if self.of is not None else ""
            self.tell(f"Share {share.number}{holder} is taken.")
            return share
        raise SecretFileError(f"{self}: {fault}; nothing was tried on the token")

    def __str__(self) -> str:
        return "shares:"


def pin_source(value: str, label: str) -> PinSource:
    """The source that the `pin-source` of a URI names, for the token `label`; raises ValueError."""
    scheme, colon, rest = value.partition(":")
    if value.startswith("|"):
        raise ValueError("pin-source names a command; a command is not run")
    match scheme if colon else "":
        case "file":
            for host in _HOSTS:
                if rest.startswith(host):
                    rest = "/" + rest.removeprefix(host)
                    break
            # '%' has been decoded once, as RFC 7512 says; half of the world decodes the file URI a second time.
            if not rest.startswith("/") or rest.startswith("//") or "%" in rest:
                raise ValueError("pin-source is not file: with an absolute path (without '%')")
            return PinFile(Path(rest))
        case "credential":
            if not _CREDENTIAL_NAME.fullmatch(rest) or rest in {".", ".."}:
                raise ValueError("pin-source is not credential: with the name of a systemd credential")
            return PinCredential(rest)
        case "fd":
            if not rest.isascii() or not rest.isdecimal() or not 3 <= int(rest) < 1 << 16:
                raise ValueError("pin-source is not fd: with a descriptor from 3 upwards")
            return PinDescriptor(int(rest))
        case "prompt":
            if rest:
                raise ValueError("nothing stands after prompt: in pin-source")
            return PinPrompt(label)
        case "shares":
            if rest:
                raise ValueError("nothing stands after shares: in pin-source")
            return PinShares(label)
        case _:
            raise ValueError("pin-source is none of file:, credential:, fd:, prompt:, shares:")


def _pin(content: bytes, source: object) -> Secret:
    return _checked(Secret(content.removesuffix(b"\n")), source)


def _checked(pin: Secret, source: object) -> Secret:
    """Refuse what cannot be a PIN before it costs one of the token's tries."""
    if not 0 < len(pin.reveal()) <= _LONGEST_PIN:
        raise SecretFileError(f"{source} holds no PIN of 1 to {_LONGEST_PIN} bytes")
    return pin
