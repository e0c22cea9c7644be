"""`Durable` in a thread with an event loop of its own, for a service whose own loop must not wait for its rows.

It starts with the first thing it is asked for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

from runtime.durable import Durable


class DurableThread:
    """What `make` makes, entered in a thread when it is first needed. `close` it from another thread."""

    def __init__(self, make: Callable[[], Durable]) -> None:
        self._make = make
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ready: Future[tuple[asyncio.AbstractEventLoop, Durable]] = Future()
        self._stop: asyncio.Event | None = None

    async def begin(self, loop: str, argument: str) -> None:
        """See `Durable.begin`."""
        thread_loop, durable = await self._started()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(durable.begin(loop, argument), thread_loop))

    async def take_over(self, loop: str, argument: str) -> None:
        """See `Durable.take_over`."""
        thread_loop, durable = await self._started()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(durable.take_over(loop, argument), thread_loop))

    def close(self) -> None:
        """End what is under way, which goes on after the next start."""
        with self._guard:
            thread = self._thread
        if thread is None:
            return
        try:
            loop, _ = self._ready.result()
        except Exception:  # it never started, and whoever asked for it was told so
            thread.join()
            return
        assert self._stop is not None
        loop.call_soon_threadsafe(self._stop.set)
        thread.join()

    async def _started(self) -> tuple[asyncio.AbstractEventLoop, Durable]:
        with self._guard:
            if self._ready.done() and self._ready.exception() is not None:
                self._thread, self._ready = None, Future()  # try again
            if self._thread is None:
                self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="durable", daemon=True)
                self._thread.start()
            ready = self._ready
        return await asyncio.shield(asyncio.wrap_future(ready))

    async def _run(self) -> None:
        stop = self._stop = asyncio.Event()
        try:
            durable = self._make().__enter__()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        try:
            self._ready.set_result((asyncio.get_running_loop(), durable))
            await stop.wait()
            await durable.leave_loops()
        finally:
            durable.__exit__(None, None, None)
