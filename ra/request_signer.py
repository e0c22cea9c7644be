"""Signing requests to the registration authority in the officer's token: an `httpx.Auth` for `RaClient`.

Each request is signed anew as it is sent, with its own time and nonce: what was answered or lost is never sent again.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Final

import httpx
from cryptography.hazmat.primitives import hashes

from ra.officer import Officer
from ra.request_signature import CONTENT_DIGEST, CONTENT_TYPE, Head, content_digest, sign

_NONCE: Final = 16  # bytes
_FIELDS: Final = (CONTENT_DIGEST, CONTENT_TYPE)


class RequestSigner(httpx.Auth):
    """Signs as `officer`. A body that comes in pieces brings its Content-Digest with it; others are hashed here."""

    def __init__(self, officer: Officer, *, rng: Callable[[int], bytes], clock: Callable[[], datetime]) -> None:
        """`rng(n)` gives n random bytes; `clock` the time, aware."""
        self._officer = officer
        self._key_id = officer.certificate.fingerprint(hashes.SHA256()).hex()
        self._rng = rng
        self._clock = clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request. Raises what the token raises."""
        if request.method != "GET" and CONTENT_DIGEST not in request.headers:
            request.headers[CONTENT_DIGEST] = content_digest(request.content)
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        head = Head(
            method=request.method,
            scheme=request.url.scheme,
            host=request.headers["host"],
            path=path,
            query=query,
            fields={name: request.headers[name] for name in _FIELDS if name in request.headers},
        )
        nonce = base64.urlsafe_b64encode(self._rng(_NONCE)).decode().rstrip("=")
        created = int(self._clock().timestamp())
        request.headers.update(sign(head, self._officer.key, key_id=self._key_id, created=created, nonce=nonce))
        yield request
