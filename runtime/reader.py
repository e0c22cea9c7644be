"""Who reads the answer that is being made: their language, for whatever is built on the way to it.

A problem is put into words where the request is at hand (`runtime.problems`). A view is built far from it, in a thread
of the pool; `ReadersLanguage` notes the language for the time of the request, and `reader` tells it there.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.language import Language
from runtime.problems import reader_of

_reader: Final[ContextVar[Language]] = ContextVar("reader", default=Language.EN)


def reader() -> Language:
    """The language of whoever made the request that is being answered; English outside of one."""
    return _reader.get()


class ReadersLanguage:
    """ASGI middleware for services whose answers hold sentences (RFC 9110 8.5, 12.5.5)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        language = reader_of(scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Language", language)
                headers.add_vary_header("Accept-Language")
            await send(message)

        token = _reader.set(language)
        try:
            await self.app(scope, receive, sending)
        finally:
            _reader.reset(token)
