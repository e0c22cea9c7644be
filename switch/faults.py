"""Faults on demand: what the network may do to the next messages of one kind."""

from __future__ import annotations

import threading
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "ignore",  # the request is lost on its way: nothing happens
    "refuse",  # answered with `rc`, nothing booked (what moves money forward only)
    "drop",  # done, but the answer is lost
    "delay",  # done, the answer leaves `seconds` later
    "repeat",  # done, the answer comes twice
    "disconnect",  # done, then the connection breaks instead of an answer
    "corrupt_mac",  # done, one bit of the answer's MAC is wrong
    "garble",  # done, the answer is noise of the same length
    "wrong_stan",  # done, the answer carries another STAN, under a right MAC
    "alter",  # done, the answer carries `fields`, under a right MAC
]


class Fault(BaseModel):
    """One fault, for the next `count` messages whose MTI matches `mti`, where x stands for any digit ("042x")."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mti: Annotated[str, Field(pattern=r"^[0-9x]{4}$")]
    kind: Kind
    count: Annotated[int, Field(ge=1)] = 1
    seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    rc: Annotated[str, Field(pattern=r"^[0-9A-Z]{2}$")] = "91"
    fields: dict[int, str] = {}

    def matches(self, mti: str) -> bool:
        """True if the fault is meant for messages of this MTI."""
        return all(own in ("x", digit) for own, digit in zip(self.mti, mti, strict=True))


class FaultPlan:
    """The faults that wait, first come first served. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a fault at the end of the plan."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[Fault]:
        """The faults that have not happened yet, with their remaining counts."""
        with self._lock:
            return list(self._waiting)

    def take(self, mti: str) -> Fault | None:
        """The fault that happens to a message of this MTI now, if any."""
        with self._lock:
            for at, fault in enumerate(self._waiting):
                if fault.matches(mti):
                    if fault.count == 1:
                        del self._waiting[at]
                    else:
                        self._waiting[at] = fault.model_copy(update={"count": fault.count - 1})
                    return fault
        return None
