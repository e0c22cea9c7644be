"""An authoriser that does as it is told: the HTTP counterpart of `ScriptedSwitch`, with the same steps.

A socket server of its own and no framework: what it must do (no answer, a hang-up in the middle) frameworks prevent.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from types import TracebackType
from typing import Self

import httptools

from shetab.dialect import Direction
from shetab.json_form import JsonForm
from shetab.mac import message_mac, verify_message_mac
from shetab.message import Message
from tests.support.scripted_switch import DIALECT, MAC_KEY, Step, answer_to

FORM = JsonForm(DIALECT)


class _Parsed:
    """One request as httptools tells it."""

    def __init__(self) -> None:
        self.url, self.body, self.whole = b"", b"", False
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = True


class ScriptedAuthoriser:
    """`async with ScriptedAuthoriser() as authoriser`; steps as for the scripted switch."""

    def __init__(self, *, key: bytes = MAC_KEY) -> None:
        self.received: list[Message] = []
        self.idempotency_keys: list[str] = []
        self.ready = True
        self.hangs = False
        self.port = 0
        self._key = key
        self._steps: defaultdict[str, deque[Step]] = defaultdict(deque)
        self._status: deque[tuple[int, str]] = deque()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def plan(self, mti: str, *steps: Step) -> None:
        """The next messages of `mti` (a first one or its repeats), one step each."""
        self._steps[mti].extend(steps)

    def plan_status(self, status: int, media_type: str = "application/problem+json") -> None:
        """The next message gets this status instead of an answer."""
        self._status.append((status, media_type))

    def count(self, mti: str) -> int:
        return sum(1 for message in self.received if message.mti == mti)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        parsed = _Parsed()
        parser = httptools.HttpRequestParser(parsed)
        while not parsed.whole:
            data = await reader.read(65_536)
            if not data:
                return False
            parser.feed_data(data)
        if parsed.url == b"/health/ready":
            if self.hangs:
                await asyncio.sleep(3600)
            _respond(writer, 200 if self.ready else 503, b"{}")
            return True
        return await self._transact(parsed, writer)

    async def _transact(self, parsed: _Parsed, writer: asyncio.StreamWriter) -> bool:
        if "kwbp-mac" in parsed.headers:
            assert verify_message_mac(self._key, parsed.body, bytes.fromhex(parsed.headers["kwbp-mac"]))
        message = FORM.decode(parsed.body, Direction.TO_SWITCH)
        self.received.append(message)
        self.idempotency_keys.append(parsed.headers["idempotency-key"])
        if self._status:
            status, media_type = self._status.popleft()
            _respond(writer, status, b"{}", media_type=media_type)
            return True
        steps = self._steps[DIALECT.original_mti(message.mti)]
        step = steps.popleft() if steps else Step()
        if step.hang_up:
            return False
        if step.delay:
            await asyncio.sleep(step.delay)
        if step.drop:
            await asyncio.sleep(3600)
        body = FORM.encode(answer_to(message, step)) if step.junk is None else step.junk
        mac = message_mac(self._key, body)
        if step.corrupt_mac:
            mac = bytes([mac[0] ^ 1]) + mac[1:]
        _respond(writer, 200, body, mac=mac)
        return True


def _respond(
    writer: asyncio.StreamWriter, status: int, body: bytes, *, mac: bytes = b"", media_type: str = "application/json"
) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n"
    if mac:
        head += f"kwbp-mac: {mac.hex().upper()}\r\n"
    writer.write(head.encode() + b"\r\n" + body)
