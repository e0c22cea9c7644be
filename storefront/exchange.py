"""One KwbpMessage each way over HTTP (KWBP global rule 7). Status codes carry no meaning; who asked judges.

An answer longer than the protocol's size limit is no message. The wallet reads no further than that, the merchant's
line to its gateway stops a little later (`storefront.merchant.service`): whoever answers does not decide how much
memory it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from kwbp.structure import SIZE_LIMIT
from kwbp.wrapper import MEDIA_TYPE
from runtime.client import AsyncTransport
from runtime.keepalive import Answer
from storefront.errors import NoMessage

# identity: a compressed answer could be small on the wire and huge here
_HEADERS: Final = {"content-type": MEDIA_TYPE, "accept": MEDIA_TYPE, "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the message, or nothing with status 204."""

    status: int
    message: bytes


def is_message(headers: Mapping[str, str]) -> bool:
    """Whether these headers announce a KwbpMessage. Parameters of the media type, if any, mean nothing here."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == MEDIA_TYPE


def post(client: httpx.Client, path: str, message: bytes) -> Reply:
    """Send `message` (DER KwbpMessage). Raises NoMessage."""
    try:
        with client.stream("POST", path, content=message, headers=_HEADERS) as response:
            reading = _Reading(response)
            for part in response.iter_bytes():
                reading.take(part)
            return reading.reply()
    except httpx.HTTPError as error:
        raise NoMessage(type(error).__name__) from None


async def post_async(client: AsyncTransport, path: str, message: bytes) -> Reply:
    """As `post`, in an event loop."""
    return await _asked(client, "POST", path, message)


async def get_async(client: AsyncTransport, path: str) -> Reply:
    """Ask for a message that is there already. Raises NoMessage."""
    return await _asked(client, "GET", path, None)


async def _asked(client: AsyncTransport, method: str, path: str, message: bytes | None) -> Reply:
    try:
        response = await client.request(method, path, content=message, headers=_HEADERS)
    except httpx.HTTPError as error:
        raise NoMessage(type(error).__name__) from None
    reading = _Reading(response)
    reading.take(response.content)
    return reading.reply()


class _Reading:
    """An answer while it comes in."""

    def __init__(self, response: Answer) -> None:
        self._status = response.status_code
        self._content = bytearray()
        if self._status != httpx.codes.NO_CONTENT and not is_message(response.headers):
            raise NoMessage(f"status {self._status} and no KWBP message", status=self._status)

    def take(self, part: bytes) -> None:
        self._content += part
        if len(self._content) > SIZE_LIMIT:
            raise NoMessage(f"more than {SIZE_LIMIT} bytes")

    def reply(self) -> Reply:
        return Reply(self._status, bytes(self._content))
