"""Work that lasts as long as its service: whatever ends it, it is begun again and the operator is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

import runtime.lasting
from runtime.lasting import is_ending, lasting, until_done


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
    assert all((log["place"] is None) == (told is None) for log in logs)
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


@pytest.mark.parametrize("keeper", [lasting, until_done])
@pytest.mark.parametrize("raises", [True, False], ids=["its end fails", "it ends all the same"])
def test_what_is_cancelled_is_not_begun_again_whatever_its_end(keeper: Callable[..., Any], raises: bool) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert is_ending()
            if raises:
                raise _Secret from None

    async def scenario() -> None:
        task = asyncio.create_task(keeper("of a test, cancelled", work, pause=0.0))
        await asyncio.sleep(0)
        assert not is_ending()
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled() or (keeper is until_done and not raises and task.done())

    asyncio.run(scenario())
    assert begun == 1


def test_the_place_is_told_and_the_pause_grows() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 9:
            raise _Enough

    async def scenario() -> None:
        with pytest.raises(_Enough), pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtime.lasting, "asyncio", _With(sleep))
            await lasting("of a test, again and again", _fails)

    with capture_logs() as logs:
        asyncio.run(scenario())
    assert slept == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert {log["place"].partition(":")[0] for log in logs} == {"test_lasting.py"}


class _Enough(Exception):
    pass


class _With:
    """The module asyncio with another sleep."""

    def __init__(self, sleep: Callable[[float], Any]) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)
