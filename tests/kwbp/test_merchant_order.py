"""Merchant on PReq: M1 and M3 to M8, each refused for its own reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.gateway import GatewayIdentity
from kwbp.merchant import receive_purchase
from kwbp.money import Money
from kwbp.wrapper import unwrap
from pki.algorithms import SealingSuite
from pki.oids import CT_DUAL_SIGNATURE, MT_PREQ
from tests.kwbp.forge import forged, named_gateway, ordered, refused, resealed
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.pki_factory import PkiFactory

MINUTE = timedelta(minutes=1)


def test_order_for_the_invoice_is_accepted(world: World, purchase: Purchase) -> None:
    checked = world.check_purchase(ordered(world, purchase), purchase.issued)
    assert checked.oi.amount == Money.rial(TOTAL)
    assert checked.card_certificate == world.buyer.certificate


def test_m1_look_up_key(purchase: Purchase) -> None:
    received = receive_purchase(unwrap(purchase.preq_message, expected=[MT_PREQ]))
    assert received.xid == purchase.issued.invoice.xid


@pytest.mark.parametrize("header", [{"rrpid": bytes(20)}, {"xid": bytes(20)}, {"xid": None}])
def test_m1_header_of_another_purchase(world: World, purchase: Purchase, header: dict[str, Any]) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        world.check_purchase(ordered(world, purchase, header=header), purchase.issued)


@pytest.mark.parametrize(
    "changes", [{"chall_m": bytes(32)}, {"chall_c": bytes(32)}, {"lid_c": None}, {"lid_m": "order-8"}]
)
def test_m3_challenge_of_another_exchange(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "M3"):
        world.check_purchase(ordered(world, purchase, oi=changes), purchase.issued)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"invoice_hash": bytes(32)}, ErrorCode.INVOICE_MISMATCH),
        ({"amount": Money.rial(TOTAL - 1)}, ErrorCode.AMOUNT_MISMATCH),
        ({"amount": Money.rial(TOTAL + 1)}, ErrorCode.AMOUNT_MISMATCH),
        ({"hod": bytes(32)}, ErrorCode.HASH_MISMATCH),
        ({"xid": bytes(20)}, ErrorCode.INVOICE_MISMATCH),
        ({"merchant_id": "M-2"}, ErrorCode.INVOICE_MISMATCH),
        ({"brand_id": "Other"}, ErrorCode.INVOICE_MISMATCH),
        ({"bin": "621986"}, ErrorCode.INVOICE_MISMATCH),
    ],
)
def test_m4_order_about_another_invoice(
    world: World, purchase: Purchase, changes: dict[str, Any], code: ErrorCode
) -> None:
    with refused(code, "M4"):
        world.check_purchase(ordered(world, purchase, oi=changes), purchase.issued)


def test_m5_foreign_card(world: World, purchase: Purchase) -> None:
    foreign = PkiFactory().cardholder()
    with refused(ErrorCode.INVALID_CERTIFICATE, "M5"):
        world.check_purchase(ordered(world, purchase, signer=foreign), purchase.issued)


def test_m5_certificate_of_another_role(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "M5"):
        world.check_purchase(ordered(world, purchase, signer=world.other_shop), purchase.issued)


def test_m5_expired_card(world: World, purchase: Purchase) -> None:
    expired = world.pki.cardholder(not_after=world.now - MINUTE)
    with refused(ErrorCode.EXPIRED_CERTIFICATE, "M5"):
        world.check_purchase(ordered(world, purchase, signer=expired), purchase.issued)


def test_m5_card_revoked_between_invoice_and_order() -> None:
    world = World(PkiFactory())
    purchase = world.purchase()
    world.pki.revoke(world.buyer)
    with refused(ErrorCode.REVOKED_CERTIFICATE, "M5"):
        world.check_purchase(purchase.preq_message, purchase.issued, trust=world.pki.trust())


def test_m5_another_card_than_asked_for_the_invoice(world: World, purchase: Purchase) -> None:
    other = world.pki.cardholder()
    with refused(ErrorCode.INVOICE_MISMATCH, "M5"):
        world.check_purchase(ordered(world, purchase, signer=other), purchase.issued)


def test_m6_signature_of_another_key(world: World, purchase: Purchase) -> None:
    content = purchase.order.dual_signature.content
    dual_signed = forged(CT_DUAL_SIGNATURE, content, named=world.buyer, signed_by=world.shop)
    with refused(ErrorCode.SIGNATURE_FAILURE, "M6"):
        world.check_purchase(ordered(world, purchase, preq={"dual_sig": dual_signed}), purchase.issued)


def test_k7_old_order(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        world.check_purchase(ordered(world, purchase, signing_time=world.now - 3 * MINUTE), purchase.issued)


@pytest.mark.parametrize("field", ["h_oi_data", "h_pi_data"])
def test_m7_signature_over_another_half(world: World, purchase: Purchase, field: str) -> None:
    preq = {"h_pi_data": purchase.order.h_pi_data}
    with refused(ErrorCode.HASH_MISMATCH, "M7"):
        world.check_purchase(ordered(world, purchase, dual={field: bytes(32)}, preq=preq), purchase.issued)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": Money.rial(TOTAL - 1)}, ErrorCode.AMOUNT_MISMATCH),
        ({"amount": Money.rial(TOTAL + 1)}, ErrorCode.AMOUNT_MISMATCH),
        ({"xid": bytes(20)}, ErrorCode.INVOICE_MISMATCH),
        ({"lid_m": "order-8"}, ErrorCode.INVOICE_MISMATCH),
        ({"merchant_id": "M-2"}, ErrorCode.INVOICE_MISMATCH),
        ({"mer_cert_hash": bytes(32)}, ErrorCode.INVOICE_MISMATCH),
        ({"invoice_hash": bytes(32)}, ErrorCode.INVOICE_MISMATCH),
    ],
)
def test_m7_buyer_signed_something_else(
    world: World, purchase: Purchase, changes: dict[str, Any], code: ErrorCode
) -> None:
    with refused(code, "M7"):
        world.check_purchase(ordered(world, purchase, dual=changes), purchase.issued)


def test_m7_buyer_signed_another_deadline(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "M7"):
        world.check_purchase(ordered(world, purchase, dual={"not_after": world.now + MINUTE}), purchase.issued)


def test_m7_order_after_the_deadline(world: World, purchase: Purchase) -> None:
    late = world.now + timedelta(minutes=10, seconds=1)
    message = ordered(world, purchase, oi={"date": late}, signing_time=late)
    with refused(ErrorCode.INVOICE_EXPIRED, "M7"):
        world.check_purchase(message, purchase.issued, now=late)


@pytest.mark.parametrize("changes", [{"gw_id": "GW-2"}, {"gw_cert_hash": bytes(32)}])
def test_m8_buyer_meant_another_gateway(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "M8"):
        world.check_purchase(ordered(world, purchase, dual=changes), purchase.issued)


def test_m8_wallet_was_given_another_gateway(world: World, purchase: Purchase) -> None:
    other = world.other_gateway_encryption
    envelope = resealed(world, purchase, other, SealingSuite.OAEP_SHA256)
    with refused(ErrorCode.GATEWAY_MISMATCH, "M8"):
        world.check_purchase(ordered(world, purchase, dual=named_gateway(other), envelope=envelope), purchase.issued)


def test_m8_envelope_that_was_not_signed(world: World, purchase: Purchase) -> None:
    envelope = resealed(world, purchase, world.gateway_encryption, SealingSuite.OAEP_SHA256)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "M8"):
        world.check_purchase(ordered(world, purchase, preq={"pi_envelope": envelope}), purchase.issued)


def test_m8_envelope_sealed_to_another_gateway(world: World, purchase: Purchase) -> None:
    envelope = resealed(world, purchase, world.other_gateway_encryption, SealingSuite.OAEP_SHA256)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "M8"):
        world.check_purchase(ordered(world, purchase, envelope=envelope), purchase.issued)


def test_m8_suite_that_the_gateway_does_not_name(world: World, purchase: Purchase) -> None:
    sha256_only = world.pki.gateway_encryption("GW-1", suites=("oaep-sha256",))
    invoice = replace(purchase.issued.invoice, **named_gateway(sha256_only))
    issued = replace(purchase.issued, invoice=invoice, gateway=GatewayIdentity.of(sha256_only.certificate))
    envelope = resealed(world, purchase, sha256_only, SealingSuite.OAEP_SHA1)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "M8"):
        world.check_purchase(ordered(world, purchase, dual=named_gateway(sha256_only), envelope=envelope), issued)
