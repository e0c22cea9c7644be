"""A small world in which certificates are asked for: one wallet, one merchant, one gateway, one bank, one authority.

Each step takes as a parameter whatever a hostile twin wants different; keys are software keys, shared by the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import RegistrationStatus
from kwbp.commitment import commitment_cn, pan_secret
from kwbp.common import Draft
from kwbp.registration import answer, card, form, init, issuer, members, signers
from kwbp.registration.challenge import make_challenge
from kwbp.wrapper import KwbpMessage, unwrap
from pki import cms_signed, der
from pki.algorithms import SealingSuite
from pki.cms_enveloped import AuthEnveloped, unseal
from pki.der import sha256
from pki.extensions import extensions_of, subject_key_id
from pki.keys import spki_sha256
from pki.names import name
from pki.oids import (
    CT_CARD_CONFIRM_REQ,
    CT_CARD_INIT_RES,
    CT_CERT_REQ,
    CT_CERT_RES,
    CT_GW_CERT_REQ,
    CT_GW_CERT_RES,
    CT_ISSUER_FORM,
    CT_MER_CERT_REQ,
    CT_MER_CERT_RES,
    CT_MER_INIT_RES,
    CT_REG_FORM_RES,
    MT_CARD_INIT_REQ,
    MT_CERT_RES,
    MT_MER_INIT_REQ,
    MT_REG_FORM_REQ,
)
from pki.path import Trust
from shetab.types import Cvv2, Expiry, Pan, Pin
from tests.support.pki_factory import DAY, Credential, Key, PkiFactory, p256, rsa_key

PAN: Final = "6037701000000007"
BIN: Final = "603770"
EXPIRY: Final = "0612"
BRAND: Final = "Shetab"
APPLICATION: Final = "ab" * 16
CPS: Final = ("kwbp-cps", "1.0.0", bytes(32))
MERCHANT: Final = members.MerchantToEnrol(
    merchant_id="M-1",
    name="کتاب‌فروشی",
    organisation="Bookshop Co",
    acquirer_bin=BIN,
    iban="IR570560123456789012345678",
    licence="1404/12-7",
    origin="https://shop.example",
    national_code="0012345679",
    hosts=("localhost", "127.0.0.1"),
)
GATEWAY: Final = members.GatewayToEnrol(
    gateway_id="GW-1",
    name="Gateway One",
    organisation="Acquirer",
    acquirer_bin=BIN,
    suites=("oaep-sha256", "oaep-sha1"),
    hosts=("gateway.example",),
)


def csr(key: Key) -> bytes:
    """A PKCS#10 request (DER) whose names mean nothing."""
    request = x509.CertificateSigningRequestBuilder().subject_name(name(cn="ignored")).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


class Registering:
    """The parties, their keys, and one clock. Not changed by anything that a test does with it."""

    def __init__(self, pki: PkiFactory | None = None) -> None:
        self.pki = pki or PkiFactory()
        self.now: datetime = self.pki.now
        self.random = random.Random(1404)  # reproducible tests, no secrets
        self.ra = self.pki.service("ra")
        self.bank = self.pki.service(f"issuer-{BIN}")
        self.other_bank = self.pki.service("issuer-621986")
        self.gateway = self.pki.service("gateway")
        self.secret = self.rng(32)
        self.chall_ee = self.rng(32)
        self.nonce_cca = self.rng(32)
        self.card_key = p256()
        self.bank_key = rsa_key(4)
        self.one_time_key = rsa_key(5)
        self.card = card.CardToEnrol(
            pan=Pan(PAN), expiry=Expiry(EXPIRY), card_secret=self.rng(32), cvv2=Cvv2("3210"), pin2=Pin("12345")
        )
        self.merchant_keys = {"signing": p256(), "tls": p256()}
        self.gateway_keys: dict[str, Key] = {"encryption": rsa_key(6), "signing": p256()}

    def rng(self, size: int) -> bytes:
        return self.random.randbytes(size)

    @cached_property
    def trust(self) -> Trust:
        return self.pki.trust()

    @cached_property
    def thumb(self) -> bytes:
        """SHA-256 of the root."""
        return self.pki.root.certificate.fingerprint(hashes.SHA256())

    @cached_property
    def ca_key_id(self) -> bytes:
        found = subject_key_id(extensions_of(self.pki.cardholder_ca.certificate))
        assert found is not None
        return found

    def signed(self, draft: Draft[Any], by: Credential, **changes: Any) -> bytes:
        """The draft's SignedData by a credential."""
        return by.sign(draft.content_type, draft.content, **changes)

    def own(self, draft: Draft[Any], key: Key, *, at: datetime | None = None) -> bytes:
        """The draft's SignedData by a key that has no certificate yet."""
        now = at or self.now
        certificate = signers.self_signed(key, now=now)
        return cms_signed.sign(
            draft.content_type, draft.content, key=key, signer=certificate, chain=(), signing_time=now
        )

    def opener(self, key: Any) -> Callable[[AuthEnveloped], bytes]:
        """A keeper of a private key."""
        return partial(unseal, key=key, rng=self.rng)

    # Row 1 and 4, first half

    def ask_init(self, message_type: x509.ObjectIdentifier = MT_CARD_INIT_REQ, **changes: Any) -> init.InitRequest:
        arguments: dict[str, Any] = {
            "rrpid": self.rng(20),
            "chall_ee": self.chall_ee,
            "brand_id": BRAND,
            "thumbs": [self.thumb],
        }
        return init.build_init_request(message_type, **(arguments | changes))

    def receive_init(self, message: bytes) -> init.InitRequest:
        found = unwrap(message, expected=[MT_CARD_INIT_REQ, MT_MER_INIT_REQ])
        return init.receive_init_request(found, brands={BRAND}, roots=[self.thumb])

    def init_response(self, request: init.InitRequest, **changes: Any) -> Draft[Any]:
        card_ = request.message_type == MT_CARD_INIT_REQ
        arguments: dict[str, Any] = {
            "chall_ca": self.challenge("merchant"),
            "issuer": (self.pki.cardholder_ca if card_ else self.pki.merchant_ca).certificate,
            "cps": CPS,
            "now": self.now,
        }
        return init.build_init_response(request, **(arguments | changes))

    def check_init(self, message: bytes, request: init.InitRequest) -> init.CheckedInit:
        expected = [CT_CARD_INIT_RES if request.message_type == MT_CARD_INIT_REQ else CT_MER_INIT_RES]
        return init.check_init_response(
            unwrap(message, expected=expected), request=request, asked=self.now, trust=self.trust, now=self.now
        )

    def challenge(self, purpose: str = f"card:{BIN}", *, at: datetime | None = None) -> bytes:
        return make_challenge(self.secret, purpose, self.chall_ee, now=at or self.now)

    # Row 2

    def form_request(self, **changes: Any) -> form.FormRequest:
        arguments: dict[str, Any] = {"rrpid": self.rng(20), "chall_ee": self.chall_ee, "bin_": BIN}
        return form.build_form_request(**(arguments | changes))

    def receive_form(self, message: bytes) -> Any:
        return form.receive_form_request(unwrap(message, expected=[MT_REG_FORM_REQ]))

    def issuer_form(self, *, by: Credential | None = None, **changes: Any) -> bytes:
        arguments: dict[str, Any] = {
            "bin_": BIN,
            "issuer": "Bank One",
            "asks": {"cvv2", "pin2"},
            "key": self.bank_key.public_key(),
            "suite": SealingSuite.OAEP_SHA256,
            "not_after": self.now + DAY,
            "now": self.now,
        }
        draft = form.build_issuer_form(**(arguments | changes))
        assert draft.content_type == CT_ISSUER_FORM
        return self.signed(draft, by or self.bank)

    def form_response(self, request: form.FormRequest, **changes: Any) -> Draft[Any]:
        arguments: dict[str, Any] = {
            "issuer_form": changes.pop("issuer_form", None) or self.issuer_form(),
            "chall_ca": self.challenge(),
            "now": self.now,
        }
        return form.build_form_response(request.body, **(arguments | changes))

    def check_form(self, message: bytes, request: form.FormRequest) -> form.CheckedForm:
        found = unwrap(message, expected=[CT_REG_FORM_RES])
        return form.check_form_response(found, request=request.body, asked=self.now, trust=self.trust, now=self.now)

    def held_form(self, **changes: Any) -> form.CheckedForm:
        """A form that the wallet checked; `changes` go to the bank's form."""
        request = self.form_request()
        draft = self.form_response(request, issuer_form=self.issuer_form(**changes))
        return self.check_form(draft.message(self.signed(draft, self.ra)), request)

    # Row 3

    def cert_request(
        self,
        *,
        checked: form.CheckedForm | None = None,
        card_: card.CardToEnrol | None = None,
        key: Key | None = None,
        **changes: Any,
    ) -> Draft[Any]:
        arguments: dict[str, Any] = {
            "rrpid": self.rng(20),
            "request": csr(key or self.card_key),
            "answer_key": self.one_time_key.public_key(),
            "now": self.now,
            "rng": self.rng,
        }
        return card.build_cert_request(card_ or self.card, checked or self.held_form(), **(arguments | changes))

    def cert_message(self, draft: Draft[Any] | None = None, *, by: Key | None = None, **changes: Any) -> bytes:
        """A CertReq on the wire; `changes` replace members of its signed content."""
        draft = draft or self.cert_request()
        draft = altered(draft, **changes)
        return draft.message(self.own(draft, by or self.card_key))

    def check_cert(self, message: bytes, *, now: datetime | None = None) -> card.CheckedCertReq:
        found = card.receive_cert_request(unwrap(message, expected=[CT_CERT_REQ]))
        return card.check_cert_request(found, secret=self.secret, now=now or self.now)

    def card_request(self, checked: card.CheckedCertReq, **changes: Any) -> Draft[Any]:
        arguments: dict[str, Any] = {"nonce_cca": self.nonce_cca, "ca_key_id": self.ca_key_id, "now": self.now}
        return issuer.build_card_request(checked, **(arguments | changes))

    def card_message(self, checked: card.CheckedCertReq | None = None, *, by: Credential | None = None) -> bytes:
        draft = self.card_request(checked or self.check_cert(self.cert_message()))
        return draft.message(self.signed(draft, by or self.ra))

    def check_card(self, message: bytes, **changes: Any) -> issuer.VerifiedCardRequest:
        found = issuer.receive_card_request(unwrap(message, expected=[CT_CARD_CONFIRM_REQ]))
        arguments: dict[str, Any] = {
            "key": self.bank_key.public_key(),
            "suite": SealingSuite.OAEP_SHA256,
            "trust": self.trust,
            "now": self.now,
        }
        return issuer.check_card_request(found, **(arguments | changes))

    def open_card(self, message: bytes, **changes: Any) -> issuer.OpenedCard:
        arguments: dict[str, Any] = {"asks": {"cvv2", "pin2"}, "unseal": self.opener(self.bank_key)}
        return issuer.open_card(self.check_card(message), **(arguments | changes))

    # Rows 4 and 5

    def merchant_message(self, *, by: Key | None = None, merchant: Any = MERCHANT, **changes: Any) -> bytes:
        arguments: dict[str, Any] = {
            "rrpid": self.rng(20),
            "chall_ee": self.chall_ee,
            "chall_ca": self.challenge("merchant"),
            "requests": {purpose: csr(key) for purpose, key in self.merchant_keys.items()},
            "now": self.now,
        }
        draft = members.build_merchant_request(merchant, **(arguments | changes))
        return draft.message(self.own(draft, by or self.merchant_keys["tls"]))

    def check_merchant(self, message: bytes) -> members.CheckedMember[Any]:
        received = members.receive_merchant_request(unwrap(message, expected=[CT_MER_CERT_REQ]))
        return members.check_merchant_request(received, secret=self.secret, now=self.now)

    def gateway_message(self, *, by: Credential | None = None, gateway: Any = GATEWAY, **changes: Any) -> bytes:
        arguments: dict[str, Any] = {
            "rrpid": self.rng(20),
            "chall_ee": self.chall_ee,
            "requests": {purpose: csr(key) for purpose, key in self.gateway_keys.items()},
            "attestations": [b"\x30\x00", b"\x30\x01\x00"],
            "now": self.now,
        }
        draft = members.build_gateway_request(gateway, **(arguments | changes))
        return draft.message(self.signed(draft, by or self.gateway))

    def check_gateway(self, message: bytes) -> members.CheckedMember[Any]:
        received = members.receive_gateway_request(unwrap(message, expected=[CT_GW_CERT_REQ]))
        return members.check_gateway_request(received, trust=self.trust, now=self.now)

    # Answers

    def certified_card(self, commitment: str | None = None, **changes: Any) -> tuple[x509.Certificate, ...]:
        """A certificate for the card's key, and those above it."""
        credential = self.pki.cardholder(commitment or self.commitment, **{"key": self.card_key, **changes})
        return (credential.certificate, *credential.chain)

    @cached_property
    def commitment(self) -> str:
        secret = pan_secret(self.card.card_secret, self.nonce_cca, self.ca_key_id)
        return commitment_cn(secret, self.card.pan, self.card.expiry)

    def sent(self, message: bytes, answered_by: x509.ObjectIdentifier, keys: dict[str, bytes]) -> answer.SentRequest:
        """What the applicant keeps of `message`."""
        inner = unwrap(message, expected=[CT_CERT_REQ, CT_MER_CERT_REQ, CT_GW_CERT_REQ])
        return answer.SentRequest(answered_by, inner.rrpid, self.chall_ee, sha256(inner.body), keys, self.now)

    def respond(self, sent: answer.SentRequest, **changes: Any) -> Draft[Any]:
        arguments: dict[str, Any] = {
            "rrpid": sent.rrpid,
            "chall_ee": sent.chall_ee,
            "digest": sent.digest,
            "application": APPLICATION,
            "status": RegistrationStatus.ISSUED,
            "now": self.now,
        }
        if sent.answered_by == CT_CERT_RES:
            arguments |= {"nonce_cca": self.nonce_cca, "certificates": {"signing": self.certified_card()}}
        return answer.build_answer(sent.answered_by, **(arguments | changes))

    def sealed(self, draft: Draft[Any], *, by: Credential | None = None, key: Any = None) -> bytes:
        """A CertRes on the wire."""
        public = (key or self.one_time_key).public_key()
        return answer.seal_cert_response(self.signed(draft, by or self.ra), public, rrpid=draft.rrpid, rng=self.rng)

    def opened(self, message: bytes) -> KwbpMessage:
        return answer.open_cert_response(
            unwrap(message, expected=[MT_CERT_RES]),
            key=self.one_time_key.public_key(),
            unseal=self.opener(self.one_time_key),
        )

    def check_answer(self, message: bytes, sent: answer.SentRequest) -> answer.CheckedAnswer:
        if sent.answered_by == CT_CERT_RES:
            found = self.opened(message)
        else:
            found = unwrap(message, expected=[CT_MER_CERT_RES, CT_GW_CERT_RES])
        return answer.check_response(found, sent=sent, trust=self.trust, now=self.now)

    def card_keys(self) -> dict[str, bytes]:
        return {"signing": spki_sha256(self.card_key.public_key())}


def altered(draft: Draft[Any], **changes: Any) -> Draft[Any]:
    """The draft with members of its content replaced, encoded without the checks of its builder."""
    if not changes:
        return draft
    body = replace(draft.body, **changes)
    return Draft(draft.content_type, body, der.encode(body), changes.get("rrpid", draft.rrpid), None)
