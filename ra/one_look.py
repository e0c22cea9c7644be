"""One look at the lists in force for each act: all that a request is judged by sees the same ones.

A request asks several times what may be believed: who calls, what the case's evidence and decisions are worth, what is
shown of it. The first of these asks the repository, the others get what it answered, for a second: the lists were in
force after the request had come, so a certificate that was revoked before it counts for nothing in any of them. What
is not asked for by a request, such as the clock's work, asks each time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from pki.path import Trust

_LASTS: Final = timedelta(seconds=1)
"""A request can last long: bodies come slowly, and it waits for the CA."""


class _Act:
    """What a request has seen so far."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: tuple[object, datetime, Trust] | None = None


_act: ContextVar[_Act | None] = ContextVar("act", default=None)


class OneLook:
    """`trust(now)`, asked once for each act; safe for threads."""

    def __init__(self, trust: Callable[[datetime], Trust]) -> None:
        self._trust = trust

    def __call__(self, now: datetime) -> Trust:
        """Roots, CAs and CRLs in force; raises as what was given."""
        act = _act.get()
        if act is None:
            return self._trust(now)
        if act.seen is not None:
            asked, at, trust = act.seen
            if asked is self and timedelta(0) <= now - at <= _LASTS:
                return trust
        trust = self._trust(now)
        act.seen = self, now, trust
        return trust


class EachRequest:
    """ASGI middleware: each request is an act of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        token = _act.set(_Act())
        try:
            await self.app(scope, receive, send)
        finally:
            _act.reset(token)
