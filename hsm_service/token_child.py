"""The parent's side of one token process: starting it, handing it calls, hearing its answers, ending it.

A `Child` is one life of the process; after its end the supervisor makes another. One thread reads (`read`, the
supervisor's); any thread may hand in calls (`take`). At most `window` calls are with the process at a time, enough to
keep its threads busy; the others wait here, where those that nobody waits for any more are dropped. Calls that may take
long (key generation) go one at a time, so that they never hold more than one of its threads.

A call is answered exactly once: whoever takes it out of `_sent` or a queue settles it.

A call is late, and the process hangs, when it was worked on for longer than its time. What only waits in the process
behind others is not worked on; and time in which we did not run, or did not hear, is not the token's: a service that
was stopped for a while, or waited for its disk, does not kill tokens whose answers lie there unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import count
from typing import Any, Final

import msgspec

from hsm_service import token_wire
from hsm_service.errors import BadInput, HsmError, KeyNotFound, TokenBusy, TokenLost, TokenUnavailable
from hsm_service.token_wire import ERROR, LONGEST, METHODS, OK, PART, START, STOP, Method, Start
from runtime.secrets import Secret

Done = Callable[[Any], None]

TICK: Final = 0.25
"""Seconds between two looks at the deadlines."""
_HEARD_IN_A_ROW: Final = 32
_PAUSED: Final = 1.0
"""Seconds without a look at the deadlines, beyond the tick, after which we ourselves were stopped."""
_FAREWELL: Final = 5.0
"""Seconds that a process has for logging out once it was asked."""


class End(StrEnum):
    """Why a life ended."""

    DIED = "died"
    HUNG = "hung"
    LOST = "lost"
    STOPPED = "stopped"


class Call:
    """One call: its request, and who wants the answer."""

    __slots__ = ("arguments", "cancelled", "deadline", "done", "excused", "frame", "method", "number", "seconds")

    def __init__(self, number: int, method: Method, arguments: tuple[Any, ...], seconds: float, done: Done) -> None:
        self.number = number
        self.method = method
        self.arguments = arguments
        self.seconds = seconds
        self.deadline = 0.0  # none before it is worked on
        self.excused = 0  # until so many answers were heard: its own may be among them
        self.done = done
        self.cancelled = False
        self.frame = token_wire.encode((number, method.number, arguments))

    def cancel(self) -> None:
        """Nobody waits any more: not sent if it was not yet; `done` may still be called."""
        self.cancelled = True


Settle = Callable[[Call, Any], bool]
"""Is given a call with its result or HsmError; says whether the token counts as lost."""


class Child:
    """A token process that is logged in. Made by `start`; `read` until it ends, then `end`."""

    def __init__(self, label: str, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.label: Final = label
        self._process = process
        self._channel = channel
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._sent: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()
        self._slow: deque[Call] = deque()
        self._slow_sent: int | None = None
        self._parts: dict[int, bytearray] = {}
        self._known: set[bytes] = set()
        self._ended = False
        self._stop_at: float | None = None
        self._threads = 0
        self._window = 0
        self._limit = 0
        self._tick = TICK
        self._heard = 0
        self._looked = time.monotonic()
        self._buffer = bytearray(LONGEST)
        self._view = memoryview(self._buffer)

    @classmethod
    def start(
        cls,
        place: tuple[str, str | None, str | None],
        label: str,
        pin: Secret,
        *,
        sessions: int,
        window: int,
        limit: int,
        give_up: Callable[[float], bool],
        tick: float = TICK,
    ) -> Child:
        """Start a process, log in, and have the token do something small.

        `place` is module, configuration and initialisation (`token_wire.Start`). `give_up` is asked every tick, with
        the seconds that it has taken. Raises the HsmError of the process: PinRefused, TokenNotFound, TokenUnavailable
        (also if it was given up).
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, token_wire.SOCKET_BUFFER)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(tick))
            command = [sys.executable, "-P", "-m", "hsm_service.token_process", str(theirs.fileno())]
            try:
                process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
            except OSError as error:
                ours.close()
                raise TokenUnavailable(f"token {label!r}: no process can be started: {error.strerror}") from None
        child = cls(label, process, ours)
        child._threads, child._window, child._limit, child._tick = sessions, window, limit, tick
        begun = time.monotonic()

        def late() -> bool:
            return give_up(time.monotonic() - begun)

        try:
            order = Start(*place, label, pin, sessions, os.getpid())
            child._exchange(START, (order,), late)
            child._exchange(METHODS["random"].number, (8,), late)
            child._looked = time.monotonic()
        except BaseException:
            child.end(TokenUnavailable(f"token {label!r} did not start"))
            raise
        return child

    @property
    def process_id(self) -> int:
        """Of the token's process."""
        return self._process.pid

    @property
    def in_flight(self) -> int:
        """Calls that the process has."""
        return len(self._sent)

    @property
    def queued(self) -> int:
        """Calls that wait here."""
        return len(self._waiting) + len(self._slow)

    # -- any thread ----------------------------------------------------------------------------------------------------

    def take(self, calls: Iterable[tuple[Method, tuple[Any, ...], Done]], seconds: float) -> list[Call]:
        """Send calls, or queue them: all or none. The process hangs if it works on one for longer than `seconds`.

        Raises BadInput (too long to send), TokenBusy (queue full), TokenUnavailable (the process ended).
        """
        made = [Call(next(self._numbers), method, arguments, seconds, done) for method, arguments, done in calls]
        for call in made:
            if len(call.frame) > LONGEST:
                raise BadInput(f"{call.method.name} takes at most {LONGEST} bytes; this has {len(call.frame)}")
        with self._lock:
            if self._ended:
                raise TokenUnavailable(f"token {self.label!r} is away")
            if len(self._sent) + len(self._waiting) + len(self._slow) + len(made) > self._limit:
                raise TokenBusy(f"{self._limit} calls wait for token {self.label!r} already")
            for call in made:
                (self._slow if call.method.slow else self._waiting).append(call)
            self._send_waiting()
        return made

    def hasten(self, seconds: float) -> None:
        """Give what is worked on, and what waits, `seconds` more, if its deadline is not earlier."""
        latest = time.monotonic() + seconds
        for call in (*tuple(self._sent.values()), *tuple(self._waiting), *tuple(self._slow)):
            call.seconds = min(call.seconds, seconds)
            call.deadline = min(call.deadline, latest)

    def stop(self, seconds: float) -> None:
        """Have `read` return once all was answered, at the latest after `seconds`."""
        self._stop_at = time.monotonic() + seconds
        with contextlib.suppress(HsmError):  # an answer wakes the reader
            self.take([(METHODS["random"], (1,), lambda _answer: None)], seconds)

    def _send_waiting(self) -> None:
        """With the lock held: send what there is room for."""
        while True:
            if self._waiting and len(self._sent) < self._window:
                queue = self._waiting
            elif self._slow and self._slow_sent is None:
                queue = self._slow
            else:
                return
            call = queue.popleft()
            if call.cancelled:
                continue
            self._sent[call.number] = call
            if queue is self._slow:
                self._slow_sent = call.number
            try:
                self._channel.send(call.frame, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                # The kernel's buffer is full: the process has much to answer, and after each answer we try again.
                del self._sent[call.number]
                if queue is self._slow:
                    self._slow_sent = None
                queue.appendleft(call)
                return
            except OSError:
                return  # the reader finds out, and settles it

    # -- the reading thread --------------------------------------------------------------------------------------------

    def read(self, settle: Settle, handed_over: Callable[[], bool] = lambda: False) -> tuple[End, str] | None:
        """Hear answers until the process ends, hangs or has lost its token; why, in a word and for people.

        `settle` is given each call with its result or HsmError, and says whether the token counts as lost. Returns None
        when `handed_over` says that somebody else shall hear the answers from now on.
        """
        look = time.monotonic() + self._tick
        while True:
            over = self._hear_one(settle, 0)
            if isinstance(over, tuple):
                return over
            now = time.monotonic()
            if now >= look:
                look = now + self._tick
                if over := self._overdue(now):
                    return over
            if self._is_to_stop(now):
                return End.STOPPED, "it was closed"
            if handed_over():
                return None

    def read_on(
        self, loop: asyncio.AbstractEventLoop, settle: Settle, handed_over: Callable[[], bool]
    ) -> tuple[End, str] | None:
        """As `read`, but answers are heard, and calls settled, on the event loop: without a thread for each.

        The calling thread looks at the deadlines alone. Returns None when `handed_over` says so, or the loop is closed.
        """
        ends: list[tuple[End, str]] = []
        woken = threading.Event()

        def heard() -> None:
            # Some in a row, so that one turn of the loop takes what is there, and not so many that others starve.
            for _ in range(_HEARD_IN_A_ROW):
                over = self._hear_one(settle, socket.MSG_DONTWAIT)
                if isinstance(over, tuple):
                    ends.append(over)
                    loop.remove_reader(self._channel)
                if over is not None:
                    break
            if ends or self._is_to_stop(time.monotonic()):
                woken.set()

        if not _on(loop, lambda: loop.add_reader(self._channel, heard)):
            return None
        while True:
            woken.wait(self._tick)
            now = time.monotonic()
            over = ends[0] if ends else self._overdue(now)
            if over is None and self._is_to_stop(now):
                over = End.STOPPED, "it was closed"
            if over is not None or handed_over() or loop.is_closed():
                _on(loop, lambda: loop.remove_reader(self._channel))
                return over
            woken.clear()

    def _hear_one(self, settle: Settle, flags: int) -> tuple[End, str] | bool | None:
        """Hear one answer: None if there was one, False if there was none yet, or why the life ended."""
        try:
            size = self._channel.recv_into(self._buffer, LONGEST, flags)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if size == 0:
            # On a loop nobody waits for the process to be gone for good.
            status = self._process.poll() if flags else self._status()
            return End.DIED, f"its process ended with status {status}"
        self._heard += 1
        try:
            number, kind, raw = token_wire.decode_answer(self._view[:size])
            lost = self._answered(number, kind, raw, settle)
        except msgspec.DecodeError as error:
            return End.DIED, f"its process talks nonsense: {error}"
        except Exception as error:
            return End.DIED, f"its process gave an answer that cannot be dealt with: {type(error).__name__}"
        return (End.LOST, lost) if lost is not None else None

    def _overdue(self, now: float) -> tuple[End, str] | None:
        late = self._late(now)
        if late is None:
            return None
        if not late.excused and self._is_unread():
            # Answers come in order, and there are no more of them than calls (but for parts, hence the room).
            late.excused = self._heard + 4 * self._window
        if self._heard < late.excused and self._is_unread():
            return None
        return End.HUNG, f"{late.method.name} was not answered in time"

    def _is_unread(self) -> bool:
        """Whether something came from the process that nobody has heard yet."""
        try:
            self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:  # BlockingIOError is one
            return False
        return True

    def _is_to_stop(self, now: float) -> bool:
        return self._stop_at is not None and (now >= self._stop_at or not (self._sent or self.queued))

    def _answered(self, number: int, kind: int, raw: Any, settle: Settle) -> str | None:
        """Settle one call; why the token counts as lost, if it does."""
        if kind == PART:
            self._parts.setdefault(number, bytearray()).extend(token_wire.decode_bytes(raw))
            return None
        call = self._sent.pop(number, None)
        if number == self._slow_sent:
            self._slow_sent = None
        if self._waiting or self._slow:
            with self._lock:
                self._send_waiting()
        if call is None:
            return None
        try:
            answer = self._understood(call, number, kind, raw)
        except Exception:
            settle(call, TokenUnavailable(f"token {self.label!r} gave an answer that nobody understands"))
            raise
        return str(answer) if settle(call, answer) else None

    def _understood(self, call: Call, number: int, kind: int, raw: Any) -> Any:
        """The result of a call, or its HsmError."""
        if kind not in {OK, ERROR}:  # LAST
            whole = self._parts.pop(number, bytearray()) + token_wire.decode_bytes(raw)
            _number, kind, raw = token_wire.decode_answer(whole)
        answer: Any
        if kind == ERROR:
            answer = self._doubted(call, token_wire.decode_error(raw))
        else:
            answer = call.method.decode_result(raw)
            if call.method.uses_key:
                self._known.add(call.arguments[0].cka_id)
        if call.method.name == "destroy":
            self._known.discard(call.arguments[0].cka_id)
        return answer

    def _doubted(self, call: Call, error: HsmError) -> HsmError:
        """A key that was there a moment ago and that nobody destroyed: the token lost it, the caller is not wrong.

        SoftHSM2 forgets its objects like this when its folder goes away, and does not find them again when it is back.
        """
        if isinstance(error, KeyNotFound) and call.method.uses_key and call.arguments[0].cka_id in self._known:
            return TokenLost(f"token {self.label!r} does not find {call.arguments[0].label!r} any more")
        return error

    def _late(self, now: float) -> Call | None:
        """A call that the process has worked on for too long, if any; to be asked every tick.

        Its threads take calls in the order in which they were sent: what is worked on is among the oldest.
        """
        paused = now - self._looked - self._tick
        self._looked = now
        for call in list(self._sent.values())[: self._threads]:
            if not call.deadline:
                call.deadline = now + call.seconds
            elif paused > _PAUSED:
                call.deadline += paused
            elif now > call.deadline:
                return call
        return None

    # -- the end -------------------------------------------------------------------------------------------------------

    def end(self, error: HsmError, settle: Settle | None = None, *, ask: bool = False) -> None:
        """End the process: kill it, or `ask` it to log out first. What was not answered fails with `error`."""
        with self._lock:
            self._ended = True
            left = [*self._sent.values(), *self._waiting, *self._slow]
            self._sent.clear()
            self._waiting.clear()
            self._slow.clear()
        if ask:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._channel.send(token_wire.encode((0, STOP, ())), socket.MSG_NOSIGNAL)
                self._process.wait(_FAREWELL)
        self._process.kill()  # kill -9 also ends a process that hangs in C or was stopped
        for call in left:  # before it is gone for good: one that waits inside the kernel may take its time
            if settle is not None:
                settle(call, error)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_FAREWELL)
        with self._lock:
            self._channel.close()

    def _exchange(self, method: int, arguments: tuple[Any, ...], late: Callable[[], bool]) -> None:
        """One request and its answer while nobody else uses the channel; the request may be a secret."""
        frame = bytearray()
        token_wire.encode_into((0, method, arguments), frame)
        try:
            self._channel.send(frame, socket.MSG_NOSIGNAL)
            while True:
                try:
                    answer = self._channel.recv(LONGEST)
                    break
                except BlockingIOError:
                    if late():
                        raise TokenUnavailable(f"token {self.label!r} did not log in in time") from None
        except OSError:
            answer = b""
        finally:
            frame[:] = bytes(len(frame))
        if not answer:
            raise TokenUnavailable(f"token {self.label!r}: its process ended with status {self._status()}")
        _number, kind, raw = token_wire.decode_answer(answer)
        if kind == ERROR:
            raise token_wire.decode_error(raw)

    def _status(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(1.0)
        return None


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


def _on(loop: asyncio.AbstractEventLoop, do: Callable[[], object]) -> bool:
    """Have the loop's own thread do it, and wait until it is done; False if the loop is closed."""
    done = threading.Event()

    def run() -> None:
        try:
            do()
        finally:
            done.set()

    try:
        loop.call_soon_threadsafe(run)
    except RuntimeError:
        return False
    while not done.wait(TICK):
        if loop.is_closed():
            return False
    return True
