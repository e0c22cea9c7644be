"""What the gateway signs, and its checks of AuthAck (row 15): B1 to B3."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import AuthCode, ErrorCode
from kwbp.errors import ProtocolError
from kwbp.gateway import SentAuthRes
from tests.kwbp.forge import acknowledged, refused
from tests.kwbp.world import Purchase, World, site

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="session")
def sent(purchase: Purchase) -> SentAuthRes:
    return SentAuthRes.load(purchase.auth_res_signed)


def test_answer_names_everything_it_answers(purchase: Purchase) -> None:
    answer = purchase.auth_res.body
    assert answer.h_auth_req == purchase.sent.h_auth_req
    assert answer.h_dual_sig == purchase.record.h_dual_sig
    assert answer.chall_c == purchase.request.body.chall_c
    assert (answer.gw_id, answer.acquirer_id) == ("GW-1", "603799")


@pytest.mark.parametrize("field", ["rc", "stan", "rrn", "masked_pan"])
def test_approval_without_references_is_not_made(world: World, purchase: Purchase, field: str) -> None:
    with pytest.raises(ValueError, match="carries"):
        world.answer(purchase.verified, **{field: None})


def test_unverified_order_is_not_approved(world: World, purchase: Purchase) -> None:
    with pytest.raises(ValueError, match="verified"):
        world.answer(purchase.verified.received)


def test_unverified_order_can_be_answered(world: World, purchase: Purchase) -> None:
    nothing = dict.fromkeys(("rc", "stan", "rrn", "approval", "masked_pan", "settle_date"))
    draft = world.answer(purchase.verified.received, auth_code=AuthCode.PI_PREVIOUSLY_USED, **nothing)
    assert draft.body.auth_code is AuthCode.PI_PREVIOUSLY_USED


@pytest.mark.parametrize(
    "changes",
    [
        {"rc": "0"},
        {"stan": "12345"},
        {"rrn": "60801200012"},
        {"approval": "12345"},
        {"masked_pan": "6037701000000007"},
        {"settle_date": "1332"},
        {"cap_token": b""},
    ],
)
def test_answer_out_of_form_is_not_made(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        world.answer(purchase.verified, **changes)


def test_acknowledgement_is_accepted(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    assert world.check_ack(acknowledged(world, purchase), sent).accepted


def test_acknowledgement_that_gives_the_money_back(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    assert not world.check_ack(acknowledged(world, purchase, accepted=False), sent).accepted


def test_acknowledgement_under_a_renewed_certificate(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    renewed = world.pki.merchant("M-1", replace=site("M-1"))
    assert world.check_ack(acknowledged(world, purchase, signer=renewed), sent)


def test_b1_acknowledgement_of_another_merchant(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    message = acknowledged(world, purchase, signer=world.other_shop, merchant_id="M-2")
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "B1"):
        world.check_ack(message, sent)


def test_b1_acknowledgement_that_does_not_name_its_signer(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "B1"):
        world.check_ack(acknowledged(world, purchase, signer=world.other_shop), sent)


@pytest.mark.parametrize("changes", [{"h_auth_res": bytes(32)}, {"rrpid": bytes(20)}, {"xid": bytes(20)}])
def test_b2_acknowledgement_of_something_else(
    world: World, purchase: Purchase, sent: SentAuthRes, changes: dict[str, Any]
) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "B2"):
        world.check_ack(acknowledged(world, purchase, **changes), sent)


def test_b3_acknowledgement_too_late(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    late = world.now + 61 * SECOND
    message = acknowledged(world, purchase, date=late, signing_time=late)
    assert world.check_ack(message, sent, now=late - SECOND)
    with refused(ErrorCode.ACK_TIMEOUT, "B3"):
        world.check_ack(message, sent, now=late)


def test_k7_old_acknowledgement(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        world.check_ack(acknowledged(world, purchase, signing_time=world.now - 3 * MINUTE), sent)


def test_k5_acknowledgement_by_a_card(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        world.check_ack(acknowledged(world, purchase, signer=world.buyer), sent)


def test_k2_header_of_another_purchase(world: World, purchase: Purchase, sent: SentAuthRes) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        world.check_ack(acknowledged(world, purchase, header={"xid": bytes(20)}), sent)
