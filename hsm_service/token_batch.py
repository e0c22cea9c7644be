"""A batch of signatures, cut up so that all threads of a token's process work on it, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from hsm_service.token_wire import Method

Done = Callable[[Any], None]

_SMALLEST: Final = 4
_LARGEST: Final = 32
"""Signatures that one thread makes in a row: enough to be worth a message, few enough that others get their turn."""


def in_parts(
    sign_many: Method, arguments: tuple[Any, ...], done: Done, parts: int
) -> list[tuple[Method, tuple[Any, ...], Done]]:
    """The calls that do what one `sign_many` with `arguments` would, about `parts` of them; `done` is called once.

    It is given all signatures in their order, or the first error. No digests: no call, and `done` is called now.
    """
    ref, mechanism, digests = arguments
    if not digests:
        done([])
        return []
    size = min(max(len(digests) // parts, _SMALLEST), _LARGEST)
    pieces = [list(digests[start : start + size]) for start in range(0, len(digests), size)]
    gathered = _Gathered(len(pieces), done)
    return [(sign_many, (ref, mechanism, piece), gathered.place(number)) for number, piece in enumerate(pieces)]


class _Gathered:
    """The parts of a batch on their way to one `done`; used by the thread that settles calls."""

    def __init__(self, parts: int, done: Done) -> None:
        self._parts: list[Sequence[bytes]] = [()] * parts
        self._missing = parts
        self._done = done

    def place(self, number: int) -> Done:
        """What is told the answer of part `number`."""

        def take(answer: Any) -> None:
            if self._missing <= 0:
                return  # another part failed before, and was told
            if isinstance(answer, BaseException):
                self._missing = 0
                self._done(answer)
                return
            self._parts[number] = answer
            self._missing -= 1
            if self._missing == 0:
                self._done([signature for part in self._parts for signature in part])

        return take
