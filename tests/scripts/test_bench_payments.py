"""Who spends the processor time of a payment, as the benchmark counts it; what it measures on a slow machine."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, cast

import pytest

from scripts.benchmarks.buyers import Buyer, Market
from scripts.benchmarks.payments import FEWEST, _costs, _Run
from scripts.benchmarks.processor_time import TOKENS, service_seconds

_SERVICE: Final = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
exec(sys.argv[1])
"""
_SPEND: Final = """
import sys, time
while time.process_time() < 0.1: pass
print("spent", flush=True)
sys.stdin.read()
"""


def _service(home: Path, name: str) -> subprocess.Popen[str]:
    """A process as `kwbp serve` starts it; it and a child of it have spent a tenth of a second each, at least."""
    program = _SERVICE.replace("exec(sys", "child.stdout.readline()\nexec(sys")
    return subprocess.Popen(
        [sys.executable, "-c", program, _SPEND, "--home", str(home), "serve", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_each_service_is_counted_by_name_and_the_tokens_apart(tmp_path: Path) -> None:
    started = [_service(tmp_path, "hsm"), _service(tmp_path, "gateway"), _service(tmp_path / "other", "switch")]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "spent\n"
        found = service_seconds(tmp_path)
    finally:
        for process in started:
            process.communicate()
    assert found.keys() == {"hsm", "gateway", TOKENS}
    assert all(seconds >= 0.08 for seconds in found.values())  # counted in hundredths


def test_nothing_that_was_spent_is_left_out() -> None:
    seconds = {"gateway": 1.0, "merchant-bookshop": 2.0, TOKENS: 3.0, "buyers": 4.0, "ca": 5.0, "ra": 6.0}
    costs = {metric.name: metric.value for metric in _costs(seconds, "merchant-bookshop", 1000)}
    assert costs.pop("all_cpu_ms") == pytest.approx(sum(costs.values())) == pytest.approx(21.0)
    assert (costs["gateway_cpu_ms"], costs["shop_cpu_ms"], costs["others_cpu_ms"]) == (1.0, 2.0, 11.0)
    assert (costs["hsm_cpu_ms"], costs["tokens_cpu_ms"], costs["buyers_cpu_ms"]) == (0.0, 3.0, 4.0)


class _SlowMarket(Market):
    """A shop where every payment takes a fifth of a second."""

    def __init__(self) -> None:
        self._buyers = [cast(Buyer, object())]

    async def _buy(self, buyer: Buyer) -> int:
        await asyncio.sleep(0.2)
        return 1000


def test_on_a_slow_machine_windows_grow_until_payments_fit() -> None:
    async def measured() -> _Run:
        run = _Run()
        await run.enough(_SlowMarket(), 0.01, 2)
        return run

    run = asyncio.run(measured())
    assert len(run.counted) >= FEWEST
    assert run.all_payments > len(run.counted)  # what ended outside of windows is no part of the rate
    assert run.seconds > 0.01  # the length of all windows, not of the last alone


def test_where_buyers_come_seldom_it_waits_for_them() -> None:
    began = time.perf_counter()
    came = asyncio.run(_SlowMarket().offer(50.0, 0.001, 3, random.Random(1)))
    assert len(came) == 3
    assert time.perf_counter() - began >= 0.2
    assert all(payment.seconds >= 0.2 for payment in came)
    more = asyncio.run(_SlowMarket().offer(50.0, 0.5, 3, random.Random(1)))
    assert len(more) > 3
