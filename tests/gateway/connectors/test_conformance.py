"""What every connector keeps: silence is no answer, what was not sent is certain, only the authentic is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from gateway.errors import LinkBusyError, LinkDownError, NoAnswerError
from shetab.errors import ShetabError
from shetab.message import Message
from tests.gateway.conftest import run, until
from tests.gateway.connectors.conftest import Bench, Opening
from tests.support.iso8583_messages import PAN, request_fields
from tests.support.scripted_switch import Step

_IN_A_REVERSAL: Final = frozenset({2, 3, 4, 7, 11, 12, 13, 17, 32, 37, 41, 42, 49, 62, 100})


def sale(stan: str = "000042", mti: str = "0200", **changes: str) -> Message:
    fields: Mapping[int, str] = {**request_fields(), 11: stan, 37: f"000000{stan}"}
    return Message(mti, {**fields, **{int(name[2:]): value for name, value in changes.items()}})


def reversal(stan: str = "000042") -> Message:
    """Of the sale under `stan`."""
    given_back = {field: value for field, value in sale(stan).fields.items() if field in _IN_A_REVERSAL}
    return Message("0420", {**given_back, 11: "000900", 90: f"0200{stan}1122103058{581672:011d}{0:011d}"})


async def unknown(bench: Bench, message: Message | None = None, within: float = 0.3) -> None:
    with pytest.raises(NoAnswerError):
        await bench.ask(message or sale(), within)


def test_an_answer_finds_its_request(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", Step(delay=0.1, rc="51"), Step(rc="00"))
            first, second = await asyncio.gather(bench.ask(sale("000001")), bench.ask(sale("000002")))
            assert {(first[11], first.mti), (second[11], second.mti)} == {("000001", "0210"), ("000002", "0210")}
            assert {first[39], second[39]} == {"00", "51"}
            assert bench.filed == []

    run(scenario())


@pytest.mark.parametrize(
    "step",
    [
        Step(drop=True),
        Step(hang_up=True),
        Step(corrupt_mac=True),
        Step(junk=b"\xff\x00 noise"),
        Step(junk=b'{"message":"sale","role":"answer","response_code":"51"}'),
        Step(change={4: "000000150001"}),
        Step(change={2: "6219861000000009"}),
        Step(change={11: "000043"}),
        Step(change={37: "000000000043"}),
        Step(change={41: "T0000002"}),
    ],
    ids=["silence", "hang-up", "wrong MAC", "noise", "half an answer", "amount", "PAN", "STAN", "RRN", "terminal"],
)
@pytest.mark.parametrize("rc", ["00", "51"])
def test_what_is_not_the_answer_is_unknown_and_never_a_refusal(opened: Opening, step: Step, rc: str) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", replace(step, rc=rc))
            await unknown(bench)
            await until(lambda: bench.connector.signed_on)
            assert (await bench.ask(sale("000099")))[39] == "00"

    run(scenario())


def test_what_is_late_is_filed_and_changes_nothing(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", Step(delay=0.3))
            await unknown(bench, within=0.05)
            await until(lambda: len(bench.filed) == 1)
            assert (bench.filed[0].mti, bench.filed[0][11]) == ("0210", "000042")

    run(scenario())


def test_an_authentic_answer_to_something_else_is_filed(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", Step(change={4: "000000150001"}))
            await unknown(bench)
            assert [message[4] for message in bench.filed] == ["000000150001"]

    run(scenario())


def test_while_it_is_down_nothing_leaves_and_that_is_certain(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            raw = await bench.connector.authenticate(sale())
            await bench.peer.close()
            await until(lambda: not bench.connector.signed_on)
            with pytest.raises(LinkDownError):
                await bench.connector.exchange(sale(), raw, 1.0)
            assert bench.peer.count("0200") == 0

    run(scenario())


def test_beyond_what_may_be_under_way_nothing_leaves(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened(in_flight=2, kept_for_reversals=0) as bench:
            bench.peer.plan("0200", Step(delay=0.3), Step(delay=0.3))
            under_way = [asyncio.create_task(bench.ask(sale(f"00000{number}"))) for number in (1, 2)]
            await until(lambda: bench.peer.count("0200") == 2)
            with pytest.raises(LinkBusyError):
                await bench.ask(sale("000003"))
            assert [answer[39] for answer in await asyncio.gather(*under_way)] == ["00", "00"]
            assert bench.peer.count("0200") == 2

    run(scenario())


def test_what_gives_money_back_gets_through_when_orders_crowd(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened(in_flight=3, kept_for_reversals=1) as bench:
            bench.peer.plan("0200", Step(delay=0.3), Step(delay=0.3))
            under_way = [asyncio.create_task(bench.ask(sale(f"00000{number}"))) for number in (1, 2)]
            await until(lambda: bench.peer.count("0200") == 2)
            with pytest.raises(LinkBusyError):
                await bench.ask(sale("000003"))
            assert (await bench.ask(reversal("000001")))[39] == "00"
            assert [answer[39] for answer in await asyncio.gather(*under_way)] == ["00", "00"]

    run(scenario())


def test_an_answer_that_cannot_be_judged_is_unknown(opened: Opening) -> None:
    """The token is away when the answer comes: whatever its client raises is not what the order's outcome is."""

    async def scenario() -> None:
        async with opened() as bench:
            raw = await bench.connector.authenticate(sale())
            bench.keys.away = True
            with pytest.raises(NoAnswerError):
                await bench.connector.exchange(sale(), raw, 0.3)
            bench.keys.away = False
            assert (await bench.ask(sale("000043")))[39] == "00"

    run(scenario())


def test_what_cannot_be_filed_is_unknown_all_the_same(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.book_is_away = True
            bench.peer.plan("0200", Step(change={4: "000000150001"}))
            await unknown(bench)
            assert (await bench.ask(sale("000043")))[39] == "00"

    run(scenario())


def test_who_stops_waits_for_what_is_under_way(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", Step(delay=0.2))
            asking = asyncio.create_task(bench.ask(sale()))
            await until(lambda: bench.peer.count("0200") == 1)
            assert bench.running is not None
            bench.running.cancel()
            assert (await asking)[39] == "00"

    run(scenario())


def test_who_stops_before_a_stuck_peer_leaves_it_unknown(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened(management_timeout=0.1) as bench:
            bench.peer.plan("0200", Step(drop=True))
            asking = asyncio.create_task(bench.ask(sale(), within=60))
            await until(lambda: bench.peer.count("0200") == 1)
            assert bench.running is not None
            bench.running.cancel()
            with pytest.raises(NoAnswerError):
                await asking

    run(scenario())


def test_two_messages_with_one_key_are_never_under_way(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", Step(delay=0.2))
            first = asyncio.create_task(bench.ask(sale()))
            await until(lambda: bench.peer.count("0200") == 1)
            with pytest.raises(LinkDownError):
                await bench.ask(sale())
            assert (await first)[39] == "00"
            assert bench.peer.count("0200") == 1

    run(scenario())


def test_whoever_stops_waiting_leaves_nothing_behind_that_harms(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", Step(delay=0.2))
            asking = asyncio.create_task(bench.ask(sale()))
            await until(lambda: bench.peer.count("0200") == 1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: len(bench.filed) == 1)  # its answer is not lost
            assert (await bench.ask(sale("000043")))[11] == "000043"
            assert [line.in_flight for line in bench.connector.lines()] == [0]

    run(scenario())


def test_what_breaks_the_dialect_never_leaves_and_is_never_shown(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            with pytest.raises(ShetabError) as refused:
                await bench.connector.authenticate(sale(DE4="15x"))
            assert PAN not in str(refused.value)
            assert bench.peer.count("0200") == 0

    run(scenario())


def test_who_drains_takes_nothing_new(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            bench.peer.plan("0200", Step(delay=0.2))
            under_way = asyncio.create_task(bench.ask(sale()))
            await until(lambda: bench.peer.count("0200") == 1)
            draining = asyncio.create_task(bench.connector.drain())
            await until(lambda: not bench.connector.signed_on)
            with pytest.raises(LinkDownError):
                await bench.ask(sale("000043"))
            assert (await under_way)[39] == "00"
            await draining
            assert bench.peer.count("0200") == 1

    run(scenario())


def test_an_echo_says_whether_it_is_there(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            assert await bench.connector.manage("301", {}) == "00"
            await bench.peer.close()
            with pytest.raises((LinkDownError, NoAnswerError)):
                await bench.connector.manage("301", {})

    run(scenario())


def test_it_tells_people_how_it_is(opened: Opening) -> None:
    async def scenario() -> None:
        async with opened() as bench:
            await bench.ask(sale())
            (line,) = bench.connector.lines()
            assert (line.connector, line.state, line.in_flight) == ("bench", "up", 0)
            assert line.sent >= 1
            assert line.received >= 1
            assert line.p50_ms is not None

    run(scenario())
