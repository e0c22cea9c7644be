"""What came back over HTTP, judged: the answer to this very request, certainly nothing done, or unknown.

A refusal in HTTP's own words is believed because TLS says whose it is. Where a MAC is agreed TLS alone is not enough
(it may end at somebody else's door), and a problem document names no request: another order's could be shown again.
Then only a message with its MAC says anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from gateway.errors import NoAnswerError, NotAcceptedError
from gateway.links.intake import MessageAuthentication
from gateway.links.meters import Meters
from runtime.keepalive import Answer
from runtime.logging import get_logger
from runtime.problems import MEDIA_TYPE as PROBLEM
from shetab.dialect import MAC_SIZE, Dialect, Direction
from shetab.errors import FieldPresenceError, ShetabError
from shetab.json_form import LARGEST, JsonForm
from shetab.message import Message

MEDIA_TYPE: Final = "application/json"
MAC_HEADER: Final = "kwbp-mac"
_UNDECIDED: Final = frozenset({408, 409, 425})
"""Refusals that do not say that nothing happened: too slow, at work on it, perhaps later."""

_log = get_logger("gateway.authoriser")


class Answers:
    """The judge of one connector's answers."""

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        keys: MessageAuthentication,
        meters: Meters,
        *,
        with_mac: bool,
        on_unclaimed: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._name = name
        self._dialect = dialect
        self._form = JsonForm(dialect)
        self._keys = keys
        self._meters = meters
        self._with_mac = with_mac
        self._on_unclaimed = on_unclaimed

    async def judge(self, request: Message, response: Answer) -> Message:
        """The answer to `request`.

        :raises NotAcceptedError: certainly nothing was done.
        :raises NoAnswerError: unknown, also when it cannot be judged: the token or the order book is away.
        """
        if self._says_no(response):
            _log.error("a message was not accepted", connector=self._name, mti=request.mti, status=response.status_code)
            raise NotAcceptedError(f"the authoriser did not take the message in: {response.status_code}")
        if response.status_code != httpx.codes.OK:
            self._meters.refuse("status")
            raise NoAnswerError(f"the authoriser answered {response.status_code}")
        try:
            return await self._believed(request, response)
        except NoAnswerError:
            raise
        except Exception as error:  # whatever the token's client or the order book raises: nobody judged the answer
            self._meters.refuse("failed")
            _log.error("an answer could not be judged", connector=self._name, error=type(error).__name__)
            raise NoAnswerError("the answer could not be judged") from None

    def _says_no(self, response: Answer) -> bool:
        if self._with_mac or not 400 <= response.status_code < 500 or response.status_code in _UNDECIDED:
            return False
        return _media_type(response) == PROBLEM

    async def _believed(self, request: Message, response: Answer) -> Message:
        body = response.content
        if len(body) > LARGEST or _media_type(response) != MEDIA_TYPE:
            raise self._refused("dialect", "what came is no message")
        try:
            answer = self._form.decode(body, Direction.FROM_SWITCH)
        except ShetabError as error:
            raise self._refused("dialect", f"the answer breaks the dialect: {error}") from None
        if self._with_mac and not await self._mac_is_right(body, response.headers.get(MAC_HEADER, "")):
            raise self._refused("mac", "the answer has a wrong MAC")
        try:
            if self._dialect.match_key(answer) != self._dialect.match_key(request):
                raise FieldPresenceError(mti=answer.mti, field="t", rule="does_not_answer_the_request")
            self._dialect.check_echo(request, answer)
        except FieldPresenceError as error:
            refused = self._refused("echo", f"the answer does not repeat its request: field {error.field}")
            await self._on_unclaimed(answer)
            raise refused from None
        return answer

    async def _mac_is_right(self, body: bytes, told: str) -> bool:
        try:
            mac = bytes.fromhex(told)
        except ValueError:
            return False
        return len(mac) == MAC_SIZE and await self._keys.verify_mac(body, mac)

    def _refused(self, why: str, reason: str) -> NoAnswerError:
        self._meters.refuse(why)
        _log.error("an answer of the authoriser is not believed", connector=self._name, reason=reason)
        return NoAnswerError(reason)


def _media_type(response: Answer) -> str:
    """Without its parameters; its letters may be large or small (RFC 9110 8.3.1)."""
    told: str = response.headers.get("content-type", "")
    return told.partition(";")[0].strip().lower()
