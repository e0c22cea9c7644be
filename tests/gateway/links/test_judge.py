"""Who waits for an answer may have its MAC checked in a way of their own: of what may be the answer, nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.errors import NoAnswerError
from gateway.links.link import SwitchLink
from shetab.mac import verify_message_mac
from shetab.message import Message
from tests.gateway.conftest import line, run, until
from tests.gateway.links.test_garbage import CountingMac
from tests.gateway.links.test_link import SALE
from tests.support.scripted_switch import MAC_KEY, ScriptedSwitch, Step, answer_to


@dataclass
class Judge:
    """The key service asked for more than the MAC; `knows` is False for one that cannot tell."""

    knows: bool = True
    asked: list[Message] = field(default_factory=list)
    held: asyncio.Event | None = None

    async def __call__(self, message: Message, data: bytes, mac: bytes) -> bool | None:
        self.asked.append(message)
        if self.held is not None:
            await self.held.wait()
        return verify_message_mac(MAC_KEY, data, mac) if self.knows else None


async def ask(link: SwitchLink, judge: Judge, within: float = 10.0) -> Message:
    return await link.exchange(SALE, await link.authenticate(SALE), within, judge)


def test_an_answer_is_judged_once_and_not_verified_again() -> None:
    async def scenario() -> None:
        keys, judge = CountingMac(), Judge()
        async with ScriptedSwitch() as switch, line(switch, mac=keys) as link:
            before = keys.asked
            answer = await ask(link, judge)
            assert judge.asked == [answer]
            assert judge.asked[0] is answer
            assert keys.asked == before

    run(scenario())


def test_a_wrong_mac_is_dropped_whoever_finds_it() -> None:
    async def scenario() -> None:
        keys, judge = CountingMac(), Judge()
        async with ScriptedSwitch() as switch, line(switch, mac=keys) as link:
            switch.plan("0200", Step(corrupt_mac=True))
            before = keys.asked
            with pytest.raises(NoAnswerError):
                await ask(link, judge, within=0.5)
            assert link.lines()[0].refused == 1
            assert (len(judge.asked), keys.asked) == (1, before)

    run(scenario())


def test_after_a_wrong_mac_the_true_answer_is_judged_again() -> None:
    async def scenario() -> None:
        judge = Judge()
        async with ScriptedSwitch() as switch, line(switch) as link:
            switch.plan("0200", Step(corrupt_mac=True))
            asking = asyncio.create_task(ask(link, judge))
            await until(lambda: link.lines()[0].refused == 1)
            await switch.send(answer_to(switch.of("0200")[0], Step()))
            assert (await asking)[39] == "00"
            assert len(judge.asked) == 2

    run(scenario())


def test_where_the_judge_cannot_tell_the_zone_s_keys_do() -> None:
    async def scenario() -> None:
        keys, judge = CountingMac(), Judge(knows=False)
        async with ScriptedSwitch() as switch, line(switch, mac=keys) as link:
            before = keys.asked
            assert (await ask(link, judge))[39] == "00"
            assert keys.asked == before + 1
            switch.plan("0200", Step(corrupt_mac=True))
            with pytest.raises(NoAnswerError):
                await ask(link, judge, within=0.5)

    run(scenario())


def test_what_does_not_repeat_its_request_is_not_judged() -> None:
    async def scenario() -> None:
        keys, judge = CountingMac(), Judge()
        async with ScriptedSwitch() as switch, line(switch, mac=keys) as link:
            switch.plan("0200", Step(change={4: "000000000001"}))
            before = keys.asked
            with pytest.raises(NoAnswerError):
                await ask(link, judge, within=0.5)
            assert (judge.asked, keys.asked) == ([], before + 1)

    run(scenario())


def test_of_copies_of_an_answer_one_is_judged() -> None:
    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        keys, judge = CountingMac(), Judge(held=asyncio.Event())
        async with ScriptedSwitch() as switch, line(switch, mac=keys, on_unclaimed=file) as link:
            switch.plan("0200", Step(copies=3))
            before = keys.asked
            answer = await ask(link, judge)  # a copy that was verified by the keys: nobody waits for the judge
            assert judge.held is not None
            judge.held.set()
            await until(lambda: len(filed) == 2)
            assert (len(judge.asked), keys.asked) == (1, before + 2)
            assert answer is not judge.asked[0]

    run(scenario())


def test_what_is_judged_after_the_deadline_is_filed_and_answers_nothing() -> None:
    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        judge = Judge(held=asyncio.Event())
        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            with pytest.raises(NoAnswerError):
                await ask(link, judge, within=0.5)
            assert judge.asked
            assert not filed
            assert judge.held is not None
            judge.held.set()
            await until(lambda: filed)
            assert filed == judge.asked

    run(scenario())
