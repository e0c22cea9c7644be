"""How the gateway says no: a signed Error message (row 24), and the exact cause in its own journal.

To whom nothing can be addressed gets no signature: bytes that are no KwbpMessage have no RRPID to answer to. And a
caller has a budget of signed refusals a minute, so that a stream of junk costs the token a bounded number of
operations (threat 40). Both are told by an HTTP problem with the same code instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Counter

from audit.journal import Journal
from gateway.signing import AnswerSigner
from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.wrapper import KwbpMessage
from pki.der import sha256
from runtime.logging import get_logger
from runtime.problems import Problem

_BUDGET: Final = 120
_MINUTE: Final = timedelta(minutes=1)

_refused: Final = Counter("kwbp_gateway_refusals_total", "Messages refused", ["check", "code"])
_log = get_logger("gateway.refusals")


class Refusals:
    """Answers refused messages."""

    def __init__(self, signer: AnswerSigner, journal: Journal, *, clock: Callable[[], datetime]) -> None:
        self._signer = signer
        self._journal = journal
        self._clock = clock
        self._signed: dict[str, deque[datetime]] = {}

    async def answer(self, error: ProtocolError, caller: str, data: bytes, message: KwbpMessage | None) -> bytes:
        """The signed Error message for `data`, which decoded to `message` (None if it did not).

        :raises Problem: 400 for what is no KwbpMessage, 429 beyond the caller's budget.
        """
        await self.note(error, caller, data, message)
        if message is None:
            raise Problem(
                400,
                "not-a-kwbp-message",
                "the body is not a message of the protocol that is served here",
                clause=error.check,
                error_code=int(error.outward),
            )
        if not self._within_budget(caller):
            raise Problem(
                429,
                "rate-limited",
                "too many refused messages; correct the sender and try again in a minute",
                clause=error.outward_check,
                headers={"retry-after": "60"},
                error_code=int(ErrorCode.RATE_LIMITED),
            )
        return await self._signer.error(error, data, rrpid=message.rrpid, xid=message.xid)

    async def note(self, error: ProtocolError, caller: str, data: bytes, message: KwbpMessage | None) -> None:
        """Put the exact cause on the record; outsiders learn less."""
        _refused.labels(error.check, error.code.protocol_name).inc()
        entry = {
            "event": "refused",
            "caller": caller,
            "check": error.check,
            "code": error.code.protocol_name,
            "detail": error.detail,
            "message": sha256(data).hex(),
            "xid": message.xid.hex() if message is not None and message.xid is not None else None,
        }
        _log.warning("refused", **{name: value for name, value in entry.items() if name != "event"})
        await asyncio.to_thread(self._journal.append, entry)

    def _within_budget(self, caller: str) -> bool:
        now = self._clock()
        signed = self._signed.setdefault(caller, deque())
        while signed and signed[0] <= now - _MINUTE:
            signed.popleft()
        if len(signed) >= _BUDGET:
            return False
        signed.append(now)
        return True
