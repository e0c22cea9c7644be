"""Turns are never lost, however operations end: cancelled at any moment, too late, refused, failed, or done."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import Journal
from hsm_service.errors import TokenUnavailable
from hsm_service.steps import AsyncRunner, Call, Record, Steps, Turn
from runtime.problems import Problem

IN_FLIGHT = 3


class Erratic:
    """Stands for a token: answers after some turns of the event loop, or fails, or is cancelled; counts who is inside.

    An answer may come after its operation was cancelled, as a token's does.
    """

    label = "erratic"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def submit(self, method: str, arguments: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        answer: object = TokenUnavailable("gone") if self._rng.random() < 0.2 else b"signature"
        _after(self._rng.randrange(6), lambda: done(answer))


def _after(turns: int, act: Callable[[], object]) -> None:
    """Do `act` so many turns of the event loop later; 0: now."""
    if turns:
        asyncio.get_running_loop().call_soon(_after, turns - 1, act)
    else:
        act()


class Count:
    """Operations that have a turn."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def operation(self, token: Erratic) -> Steps[object]:
        yield Turn(token)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield Record({"event": "intent"})
            answer = yield Call(token, "sign", ())
            yield Record({"event": "outcome"})
            return answer
        finally:
            self.now -= 1


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("turns")
    with Journal.open(folder / "journal.jsonl", sync=lambda _file: None) as journal:
        yield journal


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), longest=st.sampled_from([0.0, 0.001, 60.0]), waiting=st.sampled_from([1, 8, 64]))
def test_no_turn_is_lost_or_given_twice(journal: Journal, seed: int, longest: float, waiting: int) -> None:
    rng = random.Random(seed)  # no secret
    token, count = Erratic(rng), Count()

    async def main() -> None:
        running = AsyncRunner(journal, asyncio.to_thread, in_flight=IN_FLIGHT, waiting=waiting, longest_wait=longest)
        tasks = []
        for _ in range(40):
            gone = rng.random() < 0.1
            task = asyncio.ensure_future(running.run(count.operation(token), partial(bool, gone)))
            tasks.append(task)
            if rng.random() < 0.5:
                _after(rng.randrange(12), task.cancel)
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for each in ended:
            assert isinstance(each, bytes | Problem | TokenUnavailable | asyncio.CancelledError), each
        assert count.most <= IN_FLIGHT
        # As many as ever go in at once now, and none beyond them.
        entered: list[int] = []

        def holding(number: int) -> Steps[None]:
            yield Turn(token)
            entered.append(number)
            yield Call(silent, "sign", ())

        silent = Silent()
        inside = [asyncio.ensure_future(running.run(holding(number))) for number in range(IN_FLIGHT + 1)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert entered == list(range(IN_FLIGHT))
        for task in inside:
            task.cancel()
        await asyncio.gather(*inside, return_exceptions=True)

    asyncio.run(main())


class Silent:
    """Stands for a token that hangs."""

    label = "erratic"

    def submit(self, method: str, arguments: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        """No answer comes."""


def test_a_flush_that_fails_in_a_way_that_nobody_expected_is_told_to_all(tmp_path: Path) -> None:
    def broken(_file: int) -> None:
        raise MemoryError

    async def main(journal: Journal) -> None:
        running = AsyncRunner(journal, asyncio.to_thread)

        def recording() -> Steps[object]:
            index = yield Record({"event": "intent"})
            return index

        tasks = [asyncio.ensure_future(running.run(recording())) for _ in range(3)]
        for each in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30):
            assert isinstance(each, MemoryError | Problem), each

    journal = Journal.open(tmp_path / "journal.jsonl")
    journal._sync = broken
    asyncio.run(main(journal))


def test_an_operation_that_follows_another_has_one_turn_at_a_time(tmp_path: Path) -> None:
    def twice(token: Erratic) -> Steps[str]:
        yield Turn(token)
        yield Turn(token)
        return "done"

    async def run() -> list[str]:
        with Journal.open(tmp_path / "log.jsonl") as journal:
            runner = AsyncRunner(journal, asyncio.to_thread, in_flight=1)
            token = Erratic(random.Random(0))
            return [await asyncio.wait_for(runner.run(twice(token)), 30) for _ in range(3)]

    assert asyncio.run(run()) == ["done"] * 3


def test_operations_within_others_do_not_wait_for_each_other(tmp_path: Path) -> None:
    def within(token: Erratic, depth: int) -> Steps[str]:
        yield Turn(token)
        yield Record({"event": "intent"})
        if depth:
            yield from within(token, depth - 1)
        yield Record({"event": "outcome"})
        return "done"

    async def run() -> list[str]:
        with Journal.open(tmp_path / "log.jsonl") as journal:
            runner = AsyncRunner(journal, asyncio.to_thread, in_flight=2)
            token = Erratic(random.Random(0))
            found = await asyncio.wait_for(asyncio.gather(*(runner.run(within(token, 2)) for _ in range(8))), 30)
            assert not runner._turns[token.label]._queue
            return found

    assert asyncio.run(run()) == ["done"] * 8
