"""Whether a message was signed by a party of ours: the token signs refusals for nobody else (threat 40).

Junk is made faster than a token signs. What anybody can make in any number, bytes without a signature that holds under
a certificate of our hierarchy, is refused by a bare Error, which costs no key. Whoever signs its junk has put its name
to it, and has a budget (`gateway.refusals`).

Revocation and expiry do not matter here: whoever signed with a certificate that has ended is to be told so, signed.
Public keys only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from gateway.ports import TrustSource
from kwbp.errors import ProtocolError
from kwbp.wrapper import KwbpMessage
from pki import cms_signed
from pki.errors import PkiError
from pki.path import Trust, validate_path
from pki.roles import Role
from runtime.problems import Problem

Believable = Callable[[KwbpMessage, ProtocolError], Awaitable[bool]]
"""Whether the refusal of this message is worth a signature."""

_JUNK: Final = frozenset({"K1", "K2", "K4", "P2"})
"""Checks that a sealed message fails which nobody of ours has sealed to us."""


def signed_by_ours(trust: TrustSource, clock: Callable[[], datetime]) -> Believable:
    """For messages that are signed: `is_signed`, by the trust in force. While that cannot be had, nothing is signed."""

    async def believable(message: KwbpMessage, _error: ProtocolError) -> bool:
        now = clock()
        try:
            return is_signed(message, trust=await trust.trust(now), now=now)
        except Problem:
            return False

    return believable


async def sealed_to_us(_message: KwbpMessage, error: ProtocolError) -> bool:
    """For messages whose signature lies inside: that they are sealed to this gateway (P2) is all that can be known."""
    return error.check not in _JUNK


def is_signed(message: KwbpMessage, *, trust: Trust, now: datetime) -> bool:
    """Whether the body of `message` is a SignedData that a merchant's or card's certificate of ours verifies."""
    try:
        signed = cms_signed.parse_signed_data(message.body, content_type=message.msg_type)
        cms_signed.verify_signature(signed)
        leaf = signed.signer
        moment = max(min(now, leaf.not_valid_after_utc), leaf.not_valid_before_utc)
        validate_path(
            leaf,
            signed.certificates,
            trust=trust,
            now=moment,
            roles=(Role.MERCHANT, Role.CARDHOLDER),
            check_revocation=False,
        )
    except PkiError:
        return False
    return True
