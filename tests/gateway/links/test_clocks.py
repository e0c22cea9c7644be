"""How far the clocks are apart is known by what cannot be otherwise, told to people, and changes no answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateway.links.alarms import CLOCKS_APART
from gateway.links.clocks import NetworkClock
from shetab.jalali import transmission_time
from shetab.message import Message
from tests.gateway.conftest import NOW as LINE_NOW
from tests.gateway.conftest import line, run, until
from tests.gateway.links.test_lines import ask, sale, up
from tests.support.scripted_switch import ScriptedSwitch, Step

NOW = datetime(2026, 12, 31, 23, 59, 59, 400_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Told:
    def __init__(self) -> None:
        self.off: list[bool] = []

    def clock(self, *, is_off: bool, ahead: float) -> None:
        self.off.append(is_off)


def apart(
    ahead: timedelta, *, mti: str = "0800", took: timedelta = 0.2 * SECOND, repeats: bool = False
) -> float | None:
    """What is known of a clock that is so far ahead of the network's, by one answer."""
    clock = NetworkClock("unit", 10.0, Told())
    request = Message(mti, {7: transmission_time(NOW)})
    said = request[7] if repeats else transmission_time(NOW + took / 2 - ahead)
    clock.answered(request, Message("0810", {7: said}), NOW, NOW + took)
    return clock.ahead


@pytest.mark.parametrize("seconds", [-40, -3, 3, 40, 4_000])
def test_a_difference_is_known_to_a_second_and_what_the_answer_took(seconds: int) -> None:
    """Also over the end of the year, which DE 7 does not say."""
    found = apart(seconds * SECOND)
    assert found is not None
    assert abs(seconds) - 1.2 <= abs(found) <= abs(seconds)
    assert (found > 0) == (seconds > 0)


def test_clocks_that_can_be_the_same_are() -> None:
    assert apart(0 * SECOND, took=2 * SECOND) == 0
    assert apart(8 * SECOND, took=20 * SECOND) == 0  # it may have been written at any time of these


def test_what_repeats_the_request_says_nothing() -> None:
    assert apart(40 * SECOND, repeats=True) is None
    assert apart(40 * SECOND, mti="0421") is None  # the answer may be that to its first copy


def told_of(*answers: tuple[float, float]) -> tuple[list[bool], float | None]:
    """What people are told by answers, each of how many seconds we are ahead and how many it took; what is known."""
    told = Told()
    clock = NetworkClock("unit", 10.0, told)
    for ahead, took in answers:
        request = Message("0800", {7: transmission_time(NOW)})
        said = transmission_time(NOW - ahead * SECOND)
        clock.answered(request, Message("0810", {7: said}), NOW, NOW + took * SECOND)
    return told.off, clock.ahead


def test_people_are_told_of_three_answers_in_a_row_and_of_the_end() -> None:
    off, on = (40, 0.1), (0.9, 0.1)
    assert told_of(off, off, on, off, off)[0] == []
    assert told_of(off, off, off, off)[0] == [True, True]
    assert told_of(off, off, off, on, on)[0] == [True]
    assert told_of(off, off, off, on, on, on)[0] == [True, False]


def test_an_answer_that_was_long_under_way_contradicts_nothing() -> None:
    on, off, slow = (0.9, 0.1), (40, 0.1), (-20, 60)  # it can have been written at any time of that minute
    told, ahead = told_of(off, slow, off, slow, off)
    assert told == [True]
    assert ahead == told_of(off)[1]
    assert told_of(on, on, on, slow, slow, slow)[0] == [False]
    assert told_of(slow)[1] == 0


def test_a_link_tells_of_a_network_with_another_time_and_its_answers_count_all_the_same() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            await until(lambda: up(link) == 1)
            assert link.lines()[0].clock_ahead is None  # its DE 7 is ours again
            later = transmission_time(LINE_NOW + timedelta(minutes=5))
            switch.plan("0200", *[Step(change={7: later})] * 3)
            with capture_logs() as logs:
                answers = [await ask(link, sale(number)) for number in range(1, 4)]
            assert [answer[39] for answer in answers] == ["00"] * 3
            ahead = link.lines()[0].clock_ahead
            assert ahead == -300
            assert [each["event"] for each in logs if each.get("alarm")] == [CLOCKS_APART]
            labels = {"connector": "switch"}
            assert REGISTRY.get_sample_value("kwbp_gateway_network_clock_ahead_seconds", labels) == ahead
            labels |= {"alarm": CLOCKS_APART}
            assert REGISTRY.get_sample_value("kwbp_gateway_link_alarm", labels) == 1

    run(scenario())
