"""Merchant on AuthRes (row 14): A1 to A7; and what it asks, acknowledges and remembers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import AuthCode, ErrorCode, SaleKind
from kwbp.merchant import SentAuthReq, build_auth_ack, build_auth_req
from kwbp.money import Money
from pki.der import sha256
from tests.kwbp.forge import answered, refused
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.pki_factory import PkiFactory

SECOND = timedelta(seconds=1)


def test_approval_is_accepted(world: World, purchase: Purchase) -> None:
    assert world.check_answer(answered(world, purchase), purchase.sent).approved


def test_decline_is_an_answer_too(world: World, purchase: Purchase) -> None:
    message = answered(world, purchase, auth_code=AuthCode.DECLINED, rc="51", approval=None)
    assert not world.check_answer(message, purchase.sent).approved


def test_stored_answer_is_good_later(world: World, purchase: Purchase) -> None:
    message = answered(world, purchase, auth_code=AuthCode.NO_REPLY)
    assert not world.check_answer(message, purchase.sent, now=world.now + timedelta(days=1)).approved


def test_request_can_be_recalled_from_what_was_sent(purchase: Purchase) -> None:
    assert SentAuthReq.load(purchase.auth_req_signed) == purchase.sent


def test_request_asks_for_what_the_buyer_agreed_to(world: World, purchase: Purchase) -> None:
    reserved = replace(purchase.checked_purchase, dual=replace(purchase.checked_purchase.dual))
    reserved.dual.sale_kind = SaleKind.AUTH_ONLY
    draft = build_auth_req(reserved, terminal_id="T0000001", rrpid=world.rng(20), now=world.now)
    assert not draft.body.capture_now
    assert purchase.auth_req.body.capture_now


def test_a1_answer_to_another_request(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "A1"):
        world.check_answer(answered(world, purchase, h_auth_req=bytes(32)), purchase.sent)


def test_a1_answer_to_another_purchase(world: World, purchase: Purchase, other: Purchase) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "A1"):
        world.check_answer(other.auth_res.message(other.auth_res_signed), purchase.sent)


@pytest.mark.parametrize("changes", [{"merchant_id": "M-2"}, {"mer_cert_hash": bytes(32)}])
def test_a2_answer_for_another_merchant(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "A2"):
        world.check_answer(answered(world, purchase, **changes), purchase.sent)


@pytest.mark.parametrize(
    "changes", [{"rrpid": bytes(20)}, {"xid": bytes(20)}, {"chall_c": bytes(32)}, {"h_dual_sig": bytes(32)}]
)
def test_a3_answer_in_another_exchange(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "A3"):
        world.check_answer(answered(world, purchase, **changes), purchase.sent)


@pytest.mark.parametrize("difference", [-1, 1])
def test_a4_another_amount(world: World, purchase: Purchase, difference: int) -> None:
    with refused(ErrorCode.AMOUNT_MISMATCH, "A4"):
        world.check_answer(answered(world, purchase, amount=Money.rial(TOTAL + difference)), purchase.sent)


@pytest.mark.parametrize("field", ["rc", "stan", "rrn", "masked_pan"])
def test_a5_approval_that_cannot_be_traced(world: World, purchase: Purchase, field: str) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "A5"):
        world.check_answer(answered(world, purchase, **{field: None}), purchase.sent)


def test_a6_answer_of_another_gateway(world: World, purchase: Purchase) -> None:
    message = answered(world, purchase, signer=world.other_gateway_signing, gw_id="GW-2")
    with refused(ErrorCode.GATEWAY_MISMATCH, "A6"):
        world.check_answer(message, purchase.sent)


@pytest.mark.parametrize("changes", [{"gw_id": "GW-2"}, {"acquirer_id": "622106"}])
def test_a6_gateway_that_names_another(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "A6"):
        world.check_answer(answered(world, purchase, **changes), purchase.sent)


def test_a6_same_gateway_id_at_another_acquirer(world: World, purchase: Purchase) -> None:
    foreign = world.pki.gateway_signing("GW-1", acquirer_bin="622106")
    with refused(ErrorCode.GATEWAY_MISMATCH, "A6"):
        world.check_answer(answered(world, purchase, signer=foreign), purchase.sent)


def test_a7_answer_older_than_the_question(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "A7"):
        world.check_answer(answered(world, purchase, signing_time=world.now - 121 * SECOND), purchase.sent)


def test_a7_answer_from_the_future(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_NEW, "A7"):
        world.check_answer(answered(world, purchase, signing_time=world.now + 121 * SECOND), purchase.sent)


def test_a7_date_that_the_signing_time_contradicts(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.CLOCK_SKEW, "A7"):
        world.check_answer(answered(world, purchase, date=world.now - 121 * SECOND), purchase.sent)


def test_a7_approval_that_is_being_reversed(world: World, purchase: Purchase) -> None:
    message = answered(world, purchase)
    assert world.check_answer(message, purchase.sent, now=world.now + 60 * SECOND).approved
    with refused(ErrorCode.ACK_TIMEOUT, "A7"):
        world.check_answer(message, purchase.sent, now=world.now + 61 * SECOND)


def test_k5_answer_signed_by_the_merchant_itself(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        world.check_answer(answered(world, purchase, signer=world.shop), purchase.sent)


def test_k5_answer_of_a_foreign_gateway(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        world.check_answer(answered(world, purchase, signer=PkiFactory().gateway_signing()), purchase.sent)


def test_k2_header_of_another_purchase(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        world.check_answer(answered(world, purchase, header={"xid": bytes(20)}), purchase.sent)


def test_acknowledgement_closes_the_exchange(world: World, purchase: Purchase) -> None:
    ack = build_auth_ack(purchase.answer, accepted=False, now=world.now)
    assert ack.body.h_auth_res == sha256(purchase.auth_res_signed)
    assert (ack.rrpid, ack.xid) == (purchase.auth_req.rrpid, purchase.auth_req.xid)
    assert not ack.body.accepted
