"""A token that is logged in: its sessions, the running of work on them, and the counting of what was done.

What that work is stands in `key_store` (keys) and `tokens` (operations).
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final, Self, TypeVar

import pkcs11
from pkcs11.exceptions import PKCS11Error

from hsm_service.errors import (
    BadInput,
    HsmError,
    KeyMisused,
    MechanismMissing,
    PinRefused,
    TokenBusy,
    TokenClosed,
    TokenLost,
    TokenUnavailable,
)
from hsm_service.keys import KeyRef, Usage
from hsm_service.openssl_errors import none_left
from hsm_service.operation_counts import OPERATIONS
from hsm_service.pkcs11_module import Pkcs11Module
from hsm_service.return_codes import Kind, kind_of
from hsm_service.sessions import Session, SessionPool
from runtime.secrets import Secret

_T = TypeVar("_T")


class LoggedInToken:
    """One logged-in token. Safe for threads; use `open`, and `close` (or `with`) when done."""

    def __init__(
        self, module: Pkcs11Module, label: str, token: pkcs11.Token, *, sessions: int, acquire_timeout: float
    ) -> None:
        self.label: Final = label
        self._module = module
        self._token = token
        self._pool = SessionPool(token, sessions)
        self._acquire_timeout = acquire_timeout
        self._login: Session | None = None
        self._login_lock = threading.RLock()
        self._sound: set[tuple[KeyRef, Usage]] = set()
        self._uses: Counter[bytes] = Counter()
        self._uses_lock = threading.Lock()

    @classmethod
    def open(
        cls, module: Pkcs11Module, label: str, pin: Secret, *, sessions: int = 8, acquire_timeout: float = 2.0
    ) -> Self:
        """Log in to the token `label`; a label can be open once in a process.

        `sessions` bounds the pool, `acquire_timeout` is the longest wait for a session in seconds. Raises
        TokenNotFound, PinRefused (after one try), ModuleBusy (already open), TokenUnavailable.
        """
        text = _text(pin)
        token = cls(module, label, module.token(label), sessions=sessions, acquire_timeout=acquire_timeout)
        module.hold(token)
        try:
            with none_left():
                token._login = Session(token._token.open(rw=True, user_pin=text))
        except PKCS11Error as error:
            module.release(token)
            if kind_of(error) is Kind.PIN:
                raise PinRefused(f"token {label!r} refused the PIN: {type(error).__name__}") from None
            raise TokenUnavailable(f"token {label!r} does not open: {type(error).__name__}") from None
        return token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Token {self.label}>"

    def close(self, timeout: float = 5.0) -> None:
        """Drain the sessions for at most `timeout` seconds, log out, close. A second close does nothing.

        If an operation is still running afterwards, the token stays logged in and TokenUnavailable is raised.
        """
        with self._login_lock:
            if self._login is None:
                return
            self._module.check_usable()
            if not self._pool.close(timeout):
                raise TokenUnavailable(f"token {self.label!r} is still busy after {timeout} s")
            with contextlib.suppress(PKCS11Error):  # a token that is gone needs no log-out
                self._login.raw.close()
            self._login = None
            self._module.release(self)

    def uses(self, ref: KeyRef) -> int:
        """How often the token was called with this key since the token was opened."""
        with self._uses_lock:
            return self._uses[ref.cka_id]

    def random(self, length: int) -> bytes:
        """`length` bytes from the token's random number generator."""
        return self._run(lambda session: bytes(session.raw.generate_random(length * 8)))

    def _count(self, operation: str, ref: KeyRef, times: int = 1) -> None:
        OPERATIONS.add(operation, times)
        with self._uses_lock:
            self._uses[ref.cka_id] += times

    def _run(self, work: Callable[[Session], _T], ref: KeyRef | None = None) -> _T:
        """Do `work` on a pool session; a lost session or a stale handle is worth one more try on another session."""
        self._module.check_usable()
        try:
            with self._pool.session(self._acquire_timeout) as session:
                return work(session)
        except PKCS11Error as error:
            if kind_of(error) not in {Kind.SESSION, Kind.HANDLE}:
                raise translate(self.label, ref, error) from None
        if ref is not None:
            self._pool.forget(ref.cka_id)
        try:
            with self._pool.session(self._acquire_timeout) as session:
                return work(session)
        except PKCS11Error as error:
            if kind_of(error) is Kind.SESSION:  # the new session is gone too: it is not the sessions that are ill
                raise TokenLost(f"token {self.label!r} loses its sessions: {type(error).__name__}") from None
            raise translate(self.label, ref, error) from None

    def _administer(self, work: Callable[[Session], _T]) -> _T:
        """Do `work` on the logged-in read-write session, one caller at a time."""
        self._module.check_usable()
        with self._login_lock:
            if self._login is None:
                raise TokenClosed(f"token {self.label!r} is closed")
            try:
                return work(self._login)
            except PKCS11Error as error:
                if kind_of(error) is Kind.SESSION:  # the login lived in this session
                    raise TokenLost(f"token {self.label!r} lost its login: {type(error).__name__}") from None
                raise translate(self.label, None, error) from None


def _text(pin: Secret) -> str:
    """The PIN as python-pkcs11 takes it; the exception of a failed decoding would hold it, so none gets out."""
    value = pin.reveal()
    if not value.isascii():
        raise PinRefused("a PIN is ASCII text; this one was not tried")
    return value.decode("ascii")


def translate(label: str, ref: KeyRef | None, error: PKCS11Error) -> HsmError:
    """Our error for a PKCS#11 error; its class name is told, its text (a token's own words) is not."""
    name = type(error).__name__
    what = f"key {ref.label!r} of token {label!r}" if ref else f"token {label!r}"
    match kind_of(error):
        case Kind.CALLER:
            return BadInput(f"{what} cannot take this input: {name}")
        case Kind.KEY:
            return KeyMisused(f"{what} cannot be used like this: {name}")
        case Kind.MECHANISM:
            return MechanismMissing(f"{what} lacks the mechanism: {name}")
        case Kind.TRANSIENT:
            return TokenBusy(f"{what} has no room for it now: {name}")
        case Kind.LOST:
            return TokenLost(f"{what} is lost: {name}")
        case _:
            return TokenUnavailable(f"{what} failed: {name}")
