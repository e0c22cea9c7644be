"""Row 11: a password for one payment: who passes a request on, who opens it (P1 to P4), who is believed (P5 to P7), and
for what the password is good (P8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError, SealedPasswordRequestError
from kwbp.gateway import GatewayIdentity
from kwbp.money import Money
from kwbp.password import (
    LONGEST_VALIDITY,
    CheckedPasswordRequest,
    OTPResTBS,
    PasswordBinding,
    SentPasswordRequest,
    build_password_answer,
    build_password_request,
    check_passed_on,
    check_password_answer,
    check_password_request,
    receive_password_request,
    require_bound,
    seal_password_request,
)
from kwbp.wrapper import unwrap, wrap
from pki import der
from pki.oids import CT_OTP_REQ, CT_OTP_RES
from pki.path import Trust
from pki.roles import Role
from tests.kwbp.forge import changed, refused, signed
from tests.kwbp.world import BIN, PAN, TOTAL, Purchase, World
from tests.support.pki_factory import Credential, rsa_key, unseal

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Asking:
    """A buyer who has an invoice and no password."""

    def __init__(self, world: World, purchase: Purchase) -> None:
        self.world, self.purchase = world, purchase
        self.draft = build_password_request(
            purchase.checked_invoice, world.card, rrpid=world.rng(20), now=world.now, rng=world.rng
        )

    def sealed(
        self, *, signer: Credential | None = None, gateway: GatewayIdentity | None = None, **changes: Any
    ) -> SentPasswordRequest:
        body = changed(self.draft.body, changes)
        data = signed(signer or self.world.buyer, CT_OTP_REQ, body)
        draft = replace(self.draft, body=body)
        return seal_password_request(draft, data, gateway or self.world.gateway_identity, rng=self.world.rng)

    def passed_on(self, sent: SentPasswordRequest, **changes: Any) -> None:
        arguments: dict[str, Any] = {
            "invoice": self.purchase.invoice.invoice.body,
            "gateway": self.world.gateway_identity,
            "now": self.world.now,
        }
        check_passed_on(unwrap(sent.message, expected=[CT_OTP_REQ]), **(arguments | changes))

    def opened(self, sent: SentPasswordRequest, **changes: Any) -> CheckedPasswordRequest:
        envelope = receive_password_request(unwrap(sent.message, expected=[CT_OTP_REQ]), self.world.gateway_identity)
        return self.judged(unseal(envelope.der, rsa_key(0)), sent.message, **changes)

    def judged(self, plaintext: bytes, message: bytes, **changes: Any) -> CheckedPasswordRequest:
        arguments: dict[str, Any] = {
            "gateway": self.world.gateway_identity,
            "tls_merchant_id": "M-1",
            "accepts_bin": lambda prefix: prefix == BIN,
            "trust": self.world.trust,
            "now": self.world.now,
        }
        return check_password_request(plaintext, unwrap(message, expected=[CT_OTP_REQ]), **(arguments | changes))

    def answer(
        self, sent: SentPasswordRequest, *, signer: Credential | None = None, signing_time: Any = None, **changes: Any
    ) -> bytes:
        draft = build_password_answer(
            self.opened(sent).asked, sent_to="0912*****89", valid_until=self.world.now + 2 * MINUTE, now=self.world.now
        )
        body = changed(draft.body, changes)
        data = signed(signer or self.world.gateway_signing, CT_OTP_RES, body, signing_time=signing_time)
        return wrap(CT_OTP_RES, data, rrpid=body.rrpid, xid=body.xid)

    def heard(self, answer: bytes, sent: SentPasswordRequest, **changes: Any) -> OTPResTBS:
        arguments: dict[str, Any] = {"sent": sent, "trust": self.world.trust, "now": self.world.now}
        return check_password_answer(unwrap(answer, expected=[CT_OTP_RES]), **(arguments | changes))


@pytest.fixture(scope="module")
def asking(world: World, purchase: Purchase) -> Asking:
    return Asking(world, purchase)


@pytest.fixture(scope="module")
def sent(asking: Asking) -> SentPasswordRequest:
    return asking.sealed()


def test_a_password_is_asked_for_and_told_of(asking: Asking, sent: SentPasswordRequest) -> None:
    asking.passed_on(sent)
    opened = asking.opened(sent)
    assert opened.pan.reveal() == PAN
    assert opened.card_certificate == asking.world.buyer.certificate
    told = asking.heard(asking.answer(sent), sent)
    assert (told.sent_to, told.amount) == ("0912*****89", Money.rial(TOTAL))


def test_the_card_is_in_no_repr(asking: Asking, sent: SentPasswordRequest) -> None:
    for shown in (asking.draft, asking.draft.body, sent, asking.opened(sent)):
        assert PAN not in repr(shown)
        assert PAN.encode().hex() not in repr(shown)


# --- the wallet asks ---


def test_w8_not_for_an_invoice_that_has_run_out(asking: Asking) -> None:
    world = asking.world
    with refused(ErrorCode.INVOICE_EXPIRED, "W8"):
        build_password_request(
            asking.purchase.checked_invoice, world.card, rrpid=bytes(20), now=world.now + 11 * MINUTE, rng=world.rng
        )


# --- the merchant passes it on ---


def test_p1_another_invoice(asking: Asking, sent: SentPasswordRequest) -> None:
    invoice = changed(asking.purchase.invoice.invoice.body, {"xid": bytes(20)})
    with refused(ErrorCode.UNKNOWN_XID, "P1"):
        asking.passed_on(sent, invoice=invoice)


def test_p1_an_invoice_that_has_run_out(asking: Asking, sent: SentPasswordRequest) -> None:
    with refused(ErrorCode.INVOICE_EXPIRED, "P1"):
        asking.passed_on(sent, now=asking.world.now + 11 * MINUTE)


def test_p1_p2_sealed_to_another_gateway(asking: Asking) -> None:
    other = GatewayIdentity.of(asking.world.other_gateway_encryption.certificate)
    elsewhere = asking.sealed(gateway=other)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "P1"):
        asking.passed_on(elsewhere)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "P2"):
        receive_password_request(unwrap(elsewhere.message, expected=[CT_OTP_REQ]), asking.world.gateway_identity)


def test_k4_what_is_no_envelope(asking: Asking, sent: SentPasswordRequest) -> None:
    bare = replace(sent, message=wrap(CT_OTP_REQ, b"\x30\x00", rrpid=sent.rrpid, xid=sent.xid))
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        asking.passed_on(bare)


# --- the gateway opens it ---


@pytest.mark.parametrize("plaintext", [b"", b"\x30\x00", b"not DER"])
def test_p3_what_is_no_request(asking: Asking, sent: SentPasswordRequest, plaintext: bytes) -> None:
    with pytest.raises(SealedPasswordRequestError) as caught:
        asking.judged(plaintext, sent.message)
    assert caught.value.check == "P3"
    assert (caught.value.outward, caught.value.outward_check) == (ErrorCode.DECODING_FAILURE, "P3")


@pytest.mark.parametrize("changes", [{"version": 1}, {"merchant_id": ""}, {"gw_id": ""},
                                     {"amount": Money(currency=840, amount=1, exp=0)}])  # fmt: skip
def test_p3_form_of_the_request(asking: Asking, changes: dict[str, Any]) -> None:
    with pytest.raises(SealedPasswordRequestError):
        asking.opened(asking.sealed(**changes))


@pytest.mark.parametrize("changes", [{"gw_id": "GW-2"}, {"gw_cert_hash": bytes(32)}])
def test_p3_signed_for_another_gateway_and_sealed_on_to_this_one(asking: Asking, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "P3"):
        asking.opened(asking.sealed(**changes))


def test_p3_passed_on_by_another_merchant(asking: Asking, sent: SentPasswordRequest) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "P3"):
        asking.opened(sent, tls_merchant_id="M-2")


def test_k2_header_of_another_purchase(asking: Asking, sent: SentPasswordRequest) -> None:
    body = unwrap(sent.message, expected=[CT_OTP_REQ]).body
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        asking.opened(replace(sent, message=wrap(CT_OTP_REQ, body, rrpid=sent.rrpid, xid=bytes(20))))


def test_k5_k7_it_is_signed_by_a_card_just_now(asking: Asking, sent: SentPasswordRequest) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        asking.opened(asking.sealed(signer=asking.world.shop))
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        asking.opened(sent, now=asking.world.now + 121 * SECOND)


@pytest.mark.parametrize(
    "changes",
    [{"pan": "6037701000000015"}, {"pan": "6037"}, {"expiry": "0712"}, {"expiry": "12"}, {"pan_secret": bytes(32)},
     {"pan_secret": bytes(range(32))}],
)  # fmt: skip
def test_p4_another_card_than_the_certificates(asking: Asking, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "P4"):
        asking.opened(asking.sealed(**changes))


def test_p4_a_certificate_that_names_nothing(asking: Asking) -> None:
    pki = asking.world.pki
    nameless = pki.leaf(Role.CARDHOLDER, subject=x509.Name([]), issuer=pki.cardholder_ca)
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "P4"):
        asking.opened(asking.sealed(signer=nameless))


def test_p4_an_issuer_that_is_not_served(asking: Asking, sent: SentPasswordRequest) -> None:
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "P4"):
        asking.opened(sent, accepts_bin=lambda prefix: False)


# --- the wallet hears of it ---


@pytest.mark.parametrize(
    "changes",
    [{"rrpid": bytes(20)}, {"xid": bytes(20)}, {"merchant_id": "M-2"}, {"amount": Money.rial(TOTAL + 1)},
     {"h_otp_req": bytes(32)}],
)  # fmt: skip
def test_p5_answer_to_another_request(asking: Asking, sent: SentPasswordRequest, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "P5"):
        asking.heard(asking.answer(sent, **changes), sent)


def test_p6_answer_of_another_gateway(asking: Asking, sent: SentPasswordRequest) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "P6"):
        asking.heard(asking.answer(sent, signer=asking.world.other_gateway_signing), sent)


def test_k5_answer_of_the_merchant(asking: Asking, sent: SentPasswordRequest) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        asking.heard(asking.answer(sent, signer=asking.world.shop), sent)


def test_k7_answer_older_than_the_question(asking: Asking, sent: SentPasswordRequest) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        asking.heard(asking.answer(sent, signing_time=asking.world.now - 121 * SECOND), sent)


def test_k2_header_that_the_answer_contradicts(asking: Asking, sent: SentPasswordRequest) -> None:
    body = unwrap(asking.answer(sent), expected=[CT_OTP_RES]).body
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        asking.heard(wrap(CT_OTP_RES, body, rrpid=sent.rrpid, xid=bytes(20)), sent)


@pytest.mark.parametrize("until", [timedelta(), LONGEST_VALIDITY + SECOND])
def test_p7_a_password_that_is_good_no_more_or_for_too_long(
    asking: Asking, sent: SentPasswordRequest, until: timedelta
) -> None:
    with refused(ErrorCode.INVOICE_EXPIRED, "P7"):
        asking.heard(asking.answer(sent, valid_until=asking.world.now + until), sent)


@pytest.mark.parametrize(
    "changes",
    [{"version": 3}, {"merchant_id": ""}, {"sent_to": "09121234589"}, {"amount": Money(currency=364, amount=1, exp=1)}],
)
def test_k1_form_of_the_answer(asking: Asking, sent: SentPasswordRequest, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        asking.heard(asking.answer(sent, **changes), sent)
    assert caught.value.check == "K1"


# --- the password is used ---


def binding_of(asking: Asking) -> PasswordBinding:
    dual = asking.purchase.verified.dual
    return PasswordBinding(dual.xid, dual.merchant_id, dual.amount, asking.world.now + MINUTE)


def use(asking: Asking, *, now: timedelta = timedelta(), **changes: Any) -> None:
    dual = asking.purchase.verified.dual
    payment = {"xid": dual.xid, "merchant_id": dual.merchant_id, "amount": dual.amount} | changes
    require_bound(binding_of(asking), now=asking.world.now + now, **payment)


def test_p8_a_password_is_good_for_its_payment(asking: Asking) -> None:
    use(asking)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"merchant_id": "M-2"}, ErrorCode.INVOICE_MISMATCH),
        ({"xid": bytes(20)}, ErrorCode.INVOICE_MISMATCH),
        ({"amount": Money.rial(TOTAL - 1)}, ErrorCode.AMOUNT_MISMATCH),
    ],
)
def test_p8_and_for_no_other(asking: Asking, changes: dict[str, Any], code: ErrorCode) -> None:
    with refused(code, "P8"):
        use(asking, **changes)


def test_p8_a_password_runs_out(asking: Asking) -> None:
    with refused(ErrorCode.INVOICE_EXPIRED, "P8"):
        use(asking, now=MINUTE)


def test_revocation_is_the_callers_where_there_are_no_lists(asking: Asking, sent: SentPasswordRequest) -> None:
    bare = Trust(asking.world.trust.anchors)
    with pytest.raises(ProtocolError) as caught:
        asking.opened(sent, trust=bare)
    assert caught.value.check == "K5"
    opened = asking.opened(sent, trust=bare, check_revocation=False)
    assert opened.card_certificate == asking.world.buyer.certificate
    assert asking.world.buyer.certificate in opened.chain


def test_a_bank_that_shows_the_whole_number_is_not_passed_on(asking: Asking, sent: SentPasswordRequest) -> None:
    with pytest.raises(ProtocolError) as caught:
        build_password_answer(
            asking.opened(sent).asked, sent_to="09121234589", valid_until=asking.world.now, now=asking.world.now
        )
    assert caught.value.check == "K1"


def test_the_answer_names_the_sealed_request(asking: Asking, sent: SentPasswordRequest) -> None:
    body = unwrap(sent.message, expected=[CT_OTP_REQ]).body
    assert asking.heard(asking.answer(sent), sent).h_otp_req == der.sha256(body)
