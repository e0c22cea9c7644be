"""How the gateway says no: an Error message (row 24), and the exact cause in its own journal.

The Error is signed, so that a merchant can hold us to it. Three exceptions, bare, because the token shall not work for
them (threat 40): bytes that are no KwbpMessage, a message that nobody of ours has signed
(`gateway.guarding.believable`), and whatever a caller sends beyond its budget of signed refusals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from prometheus_client import Counter

from audit.journal import Journal
from gateway.guarding.believable import Believable
from gateway.signing import AnswerSigner
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.wrapper import KwbpMessage
from pki.der import sha256
from runtime.logging import get_logger
from runtime.minute_budget import MinuteBudget

_BUDGET: Final = 120
"""Signed refusals of one caller in a minute."""

_refused: Final = Counter("kwbp_gateway_refusals_total", "Messages refused", ["check", "code"])
_log = get_logger("gateway.refusals")


class Refusals:
    """Answers refused messages."""

    def __init__(
        self, signer: AnswerSigner, journal: Journal, *, believable: Believable, clock: Callable[[], datetime]
    ) -> None:
        self._believable = believable
        self._signer = signer
        self._journal = journal
        self._clock = clock
        self._budget = MinuteBudget(_BUDGET, clock=clock)

    async def answer(self, error: ProtocolError, caller: str, data: bytes, message: KwbpMessage | None) -> bytes:
        """The Error message (DER KwbpMessage) for `data`, which decoded to `message` (None if it did not).

        :raises Problem: the key service is away.
        """
        await self.note(error, caller, data, message.xid if message is not None else None)
        draft = build_error(error, refused=data, now=self._clock())
        # The budget first: it bounds what judging junk costs this process, too.
        if message is None or not self._budget.take(caller) or not await self._believable(message, error):
            return draft.message(draft.content)
        return await self._signer.message(draft)

    async def final(self, error: ProtocolError, caller: str, data: bytes, xid: bytes) -> bytes:
        """As `answer`, for a refusal that will be stored: always signed."""
        await self.note(error, caller, data, xid)
        return await self._signer.message(build_error(error, refused=data, now=self._clock()))

    async def note(self, error: ProtocolError, caller: str, data: bytes, xid: bytes | None) -> None:
        """Put the exact cause on the record; outsiders learn less."""
        _refused.labels(error.check, error.code.protocol_name).inc()
        entry = {
            "caller": caller,
            "check": error.check,
            "code": error.code.protocol_name,
            "detail": error.detail,
            "message": sha256(data).hex(),
            "xid": xid.hex() if xid is not None else None,
        }
        _log.warning("refused", **entry)
        await asyncio.to_thread(self._journal.append, {"event": "refused", **entry})
