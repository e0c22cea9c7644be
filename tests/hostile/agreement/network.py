"""The network, which is the attacker (Dolev and Yao): every message goes to it, and what arrives is its choice.

It keeps whatever it has seen, and takes apart what is not sealed (`Pieces`). A merchant's message to its gateway waits
as a `Call` until the attacker delivers it, answers it with something else, or lets it run into its time limit. TLS
is given no credit beyond the name of the merchant at the other end, and even that the attacker may claim: what holds,
holds by signatures alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from cryptography import x509

from kwbp.errors import ProtocolError
from kwbp.inquiry.messages import InqReqTBS, InqResTBS
from kwbp.messages import (
    AuthAckTBS,
    AuthReqTBS,
    AuthResTBS,
    DualSigTBS,
    ErrorTBS,
    InvoiceMessage,
    InvoiceReqTBS,
    InvoiceTBS,
    OIData,
    PReq,
    ReceiptTBS,
)
from kwbp.receipt_ack import ReceiptAckTBS
from kwbp.structure import decode
from kwbp.wrapper import MEDIA_TYPE, KwbpMessage
from pki import oids
from pki.cms_signed import parse_signed_data
from pki.errors import CmsError

AUTH: Final = "/v1/auth"
ACK: Final = "/v1/ack"
INQUIRY: Final = "/v1/inquiry"
CERTIFICATES: Final = "/v1/certificates"
PATIENCE: Final = 20.0
"""Virtual seconds after which a merchant's client gives a request up."""

BODIES: Final[dict[x509.ObjectIdentifier, type[Any]]] = {
    oids.CT_INVOICE_REQ: InvoiceReqTBS,
    oids.CT_INVOICE: InvoiceTBS,
    oids.CT_DUAL_SIGNATURE: DualSigTBS,
    oids.CT_AUTH_REQ: AuthReqTBS,
    oids.CT_AUTH_RES: AuthResTBS,
    oids.CT_AUTH_ACK: AuthAckTBS,
    oids.CT_RECEIPT: ReceiptTBS,
    oids.CT_RECEIPT_ACK: ReceiptAckTBS,
    oids.CT_INQ_REQ: InqReqTBS,
    oids.CT_INQ_RES: InqResTBS,
    oids.CT_ERROR: ErrorTBS,
}
ROUTES: Final = {oids.CT_AUTH_REQ: AUTH, oids.CT_AUTH_ACK: ACK, oids.CT_INQ_REQ: INQUIRY}
"""Where at the gateway a message of a type goes."""
TO_SHOPS: Final = frozenset({oids.CT_INVOICE_REQ, oids.MT_PREQ, oids.CT_INQ_REQ, oids.CT_RECEIPT_ACK})
TO_WALLETS: Final = frozenset({oids.MT_INVOICE, oids.CT_RECEIPT, oids.CT_INQ_RES, oids.CT_ERROR})
TO_MERCHANTS: Final = frozenset({oids.CT_AUTH_RES, oids.CT_INQ_RES, oids.CT_ERROR})


@dataclass(frozen=True)
class Signed:
    """A signed object that the attacker has seen, or made."""

    body: Any
    der: bytes


@dataclass
class Pieces:
    """What messages are made of: the attacker may put any of it anywhere."""

    messages: list[bytes] = field(default_factory=list)
    signed: dict[x509.ObjectIdentifier, list[Signed]] = field(default_factory=dict)
    envelopes: list[bytes] = field(default_factory=list)
    orders: list[OIData] = field(default_factory=list)
    offers: list[InvoiceMessage] = field(default_factory=list)
    purchases: list[PReq] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    """By name of a field: everything that was ever in one of that name."""

    def see(self, message: bytes) -> None:
        """Take a message (DER KwbpMessage) apart as far as it is in clear."""
        if message in self.messages:
            return
        self.messages.append(message)
        try:
            outer = decode(KwbpMessage, message)
            if outer.msg_type == oids.MT_INVOICE:
                offer = decode(InvoiceMessage, outer.body)
                self.offers.append(offer)
                self.object(oids.CT_INVOICE, offer.invoice)
            elif outer.msg_type == oids.MT_PREQ:
                purchase = decode(PReq, outer.body)
                self.purchases.append(purchase)
                self.orders.append(purchase.oi_data)
                self.envelope(purchase.pi_envelope)
                self.object(oids.CT_DUAL_SIGNATURE, purchase.dual_sig)
            elif outer.msg_type in BODIES:
                self.object(outer.msg_type, outer.body)
        except (ProtocolError, CmsError):
            return  # nothing of it can be read

    def object(self, content_type: x509.ObjectIdentifier, der: bytes) -> None:
        """Keep a signed object and what is inside it."""
        kept = self.signed.setdefault(content_type, [])
        if any(each.der == der for each in kept):
            return
        signed = parse_signed_data(der, content_type=content_type)
        body = decode(BODIES[content_type], signed.content)
        kept.append(Signed(body, der))
        for name in body.__dataclass_fields__:
            value = getattr(body, name)
            seen = self.values.setdefault(name, [])
            if value not in seen:
                seen.append(value)
        if isinstance(body, AuthReqTBS):
            self.object(oids.CT_INVOICE, body.invoice)
            self.object(oids.CT_DUAL_SIGNATURE, body.dual_sig)
            self.envelope(body.pi_envelope)
        elif isinstance(body, ReceiptTBS):
            self.object(oids.CT_AUTH_RES, body.auth_res)
        elif isinstance(body, InqResTBS):
            if body.result is not None:
                self.see(body.result)
            if body.gateway_status is not None:
                self.object(oids.CT_INQ_RES, body.gateway_status)

    def envelope(self, der: bytes) -> None:
        if der not in self.envelopes:
            self.envelopes.append(der)

    def of_types(self, types: frozenset[x509.ObjectIdentifier]) -> list[bytes]:
        """The messages of these types."""
        return [message for message in self.messages if type_of(message) in types]


def type_of(message: bytes) -> x509.ObjectIdentifier | None:
    """What a message says that it is."""
    try:
        return decode(KwbpMessage, message).msg_type
    except ProtocolError:
        return None


@dataclass(eq=False)
class Call:
    """A merchant waits for its gateway."""

    merchant: str
    path: str
    body: bytes
    answer: asyncio.Future[bytes | None]
    answers: list[bytes | None] = field(default_factory=list)
    """What the gateway said to it, in the attacker's hands."""

    def give(self, answer: bytes | None) -> None:
        """Let the merchant have this for an answer; None is the bare "taken" of AuthAck."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self) -> None:
        """Break the connection."""
        if not self.answer.done():
            self.answer.set_exception(httpx.ConnectError("the connection broke"))


class Network:
    """Between merchants and their gateway; what passes between wallets and shops is shown to it (`saw`)."""

    def __init__(self, gateway: Callable[[str, str, bytes], Awaitable[bytes | None]]) -> None:
        self._gateway = gateway
        self.pieces = Pieces()
        self.calls: list[Call] = []
        self.honest = False
        self.certificates: Callable[[str, bytes], bytes | None] | None = None
        """A dishonest gateway that answers for the one that was asked."""

    def saw(self, message: bytes | None) -> None:
        """The attacker sees a message."""
        if message:
            self.pieces.see(message)

    def transport(self, merchant: str) -> httpx.AsyncBaseTransport:
        """The line of a merchant."""
        return _Line(self, merchant)

    async def call(self, merchant: str, path: str, body: bytes) -> bytes | None:
        """A merchant's request; the answer that the attacker lets it have."""
        self.saw(body)
        if path == CERTIFICATES and self.certificates is not None:
            forged = self.certificates(merchant, body)
            if forged is not None:
                return forged
        if self.honest or path == CERTIFICATES:
            return await self.ask(merchant, path, body)
        call = Call(merchant, path, body, asyncio.get_running_loop().create_future())
        self.calls.append(call)
        try:
            async with asyncio.timeout(PATIENCE):
                return await call.answer
        except TimeoutError:
            raise httpx.ReadTimeout("no answer") from None
        finally:
            self.calls.remove(call)

    async def ask(self, merchant: str, path: str, body: bytes) -> bytes | None:
        """Put a message to the gateway in the name of a merchant; what it says is the attacker's too."""
        answer = await self._gateway(merchant, path, body)
        self.saw(answer)
        return answer

    async def deliver(self, call: Call, *, passes: bool) -> None:
        """Let a merchant's message through, and the answer back if it `passes`."""
        try:
            answer = await self.ask(call.merchant, call.path, call.body)
        except httpx.TransportError:
            if passes:
                call.fail()
            return
        call.answers.append(answer)
        if passes:
            call.give(answer)

    def be_honest(self) -> None:
        """From now on everything arrives, once."""
        self.honest = True
        for call in list(self.calls):
            call.fail()


class _Line(httpx.AsyncBaseTransport):
    def __init__(self, network: Network, merchant: str) -> None:
        self._network = network
        self._merchant = merchant

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._network.call(self._merchant, request.url.path, await request.aread())
        return reply(answer)


def reply(answer: bytes | None) -> httpx.Response:
    """The HTTP response that carries an answer."""
    if answer is None:
        return httpx.Response(204)
    return httpx.Response(200, headers={"content-type": MEDIA_TYPE}, content=answer)


def nth(things: Sequence[Any], number: int) -> Any:
    """One of them, whatever the number."""
    return things[number % len(things)]
