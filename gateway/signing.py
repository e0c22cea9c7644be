"""Answers of the gateway, signed by its token key, in the wrapper in which they travel.

The date in an answer is this service's, the signing time beside it the key service's. Where their clocks disagree, no
merchant will ever take the answer (K7), however often the stored bytes are sent again: then it counts as not signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.ports import CmsSigner
from kwbp.common import Draft, check_date, read_signed
from kwbp.errors import ProtocolError
from kwbp.structure import Structure
from runtime.logging import get_logger
from runtime.problems import Problem

T = TypeVar("T", bound=Structure)

_PAUSES: Final = (0.0, 0.2, 1.0)
"""Seconds before each try: a key service that restarts is back within a second or two."""
_log = get_logger("gateway.signing")


class AnswerSigner:
    """Signs with the key `key_name`; tries again while the key service is away."""

    def __init__(self, signer: CmsSigner, key_name: str) -> None:
        self._signer = signer
        self._key_name = key_name

    async def message(self, draft: Draft[T]) -> bytes:
        """The DER KwbpMessage around the signed content of `draft`.

        :raises Problem: 503 if the key service stays away, is overloaded or has another time; or what it refuses.
        """
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            try:
                signed = await self._signer.sign_cms(self._key_name, draft.content_type.dotted_string, draft.content)
            except Problem as problem:
                if problem.status < 500 and problem.status != 429:
                    raise
                _log.warning("key service away", problem=problem.type)
            else:
                _check_clocks(draft, signed)
                return draft.message(signed)
        raise Problem(503, "key-service-away", "the gateway cannot sign at the moment; send the same message again")

    async def message_if(self, draft: Draft[T], sign: Callable[[str, bytes], Awaitable[bytes | None]]) -> bytes | None:
        """The DER KwbpMessage around what `sign` makes of the key's name and the content; None if it declines.

        Tried once: who asks has another way.

        :raises Problem: of `sign`; 503 if the key service has another time.
        """
        signed = await sign(self._key_name, draft.content)
        if signed is None:
            return None
        _check_clocks(draft, signed)
        return draft.message(signed)


def _check_clocks(draft: Draft[T], signed: bytes) -> None:
    date = getattr(draft.body, "date", None)
    if date is None:
        return
    received = read_signed(type(draft.body), draft.content_type, signed)
    try:
        check_date(received, date, now=received.signed.signing_time)
    except ProtocolError:
        _log.error("the key service has another time than the gateway", alarm=True)
        raise Problem(503, "clocks-disagree", "the gateway's clocks disagree; send the same message again") from None
