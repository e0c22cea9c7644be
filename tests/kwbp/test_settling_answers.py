"""Rows 19 to 21: what the merchant believes of the gateway's answer (J1 to J6)."""

from __future__ import annotations

from typing import Any

import pytest

from kwbp.codes import AuthCode, ErrorCode
from kwbp.errors import ProtocolError
from kwbp.money import Money
from kwbp.settling import REQUESTS, CheckedSettlingAnswer, SentSettlingRequest
from kwbp.wrapper import unwrap, wrap
from pki.oids import CT_CAP_RES, CT_CRED_RES
from tests.kwbp.forge import forged, refused
from tests.kwbp.settling import SECOND, Settling
from tests.support.pki_factory import Credential


class Asked:
    """A capture that was asked for, and the gateway's approval of it."""

    def __init__(self, settling: Settling) -> None:
        self.settling = settling
        self.draft = settling.capture(1_000_000)
        message = settling.message(self.draft)
        self.checked = settling.check(message, settling.standing(settling.held))
        self.sent = SentSettlingRequest.load(self.draft.content_type, unwrap(message, expected=REQUESTS).body)
        self.approval = settling.answer(self.checked)

    def judged(self, *, signer: Credential | None = None, **changes: Any) -> CheckedSettlingAnswer:
        return self.settling.check_answer(
            self.settling.answer_message(self.approval, signer=signer, **changes), self.sent
        )


@pytest.fixture(scope="module")
def asked(settling: Settling) -> Asked:
    return Asked(settling)


def test_an_approval_names_request_purchase_amount_and_references(asked: Asked) -> None:
    judged = asked.judged()
    body = judged.body
    assert (judged.approved, judged.open) == (True, False)
    assert (body.h_request, body.rrpid, body.xid) == (asked.sent.h_request, asked.draft.rrpid, asked.draft.xid)
    assert (body.merchant_id, body.amount, body.auth_code) == ("M-1", Money.rial(1_000_000), AuthCode.APPROVED)
    assert (body.rc, body.stan, body.rrn, body.gw_id) == ("00", "000124", "608012000124", "GW-1")


@pytest.mark.parametrize(
    ("auth_code", "approved", "open_"),
    [
        (AuthCode.DECLINED, False, False),
        (AuthCode.NO_REPLY, False, True),
        (AuthCode.CAPTURE_NOT_SUPPORTED, False, False),
    ],
)
def test_a_decline_is_no_approval_and_silence_is_neither(
    asked: Asked, auth_code: AuthCode, approved: bool, open_: bool
) -> None:
    settling = asked.settling
    draft = settling.answer(
        asked.checked, auth_code=auth_code, rc=None, stan=None, rrn=None, approval=None, settle_date=None
    )
    judged = settling.check_answer(settling.answer_message(draft), asked.sent)
    assert (judged.approved, judged.open) == (approved, open_)


def test_j1_answer_to_another_request(asked: Asked) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "J1"):
        asked.judged(h_request=bytes(32))


@pytest.mark.parametrize("changes", [{"rrpid": bytes(20)}, {"merchant_id": "M-2"}])
def test_j2_answer_about_something_else(asked: Asked, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "J2"):
        asked.judged(**changes)


def test_j2_answer_about_another_purchase(asked: Asked) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "J2"):
        asked.judged(xid=bytes(20), header={"xid": bytes(20)})


@pytest.mark.parametrize("amount", [999_999, 1_000_001])
def test_j3_answer_about_another_amount(asked: Asked, amount: int) -> None:
    with refused(ErrorCode.AMOUNT_MISMATCH, "J3"):
        asked.judged(amount=Money.rial(amount))


@pytest.mark.parametrize("reference", ["rc", "stan", "rrn"])
def test_j4_no_approval_without_references(asked: Asked, reference: str) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "J4"):
        asked.judged(**{reference: None})
    with pytest.raises(ValueError, match="rc, stan and rrn"):
        asked.settling.answer(asked.checked, **{reference: None})


def test_j4_an_outcome_that_only_an_order_can_have(asked: Asked) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "J4"):
        asked.judged(auth_code=AuthCode.PI_PREVIOUSLY_USED)


def test_j5_answer_of_another_gateway(asked: Asked) -> None:
    world = asked.settling.world
    for changes in (
        {"signer": world.other_gateway_signing},
        {"signer": world.other_gateway_signing, "gw_id": "GW-2"},
        {"signer": world.pki.gateway_signing("GW-1", acquirer_bin="622106")},
        {"gw_id": "GW-2"},
        {"acquirer_id": "622106"},
    ):
        with refused(ErrorCode.GATEWAY_MISMATCH, "J5"):
            asked.judged(**changes)


def test_j6_answer_older_than_the_request(asked: Asked) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "J6"):
        asked.judged(signing_time=asked.settling.world.now - 121 * SECOND)


def test_j6_answer_from_the_future(asked: Asked) -> None:
    with refused(ErrorCode.MESSAGE_TOO_NEW, "J6"):
        asked.judged(signing_time=asked.settling.world.now + 121 * SECOND)


def test_a_stored_answer_may_come_long_after_it_was_made(asked: Asked) -> None:
    settling = asked.settling
    message = settling.answer_message(asked.approval)
    assert settling.check_answer(message, asked.sent, now=settling.world.now + 3600 * SECOND).approved


def test_k5_a_merchant_does_not_answer_itself(asked: Asked) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        asked.judged(signer=asked.settling.world.shop)


def test_k6_an_answer_that_somebody_else_signed(asked: Asked) -> None:
    world = asked.settling.world
    data = forged(
        CT_CAP_RES, asked.approval.content, named=world.gateway_signing, signed_by=world.other_gateway_signing
    )
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        asked.settling.check_answer(asked.approval.message(data), asked.sent)


def test_k2_a_header_that_the_answer_contradicts(asked: Asked) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        asked.judged(header={"xid": bytes(20)})


def test_k4_an_answer_to_a_credit_is_none_to_a_capture(asked: Asked) -> None:
    data = asked.settling.world.gateway_signing.sign(CT_CRED_RES, asked.approval.content)
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "K4"):
        asked.settling.check_answer(wrap(CT_CAP_RES, data, rrpid=asked.draft.rrpid, xid=asked.draft.xid), asked.sent)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1}, {"merchant_id": ""}, {"amount": Money(currency=840, amount=1, exp=2)}, {"rc": "0"},
        {"stan": "12345"}, {"rrn": "1"}, {"approval": "x"}, {"settle_date": "1301"}, {"acquirer_id": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_k1_form_of_the_answer(asked: Asked, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        asked.judged(**changes)
    assert caught.value.check == "K1"
