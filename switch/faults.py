"""Faults on demand: what the network may do to the next messages of one kind."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    "wrong_amount",  # done, the answer says one rial more, under a right MAC
    "alter",  # done, the answer carries `fields`, under a right MAC
    "partial",  # done, half of the answer leaves, then the connection breaks
    "bad_length",  # done, the answer's length prefix says more than any message has
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Fault(BaseModel):
    """One fault, for the next `count` messages whose MTI matches `mti`, where x stands for any digit ("042x").

    Of these only messages of a card whose PAN ends with `card`, if that is given; and each only with `probability`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mti: Annotated[str, Field(pattern=r"^[0-9x]{4}$")]
    kind: Kind
    count: Annotated[int, Field(ge=1)] = 1
    seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    rc: Annotated[str, Field(pattern=r"^[0-9A-Z]{2}$")] = "91"
    fields: dict[int, str] = {}
    probability: Annotated[float, Field(gt=0, le=1)] = 1
    card: Annotated[str | None, Field(pattern=r"^[0-9]{4}$", description="last four digits of the PAN")] = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.kind == "delay" and not self.seconds:
            raise ValueError("a delay needs seconds")
        if self.kind == "alter" and not self.fields:
            raise ValueError("alter needs fields")
        if not all(2 <= field <= 128 for field in self.fields):
            raise ValueError("fields are numbered 2 to 128")
        return self

    def matches(self, mti: str, pan: str = "") -> bool:
        """True if the fault is meant for messages of this MTI and PAN (none: empty)."""
        if self.card is not None and not pan.endswith(self.card):
            return False
        return all(own in ("x", digit) for own, digit in zip(self.mti, mti, strict=True))


class FaultPlan:
    """The faults that wait, first come first served. Safe to use from several threads."""

    def __init__(self, *, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to below 1."""
        self._chance = chance
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

    def take(self, mti: str, pan: str = "") -> Fault | None:
        """The fault that happens to a message of this MTI and PAN now, if any."""
        with self._lock:
            for at, fault in enumerate(self._waiting):
                if fault.matches(mti, pan) and (fault.probability == 1 or self._chance() < fault.probability):
                    if fault.count == 1:
                        del self._waiting[at]
                    else:
                        self._waiting[at] = fault.model_copy(update={"count": fault.count - 1})
                    return fault
        return None
