"""Wallet on Invoice (row 10): W1 to W9, each refused for its own reason, and the common prefix before them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.money import Money
from tests.kwbp.forge import named_gateway, offered, refused
from tests.kwbp.world import ORIGIN, TOTAL, Purchase, World, lines, site
from tests.support.pki_factory import PkiFactory, rsa_key

SECOND = timedelta(seconds=1)


def test_invoice_that_was_asked_for_is_accepted(world: World, purchase: Purchase) -> None:
    checked = world.check_invoice(offered(world, purchase), purchase.request)
    assert checked.invoice.amount == Money.rial(TOTAL)
    assert checked.order.total == checked.invoice.amount
    assert checked.merchant.merchant_id == "M-1"
    assert checked.gateway.gateway_id == "GW-1"


def test_what_the_wallet_shows_is_what_was_signed(purchase: Purchase) -> None:
    checked = purchase.checked_invoice
    assert [(line.sku, line.quantity) for line in checked.order.lines] == [("book-1", 2), ("pen", 1)]
    assert checked.signed == purchase.invoice_signed
    assert checked.order_details == purchase.invoice.order_details


@pytest.mark.parametrize("field", ["rrpid", "chall_c", "lid_c"])
def test_w1_answer_to_another_request(world: World, purchase: Purchase, field: str) -> None:
    values: dict[str, Any] = {"rrpid": bytes(20), "chall_c": bytes(32), "lid_c": b"other"}
    with refused(ErrorCode.CHALLENGE_MISMATCH, "W1"):
        world.check_invoice(offered(world, purchase, **{field: values[field]}), purchase.request)


def test_w2_order_details_that_were_not_signed(world: World, purchase: Purchase) -> None:
    message = offered(world, purchase, order={"salt": bytes(32)}, fitting=False)
    with refused(ErrorCode.HASH_MISMATCH, "W2"):
        world.check_invoice(message, purchase.request)


@pytest.mark.parametrize("difference", [-1, 1])
def test_w3_signed_amount_one_rial_off_the_lines(world: World, purchase: Purchase, difference: int) -> None:
    message = offered(world, purchase, amount=Money.rial(TOTAL + difference))
    with refused(ErrorCode.AMOUNT_MISMATCH, "W3"):
        world.check_invoice(message, purchase.request)


@pytest.mark.parametrize("difference", [-1, 1])
def test_w3_total_one_rial_off_the_lines(world: World, purchase: Purchase, difference: int) -> None:
    total = Money.rial(TOTAL + difference)
    with refused(ErrorCode.AMOUNT_MISMATCH, "W3"):
        world.check_invoice(offered(world, purchase, order={"total": total}, amount=total), purchase.request)


def test_w3_line_that_does_not_multiply(world: World, purchase: Purchase) -> None:
    dearer = lines()
    dearer[0] = replace(dearer[0], amount=dearer[0].amount + 1)
    total = Money.rial(TOTAL + 1)
    message = offered(world, purchase, order={"lines": dearer, "total": total}, amount=total)
    with refused(ErrorCode.AMOUNT_MISMATCH, "W3"):
        world.check_invoice(message, purchase.request)


def test_w3_goods_that_were_not_asked_for(world: World, purchase: Purchase) -> None:
    swapped = lines()
    swapped[1] = replace(swapped[1], sku="pencil")
    with refused(ErrorCode.INVOICE_MISMATCH, "W3"):
        world.check_invoice(offered(world, purchase, order={"lines": swapped}), purchase.request)


def test_w3_one_line_more_than_asked_for(world: World, purchase: Purchase) -> None:
    more = [*lines(), replace(lines()[1], unit_price=0, amount=0)]
    with refused(ErrorCode.INVOICE_MISMATCH, "W3"):
        world.check_invoice(offered(world, purchase, order={"lines": more}), purchase.request)


def test_w3_shipped_somewhere_else(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "W3"):
        world.check_invoice(offered(world, purchase, order={"ship_to": "Qom"}), purchase.request)


@pytest.mark.parametrize("changes", [{"merchant_id": "M-2"}, {"mer_cert_hash": bytes(32)}, {"acquirer_bin": "622106"}])
def test_w4_invoice_that_names_another_merchant(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "W4"):
        world.check_invoice(offered(world, purchase, **changes), purchase.request)


def test_w4_invoice_signed_by_another_merchant(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "W4"):
        world.check_invoice(offered(world, purchase, signer=world.other_shop), purchase.request)


def test_w4_certificate_issued_anew_on_the_same_key(world: World, purchase: Purchase) -> None:
    renewed = world.pki.merchant("M-1", replace=site("M-1"), key=world.shop.key)
    with refused(ErrorCode.INVOICE_MISMATCH, "W4"):
        world.check_invoice(offered(world, purchase, signer=renewed), purchase.request)


def test_w4_merchant_not_allowed_to_sell_online(world: World, purchase: Purchase) -> None:
    offline = world.pki.merchant("M-1", online=False, replace=site("M-1"))
    with refused(ErrorCode.NOT_ONLINE_MERCHANT, "W4"):
        world.check_invoice(offered(world, purchase, signer=offline), purchase.request)


@pytest.mark.parametrize("origin", ["https://bookshop.example.evil.example", "http://bookshop.example", ""])
def test_w5_site_that_the_certificate_does_not_name(world: World, purchase: Purchase, origin: str) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "W5"):
        world.check_invoice(purchase.invoice_message, purchase.request, origin=origin)


def test_w5_is_left_out_where_there_is_no_site(world: World, purchase: Purchase) -> None:
    assert world.check_invoice(purchase.invoice_message, purchase.request, origin=None)


def test_w6_other_gateway_than_the_merchant_signed(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "W6"):
        world.check_invoice(offered(world, purchase, gateway=world.other_gateway_encryption), purchase.request)


def test_w6_gateway_id_that_the_certificate_does_not_have(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "W6"):
        world.check_invoice(offered(world, purchase, gw_id="GW-2"), purchase.request)


def test_w6_gateway_of_a_foreign_hierarchy(world: World, purchase: Purchase) -> None:
    rogue = PkiFactory().gateway_encryption("GW-1", key=rsa_key(1))
    with refused(ErrorCode.INVALID_CERTIFICATE, "W6"):
        world.check_invoice(offered(world, purchase, gateway=rogue, **named_gateway(rogue)), purchase.request)


def test_w6_gateway_certificate_from_the_merchant_ca(world: World, purchase: Purchase) -> None:
    rogue = world.pki.gateway_encryption("GW-1", key=rsa_key(1), issuer=world.pki.merchant_ca)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "W6"):
        world.check_invoice(offered(world, purchase, gateway=rogue, **named_gateway(rogue)), purchase.request)


def test_w6_expired_gateway(world: World, purchase: Purchase) -> None:
    old = world.pki.gateway_encryption("GW-1", not_after=world.now - SECOND)
    with refused(ErrorCode.EXPIRED_CERTIFICATE, "W6"):
        world.check_invoice(offered(world, purchase, gateway=old, **named_gateway(old)), purchase.request)


def test_w6_signature_certificate_of_the_gateway_cannot_be_sealed_to(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "W6"):
        world.check_invoice(offered(world, purchase, gateway=world.gateway_signing), purchase.request)


def test_w6_bytes_that_are_no_certificate(world: World, purchase: Purchase) -> None:
    broken = replace(world.gateway_encryption)
    object.__setattr__(broken, "certificate", _NoCertificate())
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        world.check_invoice(offered(world, purchase, gateway=broken), purchase.request)


class _NoCertificate:
    def public_bytes(self, _encoding: object) -> bytes:
        return b"0\x00"


def test_w7_gateway_of_another_acquirer(world: World, purchase: Purchase) -> None:
    foreign = world.pki.gateway_encryption("GW-1", acquirer_bin="622106")
    with refused(ErrorCode.GATEWAY_MISMATCH, "W7"):
        world.check_invoice(offered(world, purchase, gateway=foreign, **named_gateway(foreign)), purchase.request)


def test_w8_invoice_that_has_run_out(world: World, purchase: Purchase) -> None:
    message = offered(world, purchase, not_after=world.now + SECOND)
    assert world.check_invoice(message, purchase.request, now=world.now + SECOND)
    with refused(ErrorCode.INVOICE_EXPIRED, "W8"):
        world.check_invoice(message, purchase.request, now=world.now + 2 * SECOND)


def test_w8_invoice_that_ends_before_it_begins(world: World, purchase: Purchase) -> None:
    message = offered(world, purchase, issued_at=world.now + SECOND, not_after=world.now + SECOND)
    with refused(ErrorCode.INVOICE_EXPIRED, "W8"):
        world.check_invoice(message, purchase.request)


def test_w9_older_crl_identifier_than_seen_before(world: World, purchase: Purchase) -> None:
    assert world.check_invoice(offered(world, purchase, bci_number=7), purchase.request, bci_seen=7)
    with refused(ErrorCode.BCI_STALE, "W9"):
        world.check_invoice(offered(world, purchase, bci_number=6), purchase.request, bci_seen=7)


def test_k2_header_of_another_purchase(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        world.check_invoice(offered(world, purchase, header={"xid": bytes(20)}), purchase.request)


def test_k5_foreign_merchant(world: World, purchase: Purchase) -> None:
    foreign = PkiFactory().merchant("M-1", replace=site("M-1"))
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        world.check_invoice(offered(world, purchase, signer=foreign), purchase.request)


def test_k5_certificate_of_another_role(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        world.check_invoice(offered(world, purchase, signer=world.buyer), purchase.request)


def test_k7_invoice_from_yesterday(world: World, purchase: Purchase) -> None:
    message = offered(world, purchase, signing_time=world.now - timedelta(days=1))
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        world.check_invoice(message, purchase.request)


def test_the_shop_on_another_port_is_another_site(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "W5"):
        world.check_invoice(purchase.invoice_message, purchase.request, origin=ORIGIN + ":8443")
