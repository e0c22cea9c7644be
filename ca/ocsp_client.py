"""Asking a responder for the status of a certificate (RFC 6960 A.1), without a nonce: an answer that was signed ahead
says as much, and is kept as evidence by whoever asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder

from pki.errors import OcspError
from pki.ocsp import OcspStatus, verify_ocsp
from runtime.client import AsyncTransport, keepalive_client

_PATH: Final = "/ocsp"
_HEADERS: Final = {"content-type": "application/ocsp-request"}
_REPLY_TYPE: Final = "application/ocsp-response"
_TIMEOUT: Final = 5.0  # seconds
_CLAUSE: Final = "RFC 6960 A.1"


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """An OCSPResponse (DER) that was judged, and what it says."""

    der: bytes
    status: OcspStatus


class AsyncOcspClient:
    """For asyncio; raises OcspError, with reason `unavailable` when there is no answer over HTTP."""

    def __init__(self, url: str, *, timeout: float = _TIMEOUT, client: AsyncTransport | None = None) -> None:
        """`url` is the repository's base; `timeout` in seconds."""
        self._http = client or keepalive_client(None, url, timeout=timeout)

    async def ask(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> OcspAnswer:
        """What the responder says of `certificate` at `now` (aware UTC); good, revoked or unknown."""
        request = OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1()).build()  # noqa: S303  # names it
        try:
            response = await self._http.request(
                "POST", _PATH, content=request.public_bytes(Encoding.DER), headers=_HEADERS
            )
        except httpx.HTTPError as error:
            raise OcspError("unavailable", f"no answer: {type(error).__name__}", clause=_CLAUSE) from None
        media_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if response.status_code != httpx.codes.OK or media_type != _REPLY_TYPE:
            raise OcspError("unavailable", f"the responder answers {response.status_code}", clause=_CLAUSE)
        status = verify_ocsp(response.content, certificate=certificate, issuer=issuer, now=now)
        return OcspAnswer(response.content, status)

    async def aclose(self) -> None:
        await self._http.aclose()
