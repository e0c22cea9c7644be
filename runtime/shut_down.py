"""How a server ends when it is told to: in order, and without losing a request that it has begun.

    SIGTERM    not ready from now on: /health/ready answers 503, /health/live still 200, work goes on for `notice`
               seconds, and every answer asks its client to close the connection
    drain      nothing new is accepted, idle connections are closed, what was begun gets its answer, for at most `drain`
               seconds
    return     `serve` returns, and the caller closes what is below the server: last checkpoint, log, tokens

A second SIGTERM hurries: the server stops waiting, and the caller still closes what is below it. The signal is not
raised again at the end, as uvicorn would: the process would die of it before anything is closed. Its handler stays, so
that no signal tears the closing apart; SIGKILL does.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, Final

import uvicorn

from runtime.logging import get_logger

DRAIN: Final = 10.0
"""Seconds that what was begun has for its answers."""

_GOODBYE: Final = 0.5
"""Seconds that an idle connection has for closing; in TLS that takes the client's answer."""

_STOPPING: Final = "kwbp.stopping"
_CLOSE: Final = (b"connection", b"close")
_log: Final = get_logger("server")


def is_stopping(scope: Mapping[str, Any]) -> bool:
    """Whether the server of this request was told to end."""
    return _STOPPING in scope.get("state", {})


class OrderedServer(uvicorn.Server):
    """A server for the main thread that ends as this module says.

    `on_stop` is called when the first signal came, `on_hurry` when another did; both must return at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        notice: float = 0.0,
        on_stop: Callable[[], None] = lambda: None,
        on_hurry: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._notice = notice
        self._on_stop = on_stop
        self._on_hurry = on_hurry
        self._stop_at: float | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM, SIGINT and SIGHUP from now on, to the end of the process."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.handle_exit)
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(signal.SIGHUP, self.handle_exit)  # its terminal went away
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind; what cannot be bound ends the process, and uvicorn has logged why."""
        await super().startup(sockets)
        if self.started:
            _log.info("listening", host=self.config.host, port=self.config.port, tls=self.config.is_ssl)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, each further one hurries it."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._notice
            self._on_stop()
        else:
            self.should_exit = self.force_exit = True
            self._on_hurry()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether to drain now."""
        if self._stop_at is not None:
            if _STOPPING not in self.lifespan.state:
                self.lifespan.state[_STOPPING] = True
                _log.info("stopping", notice=self._notice)
            if time.monotonic() >= self._stop_at:
                self.should_exit = True
        over = await super().on_tick(counter)
        if self._stop_at is not None and _CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        return over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain. A client that has nothing under way need not say goodbye: not all listen to what they do not await."""
        idle = [each for each in self.server_state.connections if _is_idle(each)]

        def cut() -> None:
            for each in idle:
                if each in self.server_state.connections:
                    each.transport.abort()

        asyncio.get_running_loop().call_later(_GOODBYE, cut)
        await super().shutdown(sockets)


def _is_idle(connection: Any) -> bool:
    return connection.cycle is None or connection.cycle.response_complete
