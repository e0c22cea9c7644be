"""Errors that a PKCS#11 module leaves in the queue of the OpenSSL that it shares with this process.

SoftHSM2 works with the OpenSSL that Python's TLS works with. What goes wrong in there on its way (no engine found at
the start, a wrong PIN, a mechanism that was only tried) stays in the queue of the thread, and the next read of a TLS
connection by this thread takes it for an error of its own (SSL_get_error(3)). So every way into a token is left with
an empty queue.
"""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
from collections.abc import Callable, Iterator


def _clearing() -> Callable[[], object]:
    """ERR_clear_error of the OpenSSL that Python's `ssl` uses; an OpenSSL within Python itself is nobody else's."""
    try:
        clear: Callable[[], object] = ctypes.PyDLL(_ssl.__file__).ERR_clear_error
    except (AttributeError, OSError):
        return lambda: None
    return clear


_clear = _clearing()


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """Whatever is done in a token within leaves no error of OpenSSL in this thread."""
    try:
        yield
    finally:
        _clear()
