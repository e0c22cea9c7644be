"""What a shop works with and does not own: who makes these closes them, after `Shop.stop`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from pki.path import Trust
from storefront.merchant.gateway_link import GatewayLink
from storefront.merchant.store import OrderStore
from storefront.signers import Signer

if TYPE_CHECKING:
    from storefront.merchant.proof import Proofs


class TrustSource(Protocol):
    """Pinned root, CA certificates and current CRLs."""

    async def trust(self, now: datetime) -> Trust:
        """The trust in force; raises ProtocolError bciStale (K5) if it cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class Resources:
    """Order book, signing key, lines, clock and randomness of one merchant.

    `proofs` collects what proves purchases for years; there need be none. `checkpoint` is called with the name of
    each step right after it: a place to fall, for tests of what a crash leaves.
    """

    store: OrderStore
    signer: Signer
    gateway: GatewayLink
    trust: TrustSource
    clock: Callable[[], datetime]
    rng: Callable[[int], bytes]
    checkpoint: Callable[[str], None] = lambda step: None
    proofs: Proofs | None = None
