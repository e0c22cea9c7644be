"""Whether a service that has just been started is ready: asked some fifty times a second, so it must cost little.

Nothing is said to a port that nobody listens on yet, and one TLS context serves for all the asking.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from ssl import SSLContext

import httpx

from runtime.client import TlsFiles, client_context


@lru_cache(maxsize=64)
def _context(tls: TlsFiles) -> SSLContext:
    return client_context(tls)


def listens(url: str) -> bool:
    """Whether anybody takes connections at the base URL."""
    address = httpx.URL(url)
    try:
        socket.create_connection((address.host, address.port or 443), 5).close()
    except OSError:
        return False
    return True


def is_ready(tls: TlsFiles, url: str) -> bool:
    """Whether `GET /health/ready` at the base URL is answered 200, asked with the identity `tls`."""
    if not listens(url):
        return False
    try:
        with httpx.Client(base_url=url, verify=_context(tls), timeout=30, trust_env=False) as client:
            return client.get("/health/ready").status_code == 200
    except httpx.HTTPError:
        return False
