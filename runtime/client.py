"""HTTP clients for calls between services: mutual TLS 1.3, deadlines, problems raised as `Problem`."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from runtime.problems import MEDIA_TYPE, Problem
from runtime.secrets import Secret


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of a PEM certificate chain (leaf first), its PEM key, and the PEM trust anchors of the other side.

    `passphrase` opens the key file where it is encrypted, as a person's is.
    """

    certificate: Path
    key: Path
    ca: Path
    passphrase: Secret | None = None


def client_context(tls: TlsFiles | None = None, *, ca: Path | None = None) -> ssl.SSLContext:
    """A TLS 1.3 client context: with `tls` it presents a certificate, with `ca` alone it stays anonymous."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if tls is not None:
        context.load_cert_chain(tls.certificate, tls.key, tls.passphrase.reveal() if tls.passphrase else None)
        context.load_verify_locations(tls.ca)
    elif ca is not None:
        context.load_verify_locations(ca)
    else:
        raise ValueError("a TLS client needs trust anchors")
    return context


def _verify(tls: TlsFiles | None, ca: Path | None) -> ssl.SSLContext | bool:
    return client_context(tls, ca=ca) if tls is not None or ca is not None else False


def http_client(tls: TlsFiles | None, base_url: str, *, ca: Path | None = None, timeout: float = 30.0) -> httpx.Client:
    """A synchronous client; without `tls` and `ca` only for `http://` addresses."""
    return httpx.Client(base_url=base_url, verify=_checked(tls, ca, base_url), timeout=timeout, trust_env=False)


def async_http_client(
    tls: TlsFiles | None, base_url: str, *, ca: Path | None = None, timeout: float = 30.0, connections: int = 32
) -> httpx.AsyncClient:
    """An asynchronous client with a bounded pool of kept-alive connections."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60)
    return httpx.AsyncClient(
        base_url=base_url, verify=_checked(tls, ca, base_url), timeout=timeout, limits=limits, trust_env=False
    )


def _checked(tls: TlsFiles | None, ca: Path | None, base_url: str) -> ssl.SSLContext | bool:
    if base_url.startswith("https://") and tls is None and ca is None:
        raise ValueError("an https address needs trust anchors: pass tls or ca")
    return _verify(tls, ca)


def raise_problem(response: httpx.Response) -> httpx.Response:
    """The response itself if it is a success, else the `Problem` it carries."""
    if response.is_success:
        return response
    body: Any = None
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            body = json.loads(response.content)
        except ValueError:
            body = None
    if not isinstance(body, dict):
        raise Problem(response.status_code, "unreadable-answer", f"the service answered {response.status_code}")
    raise Problem.from_document(response.status_code, body)
