from __future__ import annotations

import asyncio
import threading

import pytest

from hsm_service.workers import Workers
from runtime.problems import Problem


def test_work_runs_in_another_thread_and_gives_its_result() -> None:
    async def main() -> None:
        workers = Workers(2)
        assert await workers.run(int, "11", base=2) == 3
        assert await workers.run(threading.get_ident) != threading.get_ident()
        workers.close()

    asyncio.run(main())


def test_an_error_of_the_work_is_raised_to_whoever_waits() -> None:
    async def main() -> None:
        workers = Workers(1)
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        assert await workers.run(lambda: "still there") == "still there"
        workers.close()

    asyncio.run(main())


def test_as_much_runs_at_once_as_there_are_threads() -> None:
    async def main() -> None:
        workers = Workers(4)
        meeting = threading.Barrier(4)
        await asyncio.gather(*(workers.run(meeting.wait, 30) for _ in range(4)))
        workers.close()

    asyncio.run(main())


def test_what_would_wait_too_long_is_refused_at_once() -> None:
    async def main() -> None:
        workers = Workers(1, queue_limit=2)
        go_on = threading.Event()
        waiting = [asyncio.ensure_future(workers.run(go_on.wait, 30)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await workers.run(lambda: None)
        assert (caught.value.status, caught.value.type) == (503, "overloaded")
        assert caught.value.headers == {"Retry-After": "1"}
        go_on.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        await workers.run(lambda: None)
        workers.close()

    asyncio.run(main())


def test_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    async def main() -> None:
        workers = Workers(1)
        go_on, begun = threading.Event(), threading.Event()
        running = asyncio.ensure_future(workers.run(go_on.wait, 30))
        waiting = asyncio.ensure_future(workers.run(begun.set))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await running
        await workers.run(lambda: None)
        assert not begun.is_set()
        workers.close()

    asyncio.run(main())


def test_closing_finishes_what_was_begun_and_takes_nothing_more() -> None:
    async def main() -> None:
        workers = Workers(1)
        running = asyncio.ensure_future(workers.run(threading.Event().wait, 0.05))
        await asyncio.sleep(0)
        await asyncio.to_thread(workers.close)
        assert await running is False
        with pytest.raises(Problem):
            await workers.run(lambda: None)
        workers.close()

    asyncio.run(main())


def test_a_loop_that_ended_meanwhile_disturbs_no_thread() -> None:
    workers = Workers(1)
    go_on = threading.Event()

    async def leave() -> None:
        task = asyncio.ensure_future(workers.run(go_on.wait, 30))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    go_on.set()
    workers.close()
