"""Readers of the payment protocol: every structure, every message as its receiver judges it, every way to read one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, Final

import kwbp
from kwbp import structure
from kwbp.codes import PurchaseStatus
from kwbp.common import read_envelope, read_signed
from kwbp.contract import DualLink, check_contract, read_contract, take_contract
from kwbp.errors import ProtocolError
from kwbp.gateway import SentAuthRes, check_sealed_order, read_auth_req
from kwbp.gateway_certificates import SentCertificateRequest
from kwbp.holder import CertInqReqTBS, SentHolderRequest
from kwbp.inquiry import SentInquiry, check_merchant_status
from kwbp.merchant import IssuedInvoice, SentAuthReq
from kwbp.messages import InvoiceTBS, PIData, PISealed
from kwbp.password import check_passed_on
from kwbp.receipt_ack import SentReceipt
from kwbp.registration.card import read_cert_request
from kwbp.registration.certificates import read_certificate
from kwbp.registration.sealing import read_key
from kwbp.settling import SentBatchRequest, SentSettlingRequest, Standing
from kwbp.structure import Structure
from kwbp.validators import VALIDATORS
from kwbp.wallet.receipt import check_gateway_answer
from kwbp.wrapper import KwbpMessage, unwrap, wrap
from pki.errors import PkiError
from pki.keys import spki_der
from pki.oids import CT_CAP_REQ, CT_INQ_RES, CT_INVOICE, CT_OTP_REQ, MT_CONTRACT
from tests.fuzz.decoder import Decoder
from tests.kwbp import test_contract as contracts
from tests.kwbp import test_inquiry as inquiries
from tests.kwbp.catalogue import Catalogue

RECEIVERS: Final[dict[str, tuple[str, ...]]] = {
    "card_init_req": ("kwbp.registration.init:receive_init_request",),
    "card_init_res": ("kwbp.registration.init:check_init_response",),
    "reg_form_req": ("kwbp.registration.form:receive_form_request",),
    "issuer_form": ("kwbp.registration.form:check_issuer_form",),
    "reg_form_res": ("kwbp.registration.form:check_form_response",),
    "cert_req": ("kwbp.registration.card:receive_cert_request",),
    "card_confirm_req": ("kwbp.registration.issuer:receive_card_request",),
    "cert_res": ("kwbp.registration.answer:open_cert_response", "kwbp.registration.answer:check_response"),
    "mer_cert_req": ("kwbp.registration.members:receive_merchant_request",),
    "gw_cert_req": ("kwbp.registration.members:receive_gateway_request",),
    "cert_inq_req": ("kwbp.holder.request:check_holder_request",),
    "cert_inq_res": ("kwbp.holder.answer:check_status_answer",),
    "renew_res": ("kwbp.holder.answer:check_renewal_answer",),
    "p_cert_req": ("kwbp.gateway_certificates:check_certificate_request",),
    "p_cert_res": ("kwbp.gateway_certificates:check_certificate_answer",),
    "invoice_req": ("kwbp.merchant.offer:check_invoice_request",),
    "invoice": ("kwbp.wallet.invoice:check_invoice",),
    "otp_req": ("kwbp.password.gateway:receive_password_request", "kwbp.password.gateway:check_password_request"),
    "otp_res": ("kwbp.password.wallet:check_password_answer",),
    "p_req": ("kwbp.merchant.order:receive_purchase",),
    "auth_req": ("kwbp.gateway.request:receive_auth_req",),
    "auth_res": ("kwbp.merchant.authorisation:check_auth_res",),
    "auth_ack": ("kwbp.gateway.answer:check_auth_ack",),
    "receipt": ("kwbp.wallet.receipt:check_receipt",),
    "receipt_ack": ("kwbp.receipt_ack:check_receipt_ack",),
    "inq_req": ("kwbp.inquiry.request:check_inquiry",),
    "inq_res": ("kwbp.inquiry.answer:check_gateway_status", "kwbp.inquiry.answer:read_gateway_status"),
    "cap_req": ("kwbp.settling.request:receive_request",),
    "cap_res": ("kwbp.settling.answer:check_settling_answer",),
    "batch_admin_req": ("kwbp.settling.batch:receive_batch_request",),
    "batch_admin_res": ("kwbp.settling.batch:check_batch_answer",),
    "settle_advice": ("kwbp.settling.advice:check_settle_advice",),
    "error": ("kwbp.error_message:read_error",),
}
"""What the check of a message runs; every other message of the catalogue is checked by one of these, too."""

WITHOUT_THE_CORE: Final = ("bci", "otp_req")
"""The BCI is judged with `pki` alone; what OTPReq is sealed to is opened by a token, here by a key in memory."""


@cache
def catalogue() -> Catalogue:
    """The parties whose messages are taken apart."""
    return Catalogue()


def structures() -> Iterator[type[Structure]]:
    """Every structure of the protocol."""
    for module in walk_packages(kwbp.__path__, "kwbp."):
        import_module(module.name)
    found = {each.__name__: each for each in Structure.__subclasses__()}
    for name in sorted(found):
        yield found[name]


def decoders() -> Iterator[Decoder]:
    """All of them."""
    for cls in structures():
        yield Decoder(
            f"structure.{cls.__name__}",
            partial(structure.decode, cls),
            (ProtocolError,),
            encode=structure.encode,
            covers=("kwbp.structure:decode",),
            statement=structure.encode,
        )
    yield Decoder(
        "unwrap",
        lambda data: unwrap(data, expected=_any()),
        (ProtocolError,),
        ("kwbp.wrapper:unwrap",),
        structure.encode,
        statement=structure.encode,
    )
    yield from _stored()
    parties = catalogue()
    for name, exchange in parties.exchanges.items():
        yield Decoder(
            f"message.{name}",
            exchange.check,
            (ProtocolError, PkiError) if name in WITHOUT_THE_CORE else (ProtocolError,),
            RECEIVERS.get(name, ()),
            statement=_nothing,
            live=lambda exchange=exchange: [exchange.message],  # type: ignore[misc]
        )
        if exchange.by is not None and (kind := exchange.draft().content_type) in VALIDATORS:
            yield Decoder(
                f"typed.{name}",
                partial(VALIDATORS[kind], signer=exchange.by.certificate),
                (ProtocolError,),
                (f"{VALIDATORS[kind].__module__}:{VALIDATORS[kind].__name__}",)
                if VALIDATORS[kind].__name__.startswith("validate_")
                else (),
                live=lambda exchange=exchange: [exchange.draft().content],  # type: ignore[misc]
            )
    yield from _beside(parties)
    yield Decoder(
        "message.contract",
        lambda data: check_contract(data, trust=parties.world.trust, now=parties.world.now),
        (ProtocolError,),
        ("kwbp.contract:check_contract", "kwbp.contract:read_contract"),
        statement=_nothing,
        live=lambda: [contracts.contract(parties.world, parties.purchase)],
    )
    yield Decoder(
        "opened.sealed_order",
        lambda data: parties.world.check_opened(data, parties.purchase.verified),
        (ProtocolError,),
        ("kwbp.gateway.opened:check_opened",),
        statement=_nothing,
        live=lambda: [parties.purchase.plaintext],
    )


def _beside(parties: Catalogue) -> Iterator[Decoder]:
    """What others than the receiver of a message read of it."""
    w, p = parties.world, parties.purchase
    asked = inquiries.Asked(w, p)
    otp_req = parties.exchanges["otp_req"].message
    yield Decoder(
        "relayed.otp_req",
        lambda data: check_passed_on(
            unwrap(data, expected=[CT_OTP_REQ]), invoice=p.invoice.invoice.body, gateway=w.gateway_identity, now=w.now
        ),
        (ProtocolError,),
        ("kwbp.password.gateway:check_passed_on",),
        live=lambda: [otp_req],
    )
    yield Decoder(
        "relayed.inq_res",
        lambda data: check_merchant_status(
            unwrap(data, expected=[CT_INQ_RES]),
            sent=asked.sent,
            gateway_id="GW-1",
            acquirer_bin=p.sent.acquirer_bin,
            ordered_at=w.now,
            trust=w.trust,
            now=w.now,
        ),
        (ProtocolError,),
        ("kwbp.inquiry.answer:check_merchant_status",),
        statement=_nothing,
        live=lambda: [
            asked.message(asked.draft(PurchaseStatus.CONCLUDED, p.receipt.message(p.receipt_signed)), signer=w.shop)
        ],
    )
    yield Decoder(
        "relayed.contract",
        lambda data: take_contract(
            unwrap(data, expected=[MT_CONTRACT]),
            invoice=p.invoice.invoice.body,
            dual=p.verified.dual_signature,
            trust=w.trust,
            now=w.now,
        ),
        (ProtocolError,),
        ("kwbp.contract:take_contract",),
        statement=_nothing,
        live=lambda: [
            wrap(MT_CONTRACT, contracts.contract(w, p), rrpid=p.invoice.invoice.rrpid, xid=p.invoice.invoice.xid)
        ],
    )
    yield Decoder(
        "token.dual_signature",
        lambda data: check_sealed_order(
            data,
            p.order.pi_envelope,
            p.verified.hod,
            gateway=w.gateway_identity,
            trust=w.trust,
            now=w.now,
            check_revocation=True,
        ),
        (ProtocolError,),
        ("kwbp.gateway.request:check_sealed_order",),
        statement=_nothing,
        live=lambda: [p.dual_signed],
    )
    yield Decoder(
        "relayed.auth_res",
        lambda data: check_gateway_answer(data, purchase=p.record, trust=w.trust, now=w.now),
        (ProtocolError,),
        ("kwbp.wallet.receipt:check_gateway_answer",),
        statement=_nothing,
        live=lambda: [p.auth_res_signed],
    )
    yield Decoder(
        "stored.issued_invoice",
        lambda data: IssuedInvoice.load(data, p.request_signed, w.gateway_identity),
        (ProtocolError,),
        ("kwbp.merchant.offer:IssuedInvoice.load",),
        statement=_nothing,
        live=lambda: [p.invoice_signed],
    )


def _any() -> Any:
    class Everything:
        def __contains__(self, _kind: object) -> bool:
            return True

    return Everything()


def _nothing(_value: Any) -> None:
    """What a check returns holds times and objects of one run; that it returns at all is the statement."""


def _stored() -> Iterator[Decoder]:
    """Ways to read what a party has stored itself, and parts of messages."""
    readers: dict[str, tuple[Callable[[bytes], Any], tuple[str, ...]]] = {
        "signed_invoice": (partial(read_signed, InvoiceTBS, CT_INVOICE), ("kwbp.common:read_signed",)),
        "envelope": (read_envelope, ("kwbp.common:read_envelope",)),
        "contract": (read_contract, ("kwbp.contract:read_contract",)),
        "auth_req": (read_auth_req, ("kwbp.gateway.request:read_auth_req",)),
        "sent_auth_req": (SentAuthReq.load, ("kwbp.merchant.authorisation:SentAuthReq.load",)),
        "sent_auth_res": (SentAuthRes.load, ("kwbp.gateway.answer:SentAuthRes.load",)),
        "sent_inquiry": (SentInquiry.load, ("kwbp.inquiry.request:SentInquiry.load",)),
        "sent_receipt": (lambda data: SentReceipt.load(data, "M-1"), ("kwbp.receipt_ack:SentReceipt.load",)),
        "sent_certificate_request": (
            SentCertificateRequest.load,
            ("kwbp.gateway_certificates:SentCertificateRequest.load",),
        ),
        "sent_holder_request": (
            lambda data: SentHolderRequest.load(data, CertInqReqTBS),
            ("kwbp.holder.request:SentHolderRequest.load",),
        ),
        "sent_settling_request": (
            partial(SentSettlingRequest.load, CT_CAP_REQ),
            ("kwbp.settling.asking:SentSettlingRequest.load", "kwbp.settling.request:read_request"),
        ),
        "sent_batch_request": (SentBatchRequest.load, ("kwbp.settling.batch:SentBatchRequest.load",)),
        "standing": (
            lambda data: Standing.of(data, sale=True, acknowledged=False),
            ("kwbp.settling.book:Standing.of",),
        ),
        "cert_request": (read_cert_request, ("kwbp.registration.card:read_cert_request",)),
        "certificate": (read_certificate, ("kwbp.registration.certificates:read_certificate",)),
        "key": (lambda data: read_key(data, check="D3"), ("kwbp.registration.sealing:read_key",)),
    }
    for name, (read, covers) in readers.items():
        yield Decoder(f"stored.{name}", read, (ProtocolError,), covers, statement=_nothing)


def honest() -> dict[str, list[bytes]]:
    """Honest inputs to be kept, by the name of the reader."""
    c = catalogue()
    w, p, r = c.world, c.purchase, c.registering
    inner = {name: _body(exchange.message) for name, exchange in c.exchanges.items()}
    sale = c.settling.entries[0]
    return {
        "structure.DualLink": [structure.encode(DualLink.of(p.order.dual_signature.body))],
        "structure.Entry": [structure.encode(sale)],
        "structure.PIData": [_pi_data(p.plaintext)],
        "unwrap": [c.exchanges["auth_ack"].message, c.exchanges["reg_form_req"].message],
        "stored.signed_invoice": [p.invoice_signed],
        "stored.envelope": [p.order.pi_envelope],
        "stored.contract": [contracts.contract(w, p)],
        "stored.auth_req": [p.auth_req_signed],
        "stored.sent_auth_req": [p.auth_req_signed],
        "stored.sent_auth_res": [p.auth_res_signed],
        "stored.sent_inquiry": [inner["inq_req"]],
        "stored.sent_receipt": [p.receipt_signed],
        "stored.sent_certificate_request": [inner["p_cert_req"]],
        "stored.sent_holder_request": [inner["cert_inq_req"]],
        "stored.sent_settling_request": [inner["cap_req"]],
        "stored.sent_batch_request": [inner["batch_admin_req"]],
        "stored.standing": [p.auth_res_signed],
        "stored.cert_request": [inner["cert_req"]],
        "stored.certificate": [w.shop.der],
        "stored.key": [_spki(r.bank_key)],
    }


def _pi_data(plaintext: bytes) -> bytes:
    sealed = structure.decode(PISealed, plaintext)
    return structure.encode(PIData(pi_head=sealed.pi_head, pan_data=sealed.pan_data))


def _spki(key: Any) -> bytes:
    return spki_der(key.public_key())


def _body(message: bytes) -> bytes:
    try:
        return structure.decode(KwbpMessage, message).body
    except ProtocolError:
        return message
