"""Threats at the line to the bank network.

One test for each row of the threat table, named after it (`threats.yaml`).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import update

from gateway.errors import NoAnswerError, StanExhaustedError
from gateway.schema import metadata, trace_numbers
from gateway.trace_numbers import next_stan, rrn_for
from gateway_keys import zone_keys
from gateway_keys.errors import ZoneKeyError
from hsm_service.vault import Vault
from runtime.database import open_database
from shetab.message import Message
from tests.gateway.conftest import line, run, until
from tests.gateway.test_link import ask, sale
from tests.support.pki_factory import NOW
from tests.support.scripted_switch import ScriptedSwitch, Step
from tests.support.softhsm import provisioned_home

DAY: Final = timedelta(days=1)


def test_36_wrong_or_exchanged_zone_key(tmp_path: Path) -> None:
    """The other end of the zone has another MAC key in mid-traffic: its answers are none until it is right again.

    A key that is put together from another component is found out by its check value, before it is used at all.
    New keys are not exchanged over the line (916, 917, 919) yet.
    """

    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            assert (await ask(link, sale("000001")))[39] == "00"
            switch.plan("0200", Step(corrupt_mac=True))  # what a MAC under another key is to this end
            with pytest.raises(NoAnswerError):
                await ask(link, sale("000002"), within=0.3)
            assert (await ask(link, sale("000003")))[39] == "00"
            assert filed == []

        async with ScriptedSwitch(key=bytes(16)) as stranger, line(stranger, wait=False) as link:
            await until(lambda: stranger.sessions > 1)  # not even its sign-on is believed: it is tried again and again
            assert not link.signed_on

    run(scenario())

    home = provisioned_home(tmp_path)
    zone_keys.make_components(home.secrets)
    with Vault.open(home, ["gateway"]) as vault:
        zone_keys.load(vault, home.secrets)
        for which in zone_keys.ZONE_KEYS:
            component = which.files(home.secrets)[1]
            kept = component.read_bytes()
            component.unlink()
            zone_keys.make_components(home.secrets)
            with pytest.raises(ZoneKeyError, match="check value"):
                zone_keys.load(vault, home.secrets)
            component.write_bytes(kept)
        zone_keys.load(vault, home.secrets)


def test_37_reordered_answers_and_numbers_that_wrap(tmp_path: Path) -> None:
    """999999 and 000001 are under way together, answered in the other order; and one number on two days is two keys."""
    engine = open_database(tmp_path / "numbers.db")
    metadata.create_all(engine)
    with engine.begin() as connection:
        next_stan(connection, "581672", NOW)
        connection.execute(update(trace_numbers).values(last=999_998, used=10))
        numbers = [next_stan(connection, "581672", NOW) for _ in range(2)]
        assert numbers == ["999999", "000001"]
        connection.execute(update(trace_numbers).values(used=999_999))
        with pytest.raises(StanExhaustedError):  # coming round within one day would make two orders one
            next_stan(connection, "581672", NOW)
        assert next_stan(connection, "581672", NOW + DAY) == "000002"
        assert rrn_for("000002", NOW) != rrn_for("000002", NOW + DAY)
    engine.dispose()

    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            switch.plan("0200", Step(delay=3.0, rc="51"), Step())
            first = asyncio.create_task(ask(link, sale(numbers[0])))
            await until(lambda: [each[11] for each in switch.received if each.mti == "0200"] == numbers[:1])
            second = await ask(link, sale(numbers[1]))
            assert not first.done()
            assert (second[11], second[39]) == (numbers[1], "00")
            assert ((await first)[11], (await first)[39]) == (numbers[0], "51")
            switch.plan("0200", Step(change={13: "1123"}))  # yesterday's answer, or tomorrow's, under the same number
            with pytest.raises(NoAnswerError):
                await ask(link, sale("000003"), within=0.3)
            assert [each[13] for each in filed] == ["1123"]

    run(scenario())
