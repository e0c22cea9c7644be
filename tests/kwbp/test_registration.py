"""Rows 1 to 5 played honestly: what each party reads is what the other one wrote, and OpenSSL reads it too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kwbp.codes import RegistrationStatus
from kwbp.registration import answer
from kwbp.registration.messages import PANData0
from kwbp.wrapper import unwrap
from pki.keys import spki_sha256
from pki.oids import CT_CERT_REQ, CT_CERT_RES, CT_GW_CERT_RES, CT_MER_CERT_RES, MT_CERT_RES, MT_MER_INIT_REQ
from tests.kwbp.registering import BIN, CPS, EXPIRY, GATEWAY, MERCHANT, PAN, Registering


@pytest.fixture(scope="module")
def parties() -> Registering:
    return Registering()


def test_a_wallet_learns_who_certifies_and_under_which_statement(parties: Registering) -> None:
    request = parties.ask_init()
    received = parties.receive_init(request.message)
    assert (received.body.rrpid, received.message) == (request.body.rrpid, request.message)
    draft = parties.init_response(received)
    checked = parties.check_init(draft.message(parties.signed(draft, parties.ra)), request)
    assert checked.issuer == parties.pki.cardholder_ca.certificate
    assert (checked.body.cps_id, checked.body.cps_version, checked.body.cps_digest) == CPS


def test_a_merchant_learns_of_another_authority(parties: Registering) -> None:
    request = parties.ask_init(MT_MER_INIT_REQ)
    draft = parties.init_response(parties.receive_init(request.message))
    checked = parties.check_init(draft.message(parties.signed(draft, parties.ra)), request)
    assert checked.issuer == parties.pki.merchant_ca.certificate
    assert checked.body.chall_ca == parties.challenge("merchant")


def test_the_form_is_the_banks_own(parties: Registering) -> None:
    request = parties.form_request()
    assert parties.receive_form(request.message).bin == BIN
    found = parties.held_form()
    assert (found.form.body.issuer, found.form.body.asks) == ("Bank One", ["cvv2", "pin2"])
    assert found.form.key == parties.bank_key.public_key()


def test_a_card_is_certified(parties: Registering) -> None:
    message = parties.cert_message()
    checked = parties.check_cert(message)
    opened = parties.open_card(parties.card_message(checked))
    assert (opened.pan, opened.expiry) == (parties.card.pan, parties.card.expiry)
    assert (opened.cvv2, opened.pin2) == (parties.card.cvv2, parties.card.pin2)
    assert opened.commitment == parties.commitment
    sent = parties.sent(message, CT_CERT_RES, parties.card_keys())
    response = parties.check_answer(parties.sealed(parties.respond(sent)), sent)
    assert response.body.status is RegistrationStatus.ISSUED
    secret = answer.check_commitment(
        response, pan=parties.card.pan, expiry=parties.card.expiry, card_secret=parties.card.card_secret
    )
    assert secret == opened.pan_secret


def test_all_that_a_form_can_ask_for_reaches_the_bank(parties: Registering) -> None:
    every = {"cvv2", "national_code", "phone_code", "pin2"}
    whole = type(parties.card)(
        pan=parties.card.pan,
        expiry=parties.card.expiry,
        card_secret=parties.card.card_secret,
        national_code="0012345679",
        phone_code="123456",
        cvv2=parties.card.cvv2,
        pin2=parties.card.pin2,
    )
    draft = parties.cert_request(checked=parties.held_form(asks=every), card_=whole)
    message = parties.card_message(parties.check_cert(parties.cert_message(draft)))
    opened = parties.open_card(message, asks=every)
    assert (opened.national_code, opened.phone_code) == ("0012345679", "123456")


def test_a_bank_need_not_ask_for_more_than_the_card(parties: Registering) -> None:
    bare = type(parties.card)(pan=parties.card.pan, expiry=parties.card.expiry, card_secret=parties.card.card_secret)
    draft = parties.cert_request(checked=parties.held_form(asks=set()), card_=bare)
    opened = parties.open_card(parties.card_message(parties.check_cert(parties.cert_message(draft))), asks=set())
    assert (opened.cvv2, opened.pin2) == (None, None)


def test_the_authority_sees_no_card(parties: Registering) -> None:
    message = parties.cert_message()
    passed_on = parties.card_message(parties.check_cert(message))
    for secret in (PAN.encode(), parties.card.card_secret, PAN[6:].encode(), b"12345"):
        assert secret not in message
        assert secret not in passed_on


def test_card_data_do_not_show_themselves(parties: Registering) -> None:
    checked = parties.check_cert(parties.cert_message())
    opened = parties.open_card(parties.card_message(checked))
    data = PANData0(
        version=2,
        rrpid=bytes(20),
        h_spki=bytes(32),
        pan=PAN,
        expiry=EXPIRY,
        card_secret=bytes(32),
        national_code=None,
        phone_code=None,
        cvv2=None,
        pin2=None,
        ex_nonce=bytes(32),
    )
    for shown in (repr(opened), repr(parties.card), repr(data)):
        assert PAN not in shown
        assert EXPIRY not in shown


def test_a_waiting_cardholder_is_told_when_to_ask_again(parties: Registering) -> None:
    message = parties.cert_message()
    sent = parties.sent(message, CT_CERT_RES, parties.card_keys())
    waits = {"nonce_cca": None, "certificates": None, "ask_again": 300, "status": RegistrationStatus.PENDING}
    response = parties.check_answer(parties.sealed(parties.respond(sent, **waits)), sent)
    assert (response.body.status, response.body.ask_again, response.chains) == (RegistrationStatus.PENDING, 300, {})


def test_a_merchant_is_certified(parties: Registering) -> None:
    message = parties.merchant_message()
    checked = parties.check_merchant(message)
    assert (checked.body.name, checked.body.iban, checked.body.licence) == (
        MERCHANT.name,
        MERCHANT.iban,
        MERCHANT.licence,
    )
    assert set(checked.requests) == {"signing", "tls"}
    sent = parties.sent(message, CT_MER_CERT_RES, dict(checked.keys))
    signing = parties.pki.merchant("M-1", key=parties.merchant_keys["signing"])
    tls = parties.pki.service("shop", key=parties.merchant_keys["tls"])
    chains = {"signing": (signing.certificate, *signing.chain), "tls": (tls.certificate, *tls.chain)}
    draft = parties.respond(sent, certificates=chains)
    response = parties.check_answer(draft.message(parties.signed(draft, parties.ra)), sent)
    assert response.chains == chains


def test_a_gateway_is_certified(parties: Registering) -> None:
    message = parties.gateway_message()
    checked = parties.check_gateway(message)
    assert checked.body.suites == sorted(GATEWAY.suites)
    assert checked.keys == {purpose: spki_sha256(key.public_key()) for purpose, key in parties.gateway_keys.items()}
    sent = parties.sent(message, CT_GW_CERT_RES, dict(checked.keys))
    signing = parties.pki.gateway_signing("GW-1", key=parties.gateway_keys["signing"])
    encryption = parties.pki.gateway_encryption("GW-1", key=parties.gateway_keys["encryption"])
    chains = {
        "signing": (signing.certificate, *signing.chain),
        "encryption": (encryption.certificate, *encryption.chain),
    }
    draft = parties.respond(sent, certificates=chains)
    response = parties.check_answer(draft.message(parties.signed(draft, parties.ra)), sent)
    assert response.chains == chains


def test_openssl_verifies_what_an_uncertified_key_signed(parties: Registering, tmp_path: Path) -> None:
    path = tmp_path / "request.p7s"
    path.write_bytes(unwrap(parties.cert_message(), expected=[CT_CERT_REQ]).body)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(path), "-noverify"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_openssl_opens_the_answer_with_the_one_time_key(parties: Registering, tmp_path: Path) -> None:
    sent = parties.sent(parties.cert_message(), CT_CERT_RES, parties.card_keys())
    sealed = parties.sealed(parties.respond(sent))
    key, answered = tmp_path / "key.pem", tmp_path / "answer.p7m"
    key.write_bytes(parties.one_time_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    answered.write_bytes(unwrap(sealed, expected=[MT_CERT_RES]).body)
    command = ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", str(answered), "-inkey", str(key)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == parties.opened(sealed).body
