"""What the merchant would be told if an answer of the network is authentic: drafted before that is known.

The draft goes to the key service together with the MAC of the answer (`gateway_keys.answers`), which signs it only if
the MAC is right: one request where there were two. Until then nothing of the draft is believed, stored or shown, and of
a message with a wrong MAC nothing is left. If the key service cannot do both together, the MAC is verified by itself
and the answer signed afterwards, with the patience of `gateway.signing`.

A signature that is long in coming must not cost the network's answer: the time in which that has to be believed (T1)
runs on meanwhile, and then a decline would be unknown, be reversed, and speak against the line. So a part of T1 is
waited for both together; the rest is left for the MAC alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.order import Promise
from gateway.translation import SwitchAnswer
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.messages import AuthResTBS
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.message import Message

_log = get_logger("gateway.authorization")


@dataclass(frozen=True, slots=True)
class Drafted:
    """What follows from an answer, at `now`; `draft` is the AuthRes."""

    answer: SwitchAnswer
    now: datetime
    ack_by: datetime
    promise: Promise
    draft: Draft[AuthResTBS]


class Provisional:
    """For one order. `judge` is for `Connector.exchange`; `signed` tells afterwards what is there of its answer."""

    def __init__(
        self,
        draft: Callable[[Message], Drafted],
        sign: Callable[[Draft[AuthResTBS], bytes, bytes], Awaitable[bytes | None]],
        within: float,
    ) -> None:
        """`sign(draft, data, mac)`: the signed message if `mac` is right for `data`, None if it is not.

        It has `within` seconds.
        """
        self._draft = draft
        self._sign = sign
        self._within = within
        self._found: tuple[Message, Drafted, bytes] | None = None

    async def judge(self, message: Message, data: bytes, mac: bytes) -> bool | None:
        """Whether the MAC is right; None if that could not be found out together with the signature."""
        try:
            drafted = self._draft(message)
            async with asyncio.timeout(self._within):
                signed = await self._sign(drafted.draft, data, mac)
        except (Problem, ProtocolError, TimeoutError, ValueError, LookupError) as error:
            _log.warning(
                "an answer was not verified and signed in one", error=getattr(error, "type", type(error).__name__)
            )
            return None
        if signed is None:
            return False
        self._found = message, drafted, signed
        return True

    def signed(self, answer: Message) -> tuple[Drafted, bytes] | None:
        """The draft and the signed message that were made of this very answer, if they were."""
        if self._found is None or self._found[0] is not answer:
            return None
        return self._found[1:]
