"""Asking the time-stamp authority: a question with a nonce of its own, an answer that is believed only after judgement.

`TimestampClient` (and `AsyncTimestampClient`, the same over asyncio) raise TimestampError: `unavailable` when there is
no answer or none of RFC 3161 3.4 within the time-out, otherwise what `pki.timestamp` finds wrong with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import httpx

from pki.errors import TimestampError
from pki.path import Trust
from pki.timestamp import MAX_RESPONSE, Timestamp, build_query, read_response, verify_token
from runtime.client import AsyncTransport, http_client, keepalive_client
from runtime.keepalive import Answer

_CLAUSE: Final = "RFC 3161 3.4"
_PATH: Final = "/tsa"
_HEADERS: Final = {"content-type": "application/timestamp-query"}
_REPLY_TYPE: Final = "application/timestamp-reply"
_TIMEOUT: Final = 5.0  # seconds
_NONCE_BYTES: Final = 8


class _Question:
    """One exchange; no I/O here, so that both clients judge alike."""

    def __init__(self, data: bytes, rng: Callable[[int], bytes] | None) -> None:
        self._data = data
        self._nonce = None if rng is None else int.from_bytes(rng(_NONCE_BYTES), "big")
        self.query: Final = build_query(data, nonce=self._nonce)

    def judged(self, response: Answer, trust: Trust) -> Timestamp:
        media_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if response.status_code != httpx.codes.OK or media_type != _REPLY_TYPE or len(response.content) > MAX_RESPONSE:
            raise TimestampError("unavailable", f"the authority answers {response.status_code}", clause=_CLAUSE)
        return verify_token(read_response(response.content), self._data, trust=trust, nonce=self._nonce)


class TimestampClient:
    """For threads."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = _TIMEOUT,
        client: httpx.Client | None = None,
        rng: Callable[[int], bytes] | None = os.urandom,
    ) -> None:
        """`url` is the repository's base; `timeout` in seconds.

        Without `rng` it asks without a nonce: for a token that is kept, and judged later by itself.
        """
        self._http = client or http_client(None, url, timeout=timeout)
        self._rng = rng

    def stamp(self, data: bytes, trust: Trust) -> Timestamp:
        """A time-stamp over the SHA-256 of `data`; `trust` as it is now, by which the authority is judged."""
        question = _Question(data, self._rng)
        try:
            response = self._http.post(_PATH, content=question.query, headers=_HEADERS)
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        return question.judged(response, trust)

    def close(self) -> None:
        self._http.close()


class AsyncTimestampClient:
    """For asyncio."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = _TIMEOUT,
        client: AsyncTransport | None = None,
        rng: Callable[[int], bytes] | None = os.urandom,
    ) -> None:
        """As `TimestampClient`."""
        self._http = client or keepalive_client(None, url, timeout=timeout)
        self._rng = rng

    async def stamp(self, data: bytes, trust: Trust) -> Timestamp:
        """As `TimestampClient.stamp`."""
        question = _Question(data, self._rng)
        try:
            response = await self._http.request("POST", _PATH, content=question.query, headers=_HEADERS)
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        return question.judged(response, trust)

    async def aclose(self) -> None:
        await self._http.aclose()


def _unreachable(error: httpx.HTTPError) -> TimestampError:
    return TimestampError("unavailable", f"the authority does not answer: {type(error).__name__}", clause=_CLAUSE)
