"""A merchant's office for the money after the authorisation, and a gateway at the other end of its line.

    async with Till.open(world, folder) as till:
        purchase = await till.sold()                       an order in the book, paid and acknowledged
        request = await till.office.ask(purchase, Wish(…), "refund-7")

The gateway is the protocol's own gateway side (`kwbp.settling`) over books in memory: real messages, signatures and
checks, no token and no bank. What a test puts into `till.gateway.script` happens to the next requests, in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import AuthCode, ErrorCode, SaleKind
from kwbp.common import Draft
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.gateway_certificates import build_certificate_answer, check_certificate_request
from kwbp.settling import (
    REQUESTS,
    AdviceLine,
    Batches,
    Entry,
    Standing,
    build_answer,
    build_batch_answer,
    build_settle_advice,
    check_batch_request,
    check_request,
    check_requester,
    is_batch_request_repeated,
    is_repeated,
    receive_batch_request,
    receive_request,
    sale_entry,
    within,
)
from kwbp.wrapper import MEDIA_TYPE, KwbpMessage, unwrap
from pki.der import sha256
from pki.oids import CT_BATCH_ADMIN_REQ, CT_P_CERT_REQ, MT_PREQ
from pki.path import Trust
from runtime.problems import Problem
from storefront.merchant.documents import Document
from storefront.merchant.gateway_link import GatewayLink
from storefront.merchant.money.office import MoneyOffice
from storefront.merchant.named_gateway import NamedGateway
from storefront.merchant.resources import Resources
from storefront.merchant.states import OrderState
from storefront.merchant.store import OrderStore
from storefront.signers import Content, FileSigner
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.pki_factory import IBAN

Step = Callable[["Gateway", bytes], bytes]
"""What happens to one request (DER KwbpMessage) instead of its answer."""


class Clock:
    """Stands still until a test moves it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Gateway:
    """Books, answers, and what is to go wrong."""

    world: World
    clock: Clock
    standings: dict[bytes, Standing] = field(default_factory=dict)
    answers: dict[bytes, bytes] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    batches: Batches = field(default_factory=lambda: Batches("M-1"))
    sent: list[bytes] = field(default_factory=list)
    script: deque[Step] = field(default_factory=deque)
    outcome: AuthCode = AuthCode.APPROVED
    advised: dict[str, bytes] = field(default_factory=dict)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """HTTP as a gateway speaks it."""
        path, data = request.url.path, await request.aread()
        if path == "/v1/certificates":
            return _message(self._certificates(data))
        if path.startswith("/v1/settlement-advices/"):
            part = request.url.params.get("part", "1")
            found = self.advised.get(f"{path.rpartition('/')[2]}/{part}")
            return httpx.Response(404, json={"type": "unknown"}) if found is None else _message(found)
        assert path == "/v1/settling"
        self.sent.append(data)
        step = self.script.popleft() if self.script else Gateway.answer
        return _message(step(self, data))

    def answer(self, data: bytes) -> bytes:
        """The answer, or a signed Error."""
        message = unwrap(data, expected=(*REQUESTS, CT_BATCH_ADMIN_REQ))
        try:
            return self._batch(message) if message.msg_type == CT_BATCH_ADMIN_REQ else self._settle(message)
        except ProtocolError as error:
            return self.error(error, data)

    def error(self, error: ProtocolError, refused: bytes) -> bytes:
        return self._signed(build_error(error, refused=refused, now=self.clock()))

    def _settle(self, message: KwbpMessage) -> bytes:
        request = receive_request(message)
        check_requester(request, self.world.enrolled, tls_merchant_id="M-1")
        standing = self.standings.get(request.body.xid)
        if not is_repeated(request, standing):
            assert standing is not None  # H2 saw to that
            checked = check_request(request, standing, **self._judge())
            self.standings[request.body.xid] = standing.taken_in(request.body.rrpid, request.digest)
        elif request.body.rrpid in self.answers:
            return self.answers[request.body.rrpid]
        standing = self.standings[request.body.xid]
        checked = check_request(request, replace(standing, requests={}, open_rrpid=None), **self._judge())
        references: dict[str, Any] = {"rc": "00", "stan": "000124", "rrn": "608012000124"}
        draft = build_answer(
            checked, gateway=self.world.gateway_identity, auth_code=self.outcome, now=self.clock(), **references
        )
        answer = self._signed(draft)
        if self.outcome is AuthCode.NO_REPLY:
            return answer
        h_answer = sha256(unwrap(answer, expected=(draft.content_type,)).body)
        approved = self.outcome is AuthCode.APPROVED
        entry = standing.entry(request.body, draft.body, h_answer) if approved else None
        self.entries += [entry] if entry is not None else []
        self.standings[request.body.xid] = standing.concluded(request.body, h_answer if approved else None)
        self.answers[request.body.rrpid] = answer
        return answer

    def _batch(self, message: KwbpMessage) -> bytes:
        received = receive_batch_request(message)
        if is_batch_request_repeated(received, self.world.enrolled, self.batches, tls_merchant_id="M-1"):
            return self.answers[received.body.rrpid]
        checked = check_batch_request(received, self.batches, self.entries, **self._judge())
        self.batches = Batches("M-1", checked.batch, {**self.batches.requests, received.body.rrpid: received.digest})
        if checked.batch.until is not None:
            self._settle_until(checked.batch.until)
        answer = self._signed(build_batch_answer(checked, gateway=self.world.gateway_identity, now=self.clock()))
        self.answers[received.body.rrpid] = answer
        return answer

    def _settle_until(self, until: datetime) -> None:
        settled = {each.h_answer for each in within(self.entries, begins=None, until=until)}
        for xid, standing in self.standings.items():
            self.standings[xid] = replace(
                standing,
                captures=tuple(replace(each, settled=each.h_answer in settled) for each in standing.captures),
                credits=tuple(replace(each, settled=each.h_answer in settled) for each in standing.credits),
            )

    def advise(self, day: str, lines: list[AdviceLine], *, part: int = 1, parts: int = 1, **changes: Any) -> None:
        """Have a part of a day's advice ready."""
        arguments: dict[str, Any] = {"merchant_id": "M-1", "iban": IBAN, "gateway": self.world.gateway_identity}
        draft = build_settle_advice(
            lines, business_date=day.replace("-", ""), rrpid=self.world.rng(20), now=self.clock(), part=part,
            parts=parts, **(arguments | changes),
        )  # fmt: skip
        self.advised[f"{day}/{part}"] = self._signed(draft)

    def lines(self) -> list[AdviceLine]:
        """Every entry, as an acquirer without fees advises it."""
        return [AdviceLine(kind=e.kind, xid=e.xid, h_answer=e.h_answer, amount=e.amount, fee=0) for e in self.entries]

    def _certificates(self, data: bytes) -> bytes:
        asked = check_certificate_request(
            unwrap(data, expected=(CT_P_CERT_REQ,)),
            tls_merchant_id="M-1",
            trust=self.world.trust,
            now=self.clock(),
        )
        encryption = self.world.gateway_encryption
        chain = [encryption.der, *(each.public_bytes(Encoding.DER) for each in encryption.chain)]
        return self._signed(
            build_certificate_answer(
                asked, gateway=self.world.gateway_identity, encryption_chain=chain, now=self.clock()
            )
        )

    def _signed(self, draft: Draft[Any]) -> bytes:
        signing = self.world.gateway_signing
        return draft.message(signing.sign(draft.content_type, draft.content, signing_time=self.clock()))

    def _judge(self) -> dict[str, Any]:
        return {"gateway": self.world.gateway_identity, "trust": self.world.trust, "now": self.clock()}


# --- what may happen to a request -------------------------------------------------------------------------------------


def unreachable(_gateway: Gateway, _data: bytes) -> bytes:
    """It never arrives."""
    raise httpx.ConnectError("no route")


def answer_lost(gateway: Gateway, data: bytes) -> bytes:
    """It arrives and is worked on; nobody hears of it."""
    gateway.answer(data)
    raise httpx.ReadError("connection lost")


def refuses(code: ErrorCode, check: str) -> Step:
    """A signed Error, and nothing is taken in."""
    return lambda gateway, data: gateway.error(ProtocolError(code, check, "refused"), data)


def says(outcome: AuthCode) -> Step:
    """An answer with this authCode."""

    def step(gateway: Gateway, data: bytes) -> bytes:
        before, gateway.outcome = gateway.outcome, outcome
        try:
            return gateway.answer(data)
        finally:
            gateway.outcome = before

    return step


def sends(content: bytes) -> Step:
    """Something else comes back."""
    return lambda _gateway, _data: content


def _message(content: bytes) -> httpx.Response:
    return httpx.Response(200, content=content, headers={"content-type": MEDIA_TYPE})


# --- the merchant -----------------------------------------------------------------------------------------------------


class _Believes:
    def __init__(self, world: World) -> None:
        self._world = world

    async def trust(self, now: datetime) -> Trust:
        return self._world.trust


class Fall:
    """A checkpoint at which the process ends, as far as the task that reaches it can tell."""

    def __init__(self, step: str = "") -> None:
        self.step = step
        self.passed: list[str] = []

    def __call__(self, step: str) -> None:
        self.passed.append(step)
        if step == self.step:
            raise asyncio.CancelledError


@dataclass
class Till:
    """An office with its book and its gateway."""

    world: World
    store: OrderStore
    office: MoneyOffice
    gateway: Gateway
    clock: Clock
    signed: list[Any]

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        world: World,
        target: Path | str,
        *,
        gateway: Gateway | None = None,
        fall: str = "",
        patience: float = 5.0,
        started: bool = True,
    ) -> AsyncIterator[Till]:
        """Open it over the order book at `target`. :param gateway: one that was there before."""
        clock = gateway.clock if gateway is not None else Clock(world.now)
        gateway = gateway or Gateway(world, clock)
        store = OrderStore.open(target)
        signer = _Counting(FileSigner(world.shop.key, world.shop.certificate, world.shop.chain, clock))
        line = httpx.AsyncClient(transport=httpx.MockTransport(gateway.handle), base_url="https://gateway.example")
        resources = Resources(
            store, signer, GatewayLink(line), _Believes(world), clock, world.rng, checkpoint=Fall(fall)
        )
        named = NamedGateway(world.merchant_identity, resources)
        office = MoneyOffice(world.merchant_identity, named, resources, patience=patience)
        if started:
            office.start()
        try:
            yield cls(world, store, office, gateway, clock, signer.signed)
        finally:
            await office.stop()
            await line.aclose()
            store.close()

    async def sold(self, *, held: bool = False, state: OrderState = OrderState.RECEIPTED) -> bytes:
        """An order in both books: a sale, or an authorisation that is held; its XID."""
        purchase = paid(self.world, held=held, now=self.clock())
        sale = purchase.auth_req.body.capture_now
        xid: bytes = purchase.auth_req.body.xid
        await put(self.store, purchase, state, now=self.clock())
        self.gateway.standings[xid] = Standing.of(purchase.auth_res_signed, sale=sale, acknowledged=True)
        if sale and state is OrderState.RECEIPTED:
            self.gateway.entries.append(sale_entry(purchase.auth_res_signed))
        return xid

    def standing(self, xid: bytes) -> Standing:
        found = self.office.book.standing(xid)
        assert found is not None
        return found

    def books_agree(self, xid: bytes) -> bool:
        """The merchant's Standing is the gateway's."""
        return self.standing(xid) == self.gateway.standings[xid]


class _Counting:
    """A signer that remembers what it signed."""

    def __init__(self, signer: FileSigner) -> None:
        self.certificate = signer.certificate
        self.chain = signer.chain
        self.signed: list[Any] = []
        self._signer = signer

    async def sign(self, content_type: Any, content: bytes) -> bytes:
        self.signed.append(content_type)
        return await self._signer.sign(content_type, content)

    async def sign_each(self, contents: Sequence[Content]) -> list[bytes | Problem]:
        return [await self.sign(*each) for each in contents]


def paid(world: World, *, held: bool, now: datetime) -> Purchase:
    """A purchase whose approval is dated `now`."""
    answer: dict[str, Any] = {"now": now, "ack_by": now + timedelta(seconds=60)}
    if held:
        answer |= {"cap_token": b"capture token of the gateway"}
    return world.purchase(sale_kind=SaleKind.AUTH_ONLY if held else SaleKind.SALE, answer=answer)


async def put(store: OrderStore, purchase: Purchase, state: OrderState, *, now: datetime) -> None:
    """The purchase as an order in `state`, which has come as far as an approval."""
    xid, s = purchase.auth_req.body.xid, OrderState
    stored = {
        Document.INVOICE_REQUEST: purchase.request_signed,
        Document.INVOICE: purchase.invoice_signed,
        Document.ORDER_DETAILS: purchase.invoice.order_details,
        Document.INVOICE_ANSWER: purchase.invoice_message,
    }
    rrpid = purchase.request.rrpid
    await store.create(xid=xid, rrpid=rrpid, h_request=sha256(rrpid), amount=TOTAL, stored=stored, now=now)
    preq_rrpid = unwrap(purchase.preq_message, expected=(MT_PREQ,)).rrpid
    await store.order(xid, rrpid=preq_rrpid, purchase=purchase.preq_message, now=now)
    await store.keep(xid, {Document.AUTH_REQ: purchase.auth_req_signed}, now=now)
    road = {
        s.AUTHORISED: {Document.AUTH_RES: purchase.auth_res_signed, Document.AUTH_ACK: purchase.auth_ack_signed},
        s.ACKED: {},
        s.RECEIPTED: {Document.RECEIPT: purchase.receipt_signed},
    }
    before = s.PAID_PENDING
    for after, documents in road.items():
        if before is state:
            return
        await store.move(xid, before, after, now=now, stored=documents)
        before = after
