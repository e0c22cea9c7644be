"""Faults on demand: what happens to the next questions of one kind."""

from __future__ import annotations

import threading
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fault = Literal[
    "slow",  # answered after `seconds`
    "drip",  # answered byte by byte, one each `seconds`
    "close",  # done, and the connection closed instead of an answer
    "garbage",  # done, and answered with what is no JSON
    "endless",  # answered with more than anybody reads
    "contradict",  # answered that there is nothing of this number
    "unknown",  # answered that the register cannot tell
    "error",  # HTTP 500
    "another_key",  # answered as if another question had been asked
    "differ",  # a repeat of a key is answered otherwise than the first time
]


class Planned(BaseModel):
    """A fault for the next `count` requests to `kind`: a kind of question, or `messages`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    fault: Fault
    count: Annotated[int, Field(ge=1)] = 1
    seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0


class FaultPlan:
    """The faults that wait, first come first served; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Planned] = []

    def add(self, planned: Planned) -> None:
        """Put a fault at the end of the plan."""
        with self._lock:
            self._waiting.append(planned)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()

    def take(self, kind: str) -> Planned | None:
        """The fault that happens to a request of this kind now, if any."""
        with self._lock:
            for at, planned in enumerate(self._waiting):
                if planned.kind == kind:
                    if planned.count == 1:
                        del self._waiting[at]
                    else:
                        self._waiting[at] = planned.model_copy(update={"count": planned.count - 1})
                    return planned
        return None
