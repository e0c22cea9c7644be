"""Merchant on InvoiceReq (row 9): I1, I2 and the common prefix; and what it puts into an invoice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.merchant import IssuedInvoice
from kwbp.messages import InvoiceTBS, OrderDetails
from kwbp.structure import decode
from pki.der import sha256
from tests.kwbp.forge import asked, refused
from tests.kwbp.world import TOTAL, Purchase, World, lines
from tests.support.pki_factory import PkiFactory

MINUTE = timedelta(minutes=1)


def test_request_is_accepted(world: World, purchase: Purchase) -> None:
    checked = world.check_request(asked(world, purchase))
    assert [(line.sku, line.quantity) for line in checked.body.basket] == [("book-1", 2), ("pen", 1)]
    assert checked.card_cert_hash == sha256(world.buyer.der)


def test_request_without_optional_fields(world: World, purchase: Purchase) -> None:
    message = asked(world, purchase, lid_c=None, ship_to=None, language=None)
    checked = world.check_request(message)
    offer = world.offer(checked, deliver_by=None)
    assert (offer.invoice.body.lid_c, offer.invoice.body.deliver_by) == (None, None)


def test_i1_brand_that_is_not_taken(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "I1"):
        world.check_request(asked(world, purchase, brand_id="Other"))


def test_i2_issuer_that_is_not_taken(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "I2"):
        world.check_request(asked(world, purchase, bin="621986"))


@pytest.mark.parametrize("header", [{"rrpid": bytes(20)}, {"xid": bytes(20)}])
def test_k2_header_of_another_exchange(world: World, purchase: Purchase, header: dict[str, Any]) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        world.check_request(asked(world, purchase, header=header))


def test_k5_foreign_card(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        world.check_request(asked(world, purchase, signer=PkiFactory().cardholder()))


@pytest.mark.parametrize(("minutes", "code"), [(-3, ErrorCode.MESSAGE_TOO_OLD), (3, ErrorCode.MESSAGE_TOO_NEW)])
def test_k7_clock_that_is_wrong(world: World, purchase: Purchase, minutes: int, code: ErrorCode) -> None:
    with refused(code, "K7"):
        world.check_request(asked(world, purchase, signing_time=world.now + minutes * MINUTE))


def test_k7_date_that_the_signing_time_contradicts(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.CLOCK_SKEW, "K7"):
        world.check_request(asked(world, purchase, date=world.now - 3 * MINUTE))


def test_invoice_commits_to_salted_details(world: World, purchase: Purchase) -> None:
    invoice = decode(InvoiceTBS, purchase.invoice.invoice.content)
    assert invoice.hod == sha256(purchase.invoice.order_details)
    again = world.offer(purchase.checked_request)
    assert again.invoice.body.hod != invoice.hod
    assert again.invoice.body.xid != invoice.xid
    assert again.invoice.body.chall_m != invoice.chall_m
    assert decode(OrderDetails, again.order_details).total.to_rial() == TOTAL


def test_invoice_without_lines_is_not_made(world: World, purchase: Purchase) -> None:
    with pytest.raises(ProtocolError):
        world.offer(purchase.checked_request, lines=[])


def test_invoice_for_nothing_is_not_made(world: World, purchase: Purchase) -> None:
    free = [line for line in lines() if line.sku == "pen"]
    free[0].unit_price = free[0].amount = 0
    with refused(ErrorCode.AMOUNT_MISMATCH, "K1"):
        world.offer(purchase.checked_request, lines=free)


def test_issued_invoice_survives_a_restart(world: World, purchase: Purchase) -> None:
    loaded = IssuedInvoice.load(purchase.invoice_signed, purchase.request_signed, world.gateway_identity)
    assert loaded.invoice_hash == purchase.issued.invoice_hash
    assert loaded.card_cert_hash == purchase.issued.card_cert_hash
    assert world.check_purchase(purchase.preq_message, loaded)


def test_an_invoice_without_a_delivery_time_is_read_as_it_was_written(world: World) -> None:
    request = world.ask()
    checked = world.check_request(request.message(world.buyer.sign(request.content_type, request.content)))
    draft = world.offer(checked, deliver_by=None)
    signed = world.shop.sign(draft.invoice.content_type, draft.invoice.content)
    seen = world.check_invoice(draft.message(signed, world.gateway_encryption.chain), request)
    assert seen.invoice.deliver_by is None
    assert seen.invoice.issued_at == draft.invoice.body.issued_at
