"""Rows 1 to 5 with one thing wrong each: which check refuses, with which code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from kwbp.codes import ErrorCode, RegistrationStatus
from kwbp.errors import ProtocolError
from kwbp.registration import answer, form, issuer, messages
from kwbp.registration.challenge import LIFETIME
from kwbp.registration.messages import KeyRequest, PANData0
from kwbp.registration.sealing import seal_to_key
from kwbp.structure import encode
from kwbp.wrapper import KwbpMessage, unwrap, wrap
from pki import der
from pki.algorithms import SealingSuite
from pki.cms_enveloped import oaep, parse_auth_enveloped, seal, unseal
from pki.der import decode
from pki.errors import CmsError
from pki.keys import spki_der
from pki.oids import (
    CT_CARD_CONFIRM_REQ,
    CT_CERT_REQ,
    CT_CERT_RES,
    CT_GW_CERT_RES,
    CT_MER_CERT_RES,
    MT_CERT_RES,
    MT_MER_INIT_REQ,
)
from tests.kwbp.forge import refused
from tests.kwbp.registering import BIN, GATEWAY, MERCHANT, Registering, altered, csr
from tests.support.pki_factory import DAY, PkiFactory, p256, rsa_key

Make = Callable[[Registering], bytes]
MINUTES = timedelta(minutes=1)


@pytest.fixture(scope="module")
def parties() -> Registering:
    return Registering()


def _broken(request: bytes) -> bytes:
    """A PKCS#10 whose signature does not verify."""
    return request[:-1] + bytes([request[-1] ^ 1])


class TestInit:
    def test_another_brand(self, parties: Registering) -> None:
        with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "C1"):
            parties.receive_init(parties.ask_init(brand_id="Visa").message)

    def test_a_wallet_of_another_root(self, parties: Registering) -> None:
        with refused(ErrorCode.THUMBS_MISMATCH, "C1"):
            parties.receive_init(parties.ask_init(thumbs=[bytes(32)]).message)

    @pytest.mark.parametrize("changes", [{"brand_id": ""}, {"thumbs": []}, {"chall_ee": bytes(31)}])
    def test_out_of_form(self, parties: Registering, changes: dict[str, Any]) -> None:
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.ask_init(**changes)

    def test_a_wrapper_of_another_exchange(self, parties: Registering) -> None:
        request = parties.ask_init()
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
            parties.receive_init(wrap(request.message_type, encode(request.body), rrpid=bytes(20)))

    @pytest.mark.parametrize(
        ("changes", "code", "check"),
        [
            ({"rrpid": bytes(20)}, ErrorCode.CHALLENGE_MISMATCH, "D1"),
            ({"chall_ee": bytes(32)}, ErrorCode.CHALLENGE_MISMATCH, "D1"),
            ({"issuer_certificate": b"\x30\x00"}, ErrorCode.DECODING_FAILURE, "K1"),
            ({"cps_version": ""}, ErrorCode.DECODING_FAILURE, "K1"),
        ],
    )
    def test_another_answer(self, parties: Registering, changes: dict[str, Any], code: ErrorCode, check: str) -> None:
        request = parties.ask_init()
        draft = altered(parties.init_response(request), **changes)
        with refused(code, check):
            parties.check_init(draft.message(parties.signed(draft, parties.ra)), request)

    def test_signed_by_another_service(self, parties: Registering) -> None:
        request = parties.ask_init()
        draft = parties.init_response(request)
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "D2"):
            parties.check_init(draft.message(parties.signed(draft, parties.gateway)), request)

    def test_signed_below_another_root(self, parties: Registering) -> None:
        request = parties.ask_init()
        draft = parties.init_response(request)
        with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
            parties.check_init(draft.message(parties.signed(draft, PkiFactory().service("ra"))), request)

    def test_an_authority_of_another_kind(self, parties: Registering) -> None:
        request = parties.ask_init()
        draft = parties.init_response(request, issuer=parties.pki.merchant_ca.certificate)
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "D6"):
            parties.check_init(draft.message(parties.signed(draft, parties.ra)), request)

    def test_an_answer_of_yesterday(self, parties: Registering) -> None:
        request = parties.ask_init(MT_MER_INIT_REQ)
        yesterday = parties.now - DAY
        draft = parties.init_response(request, now=yesterday)
        with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
            parties.check_init(draft.message(parties.signed(draft, parties.ra, signing_time=yesterday)), request)


class TestForm:
    @pytest.mark.parametrize("bin_", ["60377", "603770123", "60377۰"])
    def test_no_bin(self, parties: Registering, bin_: str) -> None:
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.form_request(bin_=bin_)

    def test_a_wrapper_of_another_exchange(self, parties: Registering) -> None:
        request = parties.form_request()
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
            parties.receive_form(wrap(unwrap_type(request.message), encode(request.body), rrpid=bytes(20)))

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"bin_": "621986"}, ErrorCode.HASH_MISMATCH),
            ({"not_after": Registering().now - MINUTES}, ErrorCode.MESSAGE_TOO_OLD),
            ({"key": rsa_key(7, 2048).public_key()}, ErrorCode.INVALID_CERTIFICATE),
            ({"key": p256().public_key()}, ErrorCode.INVALID_CERTIFICATE),
        ],
    )
    def test_another_form(self, parties: Registering, changes: dict[str, Any], code: ErrorCode) -> None:
        with refused(code, "D3"):
            parties.held_form(**changes)

    @pytest.mark.parametrize(
        "changes", [{"asks": {"cvv2", "pin1"}}, {"issuer": "Bank\u202eOne"}, {"suite": "rsa-pkcs1"}]
    )
    def test_a_form_out_of_form(self, parties: Registering, changes: dict[str, Any]) -> None:
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.issuer_form(**changes)

    def test_a_key_that_is_none(self, parties: Registering) -> None:
        draft = form.build_issuer_form(
            bin_=BIN,
            issuer="Bank One",
            asks=(),
            key=parties.bank_key.public_key(),
            suite=SealingSuite.OAEP_SHA256,
            not_after=parties.now + DAY,
            now=parties.now,
        )
        draft = altered(draft, sealing_key=b"\x30\x00")
        with refused(ErrorCode.INVALID_CERTIFICATE, "D3"):
            form.check_issuer_form(parties.signed(draft, parties.bank), bin_=BIN, trust=parties.trust, now=parties.now)

    def test_a_form_of_another_bank(self, parties: Registering) -> None:
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "D3"):
            parties.held_form(by=parties.other_bank)

    def test_a_form_that_the_authority_made_up(self, parties: Registering) -> None:
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "D3"):
            parties.held_form(by=parties.ra)

    def test_a_form_below_another_root(self, parties: Registering) -> None:
        with refused(ErrorCode.INVALID_CERTIFICATE, "D3"):
            parties.held_form(by=PkiFactory().service(f"issuer-{BIN}"))

    @pytest.mark.parametrize("changes", [{"rrpid": bytes(20)}, {"chall_ee": bytes(32)}, {"bin": "621986"}])
    def test_an_answer_to_another_request(self, parties: Registering, changes: dict[str, Any]) -> None:
        request = parties.form_request()
        draft = altered(parties.form_response(request), **changes)
        with refused(ErrorCode.CHALLENGE_MISMATCH, "D1"):
            parties.check_form(draft.message(parties.signed(draft, parties.ra)), request)

    def test_signed_by_another_service(self, parties: Registering) -> None:
        request = parties.form_request()
        draft = parties.form_response(request)
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "D2"):
            parties.check_form(draft.message(parties.signed(draft, parties.bank)), request)


def unwrap_type(message: bytes) -> Any:
    """The message type that a wrapper announces."""
    return decode(KwbpMessage, message).msg_type


WRONG_CARD_REQUESTS: dict[str, tuple[Make, ErrorCode, str]] = {
    "signed with another key": (
        lambda parties: parties.cert_message(by=p256()),
        ErrorCode.INVALID_CERTIFICATE,
        "C4",
    ),
    "no proof of possession": (
        lambda parties: parties.cert_message(request=_broken(csr(parties.card_key))),
        ErrorCode.SIGNATURE_FAILURE,
        "C4",
    ),
    "no PKCS#10": (
        lambda parties: parties.cert_message(request=b"\x30\x00"),
        ErrorCode.INVALID_CERTIFICATE,
        "C4",
    ),
    "a weak key": (
        lambda parties: parties.cert_message(request=csr(rsa_key(7, 2048))),
        ErrorCode.INVALID_CERTIFICATE,
        "C4",
    ),
    "a challenge of another authority": (
        lambda parties: parties.cert_message(chall_ca=parties.rng(32)),
        ErrorCode.CHALLENGE_MISMATCH,
        "C3",
    ),
    "a challenge for a merchant": (
        lambda parties: parties.cert_message(chall_ca=parties.challenge("merchant")),
        ErrorCode.CHALLENGE_MISMATCH,
        "C3",
    ),
    "a challenge for another BIN": (
        lambda parties: parties.cert_message(bin="621986"),
        ErrorCode.CHALLENGE_MISMATCH,
        "C3",
    ),
    "a challenge to another wallet": (
        lambda parties: parties.cert_message(chall_ee=bytes(32)),
        ErrorCode.CHALLENGE_MISMATCH,
        "C3",
    ),
    "a challenge of long ago": (
        lambda parties: parties.cert_message(chall_ca=parties.challenge(at=parties.now - LIFETIME - MINUTES)),
        ErrorCode.MESSAGE_TOO_OLD,
        "C3",
    ),
    "a challenge of tomorrow": (
        lambda parties: parties.cert_message(chall_ca=parties.challenge(at=parties.now + DAY)),
        ErrorCode.MESSAGE_TOO_OLD,
        "C3",
    ),
    "a weak one-time key": (
        lambda parties: parties.cert_message(answer_key=spki_der(rsa_key(7, 2048).public_key())),
        ErrorCode.INVALID_CERTIFICATE,
        "C5",
    ),
    "a one-time key that cannot be sealed to": (
        lambda parties: parties.cert_message(answer_key=spki_der(p256().public_key())),
        ErrorCode.INVALID_CERTIFICATE,
        "C5",
    ),
    "no one-time key": (
        lambda parties: parties.cert_message(answer_key=b"junk"),
        ErrorCode.INVALID_CERTIFICATE,
        "C5",
    ),
    "card data that are not sealed": (
        lambda parties: parties.cert_message(pan_envelope=b"\x30\x00"),
        ErrorCode.DECODING_FAILURE,
        "K4",
    ),
    "a BIN that is none": (
        lambda parties: parties.cert_message(bin="bank"),
        ErrorCode.DECODING_FAILURE,
        "K1",
    ),
}


class TestCertReq:
    @pytest.mark.parametrize("name", WRONG_CARD_REQUESTS)
    def test_one_thing_wrong(self, parties: Registering, name: str) -> None:
        make, code, check = WRONG_CARD_REQUESTS[name]
        with refused(code, check):
            parties.check_cert(make(parties))

    def test_the_key_to_be_certified_as_one_time_key(self, parties: Registering) -> None:
        key = rsa_key(8)
        draft = parties.cert_request(key=key, answer_key=key.public_key())
        with refused(ErrorCode.INVALID_CERTIFICATE, "C5"):
            parties.check_cert(parties.cert_message(draft, by=key))

    def test_a_request_of_yesterday(self, parties: Registering) -> None:
        with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
            parties.check_cert(parties.cert_message(), now=parties.now + 10 * MINUTES)

    def test_a_signature_that_does_not_verify(self, parties: Registering) -> None:
        message = unwrap(parties.cert_message(), expected=[CT_CERT_REQ])
        twin = wrap(CT_CERT_REQ, _broken(message.body), rrpid=message.rrpid)
        with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
            parties.check_cert(twin)

    def test_a_wrapper_of_another_exchange(self, parties: Registering) -> None:
        message = unwrap(parties.cert_message(), expected=[CT_CERT_REQ])
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
            parties.check_cert(wrap(CT_CERT_REQ, message.body, rrpid=bytes(20)))

    @pytest.mark.parametrize("missing", [{"cvv2": None}, {"phone_code": "123456"}])
    def test_a_wallet_does_not_seal_what_the_form_does_not_ask(
        self, parties: Registering, missing: dict[str, Any]
    ) -> None:
        changed = {name: getattr(parties.card, name) for name in type(parties.card).__slots__} | missing
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.cert_request(card_=type(parties.card)(**changed))


class TestAtTheBank:
    """The bank opens nothing before both signatures hold, and tells nobody why card data were not good."""

    def test_not_from_the_authority(self, parties: Registering) -> None:
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "F1"):
            parties.check_card(parties.card_message(by=parties.gateway))

    def test_from_an_authority_below_another_root(self, parties: Registering) -> None:
        with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
            parties.check_card(parties.card_message(by=PkiFactory().service("ra")))

    def test_the_bank_knows_whose_card_it_claims_to_be_before_anything_is_believed(self, parties: Registering) -> None:
        message = unwrap(parties.card_message(by=parties.gateway), expected=[CT_CARD_CONFIRM_REQ])
        assert issuer.receive_card_request(message).bin == BIN

    def test_an_old_request(self, parties: Registering) -> None:
        with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
            parties.check_card(parties.card_message(), now=parties.now + 10 * MINUTES)

    def test_a_wrapper_of_another_exchange(self, parties: Registering) -> None:
        draft = parties.card_request(parties.check_cert(parties.cert_message()))
        message = wrap(draft.content_type, parties.signed(draft, parties.ra), rrpid=bytes(20))
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
            parties.check_card(message)

    def _with_request(self, parties: Registering, message: bytes, **changes: Any) -> bytes:
        """The authority passes on `message`, which is not what it checked."""
        draft = parties.card_request(parties.check_cert(parties.cert_message()))
        inner = unwrap(message, expected=[CT_CERT_REQ])
        draft = altered(draft, **({"cert_req": inner.body, "rrpid": inner.rrpid} | changes))
        return draft.message(parties.signed(draft, parties.ra))

    def test_two_exchanges_mixed(self, parties: Registering) -> None:
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "F2"):
            parties.check_card(self._with_request(parties, parties.cert_message(), rrpid=bytes(20)))

    def test_a_request_that_its_key_did_not_sign(self, parties: Registering) -> None:
        with refused(ErrorCode.INVALID_CERTIFICATE, "F2"):
            parties.check_card(self._with_request(parties, parties.cert_message(by=p256())))

    def test_sealed_to_another_key(self, parties: Registering) -> None:
        message = parties.card_message()
        with refused(ErrorCode.ENVELOPE_MISMATCH, "F3"):
            parties.check_card(message, key=rsa_key(8).public_key())

    def test_sealed_by_another_suite(self, parties: Registering) -> None:
        with refused(ErrorCode.ENVELOPE_MISMATCH, "F3"):
            parties.check_card(parties.card_message(), suite=SealingSuite.OAEP_SHA1)

    def test_sealed_to_a_certificate(self, parties: Registering) -> None:
        bank = parties.pki.gateway_encryption(key=parties.bank_key)
        sealed = seal(b"card", bank.certificate, SealingSuite.OAEP_SHA256, rng=parties.rng)
        with refused(ErrorCode.ENVELOPE_MISMATCH, "F3"):
            parties.check_card(self._with_request(parties, parties.cert_message(pan_envelope=sealed)))

    def _opened(self, parties: Registering, plaintext: bytes) -> Any:
        sealed = seal_to_key(plaintext, parties.bank_key.public_key(), SealingSuite.OAEP_SHA256, rng=parties.rng)
        message = parties.card_message(parties.check_cert(parties.cert_message(pan_envelope=sealed)))
        return parties.open_card(message)

    @pytest.mark.parametrize("part", ["encrypted_key", "ciphertext", "tag"])
    def test_what_does_not_open_fails_in_one_way(self, parties: Registering, part: str) -> None:
        request = parties.check_card(parties.card_message())
        bytes_ = getattr(request.envelope, part)
        twin = replace(request, envelope=replace(request.envelope, **{part: bytes([bytes_[0] ^ 1]) + bytes_[1:]}))
        with pytest.raises(ProtocolError) as caught:
            issuer.open_card(twin, asks={"cvv2", "pin2"}, unseal=parties.opener(parties.bank_key))
        assert str(caught.value) == "F4 decodingFailure: card data must open"

    def data(self, parties: Registering, message: bytes, **changes: Any) -> PANData0:
        body = parties.check_cert(message)
        fields: dict[str, Any] = {
            "version": 2,
            "rrpid": body.body.rrpid,
            "h_spki": body.spki_sha256,
            "pan": parties.card.pan.reveal(),
            "expiry": parties.card.expiry.reveal(),
            "card_secret": parties.card.card_secret,
            "national_code": None,
            "phone_code": None,
            "cvv2": "3210",
            "pin2": "12345",
            "ex_nonce": bytes(32),
        }
        return PANData0(**(fields | changes))

    @pytest.mark.parametrize(
        "changes",
        [
            {"rrpid": bytes(20)},
            {"h_spki": bytes(32)},
            {"pan": "6037701000000008"},
            {"pan": "6219861000000009"},
            {"expiry": "0613"},
            {"card_secret": bytes(32)},
            {"cvv2": None},
            {"cvv2": "32"},
            {"pin2": "کارت"},
            {"phone_code": "123456"},
            {"version": 3},
        ],
    )
    def test_other_card_data(self, parties: Registering, changes: dict[str, Any]) -> None:
        draft = parties.cert_request()
        data = self.data(parties, parties.cert_message(draft), **changes)
        sealed = seal_to_key(der.encode(data), parties.bank_key.public_key(), SealingSuite.OAEP_SHA256, rng=parties.rng)
        message = parties.cert_message(draft, pan_envelope=sealed)
        with pytest.raises(ProtocolError) as caught:
            parties.open_card(parties.card_message(parties.check_cert(message)))
        error = caught.value
        assert (error.check, error.outward, error.outward_check) == ("F5", ErrorCode.DECODING_FAILURE, "F4")
        assert parties.card.pan.reveal() not in str(error)

    @pytest.mark.parametrize("plaintext", [b"", b"card", b"\x30\x00"])
    def test_no_card_data(self, parties: Registering, plaintext: bytes) -> None:
        with refused(ErrorCode.HASH_MISMATCH, "F5"):
            self._opened(parties, plaintext)


class TestMembers:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("merchant_id", "M 1"),
            ("name", ""),
            ("organisation", "Two  blanks"),
            ("acquirer_bin", "12345"),
            ("origin", "http://shop.example"),
            ("iban", "IR57"),
            ("licence", ""),
            ("national_code", "001234567"),
            ("hosts", ("Shop.example",)),
        ],
    )
    def test_a_merchant_out_of_form(self, parties: Registering, field: str, value: Any) -> None:
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.merchant_message(merchant=replace(MERCHANT, **{field: value}))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("gateway_id", ""),
            ("name", " "),
            ("organisation", ""),
            ("acquirer_bin", "bank"),
            ("hosts", ("-",)),
            ("suites", ("rsa",)),
        ],
    )
    def test_a_gateway_out_of_form(self, parties: Registering, field: str, value: Any) -> None:
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.gateway_message(gateway=replace(GATEWAY, **{field: value}))

    def test_a_purpose_that_does_not_exist(self, parties: Registering) -> None:
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.merchant_message(requests={"signing": csr(p256()), "spying": csr(p256())})

    def test_a_purpose_twice(self, parties: Registering) -> None:
        key = KeyRequest(purpose="signing", request=csr(p256()))
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            messages._check_requests([key, key])

    def test_one_key_for_two_purposes(self, parties: Registering) -> None:
        key = p256()
        message = parties.merchant_message(requests={"signing": csr(key), "tls": csr(key)}, by=key)
        with refused(ErrorCode.INVALID_CERTIFICATE, "C4"):
            parties.check_merchant(message)

    def test_a_merchant_that_signs_with_another_key(self, parties: Registering) -> None:
        with refused(ErrorCode.INVALID_CERTIFICATE, "C4"):
            parties.check_merchant(parties.merchant_message(by=p256()))

    def test_a_merchant_with_a_cards_challenge(self, parties: Registering) -> None:
        with refused(ErrorCode.CHALLENGE_MISMATCH, "C3"):
            parties.check_merchant(parties.merchant_message(chall_ca=parties.challenge()))

    def test_a_gateway_that_another_service_signs_for(self, parties: Registering) -> None:
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "C4"):
            parties.check_gateway(parties.gateway_message(by=parties.bank))

    def test_a_gateway_without_proof_of_possession(self, parties: Registering) -> None:
        requests = {"signing": _broken(csr(p256()))}
        with refused(ErrorCode.SIGNATURE_FAILURE, "C4"):
            parties.check_gateway(parties.gateway_message(requests=requests))

    def test_a_gateways_old_request(self, parties: Registering) -> None:
        long_ago = parties.now - DAY
        with refused(ErrorCode.CLOCK_SKEW, "K7"):
            parties.check_gateway(parties.gateway_message(now=long_ago))

    def test_wrappers_of_other_exchanges(self, parties: Registering) -> None:
        for make, check in (
            (parties.merchant_message, parties.check_merchant),
            (parties.gateway_message, parties.check_gateway),
        ):
            message = make()
            kind = unwrap_type(message)
            body = unwrap(message, expected=[kind]).body
            with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
                check(wrap(kind, body, rrpid=bytes(20)))


class TestAnswers:
    @pytest.fixture
    def sent(self, parties: Registering) -> answer.SentRequest:
        return parties.sent(parties.cert_message(), CT_CERT_RES, parties.card_keys())

    @pytest.mark.parametrize(
        ("changes", "code", "check"),
        [
            ({"rrpid": bytes(20)}, ErrorCode.CHALLENGE_MISMATCH, "D1"),
            ({"chall_ee": bytes(32)}, ErrorCode.CHALLENGE_MISMATCH, "D1"),
            ({"h_request": bytes(32)}, ErrorCode.HASH_MISMATCH, "D5"),
            ({"application": "x"}, ErrorCode.DECODING_FAILURE, "K1"),
            ({"nonce_cca": bytes(31)}, ErrorCode.DECODING_FAILURE, "K1"),
            ({"ask_again": 60}, ErrorCode.DECODING_FAILURE, "K1"),
            ({"certificates": []}, ErrorCode.DECODING_FAILURE, "K1"),
            ({"status": RegistrationStatus.REJECTED}, ErrorCode.DECODING_FAILURE, "K1"),
            ({"status": RegistrationStatus.REJECTED, "certificates": []}, ErrorCode.DECODING_FAILURE, "K1"),
        ],
    )
    def test_another_answer(
        self,
        parties: Registering,
        sent: answer.SentRequest,
        changes: dict[str, Any],
        code: ErrorCode,
        check: str,
    ) -> None:
        draft = altered(parties.respond(sent), **changes)
        with refused(code, check):
            parties.check_answer(parties.sealed(draft), sent)

    @pytest.mark.parametrize("seconds", [0, 604_801])
    def test_a_wait_that_nobody_keeps(self, parties: Registering, sent: answer.SentRequest, seconds: int) -> None:
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.respond(
                sent, status=RegistrationStatus.PENDING, ask_again=seconds, nonce_cca=None, certificates=None
            )

    def test_signed_by_another_service(self, parties: Registering, sent: answer.SentRequest) -> None:
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "D2"):
            parties.check_answer(parties.sealed(parties.respond(sent), by=parties.bank), sent)

    def test_sealed_to_another_key(self, parties: Registering, sent: answer.SentRequest) -> None:
        with refused(ErrorCode.ENVELOPE_MISMATCH, "D4"):
            parties.opened(parties.sealed(parties.respond(sent), key=rsa_key(8)))

    def test_what_does_not_open(self, parties: Registering, sent: answer.SentRequest) -> None:
        sealed = unwrap(parties.sealed(parties.respond(sent)), expected=[MT_CERT_RES])
        with refused(ErrorCode.DECODING_FAILURE, "D4"):
            parties.opened(wrap(MT_CERT_RES, _broken(sealed.body), rrpid=sealed.rrpid))

    def test_a_wrapper_of_another_exchange(self, parties: Registering, sent: answer.SentRequest) -> None:
        sealed = unwrap(parties.sealed(parties.respond(sent)), expected=[MT_CERT_RES])
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
            parties.check_answer(wrap(MT_CERT_RES, sealed.body, rrpid=bytes(20)), sent)

    def test_a_certificate_for_another_key(self, parties: Registering, sent: answer.SentRequest) -> None:
        chain = parties.certified_card(key=p256())
        with refused(ErrorCode.INVALID_CERTIFICATE, "D6"):
            parties.check_answer(parties.sealed(parties.respond(sent, certificates={"signing": chain})), sent)

    def test_a_certificate_of_another_role(self, parties: Registering, sent: answer.SentRequest) -> None:
        shop = parties.pki.merchant(key=parties.card_key)
        chains = {"signing": (shop.certificate, *shop.chain)}
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "D6"):
            parties.check_answer(parties.sealed(parties.respond(sent, certificates=chains)), sent)

    def test_a_certificate_that_is_none(self, parties: Registering, sent: answer.SentRequest) -> None:
        draft = parties.respond(sent)
        issued = replace(draft.body.certificates[0], chain=[b"junk"])
        with refused(ErrorCode.DECODING_FAILURE, "K1"):
            parties.check_answer(parties.sealed(altered(draft, certificates=[issued])), sent)

    def test_one_certificate_too_few(self, parties: Registering) -> None:
        checked = parties.check_merchant(message := parties.merchant_message())
        sent = parties.sent(message, CT_MER_CERT_RES, dict(checked.keys))
        signing = parties.pki.merchant(key=parties.merchant_keys["signing"])
        draft = parties.respond(sent, certificates={"signing": (signing.certificate, *signing.chain)})
        with refused(ErrorCode.INVALID_CERTIFICATE, "D6"):
            parties.check_answer(draft.message(parties.signed(draft, parties.ra)), sent)

    def test_the_answer_of_another_class(self, parties: Registering) -> None:
        checked = parties.check_merchant(message := parties.merchant_message())
        sent = parties.sent(message, CT_MER_CERT_RES, dict(checked.keys))
        other = replace(sent, answered_by=CT_GW_CERT_RES)
        waits = {"status": RegistrationStatus.PENDING, "ask_again": 60}
        draft = parties.respond(other, **waits)
        with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "K4"):
            parties.check_answer(draft.message(parties.signed(draft, parties.ra)), sent)

    @pytest.mark.parametrize(
        "wrong", ["commitment", "nonce", "constant secret", "other secret", "no chain", "no nonce"]
    )
    def test_a_commitment_to_another_card(self, parties: Registering, sent: answer.SentRequest, wrong: str) -> None:
        changes: dict[str, Any] = {}
        secret = parties.card.card_secret
        if wrong == "commitment":
            changes["certificates"] = {"signing": parties.certified_card("A" * 43)}
        elif wrong == "nonce":
            changes["nonce_cca"] = parties.rng(32)
        elif wrong == "no nonce":
            changes["nonce_cca"] = None
        elif wrong == "no chain":
            changes["certificates"] = {"signing": parties.certified_card()[:1]}
        else:
            secret = bytes(32) if wrong == "constant secret" else parties.rng(32)
        checked = parties.check_answer(parties.sealed(parties.respond(sent, **changes)), sent)
        with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "D7"):
            answer.check_commitment(checked, pan=parties.card.pan, expiry=parties.card.expiry, card_secret=secret)


def test_a_content_key_of_another_size_fails_like_a_wrong_one(parties: Registering) -> None:
    key: rsa.RSAPrivateKey = parties.bank_key
    sealed = seal_to_key(b"card", key.public_key(), SealingSuite.OAEP_SHA256, rng=parties.rng)
    envelope = parse_auth_enveloped(sealed)
    short = key.public_key().encrypt(bytes(16), oaep(SealingSuite.OAEP_SHA256))
    for twin in (replace(envelope, encrypted_key=short), replace(envelope, encrypted_key=bytes(384))):
        with pytest.raises(CmsError) as caught:
            unseal(twin, key, rng=parties.rng)
        assert caught.value.reason == "sealed"
