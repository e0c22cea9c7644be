"""Every message of the catalogue, honest: how its sender builds it and how its receiver checks it, software keys.

    parties = Catalogue()
    exchange = parties.exchanges["auth_req"]
    exchange.check(exchange.message)

`draft` makes the content anew each time; what is signed is then put together by `finish`, which takes the SignedData.
A message that nobody signs as a whole (`by` is None) is `finish(draft, b"")`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp import gateway, merchant, wallet
from kwbp.codes import ErrorCode, PurchaseStatus, RegistrationStatus, SaleKind
from kwbp.error_message import build_error, read_error
from kwbp.errors import ProtocolError
from kwbp.gateway_certificates import build_certificate_answer, build_certificate_request
from kwbp.holder import CertInqReqTBS, RenewReqTBS, RevReqTBS
from kwbp.inquiry import build_inquiry
from kwbp.password import (
    build_password_answer,
    build_password_request,
    receive_password_request,
    seal_password_request,
)
from kwbp.receipt_ack import SentReceipt, build_receipt_ack
from kwbp.registration import members, signers
from kwbp.registration.answer import seal_cert_response
from kwbp.registration.form import build_issuer_form, check_issuer_form
from kwbp.settling import REQUESTS, SentBatchRequest, SentSettlingRequest, Standing
from kwbp.wrapper import unwrap
from pki.algorithms import SealingSuite
from pki.bci import Bci, NamedCrl
from pki.cms_enveloped import unseal
from pki.cms_signed import parse_signed_data, verify_signature
from pki.oids import (
    CT_BATCH_ADMIN_REQ,
    CT_BCI,
    CT_CERT_RES,
    CT_ERROR,
    CT_GW_CERT_RES,
    CT_MER_CERT_RES,
    CT_OTP_REQ,
    MT_MER_INIT_REQ,
)
from pki.path import validate_path
from pki.roles import Role
from tests.kwbp import test_gateway_certificates as gateway_certificates
from tests.kwbp import test_inquiry as inquiry
from tests.kwbp import test_receipt_ack as receipts
from tests.kwbp.registering import BIN, GATEWAY, MERCHANT, Registering, csr
from tests.kwbp.settling import DAY, Settling
from tests.kwbp.test_holder import Holding
from tests.kwbp.test_password import Asking
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import Credential, Key, PkiFactory, p256, rsa_key

Finish = Callable[[Any, bytes], bytes]
_MINUTE: Final = timedelta(minutes=1)
_CAPTURED: Final = 1_000_000


def _whole(draft: Any, signed: bytes) -> bytes:
    message: bytes = draft.message(signed)
    return message


def _in_clear(draft: Any, _signed: bytes) -> bytes:
    message: bytes = draft.message
    return message


def _signed_alone(_draft: Any, signed: bytes) -> bytes:
    return signed


@dataclass(frozen=True)
class Content:
    """What is signed outside the protocol's wrapper."""

    content_type: x509.ObjectIdentifier
    content: bytes


@dataclass(frozen=True)
class Exchange:
    """One message: its row in the catalogue, its sender's work, its receiver's."""

    row: int
    draft: Callable[[], Any]
    by: Credential | None
    check: Callable[[bytes], Any]
    finish: Finish = _whole

    def make(self) -> bytes:
        """A fresh honest message."""
        draft = self.draft()
        signed = b"" if self.by is None else self.by.sign(draft.content_type, draft.content)
        return self.finish(draft, signed)

    @cached_property
    def message(self) -> bytes:
        """The one that was kept."""
        return self.make()


class Catalogue:
    """All parties. `make_key` makes the keys of authorities and members; applicants' keys are P-256 and RSA as ever."""

    def __init__(self, make_key: Callable[[], Key] = p256) -> None:
        self.world = World(PkiFactory(make_key=make_key))
        self.settling = Settling(self.world)
        self.purchase: Purchase = self.settling.sale
        self.registering = Registering(PkiFactory(make_key=make_key))
        self.holding = Holding(self.world)
        self.bci = self.world.pki.service("bci")

    @cached_property
    def exchanges(self) -> dict[str, Exchange]:
        """By name, in the order of the rows."""
        made = {
            **self._registration(),
            **self._holder(),
            **self._status(),
            **self._purchase(),
            **self._password(),
            **self._inquiry(),
            **self._settling(),
            "error": self._error(),
        }
        return dict(sorted(made.items(), key=lambda item: item[1].row))

    # Rows 1 to 5

    def _registration(self) -> dict[str, Exchange]:
        r = self.registering
        init, shop_init, form = r.ask_init(), r.ask_init(MT_MER_INIT_REQ), r.form_request()
        cert_req = r.cert_message()
        checked = r.check_cert(cert_req)
        card_sent = r.sent(cert_req, CT_CERT_RES, r.card_keys())
        shop_keys = r.merchant_keys
        shop_message = r.merchant_message()
        shop_sent = r.sent(shop_message, CT_MER_CERT_RES, dict(r.check_merchant(shop_message).keys))
        shop = r.pki.merchant("M-1", key=shop_keys["signing"])
        tls = r.pki.service("shop", key=shop_keys["tls"])
        chains = {"signing": (shop.certificate, *shop.chain), "tls": (tls.certificate, *tls.chain)}
        gateway_message = r.gateway_message()
        gateway_sent = r.sent(gateway_message, CT_GW_CERT_RES, dict(r.check_gateway(gateway_message).keys))
        ready, held = r.issuer_form(), r.held_form()
        requests = {purpose: csr(key) for purpose, key in shop_keys.items()}
        gateway_requests = {purpose: csr(key) for purpose, key in r.gateway_keys.items()}
        fresh: dict[str, Any] = {"chall_ee": r.chall_ee, "now": r.now}

        def merchant_request() -> Any:
            return members.build_merchant_request(
                MERCHANT, rrpid=r.rng(20), chall_ca=r.challenge("merchant"), requests=requests, **fresh
            )

        def gateway_request() -> Any:
            return members.build_gateway_request(
                GATEWAY,
                rrpid=r.rng(20),
                requests=gateway_requests,
                attestations=[b"\x30\x00", b"\x30\x01\x00"],
                **fresh,
            )

        def in_clear(row: int, draft: Callable[[], Any], check: Callable[[bytes], Any]) -> Exchange:
            return Exchange(row, draft, None, check, _in_clear)

        return {
            "card_init_req": in_clear(1, r.ask_init, r.receive_init),
            "card_init_res": Exchange(1, lambda: r.init_response(init), r.ra, lambda m: r.check_init(m, init)),
            "reg_form_req": in_clear(2, r.form_request, r.receive_form),
            "issuer_form": Exchange(
                2,
                lambda: self._issuer_form(r),
                r.bank,
                lambda m: check_issuer_form(m, bin_=BIN, trust=r.trust, now=r.now),
                _signed_alone,
            ),
            "reg_form_res": Exchange(
                2, lambda: r.form_response(form, issuer_form=ready), r.ra, lambda m: r.check_form(m, form)
            ),
            "cert_req": Exchange(3, lambda: r.cert_request(checked=held), self._own(r.card_key), r.check_cert),
            "card_confirm_req": Exchange(3, lambda: r.card_request(checked), r.ra, r.open_card),
            "cert_res": Exchange(
                3,
                lambda: r.respond(card_sent),
                r.ra,
                lambda m: r.check_answer(m, card_sent),
                lambda draft, signed: seal_cert_response(
                    signed, r.one_time_key.public_key(), rrpid=draft.rrpid, rng=r.rng
                ),
            ),
            "mer_init_req": in_clear(4, lambda: r.ask_init(MT_MER_INIT_REQ), r.receive_init),
            "mer_init_res": Exchange(4, lambda: r.init_response(shop_init), r.ra, lambda m: r.check_init(m, shop_init)),
            "mer_cert_req": Exchange(4, merchant_request, self._own(shop_keys["tls"]), r.check_merchant),
            "mer_cert_res": Exchange(
                4, lambda: r.respond(shop_sent, certificates=chains), r.ra, lambda m: r.check_answer(m, shop_sent)
            ),
            "gw_cert_req": Exchange(5, gateway_request, r.gateway, r.check_gateway),
            "gw_cert_res": Exchange(
                5,
                lambda: r.respond(gateway_sent, status=RegistrationStatus.PENDING, ask_again=300),
                r.ra,
                lambda m: r.check_answer(m, gateway_sent),
            ),
        }

    def _issuer_form(self, r: Registering) -> Any:
        return build_issuer_form(
            bin_=BIN,
            issuer="Bank One",
            asks={"cvv2", "pin2"},
            key=r.bank_key.public_key(),
            suite=SealingSuite.OAEP_SHA256,
            not_after=r.now + DAY,
            now=r.now,
        )

    def _own(self, key: Key) -> Credential:
        """A party that has a key and no certificate yet."""
        now = self.registering.now
        return Credential(signers.self_signed(key, now=now), key, (), now)

    # Row 6

    def _holder(self) -> dict[str, Exchange]:
        h = self.holding

        def request(kind: type[Any]) -> Exchange:
            return Exchange(6, lambda: h.draft(kind), h.shop, lambda m: h.check(kind, m))

        (status_sent, status), (renew_sent, renewal) = h.asked(CertInqReqTBS), h.asked(RenewReqTBS)
        return {
            "cert_inq_req": request(CertInqReqTBS),
            "cert_inq_res": Exchange(6, lambda: h.good(status), h.ra, lambda m: h.stands(m, status_sent)),
            "rev_req": request(RevReqTBS),
            "renew_req": request(RenewReqTBS),
            "renew_res": Exchange(6, lambda: h.issued(renewal), h.ra, lambda m: h.renewed(m, renew_sent)),
        }

    # Rows 7 and 8

    def _status(self) -> dict[str, Exchange]:
        w, asked = self.world, gateway_certificates.Asked(self.world)

        def bci() -> Content:
            lists = tuple(NamedCrl(name, "full", 1, bytes(32)) for name in ("brand", "cardholder-ca", "merchant-ca"))
            return Content(CT_BCI, Bci(1, w.now, w.now + DAY, lists).to_der())

        def check_bci(message: bytes) -> Bci:
            found = parse_signed_data(message, content_type=CT_BCI)
            validate_path(found.signer, found.certificates, trust=w.trust, now=w.now, roles=(Role.SERVICE,))
            verify_signature(found)
            return Bci.from_der(found.content)

        def p_cert_req() -> Any:
            return build_certificate_request(rrpid=w.rng(20), merchant_id="M-1", chall=w.rng(32), now=w.now)

        def p_cert_res() -> Any:
            chain = [each.public_bytes(Encoding.DER) for each in w.gateway_encryption.chain]
            return build_certificate_answer(
                asked.request,
                gateway=w.gateway_identity,
                encryption_chain=[w.gateway_encryption.der, *chain],
                now=w.now,
            )

        return {
            "bci": Exchange(7, bci, self.bci, check_bci, _signed_alone),
            "p_cert_req": Exchange(8, p_cert_req, w.shop, lambda m: gateway_certificates.check(w, m)),
            "p_cert_res": Exchange(8, p_cert_res, w.gateway_signing, asked.told),
        }

    # Rows 9, 10 and 12 to 17

    def _purchase(self) -> dict[str, Exchange]:
        w, p = self.world, self.purchase

        def auth_req() -> Any:
            return merchant.build_auth_req(p.checked_purchase, terminal_id="T0000001", rrpid=w.rng(20), now=w.now)

        def order() -> OrderToSign:
            return OrderToSign(
                wallet.build_purchase(
                    p.checked_invoice, w.card, rrpid=w.rng(20), now=w.now, rng=w.rng, sale_kind=SaleKind.SALE
                )
            )

        return {
            "invoice_req": Exchange(9, w.ask, w.buyer, w.check_request),
            "invoice": Exchange(
                10,
                lambda: InvoiceToSign(w.offer(p.checked_request)),
                w.shop,
                lambda m: w.check_invoice(m, p.request),
                lambda draft, signed: draft.invoice.message(signed, w.gateway_encryption.chain),
            ),
            "p_req": Exchange(
                12,
                order,
                w.buyer,
                lambda m: w.check_purchase(m, p.issued),
                lambda draft, signed: draft.order.message(signed),
            ),
            "auth_req": Exchange(13, auth_req, w.shop, w.check_auth_req),
            "auth_res": Exchange(
                14, lambda: w.answer(p.verified), w.gateway_signing, lambda m: w.check_answer(m, p.sent)
            ),
            "auth_ack": Exchange(
                15,
                lambda: merchant.build_auth_ack(p.answer, accepted=True, now=w.now),
                w.shop,
                lambda m: w.check_ack(m, gateway.SentAuthRes.load(p.auth_res_signed)),
            ),
            "receipt": Exchange(
                16,
                lambda: merchant.build_receipt(p.checked_purchase, p.answer, now=w.now, particulars_ok=True),
                w.shop,
                lambda m: w.check_receipt(m, p.record),
            ),
            "receipt_ack": Exchange(
                17,
                lambda: build_receipt_ack(SentReceipt.load(p.receipt_signed, "M-1"), now=w.now),
                w.buyer,
                lambda m: receipts.check(w, p, m),
            ),
        }

    # Row 11

    def _password(self) -> dict[str, Exchange]:
        w, asking = self.world, Asking(self.world, self.purchase)
        sent = asking.sealed()
        opened = asking.opened(sent)

        def request() -> Any:
            return build_password_request(self.purchase.checked_invoice, w.card, rrpid=w.rng(20), now=w.now, rng=w.rng)

        def answer() -> Any:
            return build_password_answer(
                opened.asked, sent_to="0912*****89", valid_until=w.now + 2 * _MINUTE, now=w.now
            )

        def finish(draft: Any, signed: bytes) -> bytes:
            return seal_password_request(draft, signed, w.gateway_identity, rng=w.rng).message

        def check(message: bytes) -> Any:
            envelope = receive_password_request(unwrap(message, expected=[CT_OTP_REQ]), w.gateway_identity)
            return asking.judged(unseal(envelope, rsa_key(0), rng=w.rng), message)

        return {
            "otp_req": Exchange(11, request, w.buyer, check, finish),
            "otp_res": Exchange(11, answer, w.gateway_signing, lambda m: asking.heard(m, sent)),
        }

    # Row 18

    def _inquiry(self) -> dict[str, Exchange]:
        w, p = self.world, self.purchase
        asked = inquiry.Asked(w, p)
        given = p.auth_res.message(p.auth_res_signed)

        def ask() -> Any:
            return build_inquiry(rrpid=w.rng(20), xid=p.sent.xid, merchant_id="M-1", chall=w.rng(32), now=w.now)

        return {
            "inq_req": Exchange(18, ask, w.shop, lambda m: inquiry.check(w, m)),
            "inq_res": Exchange(
                18, lambda: asked.draft(PurchaseStatus.CONCLUDED, given), w.gateway_signing, asked.told
            ),
        }

    # Rows 19 to 23

    def _settling(self) -> dict[str, Exchange]:
        s, made = self.settling, {}
        shop, acquirer = self.world.shop, self.world.gateway_signing
        standing, capture = s.done(s.capture(_CAPTURED), s.standing(s.held))
        credited, credit = s.done(s.credit(capture, 400_000), standing)
        asks: tuple[tuple[int, str, Callable[[], Any], Standing], ...] = (
            (19, "cap", lambda: s.capture(1000), standing),
            (19, "cap_rev", lambda: s.capture_reversal(capture), standing),
            (20, "auth_rev", lambda: s.auth_reversal(s.held, _CAPTURED), standing),
            (21, "cred", lambda: s.credit(capture, 1000), standing),
            (21, "cred_rev", lambda: s.credit_reversal(credit), credited),
        )
        for row, name, draft, book in asks:
            made[f"{name}_req"] = Exchange(row, draft, shop, partial(s.check, standing=book))
            message = made[f"{name}_req"].message
            sent = SentSettlingRequest.load(draft().content_type, unwrap(message, expected=REQUESTS).body)
            answer = partial(s.answer, s.check(message, book))
            made[f"{name}_res"] = Exchange(row, answer, acquirer, partial(s.check_answer, sent=sent))
        made["batch_admin_req"] = Exchange(
            22, lambda: s.closing(s.world.now), shop, lambda m: s.check_batch(m, s.batches())
        )
        closing = made["batch_admin_req"].message
        sent_batch = SentBatchRequest.load(unwrap(closing, expected=[CT_BATCH_ADMIN_REQ]).body)
        closed = s.check_batch(closing, s.batches())
        made["batch_admin_res"] = Exchange(
            22, lambda: s.batch_answer(closed), acquirer, lambda m: s.check_batch_answer(m, sent_batch)
        )
        made["settle_advice"] = Exchange(23, s.advice, acquirer, s.check_advice)
        return made

    # Row 24

    def _error(self) -> Exchange:
        w, refused = self.world, self.purchase.auth_req_message
        refusal = ProtocolError(ErrorCode.INVOICE_MISMATCH, "G5", "invoice and request must agree")

        def check(message: bytes) -> Any:
            found = unwrap(message, expected=[CT_ERROR])
            return read_error(found, sent=refused, role=Role.GATEWAY_SIGNING, trust=w.trust, now=w.now)

        return Exchange(24, lambda: build_error(refusal, refused=refused, now=w.now), w.gateway_signing, check)


class InvoiceToSign:
    """An offer, of which the invoice is signed."""

    def __init__(self, invoice: merchant.InvoiceDraft) -> None:
        self.invoice = invoice
        self.content_type, self.content = invoice.invoice.content_type, invoice.invoice.content


class OrderToSign:
    """An order, of which the dual signature is signed."""

    def __init__(self, order: wallet.PurchaseDraft) -> None:
        self.order = order
        self.content_type, self.content = order.dual_signature.content_type, order.dual_signature.content
