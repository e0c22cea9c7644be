"""Threats at the line to the bank network.

One test for each row of the threat table, named after it (`threats.yaml`).
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import update

from gateway.errors import NoAnswerError, StanExhaustedError
from gateway.key_exchange import KeyExchange, KeyExchangeSettings
from gateway.schema import metadata, trace_numbers
from gateway.trace_numbers import next_stan, rrn_for
from gateway.translation import times
from gateway_keys import wire, zone_keys
from gateway_keys.errors import ZoneKeyError
from gateway_keys.plugin import GatewayKeys
from gateway_keys.routes import CALLER
from gateway_keys.zones import HostZone
from hsm_service.vault import Vault
from runtime.database import open_database
from runtime.settings import Home
from shetab.message import Message
from shetab.subfields import SecurityControl
from shetab.zone import SWITCH_ZONE, Zone
from shetab.zone_keys import aes_kcv, combine, wrap
from tests.gateway.conftest import line, run, until
from tests.gateway.links.test_link import ask, sale
from tests.support.pki_factory import NOW
from tests.support.scripted_switch import ScriptedSwitch, Step
from tests.support.softhsm import provisioned_home

DAY: Final = timedelta(days=1)
HOST: Final = "melli"
"""A connector with a zone of its own."""


class TokenEnd:
    """The gateway's end of the zone: its keys in a real token, without the network between the two."""

    def __init__(self, vault: Vault, home: Home, zone: str = SWITCH_ZONE) -> None:
        self.vault = vault
        self._zone = zone
        _pin, mac, master = zone_keys.keys_of(zone)
        self.master, self.first = (
            combine([each.reveal() for each in zone_keys.read_components(home.secrets, which)])
            for which in (master, mac)
        )
        self._plugin = GatewayKeys.of(home, others={HOST: HostZone(Zone())})

    async def mac(self, data: bytes) -> bytes:
        request = wire.GenerateMacRequest(data=data, zone=self._zone)
        return self.vault.run(self._plugin.zones.generate_mac(self.vault, CALLER, request)).mac

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        request = wire.VerifyMacRequest(data=data, mac=mac, zone=self._zone)
        return self.vault.run(self._plugin.zones.verify_mac(self.vault, CALLER, request)).valid

    async def receive_zone_key(self, key: str, index: int, wrapped: bytes, check_value: bytes) -> wire.ZoneKeyAnswer:
        request = wire.ReceiveZoneKeyRequest(key=key, index=index, wrapped=wrapped, check_value=check_value)
        return self._plugin.zones.receive(self.vault, CALLER, request)

    async def tend_zone_keys(self) -> list[wire.ZoneKeyAnswer]:
        return self._plugin.zones.tend(self.vault, CALLER, wire.TendZoneKeysRequest()).keys


def key_message(number: int, index: int, wrapped: bytes, check_value: str) -> Message:
    """The switch's 0800 with a zone MAC key."""
    security = SecurityControl.of_change("zone-mac", index).to_de53()
    trace = {**times(NOW), 11: f"{number:06d}", 33: "581672000", 70: "101"}
    return Message("0800", {**trace, 53: security, 60: check_value, 96: wrapped.hex().upper()})


def test_36_wrong_or_exchanged_zone_key(tmp_path: Path) -> None:
    """The other end of the zone has another MAC key in mid-traffic: its answers are none until it is right again.

    A key that comes over the line is wrong in each of its parts in turn: it is refused by the code that says so, and
    the key in use stays. The right one is taken while a purchase is under way, whose answer still comes in under the
    key before. At the ceremony, a key of another component is found out by its check value, before it is used at all.
    """
    home = provisioned_home(tmp_path)
    zone_keys.make_components(home.secrets)
    with Vault.open(home, ["gateway"]) as vault:
        zone_keys.load(vault, home.secrets)
        asyncio.run(another_mac_key_in_mid_traffic())
        asyncio.run(keys_that_come_over_the_line(TokenEnd(vault, home)))

    other = provisioned_home(tmp_path / "ceremony")
    zone_keys.make_components(other.secrets)
    with Vault.open(other, ["gateway"]) as vault:
        zone_keys.load(vault, other.secrets)
        for which in zone_keys.ZONE_KEYS:
            component = which.files(other.secrets)[1]
            kept = component.read_bytes()
            component.unlink()
            zone_keys.make_components(other.secrets)
            with pytest.raises(ZoneKeyError, match="check value"):
                zone_keys.load(vault, other.secrets)
            component.write_bytes(kept)
        zone_keys.load(vault, other.secrets)


def test_a_message_under_the_key_of_another_zone_is_dropped(tmp_path: Path) -> None:
    """Two hosts, each of a zone: one answers, and asks, under the key of the other, which the gateway holds too."""
    home = provisioned_home(tmp_path)
    for zone in (SWITCH_ZONE, HOST):
        zone_keys.make_components(home.secrets, of=zone)
    with Vault.open(home, ["gateway"]) as vault:
        for zone in (SWITCH_ZONE, HOST):
            zone_keys.load(vault, home.secrets, of=zone)
        run(two_zones(TokenEnd(vault, home), TokenEnd(vault, home, HOST)))


async def two_zones(first: TokenEnd, second: TokenEnd) -> None:
    filed: list[Message] = []

    async def file(message: Message) -> None:
        filed.append(message)

    async with (
        ScriptedSwitch(key=first.first) as switch,
        ScriptedSwitch(key=second.first) as host,
        line(switch, mac=first, on_unclaimed=file) as to_switch,
        line(host, mac=second, on_unclaimed=file) as to_host,
    ):
        for end, link, other in ((switch, to_switch, second), (host, to_host, first)):
            own = first.first if other is second else second.first
            assert (await ask(link, sale("000001")))[39] == "00"
            end.becomes(own, answers=other.first)  # it still believes ours
            with pytest.raises(NoAnswerError):
                await ask(link, sale("000002"), within=0.3)
            end.becomes(own)
            assert (await ask(link, sale("000003")))[39] == "00"
    assert filed == []


async def another_mac_key_in_mid_traffic() -> None:
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


async def keys_that_come_over_the_line(end: TokenEnd) -> None:
    right, wrong = os.urandom(16), os.urandom(16)
    hostile = [
        (2, wrap(wrong, right), aes_kcv(right)),  # under another master key
        (2, wrap(end.master, wrong), aes_kcv(right)),  # another key than the one that is named
        (2, wrap(end.master, right), aes_kcv(wrong)),  # another check value
        (3, wrap(end.master, right), aes_kcv(right)),  # another index
        (1, wrap(end.master, right), aes_kcv(right)),  # the index in use
    ]
    exchange = KeyExchange(KeyExchangeSettings(at_sign_on=False), end, clock=lambda: NOW)
    async with (
        ScriptedSwitch(key=end.first) as switch,
        line(switch, mac=end, on_key=exchange.serve) as link,
    ):
        for number, (index, wrapped, check_value) in enumerate(hostile, 1):
            await switch.send(key_message(number, index, wrapped, check_value))
            await until(lambda number=number: switch.count("0810") == number)
            assert switch.of("0810")[-1][39] == "87"  # MAC key not in step: 917
            assert (await ask(link, sale(f"{number:06d}")))[39] == "00"  # under the key before
        assert [(each.key, each.index) for each in await end.tend_zone_keys()] == [("zone-pin", 1), ("zone-mac", 1)]

        switch.plan("0200", Step(delay=0.5))
        under_way = asyncio.create_task(ask(link, sale("000100")))
        await until(lambda: switch.of("0200")[-1][11] == "000100")
        await switch.send(key_message(100, 2, wrap(end.master, right), aes_kcv(right)))
        switch.becomes(right, answers=end.first)  # what comes from now on is under the new key; its answers lag behind
        await until(lambda: switch.of("0810")[-1][11] == "000100")
        assert switch.of("0810")[-1][39] == "00"
        assert (await under_way)[39] == "00"
        switch.becomes(right)
        assert (await ask(link, sale("000101")))[39] == "00"
        assert [(each.key, each.index) for each in await end.tend_zone_keys()] == [("zone-pin", 1), ("zone-mac", 2)]


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
