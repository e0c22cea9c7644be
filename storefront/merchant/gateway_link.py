"""The merchant's line to its payment gateway: HTTP over mutual TLS, one KwbpMessage each way."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from http import HTTPStatus

import httpx
from cryptography import x509

from kwbp.errors import ProtocolError
from kwbp.parties import GatewayIdentity
from runtime.client import raise_problem
from runtime.problems import Problem
from storefront.errors import GatewayUnreachable, NoMessage
from storefront.exchange import post_async


@dataclass(frozen=True, slots=True)
class GatewayCertificates:
    """What invoices name and wallets seal to. `chain`: CA certificates above it, without the root. Not verified."""

    identity: GatewayIdentity
    chain: tuple[x509.Certificate, ...]


class GatewayLink:
    """Sends what the merchant signed, returns what came back. Judging it is the shop's business."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def certificates(self) -> GatewayCertificates:
        """The gateway's encryption certificate and the path to it, as it says. Raises GatewayUnreachable."""
        try:
            document = raise_problem(await self._client.get("/v1/certificates")).json()
            leaf, *chain = (
                x509.load_der_x509_certificate(base64.b64decode(der, validate=True)) for der in document["encryption"]
            )
            return GatewayCertificates(GatewayIdentity.of(leaf), tuple(chain))
        except (httpx.HTTPError, Problem, ProtocolError, ValueError, KeyError, TypeError) as error:
            raise GatewayUnreachable(type(error).__name__) from None

    async def authorise(self, auth_req: bytes) -> bytes:
        """Send an AuthReq (DER KwbpMessage); the answer (DER KwbpMessage). Raises GatewayUnreachable."""
        answer = await self._exchange("/v1/auth", auth_req)
        if answer is None:
            raise GatewayUnreachable("no content")
        return answer

    async def acknowledge(self, auth_ack: bytes) -> bytes | None:
        """Send an AuthAck; None if it was taken, else an Error (DER KwbpMessage). Raises GatewayUnreachable."""
        return await self._exchange("/v1/ack", auth_ack)

    async def inquire(self, inq_req: bytes) -> bytes:
        """Send an InqReq (DER KwbpMessage); the answer (DER KwbpMessage). Raises GatewayUnreachable."""
        answer = await self._exchange("/v1/inquiry", inq_req)
        if answer is None:
            raise GatewayUnreachable("no content")
        return answer

    async def _exchange(self, path: str, message: bytes) -> bytes | None:
        # Whatever the status: a signed answer is judged by its signature, everything else is no answer at all.
        try:
            reply = await post_async(self._client, path, message)
        except NoMessage as error:
            raise GatewayUnreachable(str(error)) from None
        return None if reply.status == HTTPStatus.NO_CONTENT else reply.message
