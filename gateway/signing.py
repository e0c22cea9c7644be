"""Answers of the gateway, signed by its token key, in the wrapper in which they travel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

import httpx

from gateway.ports import CmsSigner
from kwbp import fields
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.messages import ErrorTBS
from kwbp.structure import Structure
from pki.der import sha256
from pki.oids import CT_ERROR
from runtime.logging import get_logger
from runtime.problems import Problem

T = TypeVar("T", bound=Structure)

_PAUSES: Final = (0.0, 0.2, 1.0)
"""Seconds before each try: a key service that restarts is back within a second or two."""
_log = get_logger("gateway.signing")


class AnswerSigner:
    """Signs with the key `key_name`; tries again while the key service is away."""

    def __init__(self, signer: CmsSigner, key_name: str, *, clock: Callable[[], datetime]) -> None:
        self._signer = signer
        self._key_name = key_name
        self._clock = clock

    async def message(self, draft: Draft[T]) -> bytes:
        """The DER KwbpMessage around the signed content of `draft`.

        :raises Problem: 503 if the key service stays away; what it refuses otherwise.
        """
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            try:
                signed = await self._signer.sign_cms(self._key_name, draft.content_type.dotted_string, draft.content)
            except httpx.TransportError as error:
                _log.warning("key service away", error=type(error).__name__)
            except Problem as problem:
                if problem.status < 500:
                    raise
                _log.warning("key service failed", error=problem.type)
            else:
                return draft.message(signed)
        raise Problem(503, "key-service-away", "the gateway cannot sign at the moment; send the same message again")

    async def error(self, error: ProtocolError, data: bytes, *, rrpid: bytes, xid: bytes | None) -> bytes:
        """The signed Error message (row 24) that answers `data`, the refused message as it was received."""
        hint = error.time_hint
        body = ErrorTBS(
            version=fields.VERSION,
            error_code=error.outward,
            rrpid=rrpid,
            xid=xid,
            h_message=sha256(data),
            date=to_time(self._clock()),
            time_hint=None if hint is None else to_time(hint),
            clause=error.outward_check,
        )
        return await self.message(Draft.of(CT_ERROR, body, rrpid=rrpid, xid=xid))
