"""A switch that does as it is told: a TCP peer of the dialect which drops, delays, repeats, corrupts on demand.

It keeps no accounts; it records what came and answers by its script. For the gateway's line and reversals, where the
order of events must be exact. The bank network with accounts and issuers is the package `switch`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from shetab.dialect import Dialect, Direction
from shetab.framing import Framing
from shetab.mac import message_mac, verify_message_mac
from shetab.message import Message

MAC_KEY: Final = bytes(range(16))
DIALECT: Final = Dialect.load("shetab87_ascii")


class SoftwareMac:
    """The zone MAC key in software, where a token is not the subject."""

    def __init__(self, key: bytes = MAC_KEY) -> None:
        self.key = key

    async def mac(self, data: bytes) -> bytes:
        return message_mac(self.key, data)

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        return verify_message_mac(self.key, data, mac)


@dataclass(frozen=True)
class Step:
    """What to do with one message: by default answer it with response code 00."""

    rc: str = "00"
    drop: bool = False
    delay: float = 0.0
    copies: int = 1
    corrupt_mac: bool = False
    change: Mapping[int, str] = field(default_factory=dict)
    """Data elements that the answer falsifies, under a good MAC."""
    hang_up: bool = False
    elsewhere: bool = False
    """Answered on another connection than the request came by, if there is one."""
    junk: bytes | None = None
    """Bytes sent, framed, instead of an answer."""


class ScriptedSwitch:
    """`async with ScriptedSwitch() as switch`; `switch.plan("0200", Step(drop=True))` is for the next 0200 or 0201."""

    def __init__(self, *, key: bytes = MAC_KEY, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Message] = []
        self.sessions = 0
        self.on_line: dict[asyncio.StreamWriter, list[Message]] = {}
        """What came, by the connection that it came on."""
        self._key = key
        self._answering = key
        self._port = port
        self._tls = tls
        self._framing = Framing()
        self._steps: defaultdict[str, deque[Step]] = defaultdict(deque)
        self._default: dict[str, Step] = {}
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return self._port

    @property
    def writers(self) -> list[asyncio.StreamWriter]:
        """The connections that are open, oldest first."""
        return [writer for writer in self._writers if not writer.is_closing()]

    def plan(self, mti: str, *steps: Step) -> None:
        """The next messages of `mti` (a first one or its repeats), one step each."""
        self._steps[mti].extend(steps)

    def always(self, mti: str, step: Step) -> None:
        """Every message of `mti` that has no planned step."""
        self._default[mti] = step

    def count(self, mti: str) -> int:
        return sum(1 for message in self.received if message.mti == mti)

    def of(self, mti: str) -> list[Message]:
        return [message for message in self.received if message.mti == mti]

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def becomes(self, key: bytes, *, answers: bytes | None = None) -> None:
        """What comes in is under `key` from now on, and so is what goes out, unless that is under `answers`."""
        self._key, self._answering = key, answers or key

    async def send(self, message: Message) -> None:
        """Send a message of the switch's own on the newest connection."""
        self._writers[-1].write(self._framing.frame(self._sealed(message)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        self._writers.append(writer)
        try:
            while True:
                raw = await reader.readexactly(self._framing.length(await reader.readexactly(2)))
                message = DIALECT.decode(raw, Direction.TO_SWITCH)
                assert message.mac is not None
                assert verify_message_mac(self._key, DIALECT.mac_input(raw), message.mac)
                self.received.append(message)
                self.on_line.setdefault(writer, []).append(message)
                if not message.is_response:
                    task = asyncio.create_task(self._answer(message, writer))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> None:
        original = DIALECT.original_mti(request.mti)
        steps = self._steps[original]
        step = steps.popleft() if steps else self._default.get(original, Step())
        if step.hang_up:
            writer.close()
            return
        if step.drop:
            return
        if step.delay:
            await asyncio.sleep(step.delay)
        if step.junk is not None:
            writer.write(self._framing.frame(step.junk))
            return
        if step.elsewhere:
            writer = next((each for each in self._writers if each is not writer and not each.is_closing()), writer)
        raw = self._sealed(answer_to(request, step))
        if step.corrupt_mac:
            raw = raw[:-1] + (b"0" if raw[-1:] != b"0" else b"1")
        for _ in range(step.copies):
            writer.write(self._framing.frame(raw))

    def _sealed(self, message: Message) -> bytes:
        raw = DIALECT.encode(message)
        return DIALECT.with_mac(raw, message_mac(self._answering, DIALECT.mac_input(raw)))


def answer_to(request: Message, step: Step) -> Message:
    """The answer that the tables ask for, with the step's response code and falsifications."""
    fields = DIALECT.echoed_fields(request) | {7: request[7], 39: step.rc}
    mti = DIALECT.response_mti(request.mti)
    if mti == "0810":
        fields |= {100: request[33]}
    else:
        fields |= {6: request[4], 10: "00000001", 15: request[13], 33: "581672000", 51: "364", 62: request[62]}
        if mti == "0210" and step.rc == "00":
            fields |= {38: "A12345"}
    return Message(mti, {**fields, **step.change})
