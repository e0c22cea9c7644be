"""Sessions of one token: one logged in and kept for ever, a bounded pool of others beside it.

Login in PKCS#11 belongs to the process and the token, not to a session (PKCS#11 v2.40 2.6.7): a second login is
refused, and closing a session that logged in logs every other one out. So exactly one session is opened with the PIN
and stays open as long as the token does; it is read-write and serves key generation, one caller at a time. All others
are opened without a PIN, inherit the login, and are read-only: they sign and open, and can change nothing on the token.

A session carries one operation at a time, so each is lent to one thread. It remembers the object handles that it found:
looking a key up costs several times a P-256 signature. A session on which something went wrong is thrown away, because
PKCS#11 v2.40 has no way to end an operation half-way. Whoever finds no session free within the deadline is told so
(TokenBusy), instead of waiting without end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType
from pkcs11.exceptions import PKCS11Error

from hsm_service.errors import HsmError, KeyNotFound, TokenBusy, TokenClosed, TokenLost, TokenUnavailable
from hsm_service.keys import KeyRef
from hsm_service.openssl_errors import none_left
from hsm_service.return_codes import Kind, kind_of


class Session:
    """A PKCS#11 session with the handles that were found on it. Used by one thread at a time."""

    __slots__ = ("_decoy", "_handles", "raw")

    def __init__(self, raw: pkcs11.Session) -> None:
        self.raw = raw
        self._handles: dict[bytes, Any] = {}
        self._decoy: Any = None

    def key(self, ref: KeyRef) -> Any:
        """The private or secret key object of `ref`; raises KeyNotFound.

        Untyped, because python-pkcs11 composes the object's class from the usages that it finds.
        """
        handle = self._handles.get(ref.cka_id)
        if handle is None:
            found = list(self.raw.get_objects({Attribute.CLASS: ref.object_class, Attribute.ID: ref.cka_id}))
            if len(found) != 1:
                raise KeyNotFound(f"token {ref.token!r} holds {len(found)} keys with id {ref.cka_id.hex()}; expected 1")
            handle = self._handles[ref.cka_id] = found[0]
        return handle

    def decoy(self, template: dict[Attribute, Any]) -> Any:
        """A random AES-256 key of `template` that lives as long as this session; for work whose result is not used."""
        if self._decoy is None:
            self._decoy = self.raw.generate_key(KeyType.AES, 256, template=template)
        return self._decoy

    def forget(self, cka_id: bytes) -> None:
        """Drop a cached handle."""
        self._handles.pop(cka_id, None)


class SessionPool:
    """At most `limit` sessions without PIN, opened when first needed."""

    def __init__(self, token: pkcs11.Token, limit: int) -> None:
        self._token = token
        self._limit = limit
        self._idle: list[Session] = []
        self._open = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def session(self, timeout: float) -> Iterator[Session]:
        """Lend a session for one operation; wait at most `timeout` seconds.

        A session on which a PKCS#11 error was raised is not lent again. Raises TokenBusy, TokenClosed, TokenLost and
        TokenUnavailable.
        """
        session = self._acquire(timeout)
        try:
            with none_left():
                yield session
        except PKCS11Error:
            self._discard(session)
            raise
        except BaseException:
            self._give_back(session)
            raise
        self._give_back(session)

    def forget(self, cka_id: bytes) -> None:
        """Drop the cached handles of a key that was destroyed; sessions on loan find out by themselves."""
        with self._changed:
            for session in self._idle:
                session.forget(cka_id)

    def close(self, timeout: float) -> bool:
        """Lend nothing more, wait at most `timeout` seconds for what is lent, close; whether all came back."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._open > len(self._idle):
                if not self._changed.wait(deadline - time.monotonic()):
                    return False
            while self._idle:
                self._shut(self._idle.pop())
        return True

    def _acquire(self, timeout: float) -> Session:
        with self._changed:
            ready = self._changed.wait_for(lambda: self._closed or self._idle or self._open < self._limit, timeout)
            if self._closed:
                raise TokenClosed(f"token {self._token.label!r} is closed")
            if not ready:
                raise TokenBusy(
                    f"all {self._limit} sessions of token {self._token.label!r} stayed busy for {timeout} s"
                )
            if self._idle:
                return self._idle.pop()
            self._open += 1
        try:
            return Session(self._token.open())
        except PKCS11Error as error:
            with self._changed:
                self._open -= 1
                self._changed.notify()
            raise _no_session(self._token.label, error) from None

    def _give_back(self, session: Session) -> None:
        with self._changed:
            self._idle.append(session)
            self._changed.notify()

    def _discard(self, session: Session) -> None:
        with self._changed:
            self._shut(session)
            self._changed.notify()

    def _shut(self, session: Session) -> None:
        self._open -= 1
        with contextlib.suppress(PKCS11Error):
            session.raw.close()


def _no_session(label: str, error: PKCS11Error) -> HsmError:
    text = f"token {label!r} opens no session: {type(error).__name__}"
    match kind_of(error):
        case Kind.TRANSIENT:
            return TokenBusy(text)
        case Kind.LOST | Kind.SESSION:
            return TokenLost(text)
        case _:
            return TokenUnavailable(text)
