"""Operations as steps: what is done with a key is written once, and run blocking or on an event loop.

An operation of the vault is a generator. It yields what must happen outside of it, in order, and is given the result:

    Turn(token)                     wait until the token may be asked for one thing more
    Record(entry)                   put the entry into the journal; the result is its number, once it is on the disk
    Call(token, method, arguments)  have the token do it; the result is what the token answers
    Pause()                         let others have the processor: between the parts of what computes for long

Between two steps it only computes, so that the order "judge, intent on the disk, token, outcome on the disk, answer"
stands in one place (`hsm_service.signing`), whoever runs it: `run` in a thread that may wait (ceremonies, commands,
tests), `AsyncRunner.run` for many operations at a time on one event loop, without a thread for each.

An error of a step is raised inside the generator at the step. A journal that cannot record is Problem 503.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from audit import AuditError, Journal
from audit.entry import JsonValue
from hsm_service.metrics import Timing
from runtime.problems import Problem

T = TypeVar("T")

IN_FLIGHT: Final = 64
"""Operations of one token that are under way at a time: enough that records share a sync and the token never idles."""
WAITING: Final = 2048
"""Operations that may wait for their turn, a token: about what it does in `LONGEST_WAIT`.

Fewer would do harm: who is refused at once comes again at once, and refusing takes the time in which others are served.
"""
LONGEST_WAIT: Final = 2.0
"""Seconds; whoever has not had a turn by then is told to come again."""

_QUICK: Final = 0.002
"""Seconds: syncs that take less are done on the event loop."""
_LOOK_AGAIN: Final = 10.0
"""Seconds after which a disk that was slow is tried again."""

GONE: Final = "client-gone"
"""Type of the Problem that nobody reads, because who asked is gone."""
_RETRY: Final = {"Retry-After": "1"}
_RETRY_RECORD: Final = {"Retry-After": "5"}


class Labelled(Protocol):
    """A token, as far as steps care."""

    @property
    def label(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """Wait until the token may be asked for one thing more; before the intent, so that who waits left no trace."""

    token: Labelled


@dataclass(frozen=True, slots=True)
class Record:
    """Put `entry` into the journal.

    `numbered` is told the entry's number as soon as it has one, also if the operation is cancelled before the entry is
    on the disk.
    """

    entry: Mapping[str, JsonValue]
    numbered: Callable[[int], None] = lambda _index: None


@dataclass(frozen=True, slots=True)
class Call:
    """Have the token do `method` with `arguments`."""

    token: Any
    method: str
    arguments: tuple[Any, ...] = field(repr=False)  # card numbers and PINs among them


@dataclass(frozen=True, slots=True)
class Pause:
    """Let other operations compute; on an event loop nobody else does anything meanwhile."""


Step: TypeAlias = "Turn | Record | Call | Pause"
Steps: TypeAlias = Generator[Step, Any, T]


def run(steps: Steps[T], journal: Journal, spent: Timing | None = None) -> T:
    """Run the operation to its end in this thread; returns what it returns, raises what it raises.

    `spent` is told how long the steps took.
    """
    spent = Timing() if spent is None else spent
    told: list[Any] = []  # emptied when it is handed over: secrets stay in no frame but the operation's
    try:
        step = next(steps)
        while True:
            failed: list[Exception] = []
            try:
                told.append(_do(step, journal, spent))
            except Exception as error:
                failed.append(error)
            # Out here, so that the error is no context of what the operation raises instead.
            step = steps.throw(failed.pop()) if failed else steps.send(told.pop())
    except StopIteration as end:
        value: T = end.value
        return value


def _do(step: Step, journal: Journal, spent: Timing) -> Any:
    began = perf_counter()
    if isinstance(step, Record):
        try:
            index = journal.append(step.entry)
            step.numbered(index)
            return index
        except AuditError as error:
            raise unrecorded() from error
        finally:
            spent.audit += perf_counter() - began
    if isinstance(step, Call):
        try:
            return getattr(step.token, step.method)(*step.arguments)
        finally:
            spent.token += perf_counter() - began
    return None  # a thread that waits for the token itself needs no turn, and stands in nobody's way


def unrecorded() -> Problem:
    """What a caller is told when nothing can be recorded."""
    return Problem(
        503, "journal-unavailable", "the operation cannot be recorded, so it is not done", headers=_RETRY_RECORD
    )


class AsyncRunner:
    """Runs operations on one event loop. Make it inside the loop's thread, or before the loop starts.

    `in_thread` runs a blocking function elsewhere: for tokens that cannot be asked without waiting for the answer.
    """

    def __init__(
        self,
        journal: Journal,
        in_thread: Callable[..., Awaitable[Any]],
        *,
        in_flight: int = IN_FLIGHT,
        waiting: int = WAITING,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        self._journal = journal
        self._in_thread = in_thread
        self._mailbox = _Mailbox()
        self._commits = _Commits(journal)
        self._turns: defaultdict[str, _Turnstile] = defaultdict(lambda: _Turnstile(in_flight, waiting, longest_wait))

    async def run(self, steps: Steps[T], gone: Callable[[], bool] = lambda: False, spent: Timing | None = None) -> T:
        """Run the operation to its end; `gone()` says whether nobody waits for it any more.

        `spent` is told how long the steps took. Raises what the operation raises; Problem 503 when the token's queue
        is full or its turn does not come.
        """
        spent = Timing() if spent is None else spent
        held: _Turnstile | None = None
        told: list[Any] = []  # emptied when it is handed over: secrets stay in no frame but the operation's
        try:
            step = next(steps)
            while True:
                failed: list[Exception] = []
                began = perf_counter()
                try:
                    if isinstance(step, Record):
                        try:
                            told.append(await self._record(step))
                        finally:
                            spent.audit += perf_counter() - began
                    elif isinstance(step, Call):
                        try:
                            told.append(await self._call(step))
                        finally:
                            spent.token += perf_counter() - began
                    elif isinstance(step, Pause):
                        await asyncio.sleep(0)
                    else:
                        if held is not None:  # an operation that follows another: one turn at a time
                            held.leave()
                            held = None
                        turnstile = self._turns[step.token.label]
                        try:
                            await turnstile.enter()
                        finally:
                            spent.queue += perf_counter() - began
                        held = turnstile
                        if gone():
                            raise Problem(400, GONE, "the caller did not wait for the answer")
                except Exception as error:
                    failed.append(error)
                # Out here, so that the error is no context of what the operation raises instead.
                step = steps.throw(failed.pop()) if failed else steps.send(told.pop() if told else None)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            if held is not None:
                held.leave()
            steps.close()  # what was cancelled ends now, not when somebody collects it

    async def _record(self, step: Record) -> Any:
        try:
            if self._commits.quick:
                return await self._commits.record(step)
            future, done = self._mailbox.expect()
            step.numbered(self._journal.submit(step.entry, done))
            return await future
        except AuditError as error:
            raise unrecorded() from error

    async def _call(self, step: Call) -> Any:
        submit = getattr(step.token, "submit", None)
        if submit is None:
            return await self._in_thread(getattr(step.token, step.method), *step.arguments)
        future, done = self._mailbox.expect()
        call = submit(step.method, step.arguments, done)
        try:
            return await future
        except asyncio.CancelledError:
            if call is not None:
                call.cancel()
            raise


class _Commits:
    """Makes what one turn of the event loop records durable together, on the loop itself.

    A sync of the disk takes less than handing it to a thread and hearing back, as long as the disk is quick: with the
    loop busy, a thread waits for the interpreter before and after it. Nothing is lost by the loop standing still
    meanwhile, because everything that it could do waits for the same disk, and the tokens work on in their processes.
    Where syncs are slow (`quick` is false), they are left to the journal's thread, and tried here again now and then.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[tuple[asyncio.Future[int], int]] = []
        self._seconds = 0.0
        self._try_again = 0.0

    @property
    def quick(self) -> bool:
        """Whether syncs have been quick lately."""
        return self._seconds < _QUICK or time.monotonic() > self._try_again

    def record(self, step: Record) -> asyncio.Future[int]:
        """The number of the entry, once it is on the disk. Raises EntryError and JournalFailedError known at once."""
        index = self._journal.buffer(step.entry)
        step.numbered(index)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append((future, index))
        return future

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        begun = time.monotonic()
        try:
            self._journal.flush()
        except Exception as error:  # an AuditError, or whatever it was: nobody may wait for ever
            for future, _index in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        now = time.monotonic()
        self._seconds += (now - begun - self._seconds) / 16
        self._try_again = now + _LOOK_AGAIN
        for future, index in waiting:
            if not future.done():
                future.set_result(index)


class _Mailbox:
    """Results that other threads send to the event loop: one wake-up for all that arrive together."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._woken = False

    def expect(self) -> tuple[asyncio.Future[Any], Callable[[Any], None]]:
        """A future, and the function that settles it from any thread: with an exception if it is given one."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def done(result: Any) -> None:
            if asyncio._get_running_loop() is loop:
                _settle(future, result)
                return
            self._arrived.append((future, result))
            if not self._woken:
                self._woken = True
                # A loop that was closed meanwhile has nobody left to tell; what was done is on record.
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._deliver)

        return future, done

    def _deliver(self) -> None:
        self._woken = False  # first: who comes from now on wakes the loop again
        while self._arrived:
            _settle(*self._arrived.popleft())


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():  # cancelled
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


class _Turnstile:
    """Lets a bounded number through at a time; the others wait in their order, not many and not long."""

    def __init__(self, inside: int, waiting: int, longest: float) -> None:
        self._free = inside
        self._waiting = waiting
        self._longest = longest
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a turn; Problem 503 with Retry-After if too many wait, or it does not come in time."""
        if self._free > 0:
            self._free -= 1
            return
        if len(self._queue) >= self._waiting:
            raise Problem(503, "overloaded", "too many operations wait already", headers=_RETRY)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._queue.append(turn)
        timer = loop.call_later(self._longest, _give_up, turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # the turn came at the moment of the cancellation
            raise
        finally:
            timer.cancel()

    def leave(self) -> None:
        """Give the turn back: to the first who still waits."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(Problem(503, "overloaded", "the token is busy; no turn came in time", headers=_RETRY))
