"""Error messages of the merchant: signed when it refuses, judged when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from kwbp.checks import CHECKS
from kwbp.codes import ErrorCode
from kwbp.common import instant
from kwbp.error_message import build_error, read_error
from kwbp.errors import ProtocolError
from kwbp.parties import gateway_data
from kwbp.wrapper import KwbpMessage
from pki.path import Trust
from pki.roles import Role
from runtime.minute_budget import MinuteBudget
from storefront.errors import UnsignedRefusal
from storefront.signers import Signer


class Refusals:
    """Answers wallets whose messages are refused.

    Anybody may send anything here, so the token must not sign for each of them (threat 40): at most `budget` signed
    refusals a minute, bare ones beyond. A wallet draws no conclusion from a bare one; it asks again.
    """

    def __init__(self, signer: Signer, *, clock: Callable[[], datetime], budget: int = 120) -> None:
        self._signer = signer
        self._clock = clock
        self._signatures = MinuteBudget(budget, clock=clock)

    async def answer(self, error: ProtocolError, refused: bytes) -> bytes:
        """The Error message (DER KwbpMessage) about `refused`, the wallet's message as it came."""
        if not self._signatures.take("wallets"):
            draft = build_error(error, refused=refused, now=self._clock())
            return draft.message(draft.content)
        return await self.final(error, refused)

    async def final(self, error: ProtocolError, refused: bytes) -> bytes:
        """As `answer`, for a refusal that will be stored: always signed."""
        draft = build_error(error, refused=refused, now=self._clock())
        return draft.message(await self._signer.sign(draft.content_type, draft.content))


class AskedGateway(Protocol):
    """The gateway that something was sent to; `kwbp.parties.GatewayIdentity` is one."""

    @property
    def gateway_id(self) -> str: ...

    @property
    def acquirer_bin(self) -> str: ...


def gateway_refusal(
    message: KwbpMessage, sent: bytes, *, gateway: AskedGateway, trust: Trust, now: datetime
) -> ProtocolError:
    """What the gateway's signed Error about our message `sent` says, as an error that can be passed on.

    :param gateway: the one that the invoice names: no other one's word ends an order (as A6 for AuthRes).
    :raises UnsignedRefusal: it is not signed.
    :raises ProtocolError: it is not that gateway's (gatewayMismatch, A6), or not about `sent`.
    """
    received = read_error(message, sent=sent, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    if received.signer is None:
        raise UnsignedRefusal
    signer = gateway_data(received.signer)
    if (signer.gateway_id, signer.acquirer_bin) != (gateway.gateway_id, gateway.acquirer_bin):
        raise ProtocolError(ErrorCode.GATEWAY_MISMATCH, "A6", "error must come from the gateway that the invoice names")
    body = received.body
    return ProtocolError(
        body.error_code,
        body.clause if body.clause in CHECKS else "M10",
        "the gateway refused the message",
        time_hint=instant(body.time_hint) if body.time_hint is not None else None,
    )
