"""Who is let in, and whose turn it is: one merchant's flood is that merchant's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gateway.guarding.admission import Admission
from runtime.flood_settings import FloodSettings
from runtime.problems import Problem
from runtime.token_bucket import Rate
from tests.gateway.conftest import Clock, run, until


def admission(clock: Clock | None = None, **settings: Any) -> Admission:
    return Admission(FloodSettings(**{"cold": 1.0, **settings}), clock=clock or Clock())


def refused(ask: Callable[[], object]) -> tuple[int, str, str]:
    with pytest.raises(Problem) as raised:
        ask()
    return raised.value.status, raised.value.type.rpartition(":")[2], (raised.value.headers or {})["retry-after"]


SLOW = Rate(burst=3, every=timedelta(seconds=10))


def test_a_merchant_has_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    door = admission(clock, merchant=SLOW)
    for _ in range(3):
        door.count("A")
    assert refused(lambda: door.count("A")) == (429, "too-many-requests", "10")
    door.count("B")
    clock.advance(10)
    door.count("A")
    assert refused(lambda: door.count("A"))[0] == 429


def test_a_restart_is_no_fresh_burst() -> None:
    clock = Clock()
    door = admission(clock, merchant=SLOW, cold=0.34)
    door.count("A")
    assert refused(lambda: door.count("A"))[0] == 429
    clock.advance(30)
    for _ in range(3):
        door.count("A")


def test_merchants_who_ask_no_more_are_forgotten() -> None:
    clock = Clock()
    door = admission(clock, merchant=SLOW)
    for number in range(100):
        door.count(f"M-{number}")
    clock.advance(31)
    for _ in range(60):
        clock.advance(31)
        door.count("A")
    assert set(door._buckets) == {"A"}


def test_after_the_end_nobody_is_let_in_and_the_answer_says_when_to_come_again() -> None:
    door = admission()
    door.end()
    assert refused(lambda: door.count("A")) == (503, "stopping", "5")


def test_so_many_bodies_of_one_merchant_come_in_at_once() -> None:
    door = admission(reading_of_one=1)
    with door.reading("A"), door.reading("B"):
        assert refused(lambda: door.reading("A").__enter__())[:2] == (503, "overloaded")
    with door.reading("A"):
        pass


class Work:
    """Messages that are worked on until they are let go, in the order in which they got their turn."""

    def __init__(self, door: Admission) -> None:
        self.door = door
        self.begun: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._go: list[asyncio.Event] = []

    async def come(self, *merchants: str) -> None:
        for each in merchants:
            self.tasks.append(asyncio.create_task(self._one(each)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _one(self, merchant: str) -> None:
        async with self.door.turn(merchant):
            go = asyncio.Event()
            self._go.append(go)
            self.begun.append(merchant)
            await go.wait()

    async def finish(self, number: int = 1) -> None:
        for _ in range(number):
            known = len(self.begun)
            self._go.pop(0).set()
            for _ in range(5):
                await asyncio.sleep(0)
                if len(self.begun) > known:
                    break


def test_places_go_round_among_the_merchants_that_wait() -> None:
    async def story() -> list[str]:
        work = Work(admission(at_once=2, at_once_of_one=2))
        await work.come("A", "A", "A", "A", "A", "B", "C")
        await work.finish(7)
        await asyncio.gather(*work.tasks)
        assert work.door.working == 0
        return work.begun

    assert run(story()) == ["A", "A", "A", "B", "C", "A", "A"]


def test_one_merchant_never_has_all_places() -> None:
    async def story() -> None:
        work = Work(admission(at_once=3, at_once_of_one=2))
        await work.come("A", "A", "A", "A")
        assert work.begun == ["A", "A"]
        await work.come("B")
        assert work.begun == ["A", "A", "B"]
        for task in work.tasks:
            task.cancel()
        await asyncio.gather(*work.tasks, return_exceptions=True)
        assert work.door.working == 0

    run(story())


def test_a_full_line_and_a_long_wait_are_sent_away() -> None:
    async def story() -> None:
        work = Work(admission(at_once=1, waiting_of_one=1, patience=0.05))
        await work.come("A", "A", "A")
        results = {}
        await until(lambda: sum(task.done() for task in work.tasks) == 2)
        for number, task in enumerate(work.tasks[1:]):
            error = task.exception()
            assert isinstance(error, Problem)
            results[number] = (error.status, (error.headers or {})["retry-after"])
        assert results == {0: (503, "5"), 1: (503, "1")}
        await work.finish()
        await work.come("A")
        assert work.begun == ["A", "A"], "who was sent away holds no place"
        await work.finish()
        await asyncio.gather(*work.tasks, return_exceptions=True)
        assert work.door.working == 0

    run(story())


def test_who_hangs_up_while_waiting_holds_no_place() -> None:
    async def story() -> None:
        work = Work(admission(at_once=1))
        await work.come("A", "A", "B")
        work.tasks[1].cancel()
        await work.finish(2)
        assert work.begun == ["A", "B"]
        await asyncio.gather(*work.tasks, return_exceptions=True)
        assert work.door.working == 0

    run(story())


def test_who_hangs_up_in_the_moment_of_its_turn_gives_the_place_back() -> None:
    async def story() -> None:
        work = Work(admission(at_once=1))
        await work.come("A", "A", "B")
        work._go.pop(0).set()
        await asyncio.sleep(0)  # the first is done and has passed its place on to the second
        work.tasks[1].cancel()
        await until(lambda: work.begun[-1] == "B")
        await work.finish()
        await asyncio.gather(*work.tasks, return_exceptions=True)
        assert work.door.working == 0

    run(story())
