"""A token in a process of its own, watched over: the same methods as `Token`, whatever happens to the process.

A process that dies, hangs past a call's deadline or has lost its token is killed and started again in the background:
finalise, initialise, log in, all at once. Until it is back every call is refused at once (TokenUnavailable, 503 with
Retry-After); calls that were under way fail, and are never repeated, because nobody knows whether the token did them.

The PIN is read from its source at each start and not kept. One that the token refused is not tried a second time:
nothing is started until the source gives another, so that no token is locked by a service that insists.

Nothing here waits for the token but the methods that return an answer; `submit` does not wait. Objects can be made
while the token is away. A caller who keeps something that depends on the token's state registers with `on_recovered`
before looking for the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypedDict

from hsm_service import token_metrics
from hsm_service.breaker import Breaker, State
from hsm_service.errors import (
    BadInput,
    HsmError,
    KeyMisused,
    KeyNotFound,
    MechanismMissing,
    PinRefused,
    TokenClosed,
    TokenLost,
    TokenUnavailable,
    WeakKey,
)
from hsm_service.keys import KeyRef
from hsm_service.operation_counts import OPERATIONS
from hsm_service.supervised_operations import SupervisedOperations
from hsm_service.token_batch import in_parts
from hsm_service.token_child import Call, Child, Done, End
from hsm_service.token_wire import METHODS
from runtime.logging import get_logger
from runtime.secrets import Secret, SecretFileError

DEADLINE: Final = 3.0
"""Seconds for a call that the token works on; longer, and it hangs. With the new start, callers wait less than 5 s."""
SLOW_DEADLINE: Final = 120.0
"""The same for making keys."""
START_DEADLINE: Final = 30.0
"""The same for starting the process and logging in."""
SESSIONS: Final = (os.cpu_count() or 1) + 2
QUEUE: Final = 1024
"""Calls under way and waiting, a token; more are refused."""
_CALLS_PER_SESSION: Final = 4
"""So many are with the process for each of its threads, so that none goes idle while an answer travels."""

_NOT_ASKED: Final = (BadInput, KeyMisused, KeyNotFound, MechanismMissing, WeakKey)
"""Answers that mean that the key was not used; all others may hide a use, and count."""

_log = get_logger("token")


class SupervisedOptions(TypedDict, total=False):
    """What can be chosen for a supervised token; see `SupervisedToken`."""

    initialisation: str | None
    sessions: int
    queue: int
    deadline: float
    slow_deadline: float
    start_deadline: float
    breaker: Breaker | None


class SupervisedToken(SupervisedOperations):
    """A token reached through a process of its own. Safe for threads; `close` it (or `with`) when done."""

    def __init__(
        self,
        label: str,
        *,
        module: Path,
        configuration: Path | None,
        pin: Callable[[], Secret],
        initialisation: str | None = None,
        sessions: int = SESSIONS,
        queue: int = QUEUE,
        deadline: float = DEADLINE,
        slow_deadline: float = SLOW_DEADLINE,
        start_deadline: float = START_DEADLINE,
        breaker: Breaker | None = None,
    ) -> None:
        """Begin to open the token `label`, without waiting for it.

        `module` and `configuration` are absolute paths (`load_module`), `pin` is called at each start and may raise
        SecretFileError, `sessions` is how many operations the token does at a time.
        """
        super().__init__(label)
        self._place = (str(module), str(configuration) if configuration else None, initialisation)
        self._pin = pin
        self._refused: Secret | None = None
        self._sessions = sessions
        self._queue = queue
        self._deadline = deadline
        self._slow_deadline = slow_deadline
        self._start_deadline = start_deadline
        self._breaker = breaker or Breaker()
        self._child: Child | None = None
        self._trouble = "it was not opened yet"
        self._uses: Counter[bytes] = Counter()
        self._recovered: list[Callable[[], None]] = []
        self._healthy = threading.Event()
        self._closing = threading.Event()
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._show(State.OPEN)
        token_metrics.watch(label, lambda: self.in_flight, lambda: self.queued)
        self._supervisor = threading.Thread(target=self._supervise, name=f"supervisor-{label}", daemon=True)
        self._supervisor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SupervisedToken {self.label}>"

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether the token serves now; cheap."""
        return self._child is not None

    @property
    def trouble(self) -> str | None:
        """Why it does not serve, for people; None if it does."""
        return None if self.healthy else self._trouble

    @property
    def process_id(self) -> int | None:
        """The token's process, while it serves."""
        child = self._child
        return None if child is None else child.process_id

    @property
    def in_flight(self) -> int:
        """Calls that the token's process has."""
        child = self._child
        return 0 if child is None else child.in_flight

    @property
    def queued(self) -> int:
        """Calls that wait for it."""
        child = self._child
        return 0 if child is None else child.queued

    def wait_healthy(self, seconds: float) -> bool:
        """Wait at most `seconds` until the token serves; whether it does."""
        return self._healthy.wait(seconds)

    def on_recovered(self, callback: Callable[[], None]) -> None:
        """Call `callback` in a thread of its own each time the token begins to serve. It may call the token."""
        self._recovered.append(callback)

    def hear_on(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Hear answers on the event loop from now on, in its thread; None: in a thread of the token's own again.

        For a service that asks from its loop: an answer then takes no thread switch. Whoever gives a loop takes it back
        before the loop stops running, and nobody may wait for an answer in the loop's own thread.
        """
        self._loop = loop
        with contextlib.suppress(HsmError):  # an answer wakes whoever hears now
            self.submit("random", (1,), lambda _answer: None)

    def uses(self, ref: KeyRef) -> int:
        """How often the token was asked for an operation with this key; a call without an answer counts too."""
        return self._uses[ref.cka_id]

    # -- calls ---------------------------------------------------------------------------------------------------------

    def submit(self, method: str, arguments: tuple[Any, ...], done: Done) -> Call | None:
        """Ask the token for `method` of `token_wire.METHODS` (all `arguments` by place); returns at once.

        `done` is called once, with the result or an HsmError: from the supervisor's thread, or from this one if the
        call is refused at once. It must return quickly and not raise. The Call can be cancelled, if one was made of it.
        Raises ValueError for another method, TypeError for arguments that cannot cross.
        """
        row = METHODS.get(method)
        if row is None:
            raise ValueError(f"{method} cannot be called in a token's process")
        try:
            child = self._serving()
            seconds = self._slow_deadline if row.slow else self._deadline
            if method == "sign_many":
                parts = in_parts(row, arguments, done, 2 * self._sessions)
                if parts:
                    child.take(parts, seconds)
                return None
            return child.take([(row, arguments, done)], seconds)[0]
        except HsmError as error:
            done(error)
            return None

    def _call(self, method: str, *arguments: Any) -> Any:
        """`submit`, and wait for the answer."""
        if threading.current_thread() is self._supervisor:
            raise RuntimeError("the thread that hears the answers cannot wait for one")
        if self._loop is not None and asyncio._get_running_loop() is self._loop:
            raise RuntimeError("the event loop that hears the answers cannot wait for one")
        answered = threading.Lock()
        answered.acquire()
        answers: list[Any] = []

        def done(answer: Any) -> None:
            answers.append(answer)
            answered.release()

        self.submit(method, arguments, done)
        answered.acquire()  # the supervisor settles every call, by its answer, its deadline or the process's end
        if isinstance(answers[0], HsmError):
            raise answers[0]
        return answers[0]

    def _serving(self) -> Child:
        if os.getpid() != self._process:
            raise TokenClosed("this process was forked from one that had opened its tokens; start it with exec")
        if self._closing.is_set():
            raise TokenClosed(f"token {self.label!r} is closed")
        child = self._child
        if child is None:
            raise TokenUnavailable(f"token {self.label!r} is away: {self._trouble}")
        return child

    def _settle(self, call: Call, answer: Any) -> bool:
        """Count the call and hand out its answer; whether the token counts as lost now."""
        method = call.method
        failed = isinstance(answer, HsmError)
        if method.counted is not None and not (failed and isinstance(answer, _NOT_ASKED)):
            times = len(call.arguments[2]) if method.name == "sign_many" else 1
            self._uses[call.arguments[0].cka_id] += times
            OPERATIONS.add(method.counted, times)
        try:
            call.done(answer)
        except Exception as error:
            _log.error("an answer found no taker", token=self.label, method=method.name, error=type(error).__name__)
        if isinstance(answer, TokenLost):
            return True
        if isinstance(answer, TokenUnavailable):
            return self._breaker.failed()
        self._breaker.succeeded()
        return False

    # -- supervision ---------------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        while not self._closing.is_set():
            child = self._start()
            if child is None:
                self._closing.wait(self._open_breaker())
                continue
            try:
                self._serve(child)
                end, why = self._hear(child)
            except Exception as error:  # whatever it was, the token must come back
                end, why = End.DIED, f"its answers could not be heard: {type(error).__name__}"
            self._child = None
            self._healthy.clear()
            if end is End.STOPPED:
                # A process that has not answered by now hangs, and would not hear that it is asked.
                idle = child.in_flight == 0
                child.end(TokenClosed(f"token {self.label!r} was closed"), self._settle, ask=idle)
                break
            self._trouble = why
            delay = self._open_breaker()
            token_metrics.LOSSES.labels(self.label, end.value).inc()
            _log.error("token lost", token=self.label, how=end.value, reason=why)
            child.end(TokenUnavailable(f"token {self.label!r} failed: {why}"), self._settle)
            self._closing.wait(delay)
        self._trouble = "it was closed"

    def _hear(self, child: Child) -> tuple[End, str]:
        """Hear the child's answers until it ends, on an event loop while there is one."""
        while True:
            loop = self._loop

            def handed_over(loop: asyncio.AbstractEventLoop | None = loop) -> bool:
                return self._loop is not loop

            if loop is None or loop.is_closed():
                over = child.read(self._settle, handed_over)
            else:
                over = child.read_on(loop, self._settle, handed_over)
            if over is not None:
                return over

    def _start(self) -> Child | None:
        """A process that is logged in; None if there is none now, with `_trouble` saying why."""
        try:
            pin = self._pin()
        except SecretFileError as error:
            self._note(str(error))
            return None
        except Exception as error:
            self._note(f"its PIN cannot be read: {type(error).__name__}")
            return None
        if self._refused is not None and self._refused == pin:
            return None
        self._breaker.try_again()
        self._show(State.HALF_OPEN)
        token_metrics.STARTS.labels(self.label).inc()
        try:
            child = Child.start(
                self._place,
                self.label,
                pin,
                sessions=self._sessions,
                window=self._sessions * _CALLS_PER_SESSION,
                limit=self._queue,
                give_up=lambda seconds: self._closing.is_set() or seconds > self._start_deadline,
                tick=min(self._deadline / 4, 0.25),
            )
        except PinRefused as error:
            self._refused = pin
            self._note(f"{error}; it is not tried again until its source gives another")
            return None
        except HsmError as error:
            self._note(str(error))
            return None
        except Exception as error:
            self._note(f"it cannot be started: {type(error).__name__}")
            return None
        self._refused = None
        return child

    def _serve(self, child: Child) -> None:
        self._breaker.close()
        self._show(State.CLOSED)
        self._child = child
        self._healthy.set()
        if self._closing.is_set():  # `close` came before there was a child to stop
            child.stop(0)
        _log.info("token serves", token=self.label, process=child.process_id)
        if self._recovered:
            threading.Thread(target=self._tell_recovered, name=f"recovered-{self.label}", daemon=True).start()

    def _tell_recovered(self) -> None:
        for callback in tuple(self._recovered):
            try:
                callback()
            except Exception as error:
                _log.error("recovery was not dealt with", token=self.label, error=type(error).__name__)

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.error("token is away", token=self.label, reason=trouble)
        self._trouble = trouble

    def _open_breaker(self) -> float:
        delay = self._breaker.open()
        self._show(State.OPEN)
        return delay

    def _show(self, state: State) -> None:
        token_metrics.BREAKER.labels(self.label).set(state)

    def hasten(self, seconds: float) -> None:
        """No call, and no start, has longer than `seconds` from now on: the service is about to end. Cheap."""
        self._deadline = min(self._deadline, seconds)
        self._slow_deadline = min(self._slow_deadline, seconds)
        self._start_deadline = min(self._start_deadline, seconds)
        child = self._child
        if child is not None:
            child.hasten(seconds)

    def close(self, timeout: float = 5.0) -> None:
        """Refuse new calls, wait at most `timeout` seconds for those under way, log out, end the process, reap it.

        What was not answered by then fails with TokenClosed. A second close does nothing.
        """
        if self._closing.is_set():
            self._supervisor.join()
            return
        self._closing.set()
        child = self._child
        if child is not None:
            child.stop(timeout)
        self._supervisor.join()
        self._healthy.clear()
        token_metrics.forget(self.label)
