"""The line between gateway and switch, which is the attacker's too: it drops, holds, repeats and reorders frames.

Sign-on and echo always pass, or there would be no line at all. The attacker cannot make a good MAC unless the line's
key is its own (`forged_answer`: a dishonest switch).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from shetab.dialect import Dialect, Direction
from shetab.framing import Framing
from shetab.mac import message_mac
from shetab.message import Message
from switch.processing import Reply, Session
from tests.hostile.agreement.virtual_time import VirtualLoop, as_party
from tests.support.scripted_switch import Step, answer_to

DIALECT: Final = Dialect.load("shetab87_ascii")
_FRAMING: Final = Framing()
_MANAGEMENT: Final = b"08"


class SwitchLine:
    """Frames under way in both directions, without their length prefix."""

    def __init__(self, loop: VirtualLoop, switch: Callable[[bytes, Session], Awaitable[Reply]]) -> None:
        self._loop = loop
        self._switch = switch
        self._session = Session()
        self._transport: _Transport | None = None
        self.honest = False
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self.seen: list[bytes] = []
        loop.connect = self._connect

    def _connect(self, protocol: asyncio.Protocol, port: int) -> asyncio.Transport:
        self._session = Session()
        self._transport = _Transport(self, protocol)
        return self._transport

    def sent(self, frame: bytes) -> None:
        """The gateway sends a frame."""
        self.seen.append(frame)
        if self.honest or frame.startswith(_MANAGEMENT):
            self.to_switch(frame, passes=True)
        else:
            self.requests.append(frame)

    def to_switch(self, frame: bytes, *, passes: bool) -> None:
        """Let the switch have a frame, and the gateway its answer if that `passes`."""
        as_party("switch", lambda: self._loop.create_task(self._process(frame, passes)))

    async def _process(self, frame: bytes, passes: bool) -> None:
        reply = await self._switch(frame, self._session)
        for answer in reply.frames:
            self.seen.append(answer)
            if passes:
                self.to_gateway(answer)
            else:
                self.answers.append(answer)

    def to_gateway(self, frame: bytes) -> None:
        """Let the gateway have a frame."""
        if self._transport is not None:
            self._transport.receive(_FRAMING.frame(frame))

    def cut(self) -> None:
        """The connection breaks; frames under way stay in the attacker's hands."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def be_honest(self) -> None:
        """From now on everything arrives at once; what was held is lost."""
        self.honest = True
        self.requests.clear()
        self.answers.clear()


class _Transport(asyncio.Transport):
    def __init__(self, line: SwitchLine, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._line = line
        self._protocol = protocol
        self._stream = b""
        self._closed = False

    def write(self, data: Any) -> None:
        if not self._closed:
            frames, self._stream = _FRAMING.split(self._stream + bytes(data))
            for frame in frames:
                self._line.sent(frame)

    def receive(self, data: bytes) -> None:
        if not self._closed:
            self._protocol.data_received(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closed

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._line._loop.call_soon(self._protocol.connection_lost, None)


def read_request(frame: bytes) -> Message:
    """A frame of the gateway."""
    return DIALECT.decode(frame, Direction.TO_SWITCH)


def forged_answer(frame: bytes, *, rc: str, key: bytes, approval: str | None = None) -> bytes:
    """An answer to a frame of the gateway that no issuer gave; under a good MAC if the key is the line's."""
    change = {} if approval is None else {38: approval}
    raw = DIALECT.encode(answer_to(read_request(frame), Step(rc=rc, change=change)))
    return DIALECT.with_mac(raw, message_mac(key, DIALECT.mac_input(raw)))
