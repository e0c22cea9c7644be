"""Row 18: who may ask how a purchase stands (Q1), and which answers close an open one (U1 to U3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.coherence import tells_one_story
from kwbp.common import Draft, read_signed
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.inquiry import (
    CheckedInquiry,
    GatewayStatus,
    InqResTBS,
    MerchantStatus,
    SentInquiry,
    build_inquiry,
    build_inquiry_answer,
    check_gateway_status,
    check_inquiry,
    check_merchant_status,
    require_card,
    require_merchant,
)
from kwbp.validators import VALIDATORS
from kwbp.wrapper import unwrap, wrap
from pki import der
from pki.extensions import CertificateType
from pki.oids import CT_INQ_REQ, CT_INQ_RES
from pki.roles import Role
from tests.kwbp.forge import answered, changed, refused, signed
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import Credential

S = PurchaseStatus
SECOND = timedelta(seconds=1)


def ask(world: World, purchase: Purchase, by: Credential, **changes: Any) -> tuple[bytes, bytes]:
    """InqReq as SignedData and as KwbpMessage."""
    draft = build_inquiry(
        rrpid=world.rng(20), xid=purchase.sent.xid, merchant_id="M-1", chall=world.rng(32), now=world.now
    )
    body = changed(draft.body, changes)
    data = signed(by, CT_INQ_REQ, body)
    return data, wrap(CT_INQ_REQ, data, rrpid=body.rrpid, xid=body.xid)


def check(world: World, message: bytes, **changes: Any) -> CheckedInquiry:
    return check_inquiry(unwrap(message, expected=[CT_INQ_REQ]), **({"trust": world.trust, "now": world.now} | changes))


# --- who asks ---------------------------------------------------------------------------------------------------------


def test_the_merchant_asks(world: World, purchase: Purchase) -> None:
    _, message = ask(world, purchase, world.shop)
    require_merchant(check(world, message), "M-1")


def test_the_card_asks_also_under_a_renewed_certificate(world: World, purchase: Purchase) -> None:
    [name] = world.buyer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    renewed = world.pki.cardholder(str(name.value))
    assert renewed.certificate != world.buyer.certificate
    for card in (world.buyer, renewed):
        _, message = ask(world, purchase, card)
        require_card(check(world, message), world.buyer.certificate, merchant_id="M-1")


def test_q1_another_merchant(world: World, purchase: Purchase) -> None:
    _, message = ask(world, purchase, world.other_shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "Q1"):
        require_merchant(check(world, message), "M-1")
    _, message = ask(world, purchase, world.other_shop, merchant_id="M-2")
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "Q1"):
        require_merchant(check(world, message), "M-1")


def test_q1_another_card(world: World, purchase: Purchase) -> None:
    _, message = ask(world, purchase, world.pki.cardholder("c2Vjb25kIGNhcmQ"))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "Q1"):
        require_card(check(world, message), world.buyer.certificate, merchant_id="M-1")


def test_q1_the_card_at_another_merchant(world: World, purchase: Purchase) -> None:
    _, message = ask(world, purchase, world.buyer, merchant_id="M-2")
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "Q1"):
        require_card(check(world, message), world.buyer.certificate, merchant_id="M-1")


def test_q1_a_card_is_no_merchant_and_a_merchant_no_card(world: World, purchase: Purchase) -> None:
    _, message = ask(world, purchase, world.buyer)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "Q1"):
        require_merchant(check(world, message), "M-1")
    _, message = ask(world, purchase, world.shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "Q1"):
        require_card(check(world, message), world.shop.certificate, merchant_id="M-1")


def test_q1_a_card_whose_certificate_names_nothing(world: World, purchase: Purchase) -> None:
    nameless = world.pki.leaf(Role.CARDHOLDER, subject=x509.Name([]), issuer=world.pki.cardholder_ca)
    _, message = ask(world, purchase, world.buyer)
    with refused(ErrorCode.INVALID_CERTIFICATE, "Q1"):
        require_card(check(world, message), nameless.certificate, merchant_id="M-1")


def test_k5_a_gateway_does_not_ask_and_nobody_without_a_role(world: World, purchase: Purchase) -> None:
    _, message = ask(world, purchase, world.gateway_signing)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        check(world, message)
    two = CertificateType(frozenset({"card", "mer"})).to_extension()
    odd = world.pki.merchant(replace={"certificate_type": (two, False)})
    _, message = ask(world, purchase, odd)
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        check(world, message)


def test_k2_header_of_another_purchase(world: World, purchase: Purchase) -> None:
    data, _ = ask(world, purchase, world.shop)
    message = wrap(CT_INQ_REQ, data, rrpid=decode_rrpid(data), xid=bytes(20))
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        check(world, message)


def decode_rrpid(data: bytes) -> bytes:
    return SentInquiry.load(data).rrpid


def test_k6_k7_an_inquiry_is_signed_just_now(world: World, purchase: Purchase) -> None:
    data, message = ask(world, purchase, world.shop)
    broken = bytearray(data)
    broken[-1] ^= 1
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        check(world, wrap(CT_INQ_REQ, bytes(broken), rrpid=decode_rrpid(data), xid=purchase.sent.xid))
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        check(world, message, now=world.now + 121 * SECOND)


@pytest.mark.parametrize("changes", [{"version": 1}, {"merchant_id": ""}])
def test_k1_form_of_the_inquiry(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    _, message = ask(world, purchase, world.shop, **changes)
    with pytest.raises(ProtocolError) as caught:
        check(world, message)
    assert caught.value.check == "K1"


# --- what the gateway says --------------------------------------------------------------------------------------------


class Asked:
    """An inquiry of the merchant, and the gateway's answers to it."""

    def __init__(self, world: World, purchase: Purchase) -> None:
        self.world, self.purchase = world, purchase
        self.signed, message = ask(world, purchase, world.shop)
        self.inquiry = check(world, message)
        self.sent = SentInquiry.load(self.signed)

    def draft(self, status: PurchaseStatus, result: bytes | None = None) -> Draft[Any]:
        return build_inquiry_answer(self.inquiry, status=status, result=result, now=self.world.now)

    def message(self, draft: Draft[Any], *, signer: Credential | None = None, **changes: Any) -> bytes:
        body = changed(draft.body, changes)
        data = signed(signer or self.world.gateway_signing, CT_INQ_RES, body)
        return wrap(CT_INQ_RES, data, rrpid=body.rrpid, xid=body.xid)

    def told(self, message: bytes, **changes: Any) -> GatewayStatus:
        arguments: dict[str, Any] = {
            "sent": self.sent,
            "gateway_id": "GW-1",
            "acquirer_bin": self.purchase.sent.acquirer_bin,
            "trust": self.world.trust,
            "now": self.world.now,
        }
        return check_gateway_status(unwrap(message, expected=[CT_INQ_RES]), **(arguments | changes))


@pytest.fixture(scope="module")
def asked(world: World, purchase: Purchase) -> Asked:
    return Asked(world, purchase)


def approval(asked: Asked) -> bytes:
    return asked.purchase.auth_res.message(asked.purchase.auth_res_signed)


def no_reply(asked: Asked) -> bytes:
    return answered(asked.world, asked.purchase, auth_code=AuthCode.NO_REPLY)


def decline(asked: Asked) -> bytes:
    return answered(asked.world, asked.purchase, auth_code=AuthCode.DECLINED, rc="51", approval=None)


def refusal(asked: Asked) -> bytes:
    draft = build_error(
        ProtocolError(ErrorCode.DECODING_FAILURE, "G8", "x"),
        refused=asked.purchase.auth_req_message,
        now=asked.world.now,
    )
    return draft.message(asked.world.gateway_signing.sign(draft.content_type, draft.content))


COHERENT = [
    (S.IN_PROGRESS, None), (S.CONCLUDED, approval), (S.CONCLUDED, decline), (S.CONCLUDED, refusal),
    (S.REVERSING, None), (S.REVERSING, approval), (S.REVERSING, no_reply), (S.REVERSED, None), (S.REVERSED, approval),
    (S.REVERSED, no_reply), (S.UNSETTLED, None), (S.UNSETTLED, no_reply),
]  # fmt: skip
INCOHERENT = [
    (S.IN_PROGRESS, approval), (S.CONCLUDED, None), (S.CONCLUDED, no_reply), (S.REVERSING, decline),
    (S.REVERSED, decline), (S.REVERSED, refusal), (S.UNSETTLED, refusal),
]  # fmt: skip


@pytest.mark.parametrize(("status", "result"), COHERENT)
def test_what_the_gateway_says(asked: Asked, status: PurchaseStatus, result: Any) -> None:
    given = result(asked) if result is not None else None
    draft = asked.draft(status, given)
    told = asked.told(asked.message(draft))
    assert told.status is status
    assert (told.auth_res is not None) == (result in (approval, decline, no_reply))
    assert (told.result is not None) == (given is not None)
    assert told.date == asked.world.now
    VALIDATORS[CT_INQ_RES](draft.content, asked.world.gateway_signing.certificate)


@pytest.mark.parametrize(("status", "result"), INCOHERENT)
def test_u3_a_status_that_the_answer_contradicts(asked: Asked, status: PurchaseStatus, result: Any) -> None:
    draft = asked.draft(status, result(asked) if result is not None else None)
    with refused(ErrorCode.INVOICE_MISMATCH, "U3"):
        asked.told(asked.message(draft))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_INQ_RES](draft.content, asked.world.gateway_signing.certificate)


def test_every_status_goes_with_something(purchase: Purchase) -> None:
    approved = purchase.auth_res.body
    assert {s for s in S if tells_one_story(s, has_result=False, auth_res=None)} == set(S) - {S.CONCLUDED}
    assert {s for s in S if tells_one_story(s, has_result=True, auth_res=approved)} == set(S) - {S.IN_PROGRESS}


@pytest.mark.parametrize(
    "changes", [{"rrpid": bytes(20)}, {"xid": bytes(20)}, {"merchant_id": "M-2"}, {"chall": bytes(32)},
                {"h_inq_req": bytes(32)}],
)  # fmt: skip
def test_u1_answer_to_another_inquiry(asked: Asked, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "U1"):
        asked.told(asked.message(asked.draft(S.IN_PROGRESS), **changes))


def test_k2_header_that_the_answer_contradicts(asked: Asked) -> None:
    data = signed(asked.world.gateway_signing, CT_INQ_RES, asked.draft(S.IN_PROGRESS).body)
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        asked.told(wrap(CT_INQ_RES, data, rrpid=bytes(20), xid=asked.sent.xid))


def test_u2_answer_of_another_gateway(asked: Asked) -> None:
    message = asked.message(asked.draft(S.REVERSED), signer=asked.world.other_gateway_signing)
    with refused(ErrorCode.GATEWAY_MISMATCH, "U2"):
        asked.told(message)
    foreign = asked.world.pki.gateway_signing("GW-1", acquirer_bin="622106")
    with refused(ErrorCode.GATEWAY_MISMATCH, "U2"):
        asked.told(asked.message(asked.draft(S.REVERSED), signer=foreign))


def test_k5_answer_of_somebody_who_is_no_gateway(asked: Asked) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        asked.told(asked.message(asked.draft(S.REVERSED), signer=asked.world.shop))


def test_u3_answer_inside_by_another_gateway(asked: Asked) -> None:
    inner = answered(asked.world, asked.purchase, signer=asked.world.other_gateway_signing)
    with refused(ErrorCode.GATEWAY_MISMATCH, "U2"):
        asked.told(asked.message(asked.draft(S.CONCLUDED, inner)))
    inner = answered(asked.world, asked.purchase, signer=asked.world.shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "U3"):
        asked.told(asked.message(asked.draft(S.CONCLUDED, inner)))


@pytest.mark.parametrize("changes", [{"xid": bytes(20)}, {"merchant_id": "M-2"}])
def test_u3_answer_inside_about_another_purchase(asked: Asked, changes: dict[str, Any]) -> None:
    inner = answered(asked.world, asked.purchase, **changes)
    with refused(ErrorCode.INVOICE_MISMATCH, "U3"):
        asked.told(asked.message(asked.draft(S.CONCLUDED, inner)))


def test_u3_answer_inside_from_the_future(asked: Asked) -> None:
    inner = answered(asked.world, asked.purchase, signing_time=asked.world.now + 121 * SECOND)
    with refused(ErrorCode.MESSAGE_TOO_NEW, "U3"):
        asked.told(asked.message(asked.draft(S.CONCLUDED, inner)))


def test_u3_a_gateway_rests_on_nobody(asked: Asked) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "U3"):
        asked.told(asked.message(asked.draft(S.IN_PROGRESS), gateway_status=b"x"))


def test_k7_answer_older_than_the_question(asked: Asked) -> None:
    data = signed(
        asked.world.gateway_signing,
        CT_INQ_RES,
        asked.draft(S.REVERSED).body,
        signing_time=asked.world.now - 121 * SECOND,
    )
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        asked.told(wrap(CT_INQ_RES, data, rrpid=asked.sent.rrpid, xid=asked.sent.xid))


@pytest.mark.parametrize("changes", [{"result": b""}, {"gateway_status": b""}, {"merchant_id": ""}, {"version": 3}])
def test_k1_form_of_the_answer(asked: Asked, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        asked.told(asked.message(asked.draft(S.IN_PROGRESS), **changes))
    assert caught.value.check == "K1"


# --- what the merchant says -------------------------------------------------------------------------------------------


class AskedByCard(Asked):
    """An inquiry of the card, and the merchant's answers, which may carry the gateway's word."""

    def __init__(self, world: World, purchase: Purchase) -> None:
        super().__init__(world, purchase)
        self.gateway = Asked(world, purchase)
        self.signed, message = ask(world, purchase, world.buyer)
        self.inquiry = check(world, message)
        self.sent = SentInquiry.load(self.signed)

    def word(self, status: PurchaseStatus, result: bytes | None = None, **changes: Any) -> bytes:
        message = self.gateway.message(self.gateway.draft(status, result), **changes)
        return unwrap(message, expected=[CT_INQ_RES]).body

    def passed_on(self, status: PurchaseStatus, *, word: bytes | None = None, result: bytes | None = None) -> bytes:
        draft = build_inquiry_answer(
            self.inquiry, status=status, result=result, gateway_status=word, now=self.world.now
        )
        return self.message(draft, signer=self.world.shop)

    def heard(self, message: bytes, **changes: Any) -> MerchantStatus:
        record = self.purchase.record
        arguments: dict[str, Any] = {
            "sent": self.sent,
            "gateway_id": record.gw_id,
            "acquirer_bin": record.acquirer_bin,
            "ordered_at": record.ordered_at,
            "trust": self.world.trust,
            "now": self.world.now,
        }
        return check_merchant_status(unwrap(message, expected=[CT_INQ_RES]), **(arguments | changes))


@pytest.fixture(scope="module")
def by_card(world: World, purchase: Purchase) -> AskedByCard:
    return AskedByCard(world, purchase)


@pytest.mark.parametrize("status", [S.REVERSING, S.REVERSED, S.UNSETTLED])
def test_the_merchant_passes_on_what_the_gateway_says(by_card: AskedByCard, status: PurchaseStatus) -> None:
    heard = by_card.heard(by_card.passed_on(status, word=by_card.word(status)))
    assert heard.gateway is not None
    assert (heard.status, heard.gateway.status) == (status, status)


def test_the_merchant_shows_its_own_answer(by_card: AskedByCard) -> None:
    given = by_card.purchase.receipt.message(by_card.purchase.receipt_signed)
    heard = by_card.heard(by_card.passed_on(S.CONCLUDED, result=given))
    assert (heard.status, heard.result, heard.gateway) == (S.CONCLUDED, given, None)
    assert by_card.heard(by_card.passed_on(S.IN_PROGRESS)).status is S.IN_PROGRESS


@pytest.mark.parametrize(
    ("status", "told"), [(S.REVERSED, None), (S.REVERSED, S.REVERSING), (S.UNSETTLED, S.IN_PROGRESS)]
)
def test_u3_the_merchant_cannot_say_of_money_what_the_gateway_does_not(
    by_card: AskedByCard, status: PurchaseStatus, told: PurchaseStatus | None
) -> None:
    word = by_card.word(told) if told is not None else None
    with refused(ErrorCode.INVOICE_MISMATCH, "U3"):
        by_card.heard(by_card.passed_on(status, word=word))


@pytest.mark.parametrize(("status", "shown"), [(S.CONCLUDED, False), (S.IN_PROGRESS, True)])
def test_u3_the_merchant_shows_its_answer_when_there_is_one(
    by_card: AskedByCard, status: PurchaseStatus, shown: bool
) -> None:
    given = by_card.purchase.receipt.message(by_card.purchase.receipt_signed) if shown else None
    with refused(ErrorCode.INVOICE_MISMATCH, "U3"):
        by_card.heard(by_card.passed_on(status, result=given))


def test_u1_the_gateways_word_is_about_another_purchase(by_card: AskedByCard) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "U1"):
        by_card.heard(by_card.passed_on(S.REVERSED, word=by_card.word(S.REVERSED, xid=bytes(20))))


def test_u2_the_gateways_word_is_another_gateways(by_card: AskedByCard) -> None:
    word = by_card.word(S.REVERSED, signer=by_card.world.other_gateway_signing)
    with refused(ErrorCode.GATEWAY_MISMATCH, "U2"):
        by_card.heard(by_card.passed_on(S.REVERSED, word=word))


def test_k7_the_gateways_word_is_older_than_the_order(by_card: AskedByCard) -> None:
    message = by_card.passed_on(S.REVERSED, word=by_card.word(S.REVERSED))
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        by_card.heard(message, ordered_at=by_card.world.now + 121 * SECOND)


def test_u2_another_merchant_answers(by_card: AskedByCard) -> None:
    draft = build_inquiry_answer(by_card.inquiry, status=S.IN_PROGRESS, now=by_card.world.now)
    with refused(ErrorCode.INVOICE_MISMATCH, "U2"):
        by_card.heard(by_card.message(draft, signer=by_card.world.other_shop))


# --- typed signing ----------------------------------------------------------------------------------------------------


def test_s1_a_merchants_key_asks_and_answers_for_its_own_merchant(by_card: AskedByCard) -> None:
    shop, other = by_card.world.shop.certificate, by_card.world.other_shop.certificate
    inquiry = der.encode(by_card.inquiry.body)
    VALIDATORS[CT_INQ_REQ](inquiry, shop)
    VALIDATORS[CT_INQ_REQ](inquiry, by_card.world.buyer.certificate)
    answer = decode_answer(by_card.passed_on(S.REVERSED, word=by_card.word(S.REVERSED)))
    VALIDATORS[CT_INQ_RES](der.encode(answer), shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_INQ_REQ](inquiry, other)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_INQ_RES](der.encode(answer), other)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_INQ_RES](der.encode(replace(answer, gateway_status=None)), shop)


def decode_answer(message: bytes) -> Any:
    return read_signed(InqResTBS, CT_INQ_RES, unwrap(message, expected=[CT_INQ_RES]).body).body
