"""Error messages of the merchant: signed when it refuses, judged when it is refused."""

from __future__ import annotations

from datetime import datetime

from kwbp.error_message import build_error, read_error
from kwbp.errors import ProtocolError
from kwbp.wrapper import KwbpMessage
from pki.path import Trust
from pki.roles import Role
from storefront.signers import Signer


class UnsignedRefusal(Exception):
    """An Error that anybody on the way may have made up."""


async def signed_error(signer: Signer, error: ProtocolError, refused: bytes, *, now: datetime) -> bytes:
    """The Error message (DER KwbpMessage) about `refused`, the wallet's message as it came."""
    draft = build_error(error, refused=refused, now=now)
    return draft.message(await signer.sign(draft.content_type, draft.content))


def gateway_refusal(message: KwbpMessage, sent: bytes, *, trust: Trust, now: datetime) -> ProtocolError:
    """What the gateway's signed Error about our message `sent` says, as an error that can be passed on.

    :raises UnsignedRefusal: it is not signed. :raises ProtocolError: it is not a gateway's, or not about `sent`.
    """
    received = read_error(message, sent=sent, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    if received.signer is None:
        raise UnsignedRefusal
    return ProtocolError(
        received.body.error_code, received.body.clause or "M10", "the gateway refused the request for authorisation"
    )
