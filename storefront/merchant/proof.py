"""What makes a purchase provable for years: a time-stamp over the gateway's answer, and every signer's status then.

A purchase never waits for this and never fails by it. Once the gateway's answer is stored, a task of its own asks the
responders about every certificate that the purchase rests on, then has the answer stamped: AuthRes as it came, with its
signature, so that the stamp bounds when the whole purchase existed. Each answer is stored as it comes, and once only;
what is missing after a failure or a crash is taken up again, from the order book, with growing pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ocsp_client import OcspAnswer
from kwbp.errors import ProtocolError
from kwbp.messages import InvoiceMessage
from kwbp.structure import decode
from kwbp.wrapper import unwrap
from pki.cms_signed import parse_signed_data
from pki.der import sha256
from pki.errors import PkiError
from pki.oids import CT_AUTH_RES, CT_DUAL_SIGNATURE, CT_INVOICE, MT_INVOICE
from pki.path import Trust
from pki.timestamp import Timestamp
from runtime.logging import get_logger
from storefront.errors import StorefrontError
from storefront.merchant import recall
from storefront.merchant.documents import TIMESTAMP, Document
from storefront.merchant.resources import TrustSource
from storefront.merchant.store import OrderStore

_FIRST_PAUSE: Final = 1.0  # seconds, doubled with each failure up to the cap
_LONGEST_PAUSE: Final = 300.0

_log = get_logger("proof")


class Stamper(Protocol):
    """`ca.timestamp_client.AsyncTimestampClient`."""

    async def stamp(self, data: bytes, trust: Trust) -> Timestamp: ...


class Responder(Protocol):
    """`ca.ocsp_client.AsyncOcspClient`."""

    async def ask(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> OcspAnswer: ...


class Proofs:
    """Collects proofs of purchases; one task. `start` and `stop` it in the event loop that serves."""

    def __init__(
        self,
        store: OrderStore,
        trust: TrustSource,
        stamper: Stamper,
        responder: Responder,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._store = store
        self._trust = trust
        self._stamper = stamper
        self._responder = responder
        self._clock = clock
        self._checkpoint = checkpoint
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take up every order whose proofs are not complete."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop collecting; the rest is taken up by the next `start`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """An order has an answer."""
        self._wake.set()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._wake.clear()
            missing = False
            try:
                unproven = self._store.unproven()
            except Exception as error:  # such as a disk that is full: it is looked at again
                unproven, missing = [], True
                _log.error("the order book cannot be read", error=type(error).__name__, pause=round(pause, 1))
            for xid in unproven:
                try:
                    await self._prove(xid)
                except Exception as error:  # whatever it was, the next order is not to suffer
                    missing = True
                    reason = error.reason if isinstance(error, PkiError) else type(error).__name__
                    _log.warning("a proof is missing", xid=xid.hex(), reason=reason, pause=round(pause, 1))
            if not missing:
                pause = _FIRST_PAUSE
                await self._wake.wait()
                continue
            with_timeout = asyncio.wait_for(self._wake.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            await asyncio.gather(with_timeout, return_exceptions=True)

    async def _prove(self, xid: bytes) -> None:
        """Obtain what is missing; raises the first failure after everything was tried."""
        answer = self._store.required(xid, Document.AUTH_RES)
        have = self._store.proofs(xid)
        now = self._clock()
        trust = await self._trust.trust(now)
        crls = [crl.public_bytes(Encoding.DER) for crl in trust.crls]
        first: Exception | None = None
        for certificate, issuer in asked_about(self._store, xid, trust):
            name = f"ocsp-{sha256(certificate.public_bytes(Encoding.DER)).hex()}"
            if name in have:
                continue
            try:
                found = await self._responder.ask(certificate, issuer, self._clock())
                await self._store.prove(xid, name, found.der, now=now)
                self._checkpoint("status")
            except Exception as error:
                first = first or error
        if TIMESTAMP not in have:
            try:
                stamp = await self._stamper.stamp(answer, trust)
                await self._store.prove(xid, TIMESTAMP, stamp.der, now=now, crls_used=crls)
                self._checkpoint("stamped")
            except Exception as error:
                first = first or error
        if first is not None:
            raise first
        await self._store.prove(xid, OrderStore.COMPLETE, b"", now=now)


def asked_about(store: OrderStore, xid: bytes, trust: Trust) -> Iterator[tuple[x509.Certificate, x509.Certificate]]:
    """Every certificate that the purchase rests on and that has a responder, with its issuer.

    The root answers for none: what it certified is on its CRL, which is kept.
    """
    try:
        offer = decode(
            InvoiceMessage, unwrap(store.required(xid, Document.INVOICE_ANSWER), expected=(MT_INVOICE,)).body
        )
        signed = [
            parse_signed_data(offer.invoice, content_type=CT_INVOICE),
            parse_signed_data(recall.purchase(store, xid).dual_signature, content_type=CT_DUAL_SIGNATURE),
            parse_signed_data(store.required(xid, Document.AUTH_RES), content_type=CT_AUTH_RES),
        ]
        leaf = x509.load_der_x509_certificate(offer.gateway_certificate)
    except (ProtocolError, PkiError, ValueError, StorefrontError) as error:
        raise StorefrontError(f"a record of the purchase cannot be read ({type(error).__name__})") from None
    # All authorities: what stamps the answer is certified by one that signed nothing in the purchase.
    known = dict.fromkeys((leaf, *(each for one in signed for each in one.certificates), *trust.intermediates))
    issuers = {each.subject: each for each in known}
    for certificate in known:
        issuer = issuers.get(certificate.issuer)
        if issuer is not None and issuer not in trust.anchors:
            yield certificate, issuer
