"""Length prefix of the TCP link: big-endian unsigned, 2 or 4 bytes, counting the message without itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shetab.errors import FramingError

MAX_MESSAGE: Final = 8192
"""Bytes. The longest message of the dialect is far below; a longer prefix means that the peers lost step."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How messages are cut out of the stream."""

    prefix_size: int = 2
    limit: int = MAX_MESSAGE

    def __post_init__(self) -> None:
        if self.prefix_size not in (2, 4):
            raise FramingError("the length prefix has 2 or 4 bytes")

    def frame(self, message: bytes) -> bytes:
        """`message` with its length prefix.

        :raises FramingError: empty, or longer than the limit.
        """
        return self._checked(len(message)).to_bytes(self.prefix_size, "big") + message

    def length(self, prefix: bytes) -> int:
        """Length in bytes of the message that follows `prefix`.

        :raises FramingError: prefix of another size; length 0 or beyond the limit (close the connection: the stream
            has no place to start again from).
        """
        if len(prefix) != self.prefix_size:
            raise FramingError(f"the length prefix has {self.prefix_size} bytes, not {len(prefix)}")
        return self._checked(int.from_bytes(prefix, "big"))

    def split(self, stream: bytes) -> tuple[list[bytes], bytes]:
        """Whole messages at the front of `stream`, and the rest that waits for more bytes.

        :raises FramingError: as `length`.
        """
        messages = []
        while len(stream) >= self.prefix_size:
            end = self.prefix_size + self.length(stream[: self.prefix_size])
            if len(stream) < end:
                break
            messages.append(stream[self.prefix_size : end])
            stream = stream[end:]
        return messages, stream

    def _checked(self, length: int) -> int:
        if not 1 <= length <= self.limit:
            raise FramingError(f"a message has 1 to {self.limit} bytes, not {length}")
        return length
