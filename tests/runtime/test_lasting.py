"""Work that lasts as long as its service: whatever ends it, it is begun again and the operator is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from runtime.lasting import lasting, until_done


class _Secret(Exception):
    """Its text may quote anything."""


def _ended(name: str) -> float | None:
    return REGISTRY.get_sample_value("kwbp_work_ended_total", {"work": name})


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _fails() -> None:
    raise _Secret("6037701234567890")


async def _never_ends() -> None:
    await asyncio.Event().wait()


async def _ends() -> None:
    await asyncio.sleep(0)


async def _is_cancelled_by_what_it_waits_for() -> None:
    waited = asyncio.get_running_loop().create_future()
    waited.cancel()
    await waited


@pytest.mark.parametrize(
    ("end", "told"),
    [(_fails, "_Secret"), (_ends, None), (_is_cancelled_by_what_it_waits_for, "CancelledError")],
    ids=["an error", "it ended", "what it waited for was cancelled"],
)
def test_whatever_ends_it_it_is_begun_again(
    end: Callable[[], Coroutine[Any, Any, None]], told: str | None, request: pytest.FixtureRequest
) -> None:
    name = request.node.name

    async def scenario() -> int:
        begun, well = 0, asyncio.Event()

        async def work() -> None:
            nonlocal begun
            begun += 1
            if begun <= 2:
                await end()
                return
            well.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(lasting(name, work, pause=0.0))
        await well.wait()
        assert not task.done()
        await _cancelled(task)
        return begun

    with capture_logs() as logs:
        assert asyncio.run(scenario()) == 3
    said = {"event": "work ended by itself and is begun again", "work": name, "error": told, "alarm": True}
    assert [{key: log[key] for key in said} for log in logs] == [said, said]
    assert "6037701234567890" not in str(logs)
    assert _ended(name) == 2.0


def test_the_metric_is_there_before_anything_ended() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(lasting("of a test, never ends", _never_ends, pause=0.0))
        await asyncio.sleep(0)
        assert _ended("of a test, never ends") == 0.0
        await _cancelled(task)

    asyncio.run(scenario())
    assert _ended("of a test, never ends") == 0.0


def test_who_cancels_it_in_its_pause_ends_it() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(lasting("of a test, paused", _fails, pause=3600.0))
        for _ in range(3):
            await asyncio.sleep(0)
        await _cancelled(task)

    asyncio.run(scenario())
    assert _ended("of a test, paused") == 1.0


def test_work_that_ends_is_begun_again_only_where_it_failed() -> None:
    async def scenario() -> int:
        begun = 0

        async def work() -> None:
            nonlocal begun
            begun += 1
            if begun <= 2:
                await _fails()

        await until_done("of a test, beginning", work, pause=0.0)
        return begun

    with capture_logs() as logs:
        assert asyncio.run(scenario()) == 3
    assert [(log["event"], log["error"]) for log in logs] == [("work failed and is begun again", "_Secret")] * 2
    assert _ended("of a test, beginning") == 2.0


def test_who_cancels_work_that_ends_ends_it() -> None:
    async def scenario() -> None:
        async def work() -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(until_done("of a test, waits", work))
        await asyncio.sleep(0)
        await _cancelled(task)

    asyncio.run(scenario())
    assert _ended("of a test, waits") == 0.0
