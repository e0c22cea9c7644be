"""A request that is kept is sent, the same bytes each time, until the gateway says, signed, what became of it.

One task a request; a merchant that starts again takes up every request that was left open. A request is never signed
anew: if the gateway calls it too old it was not taken in (the book is asked first, H3, then the clock, K7), the wish
ends as refused, and a person may wish again.

A refusal binds the copy that it was given for. While another copy may still be on its way through the gateway it ends
nothing: the first answer to the first copy does, and, once the request is so old that no copy of it can pass the
gateway's clock any more, any refusal by a gateway that has asked its book. A shop that was suspended meanwhile is
refused before that: it says nothing of what the shop asked for when it was not.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509

from kwbp.codes import AuthCode, ErrorCode
from kwbp.common import WINDOW
from kwbp.errors import ProtocolError
from kwbp.settling import (
    ANSWERS,
    SentBatchRequest,
    SentSettlingRequest,
    check_batch_answer,
    check_settling_answer,
    read_request,
)
from kwbp.wrapper import KwbpMessage, unwrap
from pki.oids import CT_BATCH_ADMIN_RES, CT_ERROR
from pki.path import Trust
from runtime.logging import get_logger
from storefront.errors import GatewayUnreachable, UnsignedRefusal
from storefront.merchant.collection import crls_of
from storefront.merchant.money.book import MoneyBook, Request, batch_of, business_day_of
from storefront.merchant.money.states import RequestState
from storefront.merchant.refusals import gateway_refusal
from storefront.merchant.resources import Resources

_FIRST_PAUSE: Final = 0.2  # seconds between two tries; doubled each time, up to the cap
_LONGEST_PAUSE: Final = 15.0
_TOO_LONG: Final = timedelta(minutes=30)
"""A request that is open for longer is told to people, once: they ask the acquirer what is the matter."""
_PASSED: Final = 2 * WINDOW + timedelta(minutes=1)
"""A request that is older passes no gateway's clock any more, and what passed one has long been worked on."""
_NOT_NOW: Final = frozenset(
    {ErrorCode.UNSPECIFIED_FAILURE, ErrorCode.RATE_LIMITED, ErrorCode.UNKNOWN_OUTCOME, ErrorCode.BCI_STALE}
)
"""Errors of a gateway that could not do its work, or not yet: asked again until it can."""
_UNASKED: Final = frozenset({"K1", "K2", "K4", "H1", "L1"})
"""Checks that a gateway makes before it asks its book: what they refuse may have been taken in by an earlier copy."""

_log = get_logger("money")


class _StillOpenError(Exception):
    """The gateway says, signed, that the outcome is open."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The gateway that a request names."""

    gateway_id: str
    acquirer_bin: str


class Sender:
    """Drives requests. Start and stop it in the event loop that serves the shop."""

    def __init__(self, book: MoneyBook, resources: Resources) -> None:
        self._book = book
        self._gateway = resources.gateway
        self._trust = resources.trust
        self._clock = resources.clock
        self._checkpoint = resources.checkpoint
        self._driving: dict[int, asyncio.Task[None]] = {}
        self._words: dict[int, str] = {}
        self._unsent: set[int] = set()
        self._told: set[int] = set()

    def start(self) -> None:
        """Take up every request that was left open."""
        for request in self._book.open_requests():
            self._task(request.number)

    async def stop(self) -> None:
        """Stop sending; what is open is taken up by the next `start`."""
        tasks = list(self._driving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def outcome(self, request: Request, *, patience: float, new: bool = False) -> Request:
        """The request with its outcome; still open if there is none after `patience` seconds. It is sent on, then.

        :param new: it was taken in a moment ago, and never sent.
        """
        if new:
            self._unsent.add(request.number)
        if request.state is RequestState.OPEN:
            await asyncio.wait({self._task(request.number)}, timeout=patience)
        return self._book.request(request.number)

    def word(self, request: Request) -> str | None:
        """Why an open request is still open, as far as this process knows; a name of the protocol or of an error."""
        return self._words.get(request.number) if request.state is RequestState.OPEN else None

    def _task(self, number: int) -> asyncio.Task[None]:
        """The one task that drives this request."""
        task = self._driving.get(number)
        if task is None:
            task = asyncio.create_task(self._drive(number))
            self._driving[number] = task
            task.add_done_callback(lambda _task: self._driving.pop(number, None))
        return task

    async def _drive(self, number: int) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                request = self._book.request(number)
                if request.state is not RequestState.OPEN:
                    self._words.pop(number, None)
                    return
                await self._try(request)
            except Exception as error:  # a request is never given up because one try failed, whatever the cause
                word = self._words[number] = _word(error)
                _log.warning("outcome not known, sent again", number=number, word=word, pause=round(pause, 1))
                self._tell_people(number)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _tell_people(self, number: int) -> None:
        """An alarm about a request that is open for too long, once."""
        with suppress(Exception):  # the book may be what fails
            request = self._book.request(number)
            if number not in self._told and self._clock() - request.created_at > _TOO_LONG:
                self._told.add(number)
                _log.error("open for too long: ask the acquirer", wish=request.wish, alarm=True)

    async def _try(self, request: Request) -> None:
        """Send it once, and keep what that comes to."""
        first = request.number in self._unsent
        self._unsent.discard(request.number)
        message, expected = request.message(), _answer_type(request)
        self._checkpoint("money sending")
        answer = unwrap(await self._gateway.settle(message), expected=(expected, CT_ERROR))
        self._checkpoint("money answered")
        trust = await self._trust.trust(self._clock())
        if answer.msg_type == CT_ERROR:
            await self._refused(request, answer, message, trust, first=first)
        elif request.of_batch:
            await self._batch_answered(request, answer, trust)
        else:
            await self._answered(request, answer, trust)
        self._checkpoint("money concluded")

    async def _answered(self, request: Request, message: KwbpMessage, trust: Trust) -> None:
        """Rows 19 to 21: J."""
        now = self._clock()
        sent = SentSettlingRequest.load(request.content_type, request.der)
        answer = check_settling_answer(message, sent=sent, trust=trust, now=now)
        if answer.open:
            raise _StillOpenError
        standing = self._book.standing(sent.xid)
        assert standing is not None  # it was asked about an order that was approved
        body = read_request(request.content_type, request.der).body
        await self._book.conclude(
            request,
            RequestState.APPROVED if answer.approved else RequestState.DECLINED,
            answer.signed,
            code=answer.body.auth_code.protocol_name,
            entry=standing.entry(body, answer.body, answer.digest) if answer.approved else None,
            business_day=business_day_of(answer.body),
            crls_used=crls_of(trust),
            now=now,
        )

    async def _batch_answered(self, request: Request, message: KwbpMessage, trust: Trust) -> None:
        """Row 22: L4 to L8."""
        now = self._clock()
        body = check_batch_answer(message, sent=SentBatchRequest.load(request.der), trust=trust, now=now)
        code = AuthCode.APPROVED.protocol_name
        await self._book.conclude(
            request, RequestState.APPROVED, message.body, code=code, batch=batch_of(body), now=now
        )

    async def _refused(self, request: Request, message: KwbpMessage, sent: bytes, trust: Trust, *, first: bool) -> None:
        """The gateway refused, signed: it did not take this copy in."""
        now = self._clock()
        error = gateway_refusal(message, sent, gateway=_asked(request), trust=trust, now=now)
        known_to_be_new = now - request.created_at > _PASSED and error.check not in _UNASKED
        if error.code in _NOT_NOW or not (first or known_to_be_new):
            raise error
        await self._book.conclude(
            request,
            RequestState.REFUSED,
            message.body,
            code=error.code.protocol_name,
            clause=error.check,
            crls_used=crls_of(trust),
            now=now,
        )


def _answer_type(request: Request) -> x509.ObjectIdentifier:
    return CT_BATCH_ADMIN_RES if request.of_batch else ANSWERS[request.content_type]


def _asked(request: Request) -> _Asked:
    if request.of_batch:
        batch = SentBatchRequest.load(request.der)
        return _Asked(batch.body.gw_id, batch.acquirer_bin)
    sent = SentSettlingRequest.load(request.content_type, request.der)
    return _Asked(sent.gw_id, sent.acquirer_bin)


def _word(error: Exception) -> str:
    """Why there is no outcome, in a name: never the error's text, which may quote what came."""
    if isinstance(error, _StillOpenError):
        return AuthCode.NO_REPLY.protocol_name
    if isinstance(error, ProtocolError):
        return f"{error.code.protocol_name} ({error.check})"
    if isinstance(error, GatewayUnreachable | UnsignedRefusal):
        return "noAnswer"
    return type(error).__name__
