"""One-time passwords from the wallet through the shop to the card's bank, and the purchase that is paid with one."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from kwbp.codes import AuthCode, ErrorCode
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.password import wallet as answers
from pki.oids import CT_ERROR
from shetab.types import Pin
from storefront.errors import RefusedByShop, ShopUnreachable
from storefront.wallet.purchase import PurchaseState
from switch.inbox import ShortMessage
from tests.support.payment_parties import now
from tests.support.payment_site import OPENING, Site
from tests.support.pki_factory import Credential
from tests.support.shop_front import BASKET, TOTAL, Customer, Fault, Front, answer_lost, replies, unreachable


def messages(customer: Customer) -> list[ShortMessage]:
    bank = customer.bank
    told: list[ShortMessage] = bank.site.switch.admin.messages(bank.issued.card_id)
    return told


def password(customer: Customer) -> Pin:
    return Pin.parse(messages(customer)[-1].password)


def test_a_card_that_takes_passwords_only_pays_with_one(front: Front, customer: Customer, purchases: Path) -> None:
    """And the password is in no file of shop and wallet: the canary of threat 32's other half."""
    customer.bank.site.switch.admin.set_static_pin2(customer.bank.issued.card_id, False)
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        refused = buyer.order(invoice, **customer.typed)  # PIN2 alone
        assert refused.receipt is not None
        assert (refused.state, refused.receipt.auth_res.auth_code) == (PurchaseState.DECLINED, AuthCode.DECLINED)
        invoice = buyer.request_invoice(BASKET)
        told = buyer.request_password(invoice)
        (message,) = messages(customer)
        assert (message.merchant, message.amount) == (front.merchant_id, TOTAL)
        assert told.sent_to == f"{message.number[:4]}*****{message.number[-2:]}"
        paid = buyer.order(invoice, pin2=password(customer), cvv2=customer.bank.card.cvv2)
        assert paid.state is PurchaseState.PAID
    assert customer.balance == OPENING - TOTAL
    canary = message.password.encode()
    for folder in (front.folder, purchases):
        for path in folder.rglob("*"):
            assert not path.is_file() or canary not in path.read_bytes(), path


def test_an_answer_that_is_lost_is_asked_for_again_and_the_holder_is_told_once(
    front: Front, customer: Customer, purchases: Path
) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        front.line.faults.append(answer_lost)
        with pytest.raises(RefusedByShop) as lost:
            buyer.request_password(invoice)
        assert (lost.value.error.code, lost.value.error.check) == (ErrorCode.UNSPECIFIED_FAILURE, "P1")
        buyer.request_password(invoice)
    (path, first), (_, second) = front.line.sent
    assert (path, first) == ("/v1/password", second)
    assert len(messages(customer)) == 1


def test_the_same_bytes_are_sent_until_they_are_answered(front: Front, customer: Customer, purchases: Path) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
    with customer.shopping(front, purchases) as buyer:
        with pytest.raises(ShopUnreachable):
            buyer.request_password(invoice)
        with front.serving():
            buyer.request_password(invoice)
            buyer.request_password(invoice)
    first, second = (sent for path, sent in front.line.sent if path == "/v1/password")
    assert first != second  # an answered one is not repeated: the holder wants another password
    assert len(messages(customer)) == 2


def test_the_shop_sees_no_card(front: Front, customer: Customer, purchases: Path) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        buyer.request_password(buyer.request_invoice(BASKET))
    card = customer.bank.card
    ((_, passed_on),) = front.line.sent
    assert card.pan.reveal().encode() not in passed_on
    assert customer.bank.credential.der not in passed_on  # the signature is sealed too


def test_p9_the_shop_counts(front: Front, customer: Customer, purchases: Path) -> None:
    front.rules["passwords_of_a_purchase"] = 1
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        buyer.request_password(invoice)
        with pytest.raises(RefusedByShop) as refused:
            buyer.request_password(invoice)
        assert (refused.value.error.code, refused.value.error.check) == (ErrorCode.RATE_LIMITED, "P9")
        buyer.request_password(buyer.request_invoice(BASKET))


def test_p1_the_shop_passes_on_what_is_about_its_open_invoices(
    front: Front, customer: Customer, purchases: Path, site: Site
) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        buyer.order(invoice, **customer.typed)
        with pytest.raises(RefusedByShop) as refused:
            buyer.request_password(invoice)
        assert (refused.value.error.code, refused.value.error.check) == (ErrorCode.XID_ALREADY_USED, "P1")
        sent = buyer._passwords._sealed(invoice)
        stranger = sent.message.replace(invoice.invoice.xid, os.urandom(20))
        assert front.refused("/kwbp/password", stranger).body.error_code is ErrorCode.UNKNOWN_XID
    assert "/v1/password" not in [path for path, _ in front.line.sent]


def erring(signer: Credential | None, code: ErrorCode = ErrorCode.RATE_LIMITED) -> Fault:
    """The gateway's line answers with an Error that `signer` signs."""

    def body(sent: bytes) -> bytes:
        draft = build_error(ProtocolError(code, "P9", "too often"), refused=sent, now=now())
        content = draft.content
        return draft.message(content if signer is None else signer.sign(CT_ERROR, content, signing_time=now()))

    return replies(body)


def test_only_shop_and_gateway_refuse(front: Front, customer: Customer, purchases: Path, site: Site) -> None:
    """What comes through the shop unread may have been made up by it, or by anybody."""
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        for signer in (None, site.new_shop().credential, site.pki.gateway_signing("GW-2", acquirer_bin="603770")):
            front.line.faults.append(erring(signer))
            with pytest.raises(ShopUnreachable):
                buyer.request_password(invoice)
        front.line.faults.append(erring(site.pki.gateway_signing("GW-1", acquirer_bin="603770")))
        with pytest.raises(RefusedByShop) as refused:
            buyer.request_password(invoice)
        assert refused.value.error.code is ErrorCode.RATE_LIMITED


def test_after_the_gateways_own_refusal_the_next_request_is_another_one(
    front: Front, customer: Customer, purchases: Path, site: Site
) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        front.line.faults.append(erring(site.pki.gateway_signing("GW-1", acquirer_bin="603770")))
        with pytest.raises(RefusedByShop):
            buyer.request_password(invoice)
        buyer.request_password(invoice)
    (_, first), (_, second) = front.line.sent
    assert first != second


def test_p7_a_password_that_ran_out_on_the_way_is_not_asked_for_again(
    front: Front, customer: Customer, purchases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the same bytes would say the same for ever."""
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        with monkeypatch.context() as shorter:
            shorter.setattr(answers, "LONGEST_VALIDITY", timedelta())
            with pytest.raises(ProtocolError) as late:
                buyer.request_password(invoice)
            assert late.value.check == "P7"
        buyer.request_password(invoice)
    (_, first), (_, second) = front.line.sent
    assert first != second


def test_an_answer_of_another_gateway_is_not_believed(
    front: Front, customer: Customer, purchases: Path, site: Site
) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        front.line.faults.append(replies(lambda sent: sent))
        with pytest.raises(ProtocolError) as refused:
            buyer.request_password(invoice)
        assert refused.value.check == "K2"
        front.line.faults.append(unreachable)
        with pytest.raises(RefusedByShop):
            buyer.request_password(invoice)
    assert messages(customer) == []
