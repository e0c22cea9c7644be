"""Connectors before a bank with accounts: a repeat is answered as what it repeats, money moves once and back once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import pytest

from gateway.connectors.authoriser import AuthoriserSettings, HttpAuthoriser
from gateway.errors import NoAnswerError
from gateway.links.link import SwitchLink
from gateway.ports import ShownConnector
from pki.names import identity_uri
from runtime.client import TlsFiles, client_context, http_client, keepalive_client
from runtime.line_settings import LineTls
from runtime.settings import Home, SwitchSettings
from shetab.json_form import JsonForm
from shetab.mac import message_mac
from shetab.message import Message
from shetab.reversal import repeated, reversal_advice
from shetab.types import Rial
from switch.records import Account, IssuedCard
from switch.service import RunningSwitch, running
from tests.gateway.conftest import LateCounter, link_settings, run, until
from tests.support.acquirer import Acquirer, write_zone_keys
from tests.support.payment_parties import now
from tests.support.payment_site import tls_files
from tests.support.pki_factory import PkiFactory
from tests.support.scripted_switch import DIALECT, SoftwareMac

ACQUIRER: Final = "603770"
OPENING: Final = 1_000_000
AMOUNT: Final = 150_000


class Bank:
    """A simulator with TLS lines and JSON over HTTPS, and who asks it."""

    def __init__(self, switch: RunningSwitch, files: TlsFiles, pin_key: bytes, mac_key: bytes, shop: TlsFiles) -> None:
        self.switch, self.files, self.mac_key, self.shop = switch, files, mac_key, shop
        self.messages = Acquirer(switch.host, switch.port, pin_key, mac_key, code=ACQUIRER)

    def customer(self) -> tuple[Account, IssuedCard]:
        account = self.switch.bank.open_account("603770", holder="Member One", balance=Rial(OPENING))
        return account, self.switch.bank.issue_card(account.iban)

    def balance(self, account: Account) -> int:
        return int(self.switch.bank.account(account.iban).balance)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    home, pki = Home(tmp_path_factory.mktemp("bank")), PkiFactory(now=now().replace(microsecond=0))
    home.create()
    pki.write(home.pki)
    pin_key, mac_key = write_zone_keys(home.secrets)
    for name in ("switch", "gateway"):
        tls_files(home, pki, name, identity_uri("service", name))
    tls_files(home, pki, "shop", identity_uri("merchant", "M1"))
    settings = SwitchSettings(port=0, admin_port=0, authoriser_port=0, authoriser_mac=True, tls=LineTls())
    with running(home, settings, acquirers=(ACQUIRER,)) as switch:
        yield Bank(switch, home.tls_files("gateway"), pin_key, mac_key, home.tls_files("shop"))


async def _nothing_filed(message: Message) -> None:
    raise AssertionError("an answer was not claimed")


def _line(bank: Bank) -> ShownConnector:
    tls = {"tls": client_context(bank.files), "server_name": "localhost", "connections": 2, "institution": ACQUIRER}
    return SwitchLink(
        link_settings(bank.switch.port, **tls),
        DIALECT,
        SoftwareMac(bank.mac_key),
        next_stan=LateCounter(),
        on_unclaimed=_nothing_filed,
        clock=lambda: datetime.now(UTC),
        rng=os.urandom,
    )


def _authoriser(bank: Bank) -> ShownConnector:
    url = bank.switch.authoriser_url
    assert url is not None
    return HttpAuthoriser(
        "wallet",
        AuthoriserSettings(url, with_mac=True, look_every=0.05),
        DIALECT,
        keepalive_client(bank.files, url, timeout=60.0),
        SoftwareMac(bank.mac_key),
        on_unclaimed=_nothing_filed,
        clock=lambda: datetime.now(UTC),
    )


Opening = Callable[[Bank], ShownConnector]


@asynccontextmanager
async def up(connector: ShownConnector) -> AsyncIterator[ShownConnector]:
    task = asyncio.create_task(connector.run())
    try:
        await until(lambda: {state.state for state in connector.lines()} == {"up"})
        yield connector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=[_line, _authoriser], ids=["line", "authoriser"])
def connector(request: pytest.FixtureRequest) -> Opening:
    opening: Opening = request.param
    return opening


async def ask(connector: ShownConnector, message: Message) -> Message:
    return await connector.exchange(message, await connector.authenticate(message), 10.0)


def told(answer: Message) -> dict[int, str]:
    """What an answer says, but when."""
    return {number: value for number, value in answer.fields.items() if number != 7}


def test_a_repeat_is_answered_as_what_it_repeats_and_money_moves_once(bank: Bank, connector: Opening) -> None:
    account, card = bank.customer()
    sale = bank.messages.sale(card, AMOUNT)

    async def scenario() -> None:
        async with up(connector(bank)) as opened:
            first = await ask(opened, sale)
            assert first[39] == "00"
            again = await ask(opened, repeated(sale, transmission_time="1123103045"))
            assert told(again) == told(first)

    run(scenario())
    assert bank.balance(account) == OPENING - AMOUNT


def test_a_reversal_counts_once_however_often_it_is_sent(bank: Bank, connector: Opening) -> None:
    account, card = bank.customer()
    sale = bank.messages.sale(card, AMOUNT)
    kept = DIALECT.messages["0420"].mandatory | {11, 12, 13}
    original = Message("0200", {number: value for number, value in sale.fields.items() if number in kept})
    advice = reversal_advice(
        original, stan=bank.messages.next_stan(), transmission_time="1123103045", pan=card.pan.reveal()
    )

    async def scenario() -> None:
        async with up(connector(bank)) as opened:
            assert (await ask(opened, sale))[39] == "00"
            assert (await ask(opened, advice))[39] == "00"
            for minute in ("31", "32"):
                repeat = repeated(advice, transmission_time=f"112310{minute}45")
                assert (await ask(opened, repeat))[39] in ("00", "94")

    run(scenario())
    assert bank.balance(account) == OPENING
    assert bank.switch.bank.is_balanced()


def test_what_the_bank_refuses_is_a_refusal(bank: Bank, connector: Opening) -> None:
    account, card = bank.customer()

    async def scenario() -> None:
        async with up(connector(bank)) as opened:
            assert (await ask(opened, bank.messages.sale(card, OPENING + 1)))[39] == "51"

    run(scenario())
    assert bank.balance(account) == OPENING


def test_the_authoriser_takes_nothing_without_a_right_mac(bank: Bank) -> None:
    account, card = bank.customer()
    bank_of_others = Bank(bank.switch, bank.files, bank.messages.pin_key, bytes(16), bank.shop)

    async def scenario() -> None:
        async with up(_authoriser(bank_of_others)) as opened:  # its refusal has no MAC that we could verify
            with pytest.raises(NoAnswerError):
                await ask(opened, bank.messages.sale(card, AMOUNT))

    run(scenario())
    assert bank.balance(account) == OPENING


def test_the_authoriser_is_for_gateways_alone(bank: Bank) -> None:
    """Another certificate of the installation, a merchant's say, moves no money, whatever MAC it brings."""
    account, card = bank.customer()
    body = JsonForm(DIALECT).encode(bank.messages.sale(card, AMOUNT))
    headers = {"idempotency-key": "0" * 64, "kwbp-mac": message_mac(bank.mac_key, body).hex()}
    assert bank.switch.authoriser_url is not None
    with http_client(bank.shop, bank.switch.authoriser_url) as client:
        assert client.post("/v1/transactions", content=body, headers=headers).status_code == 403
    assert bank.balance(account) == OPENING


def test_both_ways_lead_to_one_bank(bank: Bank) -> None:
    """A sale that was sent by one way and repeated by the other is one sale."""
    account, card = bank.customer()
    sale = bank.messages.sale(card, AMOUNT)

    async def scenario() -> None:
        async with up(_line(bank)) as line, up(_authoriser(bank)) as authoriser:
            first = await ask(line, sale)
            again = await ask(authoriser, repeated(sale, transmission_time="1123103045"))
            assert told(again) == told(first)

    run(scenario())
    assert bank.balance(account) == OPENING - AMOUNT
