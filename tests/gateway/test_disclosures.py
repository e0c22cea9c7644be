"""What the gateway keeps for the proof of years later: lists and certificates once, what it said once of each kind."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select

from gateway.disclosure_tables import public_objects
from gateway.disclosures import CERTIFICATE, CRL, Disclosures
from gateway.store import OrderStore
from kwbp.codes import PurchaseStatus
from pki.crl import CrlSet
from pki.path import Trust
from tests.gateway.conftest import NOW, new_order, run
from tests.support.pki_factory import PkiFactory


def stored(book: OrderStore) -> int:
    with book.reading() as connection:
        return connection.execute(select(func.count()).select_from(public_objects)).scalar_one()


def test_each_object_is_kept_once(book: OrderStore) -> None:
    pki, disclosures = PkiFactory(), Disclosures(book)
    encryption = pki.gateway_encryption().certificate
    run(disclosures.keep(pki.trust(NOW), encryption, NOW))
    before = stored(book)
    lists = len(list(pki.trust(NOW).crls))
    assert (len(list(disclosures.of_kind(CRL))), len(list(disclosures.of_kind(CERTIFICATE)))) == (lists, before - lists)
    assert lists > 1
    trust = pki.trust(NOW)
    run(Disclosures(book).keep(Trust(trust.anchors, trust.intermediates, CrlSet()), encryption, NOW))
    assert stored(book) == before


def test_a_new_list_is_kept_beside_the_old(book: OrderStore) -> None:
    pki, disclosures = PkiFactory(), Disclosures(book)
    encryption = pki.gateway_encryption().certificate
    run(disclosures.keep(pki.trust(NOW), encryption, NOW))
    before = len(list(disclosures.of_kind(CRL)))
    pki.revoke(pki.merchant())
    run(disclosures.keep(pki.trust(NOW), encryption, NOW + timedelta(hours=1)))
    assert len(list(disclosures.of_kind(CRL))) > before


def test_what_was_said_is_kept_once_of_each_kind(book: OrderStore) -> None:
    disclosures, key = Disclosures(book), new_order().key
    run(book.receive(new_order(), NOW))
    for seconds, status, said in (
        (0, PurchaseStatus.IN_PROGRESS, b"under way"),
        (1, PurchaseStatus.REVERSING, b"on its way back"),
        (2, PurchaseStatus.REVERSING, b"still on its way back"),
        (3, PurchaseStatus.REVERSED, b"back"),
    ):
        run(disclosures.said(key, status, said, NOW + timedelta(seconds=seconds)))
    assert disclosures.statements(key) == [b"on its way back", b"back"]
    assert disclosures.statements(new_order(2).key) == []
