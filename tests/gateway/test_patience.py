"""What was promised stands as long as was promised, by a clock that nobody sets."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.order import Answer, Order, Promise
from gateway.patience import Patience
from gateway.states import OrderState
from gateway.store import OrderStore
from runtime.uptime import Uptime
from tests.gateway.conftest import ACQUIRER, NOW, Clock, new_order, run
from tests.support.uptime import BOOT, following

WHOLE = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def passed() -> Clock:
    return Clock()


@pytest.fixture
def patience(passed: Clock) -> Patience:
    return Patience(following(passed), WHOLE)


def until(passed: Clock, wait: timedelta) -> Promise:
    return Promise(BOOT, int((passed() + wait).timestamp() * 1000))


def test_an_approval_stands_for_a_whole_time(patience: Patience, passed: Clock) -> None:
    assert patience.promise(asked=NOW, ack_by=NOW + WHOLE) == until(passed, WHOLE)


def test_where_our_clock_is_ahead_the_merchants_reckons(patience: Patience, passed: Clock) -> None:
    """Two minutes ahead, we write an `ackBy` in 17 minutes: by the merchant's clock it may acknowledge until then."""
    ahead = NOW + 2 * MINUTE
    assert patience.promise(asked=NOW, ack_by=ahead + WHOLE) == until(passed, WHOLE + 2 * MINUTE)


def test_where_our_clock_is_behind_nothing_stands_for_less(patience: Patience, passed: Clock) -> None:
    behind = NOW - 2 * MINUTE
    assert patience.promise(asked=NOW, ack_by=behind + WHOLE) == until(passed, WHOLE)


def test_what_was_asked_about_long_ago_has_stood(patience: Patience, passed: Clock) -> None:
    assert not patience.has_stood("it", MINUTE)
    passed.advance(59)
    assert not patience.has_stood("it", MINUTE)
    assert not patience.has_stood("another", MINUTE)
    passed.advance(1)
    assert patience.has_stood("it", MINUTE)
    assert not patience.has_stood("another", MINUTE)


def test_what_is_asked_about_no_more_is_forgotten(patience: Patience, passed: Clock) -> None:
    for number in range(100):
        patience.has_stood(number, MINUTE)
    passed.advance(4 * WHOLE.total_seconds() + 1)
    patience.has_stood("new", MINUTE)
    assert list(patience._seen) == ["new"]


def test_a_promise_that_nothing_here_can_have_made_is_judged_as_a_strangers(
    patience: Patience, book: OrderStore
) -> None:
    """A machine that was set back to an earlier state has its start's name, and counts less by days."""
    far = Promise(BOOT, until(Clock(), timedelta(days=30)).until)

    async def approved() -> Order:
        key = (await book.receive(new_order(), NOW)).key
        await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="603799******7893", now=NOW)
        await book.sent(key, {11: "000001"}, NOW)
        told = Answer(b"answer", 0)
        return await book.conclude(
            key, OrderState.APPROVED, NOW, approved=True, ack_by=NOW + WHOLE, promise=far, answer=told
        )

    order = run(approved())
    due = NOW + WHOLE
    assert book.unacknowledged(due, patience.now(), 9) == []
    assert book.unacknowledged_elsewhere(due, patience.furthest()) == [order]
    assert not patience.is_over(order)


def test_a_promise_that_cannot_be_judged_stands_for_a_whole_time(
    patience: Patience, passed: Clock, book: OrderStore
) -> None:
    made = run(book.receive(new_order(), NOW))
    order = replace(made, ack_boot=BOOT, ack_until=until(passed, timedelta(days=30)).until)
    assert not patience.is_over(order)
    passed.advance(WHOLE.total_seconds() - 1)
    assert not patience.is_over(order)
    passed.advance(1)
    assert patience.is_over(order)


def test_nothing_is_promised_that_is_taken_for_a_strangers(patience: Patience) -> None:
    made = patience.promise(asked=NOW - timedelta(days=9), ack_by=NOW + WHOLE)
    assert made.until <= patience.furthest().until


def test_where_the_uptime_is_set_apart_it_is_another_start(tmp_path: Path) -> None:
    """A container with a time of its own (time_namespaces(7)) has the kernel's boot id, and counts from elsewhere."""
    boot_id, offsets = tmp_path / "boot_id", tmp_path / "timens_offsets"
    boot_id.write_text("a-start\n")
    assert Uptime.of_this_machine(boot_id, offsets).boot == "a-start"
    offsets.write_text("monotonic           0         0\nboottime            0         0\n")
    assert Uptime.of_this_machine(boot_id, offsets).boot == "a-start"
    offsets.write_text("monotonic           0         0\nboottime      -86400         5\n")
    apart = Uptime.of_this_machine(boot_id, offsets).boot
    assert apart.startswith("a-start")
    assert apart != "a-start"
    assert Uptime.of_this_machine(boot_id, offsets).boot == apart


def test_processes_of_one_machine_share_its_uptime() -> None:
    program = "from runtime.uptime import Uptime; u = Uptime.of_this_machine(); print(u.boot, u.seconds())"
    mine = Uptime.of_this_machine()
    before = mine.seconds()
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={**os.environ}
    )
    boot, seconds = told.stdout.split()
    assert boot == mine.boot
    assert before <= float(seconds) <= mine.seconds()


def test_where_the_kernel_names_no_start_nobody_else_shares_it(tmp_path: Path) -> None:
    nowhere = tmp_path / "boot_id"
    assert Uptime.of_this_machine(nowhere).boot != Uptime.of_this_machine(nowhere).boot
    nowhere.write_text("\n")
    assert len(Uptime.of_this_machine(nowhere).boot) == 32
