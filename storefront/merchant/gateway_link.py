"""The merchant's line to its payment gateway: HTTP over mutual TLS, one KwbpMessage each way."""

from __future__ import annotations

from http import HTTPStatus

from runtime.client import AsyncTransport
from storefront.errors import GatewayUnreachable, NoMessage
from storefront.exchange import get_async, post_async


class GatewayLink:
    """Sends what the merchant signed, returns what came back. Judging it is the shop's business."""

    def __init__(self, client: AsyncTransport) -> None:
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

    async def password(self, otp_req: bytes) -> bytes:
        """Pass on an OTPReq (DER KwbpMessage); the answer (DER KwbpMessage). Raises GatewayUnreachable."""
        return await self._answered("/v1/password", otp_req)

    async def settle(self, request: bytes) -> bytes:
        """Send a request of rows 19 to 22 (DER KwbpMessage); the answer, likewise. Raises GatewayUnreachable."""
        return await self._answered("/v1/settling", request)

    async def advice(self, business_date: str, part: int = 1) -> bytes | None:
        """The SettleAdvice of a business day in Iran (`YYYY-MM-DD`), one part of it (DER KwbpMessage).

        None: the gateway has none, the day is not over for it. Raises GatewayUnreachable.
        """
        query = "" if part == 1 else f"?part={part}"
        try:
            return (await get_async(self._client, f"/v1/settlement-advices/{business_date}{query}")).message
        except NoMessage as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise GatewayUnreachable(str(error)) from None

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
