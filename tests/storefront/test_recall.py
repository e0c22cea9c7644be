"""What the shop remembers of an order is what it would read out of the order book."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from kwbp.merchant import SentAuthReq
from kwbp.structure import Structure, encode
from storefront.errors import DocumentMissing
from storefront.merchant import recall
from storefront.merchant.documents import Document
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import PkiFactory


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture
def purchase(world: World) -> Purchase:
    return world.purchase()


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_invoices", recall._Remembered(recall._issued))
    monkeypatch.setattr(recall, "_purchases", recall._Remembered(recall._purchase))


def documents_of(purchase: Purchase) -> dict[Document, bytes]:
    return {
        Document.INVOICE_REQUEST: purchase.request_signed,
        Document.INVOICE_ANSWER: purchase.invoice_message,
        Document.PURCHASE: purchase.preq_message,
    }


def plain(value: Any) -> Any:
    """For comparison: structures of the protocol as their bytes."""
    if isinstance(value, Structure):
        return encode(value)
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return value


def test_what_was_issued_is_what_the_documents_say(purchase: Purchase) -> None:
    assert plain(recall.issued_of(documents_of(purchase))) == plain(purchase.issued)


def test_what_was_checked_is_what_the_documents_say(purchase: Purchase) -> None:
    assert plain(recall.purchase_of(documents_of(purchase))) == plain(purchase.checked_purchase)


def test_what_is_handed_in_is_not_read_again(purchase: Purchase, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_parts: bytes) -> Any:
        raise AssertionError("it was read again")

    monkeypatch.setattr(recall, "_invoices", recall._Remembered(read))
    monkeypatch.setattr(recall, "_purchases", recall._Remembered(read))
    documents = documents_of(purchase)
    recall.keep_issued(purchase.issued, documents)
    recall.keep_purchase(purchase.checked_purchase, documents)
    assert recall.issued_of(documents) is purchase.issued
    assert recall.purchase_of(documents) is purchase.checked_purchase


def test_it_belongs_to_exactly_these_bytes(world: World, purchase: Purchase) -> None:
    other = world.purchase()
    recall.keep_issued(purchase.issued, documents_of(purchase))
    recall.keep_purchase(purchase.checked_purchase, documents_of(purchase))
    assert plain(recall.issued_of(documents_of(other))) == plain(other.issued)
    assert plain(recall.purchase_of(documents_of(other))) == plain(other.checked_purchase)


def test_only_so_much_is_remembered(purchase: Purchase) -> None:
    remembered = recall._Remembered(lambda part: part)
    for number in range(3 * recall._REMEMBERED):
        remembered.of(number.to_bytes(4, "big"))
    assert len(remembered._kept) == recall._REMEMBERED


def test_the_answer_is_judged_by_the_request_as_it_was_sent(purchase: Purchase) -> None:
    signed = purchase.auth_req_signed
    assert recall.sent(signed, purchase.checked_purchase) == SentAuthReq.load(signed) == purchase.sent


def test_without_its_documents_nothing_is_recalled(purchase: Purchase) -> None:
    documents = documents_of(purchase)
    del documents[Document.INVOICE_REQUEST]
    with pytest.raises(DocumentMissing):
        recall.issued_of(documents)
    with pytest.raises(DocumentMissing):
        recall.purchase_of(documents)
