"""The conformance suite itself: connectors that lie fail in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import LinkDownError, NoAnswerError
from gateway.links.meters import LineState
from gateway.ports import ShownConnector
from shetab.message import Message
from tests.gateway.connectors import test_conformance as suite
from tests.gateway.connectors.conftest import KINDS, Bench, Opening
from tests.support.scripted_switch import Step, answer_to


class Honest:
    """Passes everything on; the liars below change what silence means."""

    def __init__(self, true: ShownConnector) -> None:
        self.name = true.name
        self._true = true

    @property
    def signed_on(self) -> bool:
        return self._true.signed_on

    def lines(self) -> list[LineState]:
        return self._true.lines()

    async def authenticate(self, message: Message) -> bytes:
        return await self._true.authenticate(message)

    async def exchange(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in Connector
        try:
            return await self._true.exchange(message, raw, timeout)
        except NoAnswerError:
            return await self.unknown(message, raw, timeout)

    async def unknown(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in Connector
        raise NoAnswerError("unknown")

    async def manage(self, code: str, more: Mapping[int, str]) -> str:
        return await self._true.manage(code, more)

    async def run(self) -> None:
        await self._true.run()

    async def drain(self) -> bool:
        return await self._true.drain()


class TellsUnknownAsDeclined(Honest):
    async def unknown(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in ports
        return answer_to(message, Step(rc="05"))


class TellsUnknownAsApproved(Honest):
    async def unknown(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in ports
        return answer_to(message, Step())


class TellsUnknownAsNotSent(Honest):
    async def unknown(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in ports
        raise LinkDownError("not sent, it says")


class SendsAgain(Honest):
    async def unknown(self, message: Message, raw: bytes, timeout: float) -> Message:  # noqa: ASYNC109  # as in ports
        return await self._true.exchange(message, raw, 5.0)


def wrapped(kind: str, connector: type[Honest]) -> Opening:
    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Bench]:
        async with KINDS[kind](**settings) as bench:
            bench.connector = connector(bench.connector)
            yield bench

    return opened


@pytest.mark.parametrize("kind", ["direct host", "authoriser"])
@pytest.mark.parametrize(
    "liar",
    [TellsUnknownAsDeclined, TellsUnknownAsApproved, TellsUnknownAsNotSent, SendsAgain],
    ids=lambda each: each.__name__,
)
def test_a_connector_that_lies_about_silence_fails(liar: type[Honest], kind: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, LinkDownError)):
        suite.test_what_is_not_the_answer_is_unknown_and_never_a_refusal(
            wrapped(kind, liar), Step(corrupt_mac=True), "00"
        )


def test_one_that_does_not_passes() -> None:
    suite.test_what_is_not_the_answer_is_unknown_and_never_a_refusal(
        wrapped("authoriser", Honest), Step(corrupt_mac=True), "00"
    )
