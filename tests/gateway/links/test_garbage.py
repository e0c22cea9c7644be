"""An hour of garbage on the line: nothing of it is believed, nothing grows, and payments go on in between.

The hour is one of volume: thousands of things that a broken or hostile switch might send, drawn from a seed, between
payments whose answers must be their own. What each draw must not do is counted from outside: answers, filings, calls of
the token, tasks, connections.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from gateway.errors import LinkError
from gateway.links.link import SwitchLink
from gateway.links.settings import Address
from shetab.mac import message_mac
from shetab.message import Message
from tests.gateway.conftest import line, run, until
from tests.support.iso8583_messages import request_fields
from tests.support.scripted_switch import DIALECT, MAC_KEY, ScriptedSwitch, SoftwareMac, Step, answer_to

_DRAWS: Final = 600
_REFUSED_IN_A_ROW: Final = 32


def sale(number: int) -> Message:
    return Message("0200", {**request_fields(), 11: f"{number:06d}", 37: f"{number:012d}"})


def sealed(message: Message, key: bytes = MAC_KEY) -> bytes:
    raw = DIALECT.encode(message)
    return DIALECT.with_mac(raw, message_mac(key, DIALECT.mac_input(raw)))


def framed(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw


class CountingMac(SoftwareMac):
    """The token, with a count of what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.refused = 0

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        self.asked += 1
        good = await super().verify_mac(data, mac)
        self.refused += not good
        return good


def _answer(rng: random.Random, number: int, **change: str) -> Message:
    step = Step(rc=rng.choice(("00", "51", "91")), change={int(name[2:]): value for name, value in change.items()})
    return answer_to(sale(number), step)


def _wrong_mac(rng: random.Random, number: int) -> bytes:
    return framed(sealed(_answer(rng, number), rng.randbytes(16)))


def _wrong_echo(rng: random.Random, number: int) -> bytes:
    field, value = rng.choice(((4, "000000150001"), (2, "6219861000000009"), (42, "M2".ljust(15))))
    return framed(sealed(_answer(rng, number, **{f"DE{field}": value})))


def _for_others(rng: random.Random, number: int) -> bytes:
    field, value = rng.choice(((11, "777777"), (41, "T0000002"), (37, "888888888888"), (32, "603799")))
    return framed(sealed(_answer(rng, number, **{f"DE{field}": value})))


def _request(rng: random.Random, number: int) -> bytes:
    fields = {7: "0321120000", 11: f"{rng.randrange(1, 999_999):06d}", 12: "153000", 13: "0321", 33: "581672000"}
    return framed(sealed(Message("0800", {**fields, 70: rng.choice(("301", "201"))})))


def _unknown_mti(rng: random.Random, number: int) -> bytes:
    return framed(f"{rng.randrange(10_000):04d}".encode() + sealed(_answer(rng, number))[4:])


def _flipped(rng: random.Random, number: int) -> bytes:
    raw = bytearray(sealed(_answer(rng, number)))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return framed(bytes(raw))


def _noise(rng: random.Random, number: int) -> bytes:
    return framed(rng.randbytes(rng.randrange(1, 600)))


def _cut(rng: random.Random, number: int) -> bytes:
    raw = sealed(_answer(rng, number))
    return framed(raw[: rng.randrange(1, len(raw))])


KEEPS_STEP: Final[dict[str, Callable[[random.Random, int], bytes]]] = {
    "wrong MAC": _wrong_mac,
    "wrong echo": _wrong_echo,
    "for others": _for_others,
    "request of the switch": _request,
    "unknown MTI": _unknown_mti,
    "one bit": _flipped,
    "noise": _noise,
    "cut": _cut,
}
LOSES_STEP: Final[dict[str, bytes]] = {
    "zero length": b"\x00\x00",
    "huge length": b"\xff\xff",
    "length beyond the limit": (8193).to_bytes(2, "big") + b"0" * 10,
    "half a prefix": b"\x00",
    "half a frame": b"\x01\x00" + b"0210" * 3,
}


async def pays(link: SwitchLink, switch: ScriptedSwitch, number: int) -> None:
    """A payment gets its own answer, and nobody else's."""
    while True:
        try:
            await until(lambda: link.signed_on)
            message = sale(number)
            answer = await link.exchange(message, await link.authenticate(message), 5.0)
        except LinkError:
            number += 1_000_000 // 3  # the line was just being replaced: another payment, with numbers of its own
            number %= 1_000_000
        else:
            assert (answer[11], answer[39]) == (f"{number:06d}", "00")
            return


@pytest.mark.parametrize("seed", [1, 2])
def test_an_hour_of_garbage(seed: int) -> None:
    async def scenario() -> None:
        rng, token, filed = random.Random(seed), CountingMac(), Counter[str]()

        async def file(message: Message) -> None:
            filed[message.mti] += 1

        async with ScriptedSwitch() as switch, line(switch, mac=token, on_unclaimed=file, connections=2) as link:
            await until(lambda: all(state.state == "up" for state in link.lines()))
            tasks_before = len(asyncio.all_tasks())
            for draw in range(_DRAWS):
                if not switch.writers:
                    await until(lambda: bool(switch.writers))
                writer = rng.choice(switch.writers)
                kind = rng.choice([*KEEPS_STEP, *(LOSES_STEP if draw % 50 == 0 else ())])
                if kind in LOSES_STEP:
                    writer.write(LOSES_STEP[kind])
                    writer.close()
                else:
                    writer.write(KEEPS_STEP[kind](rng, draw))
                if draw % 100 == 0:
                    await pays(link, switch, 100_000 + draw)
                elif draw % 10 == 0:
                    await asyncio.sleep(0)
            await until(lambda: link.signed_on)
            await pays(link, switch, 500_000)
            await until(lambda: not any(state.in_flight for state in link.lines()))  # a line may sign on just now
            # What was filed was under a good MAC and answered nothing; requests were answered, not filed.
            assert set(filed) <= {"0210"}
            assert filed["0210"] > 0
            # Nothing without a form reached the token; what did and was wrong is bounded by what is borne in a row.
            assert token.refused < _DRAWS / 4
            assert len(asyncio.all_tasks()) <= tasks_before + 4
            assert switch.count("0200") <= _DRAWS // 100 * 3 + 3

    run(scenario())


def test_a_forged_answer_in_flight_changes_nothing_and_the_true_one_is_believed() -> None:
    async def scenario() -> None:
        rng, token = random.Random(3), CountingMac()
        async with ScriptedSwitch() as switch, line(switch, mac=token) as link:
            switch.plan("0200", Step(delay=0.3, rc="51"))
            message = sale(7)
            asking = asyncio.create_task(link.exchange(message, await link.authenticate(message), 10.0))
            await until(lambda: switch.count("0200") == 1)
            for _ in range(_REFUSED_IN_A_ROW - 2):
                switch.writers[-1].write(_wrong_mac(rng, 7))
            for _ in range(5):
                switch.writers[-1].write(_wrong_echo(rng, 7))
            assert (await asking)[39] == "51"

    run(scenario())


def test_forged_messages_cost_so_many_calls_of_the_token_and_no_more() -> None:
    """A flood of well-formed messages under a wrong MAC: the line is closed, and comes back with growing pauses."""

    async def scenario() -> None:
        rng, token = random.Random(4), CountingMac()
        async with ScriptedSwitch() as switch, line(switch, mac=token, first_pause=0.01, longest_pause=60) as link:
            flood = b"".join(_wrong_mac(rng, 7) for _ in range(2000))
            signed_on = token.asked
            switch.writers[-1].write(flood)
            await until(lambda: switch.sessions == 2)
            # What was being verified when the line was given up ends: the bound is that of one line.
            assert token.asked - signed_on <= _REFUSED_IN_A_ROW + 64 + 1
            await until(lambda: link.signed_on)
            await pays(link, switch, 8)

    run(scenario())


def test_our_own_messages_that_come_back_are_no_word_of_the_switch() -> None:
    """Whoever has no key may send back what we sent: a sign-on that we answer ourselves has signed on to nobody."""

    async def scenario() -> None:
        async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(8192):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(mirror, "127.0.0.1", 0)
        async with server, ScriptedSwitch() as unused:
            addresses = (Address("127.0.0.1", server.sockets[0].getsockname()[1]),)
            settings = {"addresses": addresses, "management_timeout": 0.3, "first_pause": 30, "longest_pause": 30}
            async with line(unused, wait=False, **settings) as link:
                await until(lambda: link.lines()[0].refused > 0 or link.signed_on)
                assert not link.signed_on
                await until(lambda: link.lines()[0].state == "down")
                assert link.lines()[0].sent == 1

    run(scenario())


def test_a_message_that_comes_byte_by_byte_is_a_message() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            switch.plan("0200", Step(drop=True))
            message = sale(9)
            asking = asyncio.create_task(link.exchange(message, await link.authenticate(message), 20.0))
            await until(lambda: switch.count("0200") == 1)
            for byte in framed(sealed(answer_to(message, Step()))):
                switch.writers[-1].write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await asking)[39] == "00"

    run(scenario())


@pytest.mark.parametrize("junk", LOSES_STEP.values(), ids=LOSES_STEP)
def test_a_stream_that_lost_step_is_left_and_payments_go_on(junk: bytes) -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch, echo_interval=0.1, management_timeout=0.2) as link:
            switch.writers[-1].write(junk)
            switch.always("0800", Step())
            if junk in (LOSES_STEP["half a prefix"], LOSES_STEP["half a frame"]):
                # The answer to the echo is swallowed by the frame that never ends: silence, seen by the echo.
                await until(lambda: switch.sessions >= 2)
            await until(lambda: link.signed_on and switch.sessions >= 2)
            await pays(link, switch, 11)

    run(scenario())
