"""Changing the user PIN of a token whose PIN is in a file, so that no crash in between loses it.

    1. the new PIN is written beside the old one, to `<file>.new`, and synced
    2. C_SetPIN
    3. `<file>.new` is renamed to `<file>`

Before 2 the old file is right, after 2 the new one; both are there, and nothing else ever was the PIN. Whoever finds
`<file>.new` therefore has two candidates and settles which: `settle` tries the old one once and, if the token refuses
it, the new one once; a login that succeeds sets the token's counter of failures back. It does not try at all when the
token says that one more failure would lock it.

A running service needs no restart: it stays logged in, and reads the file afresh when it has to log in again.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Final

from pkcs11 import TokenFlag
from pkcs11.exceptions import PKCS11Error

from hsm_service.errors import BadInput, PinRefused
from hsm_service.logged_in import LoggedInToken
from hsm_service.pin_sources import PinFile
from hsm_service.pkcs11_module import Pkcs11Module
from hsm_service.return_codes import Kind, kind_of
from hsm_service.sessions import Session
from runtime.secrets import Secret, read_secret, write_secret

_NO_MORE_TRIES: Final = TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_LOCKED
_LONGEST_PIN: Final = 255


class Settled(Enum):
    """How a change that was interrupted stood; the value says so to a person."""

    NOTHING = "no change of its PIN was interrupted"
    UNDONE = "the token still had the old PIN; the new one was thrown away"
    COMPLETED = "the token already had the new PIN; its file is now in place"


class _ChangingToken(LoggedInToken):
    """A token that is open for having its PIN changed."""

    def set_pin(self, old: Secret, new: Secret) -> None:
        """C_SetPIN; raises PinRefused if the token takes either of them not."""

        def change(session: Session) -> None:
            try:
                session.raw.set_pin(old.reveal().decode("ascii"), new.reveal().decode("ascii"))
            except PKCS11Error as error:
                if kind_of(error) is not Kind.PIN:
                    raise
                raise PinRefused(f"token {self.label!r} refused the new PIN: {type(error).__name__}") from None

        self._administer(change)


def interrupted(path: Path) -> Path:
    """Where the new PIN waits while the one in `path` is being changed."""
    return path.with_name(path.name + ".new")


def set_pin(module: Pkcs11Module, label: str, old: Secret, new: Secret) -> None:
    """Change the user PIN in the token alone; the PIN's source is somebody else's care.

    Raises BadInput if `new` cannot be a PIN, PinRefused if the token refuses either, and what `Token.open` raises.
    """
    _require_pin(new)
    with _ChangingToken.open(module, label, old, sessions=1) as token:
        token.set_pin(old, new)


def change_pin(module: Pkcs11Module, label: str, source: PinFile, new: Secret) -> None:
    """Change the user PIN to `new`, in the token and in the file.

    Call `settle` first: raises SecretFileError if an interrupted change was not settled. Otherwise raises as `set_pin`;
    after BadInput and PinRefused nothing has changed, after another error both PINs are kept for `settle`.
    """
    _require_pin(new)
    old, fresh = source(), interrupted(source.path)
    with _ChangingToken.open(module, label, old, sessions=1) as token:
        write_secret(fresh, new.reveal())
        _sync(fresh.parent)
        try:
            token.set_pin(old, new)
        except PinRefused:
            fresh.unlink()
            raise
        _put_in_place(fresh, source.path)


def settle(module: Pkcs11Module, label: str, source: PinFile) -> Settled:
    """Find out which PIN the token has after an interrupted change, and keep that one's file alone.

    Raises PinRefused if it has neither, or if a failure could lock it; then both files are kept.
    """
    fresh = interrupted(source.path)
    if not fresh.exists():
        return Settled.NOTHING
    if module.token(label).flags & _NO_MORE_TRIES:
        raise PinRefused(
            f"one more wrong PIN would lock token {label!r}: a person must decide between {fresh} and its old"
        )
    try:
        LoggedInToken.open(module, label, source(), sessions=1).close()
    except PinRefused:
        LoggedInToken.open(module, label, read_secret(fresh), sessions=1).close()
        _put_in_place(fresh, source.path)
        return Settled.COMPLETED
    fresh.unlink()
    _sync(fresh.parent)
    return Settled.UNDONE


def _require_pin(new: Secret) -> None:
    text = new.reveal()
    if not text.isascii() or not 0 < len(text) <= _LONGEST_PIN or any(byte < 0x20 for byte in text):
        raise BadInput(f"a PIN is 1 to {_LONGEST_PIN} printable characters of ASCII")


def _put_in_place(fresh: Path, path: Path) -> None:
    fresh.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make what was written into the folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
