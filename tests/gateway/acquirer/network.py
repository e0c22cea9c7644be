"""A network that reckons for itself and answers 0500 from its own sums, without a line; asked by the real worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from gateway.routing import SWITCH, Routes
from gateway.settling.reconciliation import Reconciliation, sums
from kwbp.codes import EntryKind
from shetab.dialect import Dialect
from shetab.message import Message
from tests.gateway.acquirer.books import ACQUIRER, Books


@dataclass
class Network:
    """What it counted: (merchant, DE 15) → (kind, rial). `today` is the DE 15 of its answers."""

    today: date
    name: str = SWITCH
    signed_on: bool = True
    counted: dict[tuple[str, str], list[tuple[EntryKind, int]]] = field(default_factory=dict)
    asked: list[Message] = field(default_factory=list)
    before_answer: Callable[[], Any] = lambda: None

    def count(self, merchant: str, day: date, kind: EntryKind, amount: int) -> None:
        self.counted.setdefault((merchant, f"{day:%m%d}"), []).append((kind, amount))

    async def authenticate(self, message: Message) -> bytes:
        return b""

    async def exchange(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in ports
        self.asked.append(message)
        found: dict[EntryKind, tuple[int, int]] = {}
        for kind, amount in self.counted.get((message[42].rstrip(), message[15]), ()):
            number, total = found.get(kind, (0, 0))
            found[kind] = (number + 1, total + amount)
        own = sums(found)
        agreed = all(message[each] == value for each, value in own.items())
        done = self.before_answer()
        if done is not None:
            await done
        return Message("0510", {**own, 15: f"{self.today:%m%d}", 39: "00", 66: "1" if agreed else "2"})

    async def manage(self, code: str, more: Mapping[int, str]) -> str:
        raise AssertionError


def comparing(books: Books, *networks: Network, tick: float = 1.0, answer_timeout: float = 10.0) -> Reconciliation:
    """The gateway's worker, for these networks."""
    return Reconciliation(
        books.store,
        Routes({each.name: each for each in networks}),
        Dialect.load("shetab87_ascii"),
        acquirer=ACQUIRER,
        answer_timeout=answer_timeout,
        first_pause=0.1,
        clock=books.clock,
        rng=bytes,
        checkpoint=lambda step: None,
        tick=tick,
    )


async def compared(books: Books, *networks: Network) -> None:
    """Have the gateway's worker compare what is due, one by one, until nothing is."""
    worker = comparing(books, *networks)
    while due := worker._due():
        for each in due:
            await worker._compare(*each)
