"""Wallet on Receipt (row 16): R1 to R6, and the common prefix on both signatures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import AuthCode, CompletionCode, ErrorCode, SaleKind
from kwbp.money import Money
from kwbp.wallet import check_gateway_answer
from pki.oids import CT_AUTH_RES
from tests.kwbp.forge import forged, receipted, refused
from tests.kwbp.world import TOTAL, Purchase, World, site
from tests.support.pki_factory import PkiFactory

HOUR = timedelta(hours=1)


def test_paid(world: World, purchase: Purchase) -> None:
    checked = world.check_receipt(receipted(world, purchase), purchase.record)
    assert checked.paid
    assert checked.auth_res.auth_code is AuthCode.APPROVED
    assert checked.receipt.completion_code is CompletionCode.CAPTURE_PERFORMED


def test_only_reserved(world: World) -> None:
    purchase = world.purchase(sale_kind=SaleKind.AUTH_ONLY)
    assert purchase.checked_receipt.paid
    assert purchase.receipt.body.completion_code is CompletionCode.AUTHORIZATION_PERFORMED


@pytest.mark.parametrize(
    ("code", "completion"),
    [
        (AuthCode.DECLINED, CompletionCode.ORDER_REJECTED),
        (AuthCode.NO_REPLY, CompletionCode.ORDER_RECEIVED),
        (AuthCode.PI_PREVIOUSLY_USED, CompletionCode.ORDER_RECEIVED),
    ],
)
def test_not_paid(world: World, code: AuthCode, completion: CompletionCode) -> None:
    purchase = world.purchase(answer={"auth_code": code, "approval": None, "settle_date": None})
    assert not purchase.checked_receipt.paid
    assert purchase.receipt.body.completion_code is completion


def test_approved_and_given_back(world: World) -> None:
    purchase = world.purchase(particulars_ok=False)
    assert not purchase.checked_receipt.paid
    assert purchase.checked_receipt.auth_res.auth_code is AuthCode.APPROVED


def test_stored_receipt_is_good_later(world: World, purchase: Purchase) -> None:
    assert world.check_receipt(receipted(world, purchase), purchase.record, now=world.now + HOUR).paid


def test_r4_r5_the_gateways_answer_without_a_receipt(world: World, purchase: Purchase) -> None:
    """As the gateway tells it to the buyer itself."""
    signed = purchase.receipt.body.auth_res
    told = check_gateway_answer(signed, purchase=purchase.record, trust=world.trust, now=world.now)
    assert told.auth_code is AuthCode.APPROVED
    other = world.purchase().receipt.body.auth_res
    with refused(ErrorCode.INVOICE_MISMATCH, "R5"):
        check_gateway_answer(other, purchase=purchase.record, trust=world.trust, now=world.now)


def test_r1_signed_by_another_merchant(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "R1"):
        world.check_receipt(receipted(world, purchase, signer=world.other_shop), purchase.record)


def test_r1_signed_with_another_certificate_of_the_merchant(world: World, purchase: Purchase) -> None:
    renewed = world.pki.merchant("M-1", replace=site("M-1"))
    with refused(ErrorCode.INVOICE_MISMATCH, "R1"):
        world.check_receipt(receipted(world, purchase, signer=renewed), purchase.record)


@pytest.mark.parametrize("changes", [{"rrpid": bytes(20)}, {"xid": bytes(20)}, {"chall_c": bytes(32)}])
def test_r2_receipt_of_another_purchase(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "R2"):
        world.check_receipt(receipted(world, purchase, **changes), purchase.record)


def test_r3_other_order_information(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "R3"):
        world.check_receipt(receipted(world, purchase, h_oi_data=bytes(32)), purchase.record)


def test_r4_answer_that_the_merchant_made_up(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "R4"):
        world.check_receipt(receipted(world, purchase, gateway=world.shop), purchase.record)


def test_r4_answer_of_a_foreign_gateway(world: World, purchase: Purchase) -> None:
    foreign = PkiFactory().gateway_signing("GW-1")
    with refused(ErrorCode.INVALID_CERTIFICATE, "R4"):
        world.check_receipt(receipted(world, purchase, gateway=foreign), purchase.record)


def test_r4_answer_that_the_gateway_did_not_sign(world: World, purchase: Purchase) -> None:
    answer = forged(CT_AUTH_RES, purchase.auth_res.content, named=world.gateway_signing, signed_by=world.shop)
    with refused(ErrorCode.SIGNATURE_FAILURE, "R4"):
        world.check_receipt(receipted(world, purchase, auth_res=answer), purchase.record)


def test_r4_answer_of_another_gateway(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "R4"):
        world.check_receipt(receipted(world, purchase, gateway=world.other_gateway_signing), purchase.record)


@pytest.mark.parametrize("changes", [{"gw_id": "GW-2"}, {"acquirer_id": "622106"}])
def test_r4_answer_that_names_another_gateway(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "R4"):
        world.check_receipt(receipted(world, purchase, answer=changes), purchase.record)


@pytest.mark.parametrize(
    "changes",
    [{"xid": bytes(20)}, {"chall_c": bytes(32)}, {"merchant_id": "M-2"}, {"mer_cert_hash": bytes(32)}],
)
def test_r5_answer_about_something_else(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "R5"):
        world.check_receipt(receipted(world, purchase, answer=changes), purchase.record)


def test_r5_answer_about_another_dual_signature(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "R5"):
        world.check_receipt(receipted(world, purchase, answer={"h_dual_sig": bytes(32)}), purchase.record)


@pytest.mark.parametrize("difference", [-1, 1])
def test_r5_answer_about_another_amount(world: World, purchase: Purchase, difference: int) -> None:
    changes = {"amount": Money.rial(TOTAL + difference)}
    with refused(ErrorCode.AMOUNT_MISMATCH, "R5"):
        world.check_receipt(receipted(world, purchase, answer=changes), purchase.record)


def test_r5_answer_to_another_order_of_the_same_goods(world: World, purchase: Purchase, other: Purchase) -> None:
    message = receipted(world, purchase, auth_res=other.auth_res_signed)
    with refused(ErrorCode.INVOICE_MISMATCH, "R5"):
        world.check_receipt(message, purchase.record)


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": {"auth_code": AuthCode.DECLINED}},
        {"completion_code": CompletionCode.ORDER_REJECTED},
        {"particulars_ok": False},
        *(
            {
                "answer": {"auth_code": code},
                "completion_code": CompletionCode.ORDER_REJECTED,
                "particulars_ok": False,
            }
            for code in (AuthCode.NO_REPLY, AuthCode.PI_PREVIOUSLY_USED)
        ),
    ],
    ids=["declined", "rejected", "denied", "unknown called rejected", "used before called rejected"],
)
def test_r6_merchant_who_says_other_than_the_gateway(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "R6"):
        world.check_receipt(receipted(world, purchase, **changes), purchase.record)


def test_k7_receipt_older_than_the_order(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        world.check_receipt(receipted(world, purchase, signing_time=world.now - HOUR), purchase.record)


def test_k7_answer_older_than_the_order(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        world.check_receipt(receipted(world, purchase, answer_time=world.now - HOUR), purchase.record)


def test_k7_receipt_from_the_future(world: World, purchase: Purchase) -> None:
    message = receipted(world, purchase, signing_time=world.now + HOUR, date=world.now + HOUR)
    with refused(ErrorCode.MESSAGE_TOO_NEW, "K7"):
        world.check_receipt(message, purchase.record)


def test_k2_header_of_another_purchase(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        world.check_receipt(receipted(world, purchase, header={"rrpid": bytes(20)}), purchase.record)
