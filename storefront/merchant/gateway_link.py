"""The merchant's line to its payment gateway: HTTP over mutual TLS, one KwbpMessage each way."""

from __future__ import annotations

from http import HTTPStatus

import httpx

from storefront.errors import GatewayUnreachable, NoMessage
from storefront.exchange import post_async


class GatewayLink:
    """Sends what the merchant signed, returns what came back. Judging it is the shop's business."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def certificates(self, p_cert_req: bytes) -> bytes:
        """Send a PCertReq (DER KwbpMessage); the answer (DER KwbpMessage). Raises GatewayUnreachable."""
        return await self._answered("/v1/certificates", p_cert_req)

    async def authorise(self, auth_req: bytes) -> bytes:
        """Send an AuthReq (DER KwbpMessage); the answer (DER KwbpMessage). Raises GatewayUnreachable."""
        return await self._answered("/v1/auth", auth_req)

    async def acknowledge(self, auth_ack: bytes) -> bytes | None:
        """Send an AuthAck; None if it was taken, else an Error (DER KwbpMessage). Raises GatewayUnreachable."""
        return await self._exchange("/v1/ack", auth_ack)

    async def inquire(self, inq_req: bytes) -> bytes:
        """Send an InqReq (DER KwbpMessage); the answer (DER KwbpMessage). Raises GatewayUnreachable."""
        return await self._answered("/v1/inquiry", inq_req)

    async def _answered(self, path: str, message: bytes) -> bytes:
        answer = await self._exchange(path, message)
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
