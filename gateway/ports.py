"""What the gateway needs of others, as protocols: the HSM service's two clients, and the CA's published status.

Their real implementations are `hsm_service.client.AsyncHsmClient`, `gateway_keys.client.GatewayKeysClient` and
`ca.status_client`; `gateway.service` puts them in place. Everything else in this package knows only these.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from cryptography import x509

from gateway.key_exchange import ZoneKeyStore
from gateway.translation import OpenedCard
from kwbp.password import AskedPassword
from pki.path import Trust
from shetab.types import Expiry, Pan


class OpenedOrder(OpenedCard, Protocol):
    """Card data of one order, opened in the token; what may be stored of it is sealed or masked."""

    @property
    def pan_sealed(self) -> bytes: ...
    @property
    def masked_pan(self) -> str: ...


class OpenedPasswordRequest(Protocol):
    """A holder's request for a one-time password, opened and judged in the token."""

    @property
    def asked(self) -> AskedPassword: ...
    @property
    def pan(self) -> Pan: ...
    @property
    def expiry(self) -> Expiry: ...
    @property
    def card(self) -> x509.Certificate: ...
    @property
    def chain(self) -> tuple[x509.Certificate, ...]: ...


class OrderKeys(Protocol):
    """The gateway's token operations (`gateway_keys`)."""

    async def open_order(self, pi_envelope: bytes, dual_signature: bytes, hod: bytes) -> OpenedOrder:
        """G8 to G10 in the token: one uniform `Problem` 422 "decoding-failure" for whatever is wrong inside."""

    async def open_password_request(self, message: bytes, merchant_id: str) -> OpenedPasswordRequest:
        """P2 to P4 in the token: one uniform `Problem` 422 "decoding-failure" for whatever is wrong inside."""

    async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
        """The PAN that `open_order` sealed for the order `xid`."""

    async def mac(self, data: bytes) -> bytes:
        """The 8-byte MAC of `data` under the zone MAC key."""

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        """Whether `mac` is the MAC of `data`."""


class GatewayKeys(OrderKeys, ZoneKeyStore, Protocol):
    """All of the gateway's token operations."""


class KeyDescription(Protocol):
    """What the gateway asks of a key: its certificate chain, DER, leaf first, without the root."""

    @property
    def certificate_chain(self) -> tuple[bytes, ...]: ...


class CmsSigner(Protocol):
    """The gateway's signature key, reached through typed signing (`hsm_service`)."""

    async def describe_key(self, name: str) -> KeyDescription:
        """The key `name` as the registry has it."""

    async def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        """SignedData (DER) over `content`, whose type is the dotted OID `content_type`, by the key `name`."""


class TrustSource(Protocol):
    """Pinned root, CA certificates and the CRLs in force."""

    async def trust(self, now: datetime) -> Trust:
        """What to verify by at `now`; looked up after the call, never older than the source's policy allows."""
