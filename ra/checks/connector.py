"""What a register of others looks like from here: it is asked a question and answers, or there is no answer.

A question has a key that stays the same however often it is asked, so that a register recognises a repeat. Its fields
are personal data: they are in no `repr`, no log and no exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cps.check_model import CheckKind

AnswerStatus = Literal["confirmed", "contradicted", "unknown"]
"""`unknown`: the register says that it cannot tell, which confirms nothing and contradicts nothing."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a register is asked; `key` is the same for every repeat."""

    kind: CheckKind
    key: str
    fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a register answered: `reason` for a contradiction, `body` the bytes as they came."""

    status: AnswerStatus
    reason: str
    body: bytes = field(repr=False)


class NoAnswerError(Exception):
    """Nobody answered, or nobody could understand it; `reason` is one word for logs and officers.

    Whether the register did what it was asked is not known; asking again with the same key does it once.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Connector(Protocol):
    """The way to one register; safe to call from any number of threads."""

    @property
    def source(self) -> str:
        """Who is asked, as evidence names it."""
        ...

    def ask(self, question: Question, *, timeout: float) -> Answer:
        """The register's answer, within about `timeout` seconds. Raises NoAnswerError."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Messenger(Protocol):
    """The way to people's phones; safe to call from any number of threads."""

    def send(self, phone: str, text: str, *, key: str, timeout: float) -> None:
        """Have `text` sent once, however often it is asked with the same key. Raises NoAnswerError."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
