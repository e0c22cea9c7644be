"""The merchant's line to its payment gateway: HTTP over mutual TLS, one KwbpMessage each way."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import httpx
from cryptography import x509

from kwbp.parties import GatewayIdentity
from kwbp.wrapper import MEDIA_TYPE
from runtime.client import raise_problem


class GatewayUnreachable(Exception):
    """No answer that can be believed; the same bytes may be sent again."""


@dataclass(frozen=True, slots=True)
class GatewayCertificates:
    """What invoices name and wallets seal to. `chain`: CA certificates above it, without the root."""

    identity: GatewayIdentity
    chain: tuple[x509.Certificate, ...]


class GatewayLink:
    """Sends what the merchant signed, returns what came back. Judging it is the shop's business."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def certificates(self) -> GatewayCertificates:
        """The gateway's encryption certificate in force, and the path to it."""
        try:
            document = raise_problem(await self._client.get("/v1/certificates")).json()
        except httpx.HTTPError as error:
            raise GatewayUnreachable(type(error).__name__) from None
        leaf, *chain = (x509.load_der_x509_certificate(base64.b64decode(der)) for der in document["encryption"])
        return GatewayCertificates(GatewayIdentity.of(leaf), tuple(chain))

    async def authorise(self, auth_req: bytes) -> bytes:
        """Send an AuthReq (DER KwbpMessage); the answer (DER KwbpMessage). Raises GatewayUnreachable."""
        return await self._exchange("/v1/auth", auth_req)

    async def acknowledge(self, auth_ack: bytes) -> bytes:
        """Send an AuthAck; an Error message (DER KwbpMessage), empty if it was taken. Raises GatewayUnreachable."""
        return await self._exchange("/v1/ack", auth_ack)

    async def _exchange(self, path: str, message: bytes) -> bytes:
        try:
            response = await self._client.post(path, content=message, headers={"content-type": MEDIA_TYPE})
        except httpx.HTTPError as error:
            raise GatewayUnreachable(type(error).__name__) from None
        if response.status_code == 204:
            return b""
        # Whatever the status: a signed answer is judged by its signature, everything else is no answer at all.
        if response.headers.get("content-type") != MEDIA_TYPE:
            raise GatewayUnreachable(f"status {response.status_code}")
        return response.content
