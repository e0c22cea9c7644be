"""The process of one token: it alone loads the PKCS#11 module and logs in. Started by `supervised`, never by hand.

    python -P -m hsm_service.token_process FD

FD is one end of a SOCK_SEQPACKET socket pair, over which everything comes, the PIN too: nothing secret is in the
arguments, in the environment or in a file. As many threads as the token has sessions each wait in recv on that socket;
a datagram is one request (`token_wire`), so the kernel hands out the work and no dispatcher stands in between.

The process cannot be dumped or traced by others of its user, leaves no core file, and dies with its parent: by
PR_SET_PDEATHSIG, and by the end of the socket. It takes no part in a terminal's or a service manager's signals: whoever
ends the service ends this process through the socket, after what is under way was answered.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from hsm_service import token_wire
from hsm_service.errors import BadInput, HsmError
from hsm_service.pkcs11_module import Pkcs11Module, load_module
from hsm_service.token_wire import LAST, LONGEST, METHODS, OK, PART, PART_BYTES, START, STOP, Method
from hsm_service.tokens import Token

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_LAST_WORDS: Final = 2.0
"""Seconds for logging out once the parent is gone or has asked."""


def main(arguments: list[str]) -> int:
    """Serve until the parent hangs up; the exit status is 0 if it asked for the end, 1 if it went away."""
    harden()
    channel = socket.socket(fileno=int(arguments[0]))
    widen(channel)
    opened = _open(channel)
    return 1 if opened is None else _serve(channel, *opened)


def widen(channel: socket.socket) -> None:
    """Ask for room for large datagrams and many of them."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, token_wire.SOCKET_BUFFER)


def harden() -> None:
    """No core file, no tracing, no life without the parent, no part in signals to the whole group."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) or libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)


def _open(channel: socket.socket) -> tuple[Pkcs11Module, Token, int] | None:
    """Take the first request and log in: module, token, sessions; None if that failed, of which the parent was told."""
    buffer = bytearray(LONGEST)
    size = channel.recv_into(buffer)
    if not size:
        return None
    number, method, raw = token_wire.decode_request(memoryview(buffer)[:size])
    if method != START:
        return None
    (start,) = token_wire.decode_start(raw)
    if os.getppid() != start.parent:
        return None  # it died before PR_SET_PDEATHSIG was set
    try:
        configuration = Path(start.configuration) if start.configuration else None
        module = load_module(Path(start.module), configuration, initialisation=start.initialisation)
        token = Token.open(module, start.label, start.pin, sessions=start.sessions)
    except Exception as error:
        channel.send(token_wire.encode_error(number, error))
        return None
    finally:
        buffer[:] = bytes(LONGEST)
    channel.send(token_wire.encode((number, OK, start.sessions)))
    return module, token, start.sessions


def _serve(channel: socket.socket, module: Pkcs11Module, token: Token, sessions: int) -> int:
    handlers = {method.number: (method.decode_arguments, _handler(token, method)) for method in METHODS.values()}
    ended = threading.Event()
    status = 1

    def work() -> None:
        nonlocal status
        try:
            if _answer_requests(channel, handlers):
                status = 0
        finally:
            ended.set()

    for number in range(sessions):
        threading.Thread(target=work, name=f"token-{number}", daemon=True).start()
    ended.wait()
    with contextlib.suppress(HsmError):
        token.close(_LAST_WORDS)  # what other threads still do is waited for
        module.finalize()
    return status


def _handler(token: Token, method: Method) -> Callable[..., Any]:
    """What does `method` with its arguments in their places."""
    if method.name == "capabilities":
        return lambda: token.capabilities
    bound: Callable[..., Any] = getattr(token, method.name)
    if not method.keywords:
        return bound
    places = len(method.arguments) - len(method.keywords)
    return lambda *arguments: bound(*arguments[:places], **dict(zip(method.keywords, arguments[places:], strict=True)))


def _answer_requests(
    channel: socket.socket, handlers: dict[int, tuple[Callable[..., Any], Callable[..., Any]]]
) -> bool:
    """Answer until the parent hangs up (False) or asks for the end (True)."""
    buffer = bytearray(LONGEST)
    view = memoryview(buffer)
    receive, send = channel.recv_into, channel.send
    decode, encode = token_wire.decode_request, token_wire.encode
    while size := receive(buffer):
        number, method, raw = decode(view[:size])
        if method == STOP:
            return True
        try:
            decode_arguments, handler = handlers[method]
            try:
                arguments = decode_arguments(raw)
            except msgspec.DecodeError as error:
                raise BadInput(f"these are not the arguments of the method: {error}") from None
            answer = encode((number, OK, handler(*arguments)))
        except Exception as error:
            answer = token_wire.encode_error(number, error)
        try:
            if len(answer) <= PART_BYTES:
                send(answer)
            else:
                _send_in_parts(channel, number, answer)
        except OSError:
            return False
    return False


def _send_in_parts(channel: socket.socket, number: int, answer: bytes) -> None:
    """`answer` cut up; only this thread sends parts of this number, and the socket keeps their order."""
    for start in range(0, len(answer), PART_BYTES):
        kind = LAST if start + PART_BYTES >= len(answer) else PART
        channel.send(token_wire.encode((number, kind, answer[start : start + PART_BYTES])))


if __name__ == "__main__":
    # No interpreter's shutdown: threads still wait in recv, and the token is logged out already.
    os._exit(main(sys.argv[1:]))
