"""Several lines to one switch: spread, bounded, replaced, drained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from gateway.errors import LinkBusyError, LinkDownError, NoAnswerError
from gateway.links.link import SwitchLink
from gateway.links.settings import Address
from shetab.message import Message
from tests.gateway.conftest import line, run, until
from tests.support.iso8583_messages import request_fields
from tests.support.scripted_switch import ScriptedSwitch, Step


def sale(number: int, mti: str = "0200") -> Message:
    return Message(mti, {**request_fields(), 11: f"{number:06d}", 37: f"{number:012d}"})


async def ask(link: SwitchLink, message: Message, within: float = 10.0) -> Message:
    return await link.exchange(message, await link.authenticate(message), within)


def up(link: SwitchLink) -> int:
    return sum(state.state == "up" for state in link.lines())


def carried(switch: ScriptedSwitch, mti: str) -> list[int]:
    return sorted(sum(message.mti == mti for message in came) for came in switch.on_line.values())


def test_each_line_signs_on_for_itself_and_requests_are_spread() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch, connections=3) as link:
            await until(lambda: up(link) == 3)
            assert carried(switch, "0800") == [1, 1, 1]
            switch.plan("0200", *[Step(delay=0.1)] * 9)
            answers = await asyncio.gather(*(ask(link, sale(number)) for number in range(1, 10)))
            assert {answer[39] for answer in answers} == {"00"}
            assert carried(switch, "0200") == [3, 3, 3]

    run(scenario())


def test_an_answer_may_come_on_another_line() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch, connections=2) as link:
            await until(lambda: up(link) == 2)
            switch.plan("0200", *[Step(elsewhere=True)] * 4)
            for number in range(1, 5):
                assert (await ask(link, sale(number)))[11] == f"{number:06d}"
            assert sum(state.refused for state in link.lines()) == 0

    run(scenario())


def test_what_a_broken_line_had_under_way_may_still_be_answered_on_another() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch, connections=2, first_pause=30, longest_pause=30) as link:
            await until(lambda: up(link) == 2)
            switch.plan("0200", Step(delay=0.2, elsewhere=True))
            asking = asyncio.create_task(ask(link, sale(1)))
            await until(lambda: switch.count("0200") == 1)
            next(writer for writer, came in switch.on_line.items() if came[-1].mti == "0200").close()
            await until(lambda: up(link) == 1)
            assert (await asking)[39] == "00"

    run(scenario())


def test_what_a_broken_line_had_under_way_is_given_up_after_a_moment() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch, connections=2, handed_over=0.05) as link:
            await until(lambda: up(link) == 2)
            switch.plan("0200", Step(hang_up=True))
            with pytest.raises(NoAnswerError, match="broke"):
                await ask(link, sale(1), within=60)
            assert (await ask(link, sale(2)))[39] == "00"

    run(scenario())


def test_lines_may_lead_to_several_addresses_of_a_switch() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as one, ScriptedSwitch() as other:
            addresses = tuple(Address("127.0.0.1", switch.port) for switch in (one, other))
            async with line(one, addresses=addresses) as link:
                await until(lambda: up(link) == 2)
                await asyncio.gather(*(ask(link, sale(number)) for number in range(1, 5)))
                assert (one.count("0200"), other.count("0200")) == (2, 2)
                await one.close()
                await until(lambda: up(link) == 1)
                assert (await ask(link, sale(5)))[39] == "00"

    run(scenario())


def test_beyond_the_bounds_an_order_is_not_sent_but_a_reversal_is() -> None:
    async def scenario() -> None:
        bounds = {"in_flight": 8, "in_flight_total": 3, "kept_for_reversals": 1}
        async with ScriptedSwitch() as switch, line(switch, connections=2, **bounds) as link:
            await until(lambda: up(link) == 2)
            switch.plan("0200", *[Step(delay=0.3)] * 2)
            crowd = [asyncio.create_task(ask(link, sale(number))) for number in (1, 2)]
            await until(lambda: switch.count("0200") == 2)
            with pytest.raises(LinkBusyError):
                await ask(link, sale(3))
            assert await link.manage("301", {}) == "00"  # what is no new order has a share of its own
            assert [answer[39] for answer in await asyncio.gather(*crowd)] == ["00", "00"]
            assert switch.count("0200") == 2

    run(scenario())


@asynccontextmanager
async def deaf_peer() -> AsyncIterator[int]:
    """Accepts and never reads."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # a peer that reads nothing
        await asyncio.sleep(3600)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def test_a_peer_that_reads_nothing_blocks_nobody_and_its_buffer_is_bounded() -> None:
    async def scenario() -> None:
        async with deaf_peer() as port, ScriptedSwitch() as switch:
            addresses = (Address("127.0.0.1", port), Address("127.0.0.1", switch.port))
            settings = {"addresses": addresses, "network_management": False, "write_buffer": 2048, "in_flight": 4096}
            async with line(switch, in_flight_total=20_000, **settings) as link:
                await until(lambda: up(link) == 2)
                message = sale(0)
                raw = await link.authenticate(message)
                deaf = link._lines[0]
                while deaf.write(raw):  # until the system's own buffers are full, and ours beyond them
                    pass
                assert deaf._writer is not None
                assert deaf._writer.transport.get_write_buffer_size() <= 2048
                answers = await asyncio.gather(*(ask(link, sale(number)) for number in range(1, 20)))
                assert {answer[39] for answer in answers} == {"00"}

    run(scenario())


def test_it_signs_off_only_when_nothing_is_under_way() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            async with line(switch, connections=2) as link:
                await until(lambda: up(link) == 2)
                switch.plan("0200", Step(delay=0.2))
                asking = asyncio.create_task(ask(link, sale(1)))
                await until(lambda: switch.count("0200") == 1)
            # The line was told to stop while the request was under way.
            assert (await asking)[39] == "00"
            assert [message[70] for message in switch.received if message.mti == "0800"][-2:] == ["002", "002"]

    run(scenario())


def test_what_can_never_be_answered_does_not_hold_the_sign_off_for_ever() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            async with line(switch, management_timeout=0.2) as link:
                switch.plan("0200", Step(drop=True))
                asking = asyncio.create_task(ask(link, sale(1), within=60))
                await until(lambda: switch.count("0200") == 1)
            assert "002" not in [message[70] for message in switch.received if message.mti == "0800"]
            with pytest.raises(NoAnswerError):
                await asking

    run(scenario())


def alarm(kind: str) -> float | None:
    return REGISTRY.get_sample_value("kwbp_gateway_link_alarm", {"connector": "switch", "alarm": kind})


def test_alarms_are_raised_and_are_over() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as one, ScriptedSwitch() as other:
            addresses = tuple(Address("127.0.0.1", switch.port) for switch in (one, other))
            async with line(one, addresses=addresses, alarm_after=0.05) as link:
                await until(lambda: up(link) == 2)
                await one.close()
                await until(lambda: alarm("half of the lines down") == 1)
                assert alarm("no line up") in (None, 0)
                await other.close()
                await until(lambda: alarm("no line up") == 1)
                await one.open()
                await other.open()
                await until(lambda: alarm("no line up") == 0 and alarm("half of the lines down") == 0)

    run(scenario())


def test_a_line_that_breaks_after_every_sign_on_comes_back_ever_more_slowly() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            switch.plan("0800", *[Step(), Step(hang_up=True)] * 3)  # the echo is never answered
            async with line(switch, echo_interval=0.01, first_pause=0.001, longest_pause=0.01) as link:
                await until(lambda: switch.sessions >= 3)
                assert link._lines[0]._failures >= 2

    run(scenario())


def test_a_host_without_network_management_is_given_up_when_it_answers_nothing() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            settings = {"network_management": False, "unanswered_in_a_row": 3}
            async with line(switch, **settings) as link:
                switch.plan("0200", *[Step(drop=True)] * 3)
                for number in range(1, 4):
                    with pytest.raises(NoAnswerError):
                        await ask(link, sale(number), within=0.02)
                await until(lambda: switch.sessions == 2)
                assert switch.count("0800") == 0

    run(scenario())


def test_a_zone_key_may_come_on_any_line_and_is_answered_there() -> None:
    async def scenario() -> None:
        taken: list[Message] = []

        async def take(request: Message) -> str:
            taken.append(request)
            return "00"

        async with ScriptedSwitch() as switch, line(switch, connections=2, on_key=take) as link:
            await until(lambda: up(link) == 2)
            fields = {7: "0321120000", 11: "000007", 12: "153000", 13: "0321", 33: "581672000", 70: "101"}
            key = {53: "0000010200000000", 60: "A1B2C3", 96: "00" * 24}
            await switch.send(Message("0800", {**fields, **key}))
            await until(lambda: switch.count("0810") == 1)
            assert len(taken) == 1
            assert switch.on_line[switch.writers[-1]][-1].mti == "0810"

    run(scenario())


def test_with_no_line_up_nothing_leaves() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            switch.always("0800", Step(rc="91"))
            async with line(switch, connections=2, wait=False) as link:
                await until(lambda: switch.count("0800") >= 2)
                with pytest.raises(LinkDownError):
                    await ask(link, sale(1))

    run(scenario())
