"""AuthAck and receipt are signed in one request to the token; what stands in the way of one does not lose the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from hsm_service.client import AsyncHsmClient
from kwbp import wallet as protocol
from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.fields import VERSION, to_time
from kwbp.messages import AuthAckTBS
from kwbp.structure import encode
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_INVOICE, CT_P_CERT_REQ, CT_RECEIPT
from runtime.problems import Problem
from storefront.merchant.documents import Document
from storefront.merchant.states import OrderState
from storefront.signers import Content, FileSigner, Signer, TokenSigner
from storefront.wallet.purchase import PurchaseState
from tests.support.payment_site import OPENING, Site, now
from tests.support.shop_front import BASKET, TOTAL, Customer, Front, hsm_url


def test_a_token_judges_each_content_by_itself(site: Site, make_front: Callable[..., Front]) -> None:
    front = make_front(in_token=True)
    ack = AuthAckTBS(
        version=VERSION,
        rrpid=b"\1" * 20,
        xid=b"\2" * 20,
        merchant_id=front.merchant_id,
        h_auth_res=b"\3" * 32,
        accepted=True,
        date=to_time(now()),
    )

    async def sign() -> list[bytes | Problem]:
        client = AsyncHsmClient.connect(hsm_url(site), front.tls)
        try:
            assert front.key is not None
            signer = await TokenSigner.connect(client, front.key)
            return await signer.sign_each([(CT_AUTH_ACK, encode(ack)), (CT_RECEIPT, encode(ack))])
        finally:
            await client.close()

    signed, refused = asyncio.run(sign())
    assert isinstance(signed, bytes)
    assert encode(read_signed(AuthAckTBS, CT_AUTH_ACK, signed).body) == encode(ack)
    assert isinstance(refused, Problem)
    assert refused.status == 422


class Grudging:
    """A signer that refuses as it is told, and remembers what it was asked for, request by request."""

    def __init__(self, real: Signer, *, whole: int = 0, kinds: Sequence[x509.ObjectIdentifier] = ()) -> None:
        """:param whole: requests for several contents, and :param kinds: contents, that are refused, each once."""
        self.certificate, self.chain = real.certificate, real.chain
        self.asked: list[list[x509.ObjectIdentifier]] = []
        self._real, self._whole, self._kinds = real, whole, list(kinds)

    def _refused(self, kind: x509.ObjectIdentifier) -> bool:
        found = kind in self._kinds
        if found:
            self._kinds.remove(kind)
        return found

    async def sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        self.asked.append([content_type])
        if self._refused(content_type):
            raise Problem(503, "token-unavailable", "not now")
        return await self._real.sign(content_type, content)

    async def sign_each(self, contents: Sequence[Content]) -> list[bytes | Problem]:
        self.asked.append([kind for kind, _content in contents])
        if self._whole:
            self._whole -= 1
            raise Problem(429, "limit-reached", "there is room for one")
        refusal = Problem(503, "token-unavailable", "not now")
        return [refusal if self._refused(kind) else await self._real.sign(kind, content) for kind, content in contents]


def pays(front: Front, customer: Customer, purchases: Path, signer: Grudging) -> list[list[x509.ObjectIdentifier]]:
    """A purchase that must end well and be collected once: what the token was asked for, request by request."""
    front.signer = lambda: signer
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    assert outcome.state is PurchaseState.PAID
    order = front.order(outcome.xid)
    assert order is not None
    assert order.state is OrderState.RECEIPTED
    assert front.document(outcome.xid, Document.RECEIPT) is not None
    assert (customer.balance, front.debits(), front.line.count("/v1/auth")) == (OPENING - TOTAL, 1, 1)
    return [kinds for kinds in signer.asked if kinds != [CT_P_CERT_REQ]]


def file_signer(front: Front) -> FileSigner:
    return FileSigner(front.credential.key, front.credential.certificate, front.credential.chain, front.clock)


def test_a_purchase_needs_three_requests_to_the_token(front: Front, customer: Customer, purchases: Path) -> None:
    asked = pays(front, customer, purchases, Grudging(file_signer(front)))
    assert asked == [[CT_INVOICE], [CT_AUTH_REQ], [CT_AUTH_ACK, CT_RECEIPT]]


@pytest.mark.parametrize(
    ("whole", "kinds", "then"),
    [
        (1, (), [[CT_AUTH_ACK], [CT_RECEIPT]]),
        (0, (CT_RECEIPT,), [[CT_RECEIPT]]),
        (0, (CT_AUTH_ACK,), [[CT_AUTH_ACK, CT_RECEIPT]]),
    ],
    ids=["no room for two", "no receipt yet", "no acknowledgement yet"],
)
def test_what_was_refused_is_signed_later(
    front: Front,
    customer: Customer,
    purchases: Path,
    whole: int,
    kinds: tuple[x509.ObjectIdentifier, ...],
    then: list[list[x509.ObjectIdentifier]],
) -> None:
    signer = Grudging(file_signer(front), whole=whole, kinds=kinds)
    front.signer = lambda: signer
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    assert outcome.state is PurchaseState.PAID
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)
    asked = [each for each in signer.asked if each != [CT_P_CERT_REQ]]
    assert asked == [[CT_INVOICE], [CT_AUTH_REQ], [CT_AUTH_ACK, CT_RECEIPT], *then]


def test_an_order_is_accepted_although_its_request_cannot_be_signed_yet(
    front: Front, customer: Customer, purchases: Path
) -> None:
    asked = pays(front, customer, purchases, Grudging(file_signer(front), kinds=[CT_AUTH_REQ]))
    assert asked == [[CT_INVOICE], [CT_AUTH_REQ], [CT_AUTH_REQ], [CT_AUTH_ACK, CT_RECEIPT]]


def ordered(front: Front, customer: Customer, *, invoices: int, orders: int, rrpid: bytes | None = None) -> list[bytes]:
    """So many different orders (PReq) for each of so many invoices, all of them good; `rrpid`: of all of them."""
    messages = []
    for _ in range(invoices):
        request = customer.ask()
        answer = front.post("/kwbp/invoice-request", customer.signed(request)).content
        for _ in range(orders):
            order = customer.accept(request, answer, front)
            if rrpid is not None:
                order = protocol.build_purchase(
                    order.checked, customer.bank.card, rrpid=rrpid, now=now(), rng=os.urandom
                )
            messages.append(customer.dual_signed(order))
    return messages


class Deliberate(Grudging):
    """Signs AuthReq only after everything that has come to the shop was judged, as a token that is busy does."""

    async def sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        if content_type == CT_AUTH_REQ:
            await asyncio.sleep(0.5)
        return await super().sign(content_type, content)


@pytest.mark.parametrize(
    ("invoices", "orders", "rrpid"),
    [(1, 10, None), (5, 1, b"r" * 20)],
    ids=["for one invoice", "with one RRPID"],
)
def test_of_many_orders_at_once_the_token_signs_the_request_of_one(
    front: Front, customer: Customer, invoices: int, orders: int, rrpid: bytes | None
) -> None:
    signer = Deliberate(file_signer(front))
    front.signer = lambda: signer
    with front.serving(), ThreadPoolExecutor(10) as pool:
        messages = ordered(front, customer, invoices=invoices, orders=orders, rrpid=rrpid)
        list(pool.map(lambda each: front.post("/kwbp/purchase", each), messages))
    assert signer.asked.count([CT_AUTH_REQ]) == front.line.count("/v1/auth") == 1
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


def test_for_an_order_whose_rrpid_is_used_the_token_signs_no_request(front: Front, customer: Customer) -> None:
    signer = Grudging(file_signer(front))
    front.signer = lambda: signer
    with front.serving():
        first, second = ordered(front, customer, invoices=2, orders=1, rrpid=b"r" * 20)
        front.post("/kwbp/purchase", first)
        for _ in range(3):
            refused = front.refused("/kwbp/purchase", second).body
            assert (refused.error_code, refused.clause) == (ErrorCode.BAD_MESSAGE_HEADER, "K3")
    assert signer.asked.count([CT_AUTH_REQ]) == 1
    assert front.debits() == 1
