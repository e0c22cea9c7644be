"""What a run buys and what befalls it meanwhile, out of one seed; pure.

Events are tied to purchases ("when the 40th begins"), not to times: with the same seed the same happens to the same
purchases, as far as processes that run side by side allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from random import Random
from typing import Final

from tests.faults.payments.wire import Fault

BASKETS: Final = (
    (("golestan", 1),),
    (("divan-hafez", 1),),
    (("divan-hafez", 2), ("golestan", 1)),
    (("shahnameh", 1),),
)


class Manner(StrEnum):
    """How an order is placed, and what its merchant does with the approval."""

    SALE = "sale"
    HOLD = "hold"
    REFUSED = "refused"
    """Its merchant does not accept the approval (AuthAck with accepted FALSE)."""
    SILENT = "silent"
    """Its merchant never acknowledges."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One purchase; `after` is what the merchant's people ask for once it is paid."""

    number: int
    buyer: int
    shop: int
    manner: Manner
    basket: tuple[tuple[str, int], ...]
    amount: int
    after: tuple[str, ...] = ()


class What(StrEnum):
    """Kinds of events."""

    KILL = "kill -9"
    WIRE = "line"
    DISK = "full disk"
    CLOCK = "clock"
    MIDNIGHT = "all clocks past midnight"
    PAUSE = "pause"
    KEYS = "new zone keys"
    SWITCH = "answer of the bank network"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Event:
    """`what` happens to `target` when purchase `at` begins, and is undone after `seconds`."""

    at: int
    what: What
    target: str = ""
    how: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        words = [f"#{self.at}", self.what, self.target, self.how, f"{self.seconds:g} s" if self.seconds else ""]
        return " ".join(word for word in words if word)


_SERVICES: Final = ("gateway", "hsm", "switch", "front")
_WIRES: Final = ("link", "front", "keys")
_JUMPS: Final = (-600.0, -90.0, -20.0, 20.0, 90.0, 600.0)
_ANSWERS: Final = ("ignore", "drop", "corrupt_mac", "garble", "wrong_stan", "disconnect", "repeat", "delay", "amount")


def purchases(random: Random, count: int, *, buyers: int, shops: int) -> list[Plan]:
    """The purchases of a run, in the order in which they begin."""
    made = []
    for number in range(count):
        manner = random.choices(list(Manner), weights=(11, 5, 2, 2))[0]
        after: tuple[str, ...] = ()
        if manner is Manner.SALE and random.random() < 0.4:
            after = random.choice((("refund",), ("cancel",), ("refund", "unrefund"), ("refund", "refund")))
        elif manner is Manner.HOLD:
            after = random.choice(
                (("capture",), ("capture", "refund"), ("cancel",), ("capture", "uncapture"), ("capture", "cancel"), ())
            )
        made.append(
            Plan(
                number,
                random.randrange(buyers),
                random.randrange(shops),
                manner,
                random.choice(BASKETS),
                random.randrange(1, 40) * 50_000,
                after,
            )
        )
    return made


def schedule(random: Random, count: int, *, events: int, postgresql: bool = False) -> list[Event]:
    """What befalls a run of `count` purchases; with enough `events` every kind of fault is among them."""
    drawn = _drawn(random, postgresql=postgresql)
    room = max(1, count * 9 // 10)  # what befalls the last purchases is befallen while they are under way
    at = sorted(random.randrange(1, room + 1) for _ in range(events))
    planned = []
    for moment, (what, target, how) in zip(at, drawn, strict=False):
        seconds = 0.0 if what in (What.MIDNIGHT, What.KEYS, What.SWITCH) else round(random.uniform(0.2, 1.6), 2)
        planned.append(Event(moment, what, target, how, seconds))
    return planned


def _drawn(random: Random, *, postgresql: bool) -> Iterator[tuple[What, str, str]]:
    """Every kind once, in any order, at targets that take turns; then again."""
    targets = {what: cycle(random.sample(_SERVICES, len(_SERVICES))) for what in What}
    wires = cycle(random.sample(_WIRES, len(_WIRES)))
    jumps, answers = cycle(random.sample(_JUMPS, len(_JUMPS))), cycle(random.sample(_ANSWERS, len(_ANSWERS)))
    midnight = False
    while True:
        kinds: list[tuple[What, str]] = [(What.WIRE, fault) for fault in Fault if fault is not Fault.NONE]
        kinds += [(What.KILL, "")] * 4 + [(What.DISK, "")] * 2 + [(What.PAUSE, "")] * 2 + [(What.CLOCK, "")] * 2
        kinds += [(What.KEYS, "")] + [(What.SWITCH, "")] * 3
        kinds += [(What.DATABASE, how) for how in ("immediate stop", "killed backend")] if postgresql else []
        kinds += [] if midnight else [(What.MIDNIGHT, "")]
        midnight = True
        for what, how in random.sample(kinds, len(kinds)):
            match what:
                case What.WIRE:
                    yield what, next(wires), how
                case What.CLOCK:
                    yield what, next(targets[what]), f"{next(jumps):+g}"
                case What.SWITCH:
                    yield what, "", next(answers)
                case What.MIDNIGHT | What.KEYS | What.DATABASE:
                    yield what, "", how
                case _:
                    yield what, next(targets[what]), how
