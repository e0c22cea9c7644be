"""`docs/protocol` tells an implementer what the code speaks: a foreign compiler reads messages by its ASN.1 module."""

from __future__ import annotations

from functools import cache
from typing import Any

import asn1tools
import pytest

from kwbp.codes import AuthCode, BatchOperation, CertificateStatus, ErrorCode, PurchaseStatus, RevocationReason
from kwbp.common import read_signed
from kwbp.contract import DualLink
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.holder import CertInqReqTBS, RenewReqTBS, RevReqTBS, build_status_answer
from kwbp.inquiry import build_inquiry, build_inquiry_answer, check_inquiry
from kwbp.password import OTPResTBS
from kwbp.receipt_ack import SentReceipt, build_receipt_ack
from kwbp.structure import encode
from kwbp.wrapper import unwrap
from pki import der
from pki.oids import CT_CERT_RES, CT_INQ_REQ, CT_OTP_RES, MT_INVOICE, MT_PREQ
from scripts import protocol
from tests.kwbp.registering import Registering
from tests.kwbp.settling import Settling
from tests.kwbp.test_gateway_certificates import Asked as AskedForCertificates
from tests.kwbp.test_holder import Holding
from tests.kwbp.test_password import Asking
from tests.kwbp.world import Purchase, World


@cache
def module() -> Any:
    return asn1tools.compile_files(str(protocol.FOLDER / "KWBP-2.asn1"), "der")


@pytest.mark.parametrize("name", ["KWBP-2.asn1", "oids.txt", "tables.md"])
def test_the_files_are_those_of_the_code(name: str) -> None:
    assert (protocol.FOLDER / name).read_text("utf-8") == protocol.files()[name], "run scripts/protocol"


def spoken(world: World, purchase: Purchase) -> dict[str, bytes]:
    """Type of the module and a DER that this code wrote."""
    refusal = build_error(
        ProtocolError(ErrorCode.CLOCK_SKEW, "K7", "x", time_hint=world.now), refused=b"", now=world.now
    )
    inquiry = build_inquiry(
        rrpid=world.rng(20), xid=purchase.sent.xid, merchant_id="M-1", chall=world.rng(32), now=world.now
    )
    asked = check_inquiry(
        unwrap(inquiry.message(world.shop.sign(inquiry.content_type, inquiry.content)), expected=[CT_INQ_REQ]),
        trust=world.trust,
        now=world.now,
    )
    told = build_inquiry_answer(asked, status=PurchaseStatus.REVERSED, result=b"r", gateway_status=b"g", now=world.now)
    declined = world.answer(purchase.verified, auth_code=AuthCode.NO_REPLY, rc=None, stan=None, rrn=None, approval=None,
                            masked_pan=None, settle_date=None)  # fmt: skip
    return {
        "KwbpMessage": purchase.preq_message,
        "InvoiceReqTBS": purchase.request.content,
        "InvoiceMessage": unwrap(purchase.invoice_message, expected=[MT_INVOICE]).body,
        "InvoiceTBS": purchase.invoice.invoice.content,
        "OrderDetails": purchase.invoice.order_details,
        "PReq": unwrap(purchase.preq_message, expected=[MT_PREQ]).body,
        "OIData": purchase.order.oi_data,
        "PISealed": purchase.plaintext,
        "DualSigTBS": purchase.order.dual_signature.content,
        "AuthReqTBS": purchase.auth_req.content,
        "AuthResTBS": purchase.auth_res.content,
        "AuthResTBS ": declined.content,
        "AuthAckTBS": purchase.auth_ack.content,
        "ReceiptTBS": purchase.receipt.content,
        "ErrorTBS": refusal.content,
        "InqReqTBS": inquiry.content,
        "InqResTBS": told.content,
        **catalogue(world, purchase),
        **settled(world),
        **registration(),
    }


def catalogue(world: World, purchase: Purchase) -> dict[str, bytes]:
    """The rows beside the purchase itself: 6, 8, 11, 17, and the link of the order with two signatures."""
    holding, certificates = Holding(), AskedForCertificates(world)
    password = Asking(world, purchase)
    _, renewal = holding.asked(RenewReqTBS)
    _, wish = holding.asked(RevReqTBS)
    revoked = build_status_answer(
        wish, status=CertificateStatus.REVOKED, since=world.now, reason=RevocationReason.SUPERSEDED, now=world.now
    )
    sealed = unwrap(password.answer(password.sealed()), expected=[CT_OTP_RES]).body
    return {
        "PCertReqTBS": encode(certificates.request.body),
        "PCertResTBS": encode(certificates.body()),
        "OTPReqTBS": password.draft.content,
        "OTPResTBS": read_signed(OTPResTBS, CT_OTP_RES, sealed).signed.content,
        "ReceiptAckTBS": build_receipt_ack(SentReceipt.load(purchase.receipt_signed, "M-1"), now=world.now).content,
        "DualLink": encode(DualLink.of(purchase.order.dual_signature.body)),
        "CertInqReqTBS": holding.draft(CertInqReqTBS).content,
        "RevReqTBS": encode(wish.body),
        "RenewReqTBS": encode(renewal.body),
        "CertInqResTBS": revoked.content,
        "CertInqResTBS ": holding.good(wish).content,
        "RenewResTBS": holding.issued(renewal).content,
    }


def settled(world: World) -> dict[str, bytes]:
    """Rows 19 to 23: each structure, and the answers to all requests."""
    settling = Settling(world)
    silent = {"auth_code": AuthCode.NO_REPLY, "rc": None, "stan": None, "rrn": None, "approval": None}
    asked = settling.check(settling.message(settling.capture()), settling.standing(settling.held))
    return {
        "SettlingResTBS": settling.answer(asked, **silent).content,
        "BatchAdminReqTBS": settling.batch_request(BatchOperation.STATUS).content,
        "Entry": encode(settling.entries[0]),
        **{
            f"{type(draft.body).__name__} {number}": draft.content for number, draft in enumerate(settling.everything())
        },
    }


@cache
def registration() -> dict[str, bytes]:
    parties = Registering()
    cert_message = parties.cert_message()
    request = parties.check_cert(cert_message)
    form = parties.form_request()
    return {
        "InitResTBS": parties.init_response(parties.ask_init()).content,
        "RegFormResTBS": parties.form_response(form).content,
        "CardConfirmReqTBS": parties.card_request(request).content,
        "CertResTBS": parties.respond(parties.sent(cert_message, CT_CERT_RES, parties.card_keys())).content,
    }


def test_a_foreign_compiler_reads_and_writes_every_message(world: World, purchase: Purchase) -> None:
    for name, written in spoken(world, purchase).items():
        structure = name.split()[0]
        read = module().decode(structure, written, check_constraints=True)
        assert module().encode(structure, read, check_constraints=True) == written, name


def test_the_module_has_the_names_of_the_protocol(world: World, purchase: Purchase) -> None:
    answer = module().decode("AuthResTBS", purchase.auth_res.content)
    assert (answer["merchantID"], answer["authCode"]) == ("M-1", AuthCode.APPROVED)
    assert answer["hDualSig"] == der.sha256(purchase.dual_signed)
    assert module().decode("DualSigTBS", purchase.order.dual_signature.content)["hOIData"] == der.sha256(
        purchase.order.oi_data
    )


def test_a_foreign_compiler_refuses_what_the_module_does_not_allow(world: World, purchase: Purchase) -> None:
    read = module().decode("AuthAckTBS", purchase.auth_ack.content)
    with pytest.raises(asn1tools.ConstraintsError):
        module().encode("AuthAckTBS", {**read, "xid": bytes(21)}, check_constraints=True)
