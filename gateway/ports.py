"""What the gateway needs of others, as protocols: the HSM service's two clients, and the CA's published status.

Their real implementations are `hsm_service.client.AsyncHsmClient`, `gateway_keys.client.GatewayKeysClient` and
`ca.status_client`; `gateway.service` puts them in place. Everything else in this package knows only these.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from cryptography import x509

from gateway.key_exchange import ZoneKeyStore
from gateway.links.in_flight import Judge
from gateway.links.intake import MessageAuthentication
from gateway.links.meters import LineState
from gateway.translation import OpenedCard
from kwbp.password import AskedPassword
from pki.path import Trust
from shetab.message import Message
from shetab.types import Expiry, Pan


class OpenedOrder(OpenedCard, Protocol):
    """Card data of one order, opened in the token; what may be stored of it is sealed or masked."""

    @property
    def pan_sealed(self) -> bytes: ...
    @property
    def masked_pan(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def card_id(self) -> bytes: ...
    @property
    def card_key_version(self) -> int: ...
    @property
    def card_key_check(self) -> bytes: ...


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

    async def sign_answer(self, data: bytes, mac: bytes, *, key: str, content: bytes, zone: str) -> bytes | None:
        """SignedData (DER) over the AuthRes `content`, if `mac` is the MAC of `data` in `zone`; None if it is not."""


class ZoneKeys(MessageAuthentication, ZoneKeyStore, Protocol):
    """The keys of one zone: MACs, and their exchange."""


class GatewayKeys(OrderKeys, Protocol):
    """All of the gateway's token operations."""

    def of_zone(self, zone: str) -> ZoneKeys:
        """Those with the keys of one zone, by its name."""


class Connector(Protocol):
    """A way to whoever authorises: a switch, a host, an HTTP service. All speak the canonical `Message`.

    Whatever it is, it keeps what `tests/gateway/connectors` asks of all: silence is never an answer, what was not sent
    is certain, an answer is believed only if it is authentic and answers this very request.
    """

    @property
    def name(self) -> str:
        """As in the settings and in `orders.route`."""

    @property
    def signed_on(self) -> bool:
        """Whether messages can be sent right now."""

    async def authenticate(self, message: Message) -> bytes:
        """The bytes of `message`, complete, with whatever proves who sent them. Nothing is sent.

        :raises ShetabError: the message breaks the dialect; whatever the token's client raises.
        """

    async def exchange(
        self,
        message: Message,
        raw: bytes,
        timeout: float,  # noqa: ASYNC109  # T1
        judge: Judge | None = None,
    ) -> Message:
        """Send `raw`, what `authenticate` gave for `message`, and wait `timeout` seconds for its answer.

        `judge` may be asked instead of the zone's keys whether the MAC of an answer is right, and then it is asked
        before the answer is believed: who waits can have more done in the same request to the key service. It says
        None if it cannot tell. A connector that never asks it, or not of this answer, verifies the MAC by itself.

        :raises LinkDownError: no byte was written; `NotAcceptedError`: the other side says that nothing was done.
        :raises NoAnswerError: unknown: a byte may have been written, and no answer came that can be believed. Nothing
            else is raised from then on, whatever failed here.
        """

    async def manage(self, code: str, more: Mapping[int, str]) -> str:
        """One network management exchange (DE 70 `code`, the fields of `more`); the response code.

        :raises LinkDownError: not signed on. :raises NoAnswerError: no believable answer.
        """

    async def run(self) -> None:
        """Keep it up until cancelled."""


class ShownConnector(Connector, Protocol):
    """A connector as this package builds them: one that tells people how it is."""

    def lines(self) -> list[LineState]:
        """Its lines as they are."""

    async def drain(self) -> bool:
        """Take nothing new and wait for what is under way, but not for ever; whether nothing is left."""


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
