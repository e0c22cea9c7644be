"""HTTP clients for calls between services: mutual TLS 1.3, deadlines, problems raised as `Problem`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx

from runtime.keepalive import CONNECTIONS, LARGEST_ANSWER, Answer, KeepAliveClient, KeepAliveTransport
from runtime.language import Language, Message
from runtime.problems import MEDIA_TYPE, Problem
from runtime.secrets import Secret
from runtime.tls_reload import FollowingContext

A = TypeVar("A", bound=Answer)


class AsyncTransport(Protocol):
    """What sends whole requests to one server in an event loop: a `KeepAliveClient`, or an `httpx.AsyncClient`."""

    async def request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The whole answer to one request for the path `url`; raises httpx.TransportError."""

    async def aclose(self) -> None:
        """Close the connections."""


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
    """A TLS 1.3 client context: with `tls` it presents a certificate, with `ca` alone it stays anonymous.

    New connections use the files as they are then (`runtime.tls_reload`).
    """
    if tls is None and ca is None:
        raise ValueError("a TLS client needs trust anchors")
    anchors = tls.ca if tls is not None else ca

    def load(context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(anchors)
        if tls is not None:
            context.load_cert_chain(tls.certificate, tls.key, tls.passphrase.reveal() if tls.passphrase else None)

    files = [path for path in (anchors, *((tls.certificate, tls.key) if tls is not None else ())) if path is not None]
    return FollowingContext(ssl.PROTOCOL_TLS_CLIENT, files, load)


def http_client(
    tls: TlsFiles | None,
    base_url: str,
    *,
    ca: Path | None = None,
    timeout: float = 30.0,
    language: Language = Language.EN,
) -> httpx.Client:
    """A synchronous client; without `tls` and `ca` only for `http://` addresses. People read its answers in `language`.

    English goes without saying: programs do not ask for it.
    """
    context = _context(tls, ca, base_url)
    headers = {} if language is Language.EN else {"accept-language": language.value}
    return httpx.Client(base_url=base_url, verify=context or False, timeout=timeout, headers=headers, trust_env=False)


def async_http_client(
    tls: TlsFiles | None,
    base_url: str,
    *,
    ca: Path | None = None,
    timeout: float = 30.0,
    connections: int = CONNECTIONS,
    largest_answer: int = LARGEST_ANSWER,
) -> httpx.AsyncClient:
    """An asynchronous client of the one server at `base_url`, with a bounded pool of kept-alive connections.

    See `runtime.keepalive` for what it does not do. `timeout` holds for the whole of an answer, in
    seconds; `largest_answer` in bytes, head included: a longer one is an error.
    """
    context = _context(tls, ca, base_url)
    transport = KeepAliveTransport(base_url, context, connections=connections, largest_answer=largest_answer)
    return httpx.AsyncClient(
        base_url=base_url,
        transport=transport,
        timeout=timeout,
        headers={"accept-encoding": "identity"},  # the transport refuses everything else
        trust_env=False,
    )


def keepalive_client(
    tls: TlsFiles | None,
    base_url: str,
    *,
    ca: Path | None = None,
    timeout: float = 30.0,
    connections: int = CONNECTIONS,
    largest_answer: int = LARGEST_ANSWER,
) -> KeepAliveClient:
    """As `async_http_client`, for what is asked for every payment: httpx's client costs more than asking does.

    `timeout` holds for the whole of a request, waiting for a connection included.
    """
    context = _context(tls, ca, base_url)
    return KeepAliveClient(base_url, context, timeout=timeout, connections=connections, largest_answer=largest_answer)


def _context(tls: TlsFiles | None, ca: Path | None, base_url: str) -> ssl.SSLContext | None:
    if not base_url.startswith("https://"):
        return None
    if tls is None and ca is None:
        raise ValueError("an https address needs trust anchors: pass tls or ca")
    return client_context(tls, ca=ca)


def raise_problem(response: A) -> A:
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
        raise Problem(
            response.status_code,
            "unreadable-answer",
            Message("the service answered {status}", status=response.status_code),
        )
    raise Problem.from_document(response.status_code, body)
