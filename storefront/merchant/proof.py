"""What makes a purchase provable for years: a time-stamp over the gateway's answer, and every signer's status then.

A purchase never waits for this and never fails by it. Once the gateway's answer is stored, a task of its own asks the
responders about every certificate that the purchase rests on, then has the answer stamped: AuthRes as it came, with its
signature, so that the stamp bounds when the whole purchase existed. What was answered is stored in one transaction,
also when something is missing; what is missing after a failure or a crash is taken up again, from the order book, with
growing pauses.

Most certificates of a purchase are those of every other: the merchant's, the gateway's, the authorities'. An answer
about one of them serves the purchases of the next minute too, as long as the revocation lists stay what they are.
Purchases that end within a moment are stamped together: the authority has them signed in one go, and the lists in force
are asked for once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ocsp_client import OcspAnswer
from kwbp.errors import ProtocolError
from pki.cms_signed import parse_signed_data
from pki.der import sha256
from pki.errors import PkiError
from pki.oids import CT_AUTH_RES, CT_DUAL_SIGNATURE, CT_INVOICE
from pki.path import Trust
from pki.timestamp import Timestamp
from runtime.lasting import lasting
from runtime.logging import get_logger
from storefront.errors import StorefrontError
from storefront.merchant import recall
from storefront.merchant.documents import TIMESTAMP, Document
from storefront.merchant.resources import TrustSource
from storefront.merchant.store import OrderStore

_FIRST_PAUSE: Final = 1.0  # seconds, doubled with each failure up to the cap
_LONGEST_PAUSE: Final = 300.0
_SHARED_FOR: Final = timedelta(minutes=1)
"""How old an answer may be that serves another purchase too; far less than it is good for itself."""
_MOST_SHARED: Final = 256
_TOGETHER: Final = 16
"""Purchases that are proven at a time."""
_MOMENT: Final = 0.25
"""Seconds in which purchases that end are gathered; the stamp says so much later that the answer was there."""

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
        self._shared: dict[str, tuple[datetime, OcspAnswer]] = {}
        self._shared_under: tuple[bytes, ...] = ()
        """The revocation lists (SHA-256) under which `_shared` was asked."""
        self._answered: list[bytes] = []
        self._asking = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take up every order whose proofs are not complete."""
        self._task = asyncio.create_task(lasting("proofs", self._run))

    async def stop(self) -> None:
        """Stop collecting; the rest is taken up by the next `start`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self, xid: bytes) -> None:
        """An order has an answer."""
        self._answered.append(xid)
        self._wake.set()

    async def _run(self) -> None:
        pause, look = _FIRST_PAUSE, True
        while True:
            self._wake.clear()
            unproven, self._answered = self._answered, []
            missing = False
            try:
                # The whole book only after a start or a failure, for it may be a large one.
                unproven = self._store.unproven() if look else unproven
            except Exception as error:  # such as a disk that is full: it is looked at again
                unproven, missing = [], True
                _log.error("the order book cannot be read", error=type(error).__name__, pause=round(pause, 1))
            for start in range(0, len(unproven), _TOGETHER):
                missing = not await self._try_together(unproven[start : start + _TOGETHER], pause) or missing
            if not missing:
                pause, look = _FIRST_PAUSE, look and bool(unproven)  # there may be more than was told of at once
                if not look:
                    await self._wake.wait()
                    await asyncio.sleep(_MOMENT)
                continue
            look = True
            with_timeout = asyncio.wait_for(self._wake.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            await asyncio.gather(with_timeout, return_exceptions=True)

    async def _try_together(self, xids: Sequence[bytes], pause: float) -> bool:
        """Whether all proofs of these orders are there now."""
        try:
            trust = await self._trust.trust(self._clock())
        except Exception as error:
            _log.warning("proofs are missing", orders=len(xids), reason=type(error).__name__, pause=round(pause, 1))
            return False
        return all(await asyncio.gather(*(self._try(xid, trust, pause) for xid in xids)))

    async def _try(self, xid: bytes, trust: Trust, pause: float) -> bool:
        """Whether all proofs of an order are there now."""
        try:
            await self._prove(xid, trust)
        except Exception as error:  # whatever it was, the next order is not to suffer
            reason = error.reason if isinstance(error, PkiError) else type(error).__name__
            _log.warning("a proof is missing", xid=xid.hex(), reason=reason, pause=round(pause, 1))
            return False
        return True

    async def _prove(self, xid: bytes, trust: Trust) -> None:
        """Obtain what is missing; raises the first failure after everything was tried."""
        documents = self._store.documents(xid)
        have = self._store.proofs(xid)
        now = self._clock()
        crls = [crl.public_bytes(Encoding.DER) for crl in trust.crls]
        first: Exception | None = None
        gathered: dict[str, bytes] = {}
        async with self._asking:  # one purchase after the other: the next one asks less
            for certificate, issuer in asked_about(documents, trust):
                name = f"ocsp-{certificate.fingerprint(SHA256()).hex()}"
                if name in have:
                    continue
                try:
                    gathered[name] = (await self._answer(name, certificate, issuer, crls)).der
                except Exception as error:
                    first = first or error
        if TIMESTAMP not in have:
            try:
                gathered[TIMESTAMP] = (await self._stamper.stamp(documents[Document.AUTH_RES], trust)).der
            except Exception as error:
                first = first or error
        if first is None:
            gathered[OrderStore.COMPLETE] = b""
        await self._store.prove(xid, gathered, now=now, crls_used=crls if TIMESTAMP in gathered else ())
        if TIMESTAMP in gathered:
            self._checkpoint("stamped")
        if first is not None:
            raise first

    async def _answer(
        self, name: str, certificate: x509.Certificate, issuer: x509.Certificate, crls: list[bytes]
    ) -> OcspAnswer:
        """What the responder says of a certificate now, or said a moment ago under the same revocation lists."""
        now, under = self._clock(), tuple(map(sha256, crls))
        if under != self._shared_under or len(self._shared) >= _MOST_SHARED:
            self._shared_under = under
            self._shared.clear()
        asked_at, found = self._shared.get(name, (None, None))
        if asked_at is None or found is None or not timedelta(0) <= now - asked_at <= _SHARED_FOR:
            found = await self._responder.ask(certificate, issuer, now)
            self._shared[name] = (now, found)
        return found


def asked_about(
    documents: Mapping[Document, bytes], trust: Trust
) -> Iterator[tuple[x509.Certificate, x509.Certificate]]:
    """Every certificate that the purchase rests on and that has a responder, with its issuer.

    The root answers for none: what it certified is on its CRL, which is kept.
    """
    try:
        purchase = recall.purchase_of(documents)
        signed = [
            parse_signed_data(purchase.issued.signed, content_type=CT_INVOICE),
            parse_signed_data(purchase.dual_signature, content_type=CT_DUAL_SIGNATURE),
            parse_signed_data(documents[Document.AUTH_RES], content_type=CT_AUTH_RES),
        ]
        leaf = purchase.issued.gateway.certificate
    except (ProtocolError, PkiError, KeyError, ValueError, StorefrontError) as error:
        raise StorefrontError(f"a record of the purchase cannot be read ({type(error).__name__})") from None
    # All authorities: what stamps the answer is certified by one that signed nothing in the purchase.
    known = dict.fromkeys((leaf, *(each for one in signed for each in one.certificates), *trust.intermediates))
    issuers = {each.subject: each for each in known}
    for certificate in known:
        issuer = issuers.get(certificate.issuer)
        if issuer is not None and issuer not in trust.anchors:
            yield certificate, issuer
