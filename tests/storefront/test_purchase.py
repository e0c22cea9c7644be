"""Purchases over the whole way: wallet, merchant, gateway, switch, and back. Every part is the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from kwbp.codes import AuthCode, CompletionCode
from pki.csr import parse_csr
from runtime.problems import Problem
from storefront.merchant.documents import Document
from storefront.merchant.states import OrderState
from storefront.signers import Content
from storefront.wallet.purchase import PurchaseState
from storefront.wallet.purchase import purchases as listed
from tests.support.judges import openssl
from tests.support.payment_site import OPENING, Site, wait_for
from tests.support.pki_factory import pem
from tests.support.shop_front import BASKET, TOTAL, Customer, Front


@pytest.mark.parametrize("in_token", [True, False], ids=["key in the token", "key file"])
def test_an_honest_purchase_ends_with_a_receipt_and_one_debit(
    make_front: Callable[..., Front], customer: Customer, purchases: Path, in_token: bool
) -> None:
    front = make_front(in_token=in_token)
    with front.serving(), customer.shopping(front, purchases) as buyer:
        checked = buyer.request_invoice(BASKET, ship_to="Tehran", language="en")
        assert checked.invoice.amount.amount == TOTAL
        assert [(line.name, line.quantity) for line in checked.order.lines] == [
            ("Divan of Hafez", 2),
            ("Golestan of Saadi", 1),
        ]
        assert checked.merchant.merchant_id == front.merchant_id
        outcome = buyer.order(checked, **customer.typed)
    assert outcome.state is PurchaseState.PAID
    assert outcome.receipt is not None
    assert outcome.receipt.auth_res.auth_code is AuthCode.APPROVED
    assert outcome.receipt.receipt.completion_code is CompletionCode.CAPTURE_PERFORMED
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)
    order = front.order(outcome.xid)
    assert order is not None
    assert (order.state, order.paid, order.amount) == (OrderState.RECEIPTED, True, TOTAL)
    assert order.rrn == outcome.receipt.auth_res.rrn
    assert [(each.state, each.amount) for each in listed(purchases)] == [(PurchaseState.PAID, TOTAL)]


class OpensslSigner:
    """A merchant's signatures made by the `openssl` command, at the machine's own time, no software of ours."""

    def __init__(self, folder: Path, certificate: x509.Certificate, chain: tuple[x509.Certificate, ...]) -> None:
        self.certificate = certificate
        self.chain = chain
        self._folder = folder

    async def sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        return await asyncio.to_thread(self._sign, content_type, content)

    async def sign_each(self, contents: Sequence[Content]) -> list[bytes | Problem]:
        return [await self.sign(*each) for each in contents]

    def _sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        key = self._folder / "shop.key"
        is_rsa = isinstance(self.certificate.public_key(), RSAPublicKey)
        pss = ("-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest") if is_rsa else ()
        return openssl(
            "cms", "-sign", "-binary", "-signer", self._folder / "shop.pem", "-inkey", key,
            "-certfile", self._folder / "cas.pem", "-md", "sha256", *pss, "-econtent_type", content_type.dotted_string,
            "-cades", "-nosmimecap", "-nodetach", "-outform", "DER", stdin=content,
        )  # fmt: skip


NEW_KEY = {
    "RSA-3072": ("-newkey", "rsa:3072"),
    "P-256": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
}


@pytest.mark.parametrize("kind", NEW_KEY)
def test_a_merchant_that_has_openssl_and_nothing_of_ours_is_paid(
    site: Site, make_front: Callable[..., Front], customer: Customer, purchases: Path, tmp_path: Path, kind: str
) -> None:
    request = openssl(
        "req",
        "-new",
        *NEW_KEY[kind],
        "-noenc",
        "-keyout",
        tmp_path / "shop.key",
        "-subj",
        "/C=IR/O=Shop/CN=Bookshop",
    )
    key: Any = load_pem_private_key((tmp_path / "shop.key").read_bytes(), None)
    assert parse_csr(request).public_key() == key.public_key()
    front = make_front(key=key)
    (tmp_path / "shop.pem").write_bytes(pem(front.credential.certificate))
    (tmp_path / "cas.pem").write_bytes(pem(*front.credential.chain))
    front.signer = lambda: OpensslSigner(tmp_path, front.credential.certificate, front.credential.chain)
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    assert outcome.state is PurchaseState.PAID
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


def test_what_the_bank_declines_costs_nothing_and_is_told(site: Site, front: Front, purchases: Path) -> None:
    poor = Customer.of(site, balance=1_000)
    with front.serving(), poor.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **poor.typed)
        again = buyer.resume(outcome.xid)
    assert outcome.state is again.state is PurchaseState.DECLINED
    assert outcome.receipt is not None
    assert outcome.receipt.auth_res.auth_code is AuthCode.DECLINED
    assert poor.balance == 1_000
    order = front.order(outcome.xid)
    assert order is not None
    assert (order.state, order.paid) == (OrderState.DECLINED, False)


def test_no_reply_of_the_bank_is_open_until_the_money_is_back(
    site: Site, front: Front, customer: Customer, purchases: Path
) -> None:
    site.switch.admin.add_fault("0200", "drop")
    site.switch.admin.add_fault("042x", "ignore", count=1000)
    with front.serving(), customer.shopping(front, purchases) as buyer:
        try:
            outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
            assert outcome.state is PurchaseState.PENDING
            assert outcome.receipt is not None
            assert outcome.receipt.auth_res.auth_code is AuthCode.NO_REPLY
            order = front.order(outcome.xid)
            assert order is not None
            assert (order.state, order.paid) == (OrderState.UNKNOWN, False)
            assert buyer.resume(outcome.xid).state is PurchaseState.PENDING
        finally:
            site.switch.admin.clear_faults()
        wait_for(lambda: front.document(outcome.xid, Document.GATEWAY_STATUS) is not None)
        assert buyer.resume(outcome.xid).state is PurchaseState.REVERSED
        assert buyer.resume(outcome.xid).state is PurchaseState.REVERSED
    closed = front.order(outcome.xid)
    assert closed is not None
    assert (closed.state, closed.paid) == (OrderState.REVERSED, False)
    word = front.document(outcome.xid, Document.GATEWAY_STATUS)
    assert (purchases / outcome.xid.hex() / "gateway-status.p7s").read_bytes() == word
    assert [each.state for each in listed(purchases)] == [PurchaseState.REVERSED]
    assert (customer.balance, front.debits()) == (OPENING, 0)


def test_everything_signed_is_kept_by_both_sides(front: Front, customer: Customer, purchases: Path) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        xid = buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid
    with front.book() as book:
        documents, crls = book.documents(xid), book.crls(xid)
    assert documents.keys() == set(Document) - {Document.GATEWAY_ERROR, Document.GATEWAY_STATUS}
    folder = purchases / xid.hex()
    for name, kind in (("invoice.p7s", Document.INVOICE), ("receipt.p7s", Document.RECEIPT)):
        assert (folder / name).read_bytes() == documents[kind]
    assert (folder / "auth-res.p7s").read_bytes() == documents[Document.AUTH_RES]
    assert (folder / "order.kwbp").read_bytes() == documents[Document.PURCHASE]
    assert len(crls) == len(list((folder / "crls").iterdir())) == 6
    assert {x509.load_der_x509_crl(der).public_bytes(Encoding.DER) for der in crls} == set(crls)
