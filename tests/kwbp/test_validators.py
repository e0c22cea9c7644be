"""Typed signing: a key signs what is in form and names its own holder, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509

from kwbp import fields
from kwbp.codes import (
    AuthCode,
    CertificateStatus,
    CompletionCode,
    ErrorCode,
    PurchaseStatus,
    RegistrationStatus,
    RevocationReason,
)
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.gateway_certificates import GatewayCertificate, PCertReqTBS, PCertResTBS
from kwbp.holder import CertInqReqTBS, CertInqResTBS, RenewReqTBS, RenewResTBS, RevReqTBS
from kwbp.inquiry import CheckedInquiry, build_inquiry, build_inquiry_answer, check_inquiry
from kwbp.money import Money
from kwbp.password import OTPReqTBS, OTPResTBS
from kwbp.receipt_ack import ReceiptAckTBS
from kwbp.settling import ANSWERS, REQUESTS
from kwbp.validators import VALIDATORS
from kwbp.wrapper import unwrap
from pki import der
from pki.extensions import CertificateType
from pki.oids import (
    CT_AUTH_ACK,
    CT_AUTH_REQ,
    CT_AUTH_RES,
    CT_BATCH_ADMIN_REQ,
    CT_BATCH_ADMIN_RES,
    CT_CARD_CONFIRM_REQ,
    CT_CARD_INIT_RES,
    CT_CERT_INQ_REQ,
    CT_CERT_INQ_RES,
    CT_CERT_RES,
    CT_DUAL_SIGNATURE,
    CT_ERROR,
    CT_GW_CERT_RES,
    CT_INQ_REQ,
    CT_INQ_RES,
    CT_INVOICE,
    CT_INVOICE_REQ,
    CT_MER_CERT_RES,
    CT_MER_INIT_RES,
    CT_OTP_REQ,
    CT_OTP_RES,
    CT_P_CERT_REQ,
    CT_P_CERT_RES,
    CT_RECEIPT,
    CT_RECEIPT_ACK,
    CT_REG_FORM_RES,
    CT_RENEW_REQ,
    CT_RENEW_RES,
    CT_REV_REQ,
    CT_SETTLE_ADVICE,
    NAMES,
)
from tests.kwbp.forge import changed, refused, resealed
from tests.kwbp.registering import Registering
from tests.kwbp.settling import Settling
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.pki_factory import Credential


def _body(world: World, purchase: Purchase, content_type: x509.ObjectIdentifier) -> Any:
    error = ProtocolError(ErrorCode.INVOICE_MISMATCH, "G5", "x")
    return {
        CT_INVOICE_REQ: purchase.request.body,
        CT_INVOICE: purchase.invoice.invoice.body,
        CT_DUAL_SIGNATURE: purchase.order.dual_signature.body,
        CT_AUTH_REQ: purchase.auth_req.body,
        CT_AUTH_RES: purchase.auth_res.body,
        CT_AUTH_ACK: purchase.auth_ack.body,
        CT_RECEIPT: purchase.receipt.body,
        CT_ERROR: build_error(error, refused=b"", now=world.now).body,
        CT_INQ_REQ: _inquiry_of(world).body,
        CT_INQ_RES: build_inquiry_answer(_inquiry_of(world), status=PurchaseStatus.IN_PROGRESS, now=world.now).body,
        **_catalogue(world),
        **_of_holders(world),
        **_registration(),
        **_settling(world),
    }[content_type]


@cache
def _inquiry_of(world: World) -> CheckedInquiry:
    draft = build_inquiry(rrpid=bytes(20), xid=bytes(20), merchant_id="M-1", chall=bytes(32), now=world.now)
    message = unwrap(draft.message(world.shop.sign(draft.content_type, draft.content)), expected=[CT_INQ_REQ])
    return check_inquiry(message, trust=world.trust, now=world.now)


@cache
def _catalogue(world: World) -> dict[x509.ObjectIdentifier, Any]:
    """What else cards, merchants and gateways sign."""
    now = fields.to_time(world.now)
    every: dict[str, Any] = {"version": 2, "rrpid": bytes(20), "date": now}
    about: dict[str, Any] = {"serial": 7, "cert_hash": bytes(32), "chall": bytes(32)}
    payment: dict[str, Any] = {"xid": bytes(20), "merchant_id": "M-1", "amount": Money.rial(1)}
    certificate = GatewayCertificate(certificate=b"0", status=CertificateStatus.GOOD)
    return {
        CT_P_CERT_REQ: PCertReqTBS(merchant_id="M-1", chall=bytes(32), **every),
        CT_P_CERT_RES: PCertResTBS(
            merchant_id="M-1", chall=bytes(32), h_p_cert_req=bytes(32), gw_id="GW-1",
            acquirer_id=world.merchant_identity.acquirer_bin, certificates=[certificate], chain=[], **every,
        ),
        CT_OTP_REQ: OTPReqTBS(
            gw_id="GW-1", gw_cert_hash=bytes(32), invoice_hash=bytes(32), pan="x", expiry="x", pan_secret=bytes(32),
            ex_nonce=bytes(32), **payment, **every,
        ),
        CT_OTP_RES: OTPResTBS(h_otp_req=bytes(32), sent_to="0912*****89", valid_until=now, **payment, **every),
        CT_RECEIPT_ACK: ReceiptAckTBS(xid=bytes(20), merchant_id="M-1", h_receipt=bytes(32), **every),
        CT_CERT_INQ_REQ: CertInqReqTBS(**about, **every),
        CT_REV_REQ: RevReqTBS(reason=RevocationReason.SUPERSEDED, order=b"0", **about, **every),
        CT_RENEW_REQ: RenewReqTBS(request=b"0", **about, **every),
    }  # fmt: skip


def _of_holders(world: World) -> dict[x509.ObjectIdentifier, Any]:
    """What the registration authority answers holders."""
    now = fields.to_time(world.now)
    every: dict[str, Any] = {
        "version": 2, "rrpid": bytes(20), "chall": bytes(32), "h_request": bytes(32), "date": now,
    }  # fmt: skip
    return {
        CT_CERT_INQ_RES: CertInqResTBS(
            serial=7, cert_hash=bytes(32), status=CertificateStatus.GOOD, since=None, reason=None, **every
        ),
        CT_RENEW_RES: RenewResTBS(application="ab" * 16, status=RegistrationStatus.PENDING, chain=[], **every),
    }


@cache
def _settling(world: World) -> dict[x509.ObjectIdentifier, Any]:
    """Rows 19 to 23; `test_settling_typed.py` has their hostile twins."""
    return {draft.content_type: draft.body for draft in Settling(world).everything()}


@cache
def _registration() -> dict[x509.ObjectIdentifier, Any]:
    """What the registration authority signs."""
    parties = Registering()
    sent = parties.sent(parties.cert_message(), CT_CERT_RES, parties.card_keys())
    answer = parties.respond(sent).body
    init = parties.init_response(parties.ask_init()).body
    return {
        CT_CARD_INIT_RES: init,
        CT_MER_INIT_RES: init,
        CT_REG_FORM_RES: parties.form_response(parties.form_request()).body,
        CT_CARD_CONFIRM_REQ: parties.card_request(parties.check_cert(parties.cert_message())).body,
        CT_CERT_RES: answer,
        CT_MER_CERT_RES: answer,
        CT_GW_CERT_RES: answer,
    }


def _holders(world: World) -> dict[x509.ObjectIdentifier, tuple[Credential, ...]]:
    return {
        CT_INVOICE_REQ: (world.buyer,),
        CT_INVOICE: (world.shop,),
        CT_DUAL_SIGNATURE: (world.buyer,),
        CT_AUTH_REQ: (world.shop,),
        CT_AUTH_RES: (world.gateway_signing,),
        CT_AUTH_ACK: (world.shop,),
        CT_RECEIPT: (world.shop,),
        CT_INQ_REQ: (world.shop, world.buyer),
        CT_INQ_RES: (world.gateway_signing, world.shop),
        CT_ERROR: (world.shop, world.gateway_signing, world.buyer, _ra(world)),
        CT_P_CERT_REQ: (world.shop,),
        CT_P_CERT_RES: (world.gateway_signing,),
        CT_OTP_REQ: (world.buyer,),
        CT_OTP_RES: (world.gateway_signing,),
        CT_RECEIPT_ACK: (world.buyer,),
        **dict.fromkeys((CT_CERT_INQ_REQ, CT_REV_REQ, CT_RENEW_REQ), (world.buyer, world.shop, world.gateway_signing)),
        **dict.fromkeys((*_of_holders(world), *_registration()), (_ra(world),)),
        **dict.fromkeys((*REQUESTS, CT_BATCH_ADMIN_REQ), (world.shop,)),
        **dict.fromkeys((*ANSWERS.values(), CT_BATCH_ADMIN_RES, CT_SETTLE_ADVICE), (world.gateway_signing,)),
    }


@cache
def _ra(world: World) -> Credential:
    return world.pki.service("ra")


ALL = list(VALIDATORS)


def test_every_content_type_of_the_protocol_has_a_validator() -> None:
    assert {NAMES[oid] for oid in VALIDATORS} == {
        "id-kwbp-ct-invoice", "id-kwbp-ct-dualSig", "id-kwbp-ct-authReq", "id-kwbp-ct-authRes", "id-kwbp-ct-authAck",
        "id-kwbp-ct-receipt", "id-kwbp-ct-invoiceReq", "id-kwbp-ct-inqReq", "id-kwbp-ct-inqRes", "id-kwbp-ct-error",
        "id-kwbp-ct-cardCInitRes", "id-kwbp-ct-merInitRes", "id-kwbp-ct-regFormRes", "id-kwbp-ct-cardConfirmReq",
        "id-kwbp-ct-certRes", "id-kwbp-ct-merCertRes", "id-kwbp-ct-gwCertRes",
        "id-kwbp-ct-pCertReq", "id-kwbp-ct-pCertRes", "id-kwbp-ct-otpReq", "id-kwbp-ct-otpRes",
        "id-kwbp-ct-receiptAck", "id-kwbp-ct-certInqReq", "id-kwbp-ct-revReq", "id-kwbp-ct-renewReq",
        "id-kwbp-ct-certInqRes", "id-kwbp-ct-renewRes", "id-kwbp-ct-capReq", "id-kwbp-ct-capRes",
        "id-kwbp-ct-capRevReq", "id-kwbp-ct-capRevRes", "id-kwbp-ct-authRevReq", "id-kwbp-ct-authRevRes",
        "id-kwbp-ct-credReq", "id-kwbp-ct-credRes", "id-kwbp-ct-credRevReq", "id-kwbp-ct-credRevRes",
        "id-kwbp-ct-batchAdminReq", "id-kwbp-ct-batchAdminRes", "id-kwbp-ct-settleAdvice",
    }  # fmt: skip


@pytest.mark.parametrize("content_type", ALL, ids=NAMES.get)
def test_own_content_passes(world: World, purchase: Purchase, content_type: x509.ObjectIdentifier) -> None:
    content = der.encode(_body(world, purchase, content_type))
    for holder in _holders(world)[content_type]:
        VALIDATORS[content_type](content, holder.certificate)


@pytest.mark.parametrize("content_type", ALL, ids=NAMES.get)
@pytest.mark.parametrize("hostile", [b"", b"\x30\x00", b"anything"])
def test_anything_else_is_not_signed(world: World, content_type: x509.ObjectIdentifier, hostile: bytes) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        VALIDATORS[content_type](hostile, _holders(world)[content_type][0].certificate)


@pytest.mark.parametrize("content_type", ALL, ids=NAMES.get)
def test_key_of_another_role(world: World, purchase: Purchase, content_type: x509.ObjectIdentifier) -> None:
    content = der.encode(_body(world, purchase, content_type))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[content_type](content, world.gateway_encryption.certificate)


@pytest.mark.parametrize("content_type", [CT_ERROR, CT_CERT_INQ_RES, CT_RENEW_RES, *_registration()], ids=NAMES.get)
def test_another_service_does_not_speak_for_the_registration_authority(
    world: World, purchase: Purchase, content_type: x509.ObjectIdentifier
) -> None:
    content = der.encode(_body(world, purchase, content_type))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[content_type](content, world.pki.service("ca").certificate)


def test_key_without_a_role(world: World, purchase: Purchase) -> None:
    certificate_type = CertificateType(frozenset({"card", "mer"})).to_extension()
    odd = world.pki.merchant(replace={"certificate_type": (certificate_type, False)})
    with refused(ErrorCode.INVALID_CERTIFICATE, "S1"):
        VALIDATORS[CT_INVOICE](purchase.invoice.invoice.content, odd.certificate)


@pytest.mark.parametrize(
    "content_type", [CT_INVOICE, CT_AUTH_REQ, CT_AUTH_ACK, CT_RECEIPT, CT_P_CERT_REQ], ids=NAMES.get
)
def test_key_of_another_merchant(world: World, purchase: Purchase, content_type: x509.ObjectIdentifier) -> None:
    content = der.encode(_body(world, purchase, content_type))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[content_type](content, world.other_shop.certificate)


def test_key_of_another_gateway(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_AUTH_RES](purchase.auth_res.content, world.other_gateway_signing.certificate)


@pytest.mark.parametrize(
    ("content_type", "changes"),
    [
        (CT_INVOICE, {"merchant_id": "M-2"}),
        (CT_INVOICE, {"mer_cert_hash": bytes(32)}),
        (CT_INVOICE, {"acquirer_bin": "622106"}),
        (CT_AUTH_REQ, {"merchant_id": "M-2"}),
        (CT_AUTH_REQ, {"xid": bytes(20)}),
        (CT_AUTH_REQ, {"amount": Money.rial(TOTAL + 1)}),
        (CT_AUTH_REQ, {"hod": bytes(32)}),
        (CT_AUTH_REQ, {"h_oi_data": bytes(32)}),
        (CT_AUTH_RES, {"gw_id": "GW-2"}),
        (CT_AUTH_RES, {"acquirer_id": "622106"}),
        (CT_AUTH_RES, {"rrn": None}),
        (CT_AUTH_ACK, {"merchant_id": "M-2"}),
        (CT_RECEIPT, {"xid": bytes(20)}),
        (CT_RECEIPT, {"chall_c": bytes(32)}),
        (CT_RECEIPT, {"completion_code": CompletionCode.ORDER_REJECTED}),
        (CT_RECEIPT, {"particulars_ok": False}),
    ],
    ids=lambda part: NAMES[part] if isinstance(part, x509.ObjectIdentifier) else next(iter(part)),
)
def test_statement_that_the_key_must_not_make(
    world: World, purchase: Purchase, content_type: x509.ObjectIdentifier, changes: dict[str, Any]
) -> None:
    content = der.encode(changed(_body(world, purchase, content_type), changes))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[content_type](content, _holders(world)[content_type][0].certificate)


def test_invoice_that_never_stands(world: World, purchase: Purchase) -> None:
    body = changed(purchase.invoice.invoice.body, {"not_after": world.now - timedelta(seconds=1)})
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_INVOICE](der.encode(body), world.shop.certificate)


def test_request_around_an_envelope_that_the_buyer_did_not_sign(world: World, purchase: Purchase) -> None:
    envelope = resealed(world, purchase, world.gateway_encryption, world.gateway_identity.strongest_suite)
    body = changed(purchase.auth_req.body, {"pi_envelope": envelope})
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_AUTH_REQ](der.encode(body), world.shop.certificate)


def test_request_around_the_invoice_of_an_older_certificate(world: World, purchase: Purchase) -> None:
    body = changed(
        purchase.auth_req.body,
        {"invoice": world.other_shop.sign(CT_INVOICE, purchase.invoice.invoice.content)},
    )
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_AUTH_REQ](der.encode(body), world.shop.certificate)


@pytest.mark.parametrize("field", ["invoice", "dual_sig", "pi_envelope"])
def test_request_around_something_else(world: World, purchase: Purchase, field: str) -> None:
    body = changed(purchase.auth_req.body, {field: b"\x30\x00"})
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        VALIDATORS[CT_AUTH_REQ](der.encode(body), world.shop.certificate)


def test_receipt_for_a_decline_claims_no_payment(world: World, purchase: Purchase) -> None:
    declined = changed(purchase.auth_res.body, {"auth_code": AuthCode.DECLINED})
    answer = world.gateway_signing.sign(CT_AUTH_RES, der.encode(declined))
    body = changed(purchase.receipt.body, {"auth_res": answer})
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_RECEIPT](der.encode(body), world.shop.certificate)
