"""Our lines against a host that others wrote: iso8583sim's (PyPI), with its own codec, framing, server, rules and MAC.

What is ours in it is what every host must be told of an agreement: which further fields its answers carry, and the key.
Its MAC is ANSI X9.19, computed by its own code. It knows nothing of sign-on states or composite keys, and need not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from iso8583sim.core.parser import ISO8583Parser
from iso8583sim.core.types import ISO8583Message, ISO8583Version
from iso8583sim.net.framing import Framing as ForeignFraming
from iso8583sim.net.host import MockHost, Rule
from iso8583sim.security.mac import sign_message, verify_message

from gateway.errors import NoAnswerError
from gateway.links.link import SwitchLink
from shetab.framing import Framing
from shetab.mac import MacAlgorithm, verify_zone_mac, zone_mac
from shetab.message import Message
from shetab.reversal import reversal_advice
from tests.gateway.conftest import NOW, LateCounter, link_settings, run, until
from tests.support.iso8583_messages import request_fields
from tests.support.scripted_switch import DIALECT

KEY: Final = bytes(range(0x20, 0x30))
_ALWAYS: Final = {6: 4, 10: "00000001", 15: 13, 33: "581672000", 51: "364", 62: 62}
"""Fields of an answer that the agreement wants: a value, or the number of the field of the request that it repeats."""


class ForeignHost(MockHost):
    """The host, told the agreement."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(version=ISO8583Version.V1987, **settings)
        self.seen: list[str] = []

    def build_response(self, request: ISO8583Message, code: str) -> ISO8583Message:
        response = super().build_response(request, code)
        fields = response.fields
        if request.mti == "0800":
            fields.pop(33, None)
            fields[100] = request.fields[33]
            return response
        for number, value in _ALWAYS.items():
            fields[number] = request.fields[value] if isinstance(value, int) else value
        if 43 in request.fields:
            fields[43] = request.fields[43].ljust(40)
        if request.mti[1] == "4":
            fields.pop(38, None)
        return response

    async def _answer(self, tpdu: bytes | None, data: bytes, writer: asyncio.StreamWriter) -> None:
        text = data.decode("ascii")
        if not verify_message(text, KEY, version=self.version):
            return
        request = ISO8583Parser(version=self.version).parse(text)
        self.seen.append(request.mti)
        rule = self.rule_for(request)
        if rule.action == "drop":
            return
        answer = sign_message(self.build_response(request, rule.respond), KEY, self._builder)
        writer.write(self.framing.frame(answer.encode("ascii")))
        await writer.drain()


class RetailMac:
    """The zone MAC key of this agreement, in software."""

    async def mac(self, data: bytes) -> bytes:
        return zone_mac(MacAlgorithm.X9_19, KEY, data)

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        return verify_zone_mac(MacAlgorithm.X9_19, KEY, data, mac)


@asynccontextmanager
async def connected(
    rules: list[Rule] | None = None, *, header: int = 2
) -> AsyncIterator[tuple[SwitchLink, ForeignHost]]:
    """Two signed-on lines to the host."""

    async def nothing_is_filed(message: Message) -> None:
        raise AssertionError("an answer was not claimed")

    host = ForeignHost(rules=rules, framing=ForeignFraming(header=f"{header}b"))
    await host.start("127.0.0.1", 0)
    link = SwitchLink(
        link_settings(host.port, connections=2, framing=Framing(header)),
        DIALECT,
        RetailMac(),
        next_stan=LateCounter(),
        on_unclaimed=nothing_is_filed,
        clock=lambda: NOW,
        rng=lambda size: bytes(size),
    )
    task = asyncio.create_task(link.run())
    try:
        await until(lambda: [state.state for state in link.lines()] == ["up", "up"])
        yield link, host
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await host.stop()


async def ask(link: SwitchLink, message: Message, within: float = 5.0) -> Message:
    return await link.exchange(message, await link.authenticate(message), within)


def sale(stan: str = "000042") -> Message:
    return Message("0200", {**request_fields(), 11: stan, 37: f"000000{stan}"})


@pytest.mark.parametrize("header", [2, 4])
def test_it_signs_on_pays_echoes_and_signs_off(header: int) -> None:
    async def scenario() -> None:
        async with connected(header=header) as (link, host):
            answer = await ask(link, sale())
            assert (answer.mti, answer[39], answer[38], answer[11]) == ("0210", "00", "A00042", "000042")
            assert await link.manage("301", {}) == "00"
        assert host.seen.count("0800") == 2 + 1 + 2  # two lines on, an echo, two lines off
        assert sum(state.refused for state in link.lines()) == 0

    run(scenario())


def test_it_declines_by_rules_of_its_own() -> None:
    async def scenario() -> None:
        rules = [Rule(mti=["0200"], amount_gt=100_000, respond="51"), Rule()]
        async with connected(rules) as (link, _):
            assert (await ask(link, sale()))[39] == "51"

    run(scenario())


def test_its_silence_is_unknown_and_the_reversal_is_answered() -> None:
    async def scenario() -> None:
        async with connected([Rule(mti=["0200"], action="drop"), Rule()]) as (link, host):
            request = sale()
            with pytest.raises(NoAnswerError):
                await ask(link, request, within=0.2)
            kept = Message("0200", {number: request[number] for number in request.fields if number not in (2, 52, 53)})
            pan = request[2]
            advice = reversal_advice(kept, stan="000043", transmission_time="1122103200", pan=pan)
            allowed = DIALECT.messages["0420"].mandatory
            advice = Message("0420", {number: value for number, value in advice.fields.items() if number in allowed})
            assert (await ask(link, advice))[39] == "00"
            assert host.seen[-2:] == ["0200", "0420"]

    run(scenario())


def test_many_at_once_get_their_own_answers() -> None:
    async def scenario() -> None:
        async with connected() as (link, _):
            sales = [sale(f"{number:06d}") for number in range(1, 41)]
            answers = await asyncio.gather(*(ask(link, message) for message in sales))
            assert [answer[11] for answer in answers] == [message[11] for message in sales]

    run(scenario())
