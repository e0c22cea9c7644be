"""A TCP line of ours between two services, which fails as lines do.

    with Wire.between(target_port, frames=2) as wire:      # whoever is to talk to the target connects to wire.port
        wire.fault = Fault.REPEAT                           # from now on; Fault.NONE heals it

`frames` is the size of a length prefix where whole messages are to be met (ISO 8583 over TCP): then a message is
dropped, delayed, repeated or has one byte changed as a message. On other lines (TLS) the same happens to what comes in
at a time, and TLS sees to it that nothing of that is ever believed.

Chance is a `Random` of the caller. What was done is counted in `done`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from random import Random
from typing import Any, Final

_CHUNK: Final = 65_536


class Fault(StrEnum):
    """What a line does."""

    NONE = "none"
    CUT = "cut"
    """Every connection is reset, and each new one at once."""
    BREAK = "break"
    """Connections are reset in the middle of some message; new ones may come."""
    DROP = "drop"
    """Some messages never arrive."""
    DELAY = "delay"
    """Messages arrive late."""
    REPEAT = "repeat"
    """Messages arrive twice."""
    CORRUPT = "corrupt"
    """One byte of some message is another."""
    HALF_OPEN = "half-open"
    """What the target sends is swallowed: to the other side the connection looks alive."""
    STALL = "stall"
    """Nothing moves in either direction, and no connection ends."""


LATE: Final = 1.0
"""Seconds by which messages are late."""
_SOMETIMES: Final = 0.4


class Wire:
    """Made by `between`. `fault` may be set from any thread."""

    def __init__(self, targets: Sequence[int], frames: int, random: Random) -> None:
        self._targets = list(targets)
        self._frames = frames
        self._random = random
        self._loop = asyncio.new_event_loop()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._fault = Fault.NONE
        self.done: Counter[Fault] = Counter()
        self.port = 0

    @classmethod
    @contextmanager
    def between(cls, *targets: int, frames: int = 0, random: Random) -> Iterator[Wire]:
        """A line to a port of the loopback, to the next one of several if that takes no connection."""
        wire = cls(targets, frames, random)
        thread = threading.Thread(target=wire._loop.run_forever, name="wire", daemon=True)
        thread.start()
        try:
            server = wire._do(asyncio.start_server(wire._connected, "127.0.0.1", 0))
            wire.port = server.sockets[0].getsockname()[1]
            yield wire
            wire._loop.call_soon_threadsafe(server.close)
        finally:
            wire._do(wire._end())
            wire._loop.call_soon_threadsafe(wire._loop.stop)
            thread.join()
            wire._loop.close()

    @property
    def fault(self) -> Fault:
        """What the line does now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._do(self._set(fault))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _set(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        lost = before in (Fault.HALF_OPEN, Fault.STALL) or (before is Fault.DROP and not self._frames)
        if fault is Fault.CUT or (fault is Fault.NONE and lost):
            self._reset()  # bytes are missing on them: such a connection never comes back
        self._changed.set()
        self._changed = asyncio.Event()

    async def _end(self) -> None:
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset(self) -> None:
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._fault is Fault.CUT:
            self.done[Fault.CUT] += 1
            writer.transport.abort()
            return
        far = await self._reach()
        if far is None:
            writer.transport.abort()
            return
        pair = (writer, far[1])
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far[1], pair, answers=False))
                group.create_task(self._carry(far[0], writer, pair, answers=True))
        except* (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either end has gone, or the wire is at its end
        finally:
            self._pairs.discard(pair)
            for each in pair:
                each.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._turn += 1
        for number in range(len(self._targets)):
            port = self._targets[(self._turn + number) % len(self._targets)]
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        answers: bool,
    ) -> None:
        while message := await self._next(reader):
            for part in await self._met(message, pair, answers=answers):
                writer.write(part)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        if not self._frames:
            return await reader.read(_CHUNK)
        prefix = await reader.read(1)
        if not prefix:
            return b""
        prefix += await reader.readexactly(self._frames - 1)
        return prefix + await reader.readexactly(int.from_bytes(prefix))

    async def _met(
        self, message: bytes, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter], *, answers: bool
    ) -> list[bytes]:
        """What becomes of a message; a fault of the line is looked up when it comes by."""
        while self._fault is Fault.STALL:
            self.done[Fault.STALL] += 1
            await self._changed.wait()
        fault = self._fault
        if fault in (Fault.DROP, Fault.BREAK, Fault.CORRUPT) and self._random.random() > _SOMETIMES:
            return [message]
        if fault is Fault.HALF_OPEN and not answers:
            return [message]
        if fault is not Fault.NONE:
            self.done[fault] += 1
        match fault:
            case Fault.DROP | Fault.HALF_OPEN:
                return []
            case Fault.DELAY:
                await asyncio.sleep(LATE)
            case Fault.REPEAT:
                return [message, message]
            case Fault.CORRUPT:
                at = self._random.randrange(self._frames, len(message))
                return [message[:at] + bytes([message[at] ^ 1 << self._random.randrange(8)]) + message[at + 1 :]]
            case Fault.BREAK | Fault.CUT:
                for writer in pair:
                    writer.transport.abort()
                return [message[: len(message) // 2]]
        return [message]
