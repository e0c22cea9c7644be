"""Operations as steps: the same order and the same errors, run blocking or on an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audit import Journal, read
from hsm_service.errors import TokenUnavailable
from hsm_service.steps import AsyncRunner, Call, Record, Steps, Turn, run
from runtime.problems import Problem


class Echo:
    """Stands for a token: gives back what it is given, and counts how many are inside at a time."""

    label = "echo"

    def __init__(self) -> None:
        self.inside = self.most = self.calls = 0
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self._lock = threading.Lock()

    def echo(self, value: object) -> object:
        with self._lock:
            self.calls += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.set()
        self.go_on.wait(30)
        with self._lock:
            self.inside -= 1
        return value

    def fail(self) -> None:
        raise TokenUnavailable("gone")


class Submitting(Echo):
    """The same, asked without waiting: it answers from a thread of its own."""

    def submit(self, method: str, arguments: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        def work() -> None:
            try:
                done(getattr(self, method)(*arguments))
            except Exception as error:
                done(error)

        threading.Thread(target=work).start()


def operation(token: Echo, method: str = "echo", *arguments: object) -> Steps[tuple[int, object, int]]:
    yield Turn(token)
    first = yield Record({"event": "before"})
    try:
        answer = yield Call(token, method, arguments)
    except TokenUnavailable:
        yield Record({"event": "failed"})
        raise
    last = yield Record({"event": "after"})
    return first, answer, last


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        yield journal


def runner(journal: Journal, **limits: Any) -> AsyncRunner:
    return AsyncRunner(journal, asyncio.to_thread, **limits)


def events(journal: Journal) -> list[object]:
    return [entry.entry["event"] for entry in read(journal.path)]


def test_blocking_the_steps_are_taken_in_their_order(journal: Journal) -> None:
    assert run(operation(Echo(), "echo", "x"), journal) == (0, "x", 1)
    assert events(journal) == ["before", "after"]


def test_blocking_an_error_of_the_token_is_raised_at_its_step(journal: Journal) -> None:
    with pytest.raises(TokenUnavailable):
        run(operation(Echo(), "fail"), journal)
    assert events(journal) == ["before", "failed"]


@pytest.mark.parametrize("kind", [Echo, Submitting])
def test_on_an_event_loop_the_steps_are_taken_in_their_order(kind: type[Echo], journal: Journal) -> None:
    async def main() -> tuple[int, object, int]:
        return await runner(journal).run(operation(kind(), "echo", "x"))

    assert asyncio.run(main()) == (0, "x", 1)
    assert events(journal) == ["before", "after"]


@pytest.mark.parametrize("kind", [Echo, Submitting])
def test_on_an_event_loop_an_error_of_the_token_is_raised_at_its_step(kind: type[Echo], journal: Journal) -> None:
    async def main() -> None:
        await runner(journal).run(operation(kind(), "fail"))

    with pytest.raises(TokenUnavailable):
        asyncio.run(main())
    assert events(journal) == ["before", "failed"]


def test_a_journal_that_cannot_record_keeps_the_token_uncalled(journal: Journal) -> None:
    token = Submitting()
    journal.close()
    with pytest.raises(Problem) as blocking:
        run(operation(token, "echo", "x"), journal)

    async def main() -> None:
        await runner(journal).run(operation(token, "echo", "x"))

    with pytest.raises(Problem) as waiting:
        asyncio.run(main())
    for caught in (blocking, waiting):
        assert (caught.value.status, caught.value.type) == (503, "journal-unavailable")
    assert token.calls == 0


def test_no_more_than_allowed_are_inside_and_all_get_their_own_answer(journal: Journal) -> None:
    token = Submitting()

    async def main() -> list[tuple[int, object, int]]:
        running = runner(journal, in_flight=3)
        return await asyncio.gather(*(running.run(operation(token, "echo", number)) for number in range(40)))

    answers = asyncio.run(main())
    assert [answer for _, answer, _ in answers] == list(range(40))
    assert token.most <= 3
    assert events(journal).count("after") == 40


def test_who_finds_the_queue_full_is_told_at_once_and_leaves_no_trace(journal: Journal) -> None:
    token = Submitting()
    token.go_on.clear()

    async def main() -> None:
        running = runner(journal, in_flight=1, waiting=1)
        inside = asyncio.ensure_future(running.run(operation(token, "echo", 1)))
        assert await asyncio.to_thread(token.entered.wait, 30)
        queued = asyncio.ensure_future(running.run(operation(token, "echo", 2)))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await running.run(operation(token, "echo", 3))
        assert (caught.value.type, caught.value.headers) == ("overloaded", {"Retry-After": "1"})
        assert events(journal) == ["before"]
        token.go_on.set()
        assert [(await each)[1] for each in (inside, queued)] == [1, 2]

    asyncio.run(main())


def test_whose_turn_does_not_come_in_time_is_told_and_the_turn_is_not_lost(journal: Journal) -> None:
    token = Submitting()
    token.go_on.clear()

    async def main() -> None:
        running = runner(journal, in_flight=1, longest_wait=0.05)
        inside = asyncio.ensure_future(running.run(operation(token, "echo", 1)))
        assert await asyncio.to_thread(token.entered.wait, 30)
        with pytest.raises(Problem) as caught:
            await running.run(operation(token, "echo", 2))
        assert caught.value.status == 503
        token.go_on.set()
        await inside
        assert (await running.run(operation(token, "echo", 3)))[1] == 3

    asyncio.run(main())


def test_a_cancelled_waiter_passes_its_turn_on(journal: Journal) -> None:
    token = Submitting()
    token.go_on.clear()

    async def main() -> None:
        running = runner(journal, in_flight=1)
        inside = asyncio.ensure_future(running.run(operation(token, "echo", 1)))
        assert await asyncio.to_thread(token.entered.wait, 30)
        waiting = asyncio.ensure_future(running.run(operation(token, "echo", 2)))
        await asyncio.sleep(0)
        waiting.cancel()
        token.go_on.set()
        await inside
        assert (await running.run(operation(token, "echo", 3)))[1] == 3

    asyncio.run(main())


def test_work_whose_caller_is_gone_is_dropped_before_it_reaches_journal_and_token(journal: Journal) -> None:
    token = Submitting()

    async def main() -> None:
        with pytest.raises(Problem) as caught:
            await runner(journal).run(operation(token, "echo", 1), gone=lambda: True)
        assert caught.value.type == "client-gone"

    asyncio.run(main())
    assert token.calls == 0
    assert events(journal) == []


# -- records -----------------------------------------------------------------------------------------------------------


def test_what_one_turn_of_the_loop_records_shares_a_sync(tmp_path: Path) -> None:
    syncs: list[int] = []

    def sync(file: int) -> None:
        os.fdatasync(file)
        syncs.append(os.fstat(file).st_size)

    with Journal.open(tmp_path / "journal.jsonl", sync=sync) as journal:
        before = len(syncs)

        async def main() -> list[tuple[int, object, int]]:
            running = runner(journal)
            return await asyncio.gather(*(running.run(operation(Echo(), "echo", number)) for number in range(40)))

        answers = asyncio.run(main())
        assert sorted(number for first, _, last in answers for number in (first, last)) == list(range(80))
        assert len(syncs) - before < 80


def test_a_slow_disk_is_waited_for_by_a_thread_and_not_by_the_loop(tmp_path: Path) -> None:
    threads: list[str] = []

    def sync(file: int) -> None:
        os.fdatasync(file)
        time.sleep(0.05)
        threads.append(threading.current_thread().name)

    with Journal.open(tmp_path / "journal.jsonl", sync=sync) as journal:

        async def main() -> None:
            running = runner(journal)
            for number in range(6):
                assert (await running.run(operation(Submitting(), "echo", number)))[1] == number

        asyncio.run(main())
        assert threads[0] == threading.current_thread().name
        assert threads[-1] != threading.current_thread().name
    assert events(journal).count("after") == 6


def test_an_entry_that_cannot_be_recorded_concerns_its_own_operation_alone(journal: Journal) -> None:
    def bad() -> Steps[int]:
        index: int = yield Record({"amount": 1.5})  # type: ignore[dict-item]  # what is tested
        return index

    async def main() -> None:
        running = runner(journal)
        good = asyncio.ensure_future(running.run(operation(Echo(), "echo", 1)))
        with pytest.raises(Problem):
            await running.run(bad())
        assert (await good)[1] == 1

    asyncio.run(main())
