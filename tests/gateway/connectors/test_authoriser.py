"""What of HTTP means what, where money is authorised over it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from gateway.connectors.authoriser import AuthoriserSettings, HttpAuthoriser
from gateway.errors import LinkDownError, NoAnswerError, NotAcceptedError
from shetab.message import Message
from tests.gateway.conftest import NOW, run, until
from tests.gateway.connectors.conftest import KINDS
from tests.support.iso8583_messages import request_fields
from tests.support.scripted_authoriser import ScriptedAuthoriser
from tests.support.scripted_switch import DIALECT, SoftwareMac, Step

SALE = Message("0200", request_fields())
OPENED = KINDS["authoriser"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429])
def test_a_problem_document_says_that_nothing_was_taken_in(status: int) -> None:
    async def scenario() -> None:
        async with OPENED(with_mac=False) as bench:
            assert isinstance(bench.peer, ScriptedAuthoriser)
            bench.peer.plan_status(status)
            with pytest.raises(NotAcceptedError):
                await bench.ask(SALE)

    run(scenario())


def test_where_a_mac_is_agreed_a_refusal_without_one_is_unknown() -> None:
    """Whoever stands between, where TLS ends, could refuse what the authoriser has already booked."""

    async def scenario() -> None:
        async with OPENED() as bench:
            assert isinstance(bench.peer, ScriptedAuthoriser)
            bench.peer.plan_status(422)
            with pytest.raises(NoAnswerError):
                await bench.ask(SALE)

    run(scenario())


@pytest.mark.parametrize(
    ("status", "media_type"),
    [
        (500, "application/problem+json"),
        (502, "text/html"),
        (503, "application/problem+json"),
        (408, "application/problem+json"),
        (409, "application/problem+json"),
        (425, "application/problem+json"),
        (403, "text/html"),
        (200, "text/html"),
        (201, "application/json"),
        (302, "text/html"),
    ],
)
def test_whatever_else_is_no_answer_is_unknown(status: int, media_type: str) -> None:
    """A 403 of some proxy says nothing of what stands behind it; a conflict may be somebody at work on it."""

    async def scenario() -> None:
        async with OPENED(with_mac=False) as bench:
            assert isinstance(bench.peer, ScriptedAuthoriser)
            bench.peer.plan_status(status, media_type)
            with pytest.raises(NoAnswerError):
                await bench.ask(SALE)

    run(scenario())


def test_a_repeat_has_the_key_of_what_it_repeats_and_a_reversal_one_of_its_own() -> None:
    async def scenario() -> None:
        async with OPENED() as bench:
            assert isinstance(bench.peer, ScriptedAuthoriser)
            await bench.ask(SALE)
            await bench.ask(Message("0201", {**SALE.fields, 7: "1122103059"}))
            await bench.ask(Message("0200", {**SALE.fields, 11: "000043"}))
            first, repeat, other = bench.peer.idempotency_keys
            assert first == repeat
            assert first != other

    run(scenario())


def test_one_that_is_not_ready_gets_no_orders() -> None:
    async def scenario() -> None:
        async with OPENED() as bench:
            assert isinstance(bench.peer, ScriptedAuthoriser)
            bench.peer.ready = False
            await until(lambda: not bench.connector.signed_on)
            with pytest.raises(LinkDownError):
                await bench.ask(SALE)
            bench.peer.ready = True
            await until(lambda: bench.connector.signed_on)
            assert (await bench.ask(SALE))[39] == "00"

    run(scenario())


def test_one_that_hangs_is_noticed() -> None:
    """A connection whose other end is gone without a word: no order goes there for minutes."""

    async def scenario() -> None:
        async with OPENED(management_timeout=0.1) as bench:
            assert isinstance(bench.peer, ScriptedAuthoriser)
            bench.peer.hangs = True
            await until(lambda: not bench.connector.signed_on)
            bench.peer.hangs = False
            await until(lambda: bench.connector.signed_on)

    run(scenario())


def test_a_look_that_fails_in_an_unforeseen_way_is_not_the_last() -> None:
    class Odd:
        def __init__(self) -> None:
            self.looks = 0

        async def request(self, *_: object, **__: object) -> httpx.Response:
            self.looks += 1
            if self.looks == 1:
                raise ValueError("unforeseen")
            return httpx.Response(200)

        async def aclose(self) -> None:
            pass

    async def scenario() -> None:
        settings = AuthoriserSettings("http://127.0.0.1:1", look_every=0.01)
        odd = Odd()
        connector = HttpAuthoriser(
            "odd", settings, DIALECT, odd, SoftwareMac(), on_unclaimed=lambda _: asyncio.sleep(0), clock=lambda: NOW
        )
        task = asyncio.create_task(connector.run())
        await until(lambda: connector.signed_on)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenario())


def test_many_are_under_way_at_once() -> None:
    async def scenario() -> None:
        async with OPENED() as bench:
            bench.peer.plan("0200", *[Step(delay=0.05)] * 20)
            sales = [Message("0200", {**SALE.fields, 11: f"{number:06d}"}) for number in range(1, 21)]
            answers = await asyncio.gather(*map(bench.ask, sales))
            assert [answer[11] for answer in answers] == [message[11] for message in sales]

    run(scenario())
