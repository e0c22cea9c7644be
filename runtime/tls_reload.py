"""TLS contexts that follow their files: a renewed certificate is used without a restart, by servers and clients alike.

Before each handshake the files are looked at (one stat each, some microseconds beside a handshake's millisecond). When
one was changed, a context is made afresh from all of them and takes over for new connections; those that exist keep
what they were made with. What does not load (half of a renewal, a key of another certificate) changes nothing but the
log: the handshake goes on with what was good before, and the next one tries again once a file was changed again.

So a renewal may write the files in any order, as long as each is replaced as a whole (write beside it, then rename).
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from runtime.logging import get_logger

Seen = tuple[tuple[int, int, int] | None, ...]
"""Of each file: inode, time of change (ns), size; None if it is not there."""

_log: Final = get_logger("tls")


class FollowingContext(ssl.SSLContext):
    """An SSLContext that makes connections by the newest of its files that load. Safe for threads.

    Until they change it is an ordinary context. What is set on it beside what `load` sets is lost with them, but for
    the protocol versions and ALPN.
    """

    def __new__(cls, protocol: int, files: Sequence[Path], load: Callable[[ssl.SSLContext], None]) -> FollowingContext:
        return super().__new__(cls, protocol)

    def __init__(self, protocol: int, files: Sequence[Path], load: Callable[[ssl.SSLContext], None]) -> None:
        """`load` sets a bare context of `protocol` up from `files`.

        Raises what `load` raises: there must be something to begin with.
        """
        self._kind = protocol
        self._files = tuple(files)
        self._load = load
        self._alpn: list[str] | None = None
        self._lock = threading.Lock()
        self._seen = _look(self._files)
        self._newest: ssl.SSLContext | None = None
        load(self)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """As of any context; HTTP clients call it before each connection."""
        names = list(alpn_protocols)
        super().set_alpn_protocols(names)
        if names != self._alpn:
            self._alpn = names
            if self._newest is not None:
                self._newest.set_alpn_protocols(names)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """A connection of an event loop."""
        newest = self._fresh()
        if newest is None:
            return super().wrap_bio(*arguments, **options)
        return newest.wrap_bio(*arguments, **options)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """A connection of a thread."""
        newest = self._fresh()
        if newest is None:
            return super().wrap_socket(*arguments, **options)
        return newest.wrap_socket(*arguments, **options)

    def _fresh(self) -> ssl.SSLContext | None:
        seen = _look(self._files)
        if seen != self._seen:
            with self._lock:
                if seen != self._seen:
                    self._seen = seen
                    self._renew()
        return self._newest

    def _renew(self) -> None:
        names = [path.name for path in self._files]
        try:
            self._newest = self._made()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            _log.error("changed TLS files do not load; the former stay in use", files=names, error=type(error).__name__)
        else:
            _log.info("TLS files changed; new connections use them", files=names)

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(self._kind)
        self._load(context)
        context.minimum_version, context.maximum_version = self.minimum_version, self.maximum_version
        if self._alpn is not None:
            context.set_alpn_protocols(self._alpn)
        return context


def _look(files: Iterable[Path]) -> Seen:
    return tuple(map(_stat, files))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
