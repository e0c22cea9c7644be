"""Notices to another system: an HTTPS POST of JSON, signed as CMS by the RA's key in its token (RFC 5652, RFC 7193).

    POST /path
    Content-Type: application/cms; encapsulatingContent=signedData
    Idempotency-Key: "9c…"            the notice; the same in every attempt
    X-KWBP-Notice-Repeat: 2           from the second attempt on

The body is a SignedData with certificates, whose content is the JSON of `pki.notice`. Any receiver judges it with what
it has already and gets the JSON out of it:

    openssl cms -verify -binary -inform DER -in body -CAfile root.pem -purpose any -out notice.json

A signature over the body, and not over HTTP's fields, is one that a receiver can keep as evidence, and that a proxy
between cannot break. The key signs a notice for the moment of sending alone (`hsm_service.typed_cms`): a receiver
refuses one whose signing time is minutes old, and takes one whose `id` it has had before for the repeat that it is.

Redirects are not followed. The address that was judged is the one that is spoken to, whatever the name means a moment
later; addresses of this machine and of private networks are refused unless the settings allow them. Of the answer, only
the status counts.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from pki.notice import Notice
from ra.notices.outbox import StoredNotice
from ra.notices.outcome import Delivered, Failed, Outcome, cut_off
from runtime.notice_settings import WebhookSettings
from runtime.problems import Problem

Sign = Callable[[bytes], bytes]
"""Signs the JSON of a notice with the RA's key; returns CMS SignedData (DER)."""
Resolve = Callable[[str, int], list[str]]
"""The addresses of a host."""

MEDIA_TYPE: Final = "application/cms; encapsulatingContent=signedData"
_GONE: Final = 410
_LARGEST_ANSWER: Final = 4096  # bytes that are read, so that a server which waits to be read is


def resolve(host: str, port: int) -> list[str]:
    """As the system resolves it; raises OSError."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


class _Connection(http.client.HTTPSConnection):
    """To an address that was judged, with the certificate of the name that was asked for."""

    def __init__(self, host: str, port: int, address: str, *, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


class Webhook:
    """One webhook of the settings; every delivery is a connection of its own."""

    def __init__(self, settings: WebhookSettings, sign: Sign, *, resolve: Resolve = resolve) -> None:
        self._settings = settings
        self._sign = sign
        self._resolve = resolve

    def send(self, notice: StoredNotice, now: datetime) -> Outcome:
        """Post an attempt at a notice. Never raises for what the network, the server or the token does."""
        content = Notice(
            id=notice.id,
            event=notice.event,
            at=notice.at.replace(microsecond=0),
            sent_at=now.replace(microsecond=0),
            attempt=notice.attempts,
            fields=notice.fields,
        )
        try:
            body = self._sign(content.to_json())
        except Problem as problem:
            return Failed(f"not signed: {problem.type}", away=True)
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Idempotency-Key": f'"{notice.id}"',
            "User-Agent": "kwbp-ra",
            "X-KWBP-Notice-Id": notice.id,
            "X-KWBP-Notice-Event": notice.event,
        }
        if notice.attempts > 1:
            headers["X-KWBP-Notice-Repeat"] = str(notice.attempts)
        try:
            return self._post(body, headers)
        except ssl.SSLCertVerificationError:
            return Failed("the webhook's certificate does not hold", away=True)
        except TimeoutError:
            return Failed("the webhook did not answer in time", away=True)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Failed(f"the webhook cannot be reached: {type(error).__name__}", away=True)

    def _post(self, body: bytes, headers: dict[str, str]) -> Outcome:
        settings = self._settings
        parts = urlsplit(settings.url)
        host, port = parts.hostname or "", parts.port or 443
        addresses = self._resolve(host, port)
        if not settings.private and not all(map(_is_public, addresses)):
            return Failed("the webhook's address is not a public one", away=True)
        if not addresses:
            return Failed("the webhook has no address", away=True)
        context = ssl.create_default_context(cafile=settings.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = _Connection(host, port, addresses[0], timeout=settings.deadline, context=context)
        with contextlib.closing(connection), cut_off(settings.deadline, lambda: connection.sock):
            connection.request("POST", target, body=body, headers=headers)
            response = connection.getresponse()
            response.read(_LARGEST_ANSWER)
            if 200 <= response.status < 300:
                return Delivered()
            return Failed(f"HTTP {response.status}", for_good=response.status == _GONE)


def _is_public(text: str) -> bool:
    """Whether anybody in the world means the same by this address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inside is not None and not _is_public(str(inside)):
            return False
    return address.is_global and not address.is_multicast
