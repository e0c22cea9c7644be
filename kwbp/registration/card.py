"""CertReq (row 3): what the wallet seals to the card's bank and signs, and what the registration authority checks.

The authority needs no secret for its checks and opens nothing: it sees a key, a BIN and a sealed object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import Draft, Received, check_live, read_envelope, read_signed, require
from kwbp.registration.challenge import check_challenge
from kwbp.registration.form import CheckedForm
from kwbp.registration.messages import FORM_FIELDS, CertReqTBS, PANData0
from kwbp.registration.sealing import read_key, seal_to_key
from kwbp.registration.signers import requested_keys, verify_own_key
from kwbp.structure import encode
from kwbp.wrapper import KwbpMessage, check_header
from pki.cms_enveloped import AuthEnveloped
from pki.der import sha256
from pki.keys import spki_der
from pki.oids import CT_CERT_REQ
from shetab.types import Cvv2, Expiry, Pan, Pin

SIGNING = "signing"
"""The one purpose of a cardholder's key."""


@dataclass(frozen=True, slots=True, repr=False)
class CardToEnrol:
    """The card as its holder types it in, and the wallet's secret. Has no repr."""

    pan: Pan
    expiry: Expiry
    card_secret: bytes
    national_code: str | None = None
    phone_code: str | None = None
    cvv2: Cvv2 | None = None
    pin2: Pin | None = None


def purpose_of(bin_: str) -> str:
    """What the challenge of a card's request is made for."""
    return f"card:{bin_}"


def build_cert_request(
    card: CardToEnrol,
    form: CheckedForm,
    *,
    rrpid: bytes,
    request: bytes,
    answer_key: rsa.RSAPublicKey,
    now: datetime,
    rng: Callable[[int], bytes],
) -> Draft[CertReqTBS]:
    """CertReq (row 3), to be signed with the key of `request`.

    :param rrpid: 20 fresh random bytes. :param request: PKCS#10 (DER).
    :param answer_key: the one-time key, at least 3072 bits, used for nothing else.
    :raises ProtocolError: K1 if the form asks for a field that is not there, or one is there that it does not ask for.
    """
    key = requested_keys({SIGNING: request}, check="C4")[SIGNING]
    given = {
        "cvv2": None if card.cvv2 is None else card.cvv2.reveal(),
        "national_code": card.national_code,
        "phone_code": card.phone_code,
        "pin2": None if card.pin2 is None else card.pin2.reveal(),
    }
    for name in FORM_FIELDS:
        if (given[name] is not None) != (name in form.form.body.asks):
            raise fields.refuse(name, "must be there if the bank's form asks for it, and only then")
    data = PANData0(
        version=fields.VERSION,
        rrpid=rrpid,
        h_spki=key,
        pan=card.pan.reveal(),
        expiry=card.expiry.reveal(),
        card_secret=card.card_secret,
        ex_nonce=rng(32),
        **given,
    )
    body = CertReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        chall_ee=form.body.chall_ee,
        chall_ca=form.body.chall_ca,
        bin=form.body.bin,
        request=request,
        answer_key=spki_der(answer_key),
        pan_envelope=seal_to_key(encode(data), form.form.key, form.form.suite, rng=rng),
        date=fields.to_time(now),
    )
    return Draft.of(CT_CERT_REQ, body, rrpid=rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class ReceivedCertReq:
    """A CertReq of known structure. Not verified."""

    received: Received[CertReqTBS]
    envelope: AuthEnveloped


@dataclass(frozen=True, slots=True)
class CheckedCertReq:
    """A CertReq that its key signed, asked for by nobody else.

    `digest` is SHA-256 of `signed` (the SignedData, DER), `spki_sha256` that of the key to be certified,
    `answer_key_sha256` that of the one-time key.
    """

    body: CertReqTBS
    signed: bytes
    digest: bytes
    spki_sha256: bytes
    answer_key: rsa.RSAPublicKey
    answer_key_sha256: bytes


def read_cert_request(signed: bytes) -> ReceivedCertReq:
    """K1 and K4 of the SignedData and of the envelope inside."""
    received = read_signed(CertReqTBS, CT_CERT_REQ, signed)
    return ReceivedCertReq(received, read_envelope(received.body.pan_envelope))


def receive_cert_request(message: KwbpMessage) -> ReceivedCertReq:
    """CertReq: K1, K2, K4.

    :param message: from `unwrap(…, expected=[CT_CERT_REQ])`.
    """
    found = read_cert_request(message.body)
    check_header(message, CT_CERT_REQ, rrpid=found.received.body.rrpid, xid=None)
    return found


def check_cert_request(found: ReceivedCertReq, *, secret: bytes, now: datetime) -> CheckedCertReq:
    """CertReq: C4, K6, C3, K7, C5.

    :param secret: the authority's own, for its challenges.
    :raises ProtocolError: see `kwbp.checks`.
    """
    body = found.received.body
    key = requested_keys({SIGNING: body.request}, check="C4")[SIGNING]
    verify_own_key(found.received, {key}, check="C4")
    check_challenge(secret, purpose_of(body.bin), body.chall_ee, body.chall_ca, now=now)
    check_live(found.received, body.date, now=now)
    answer_key = read_key(body.answer_key, check="C5")
    one_time = sha256(body.answer_key)
    require(one_time != key, ErrorCode.INVALID_CERTIFICATE, "C5", "one-time key must not be the key to be certified")
    return CheckedCertReq(
        body=body,
        signed=found.received.signed.der,
        digest=found.received.digest,
        spki_sha256=key,
        answer_key=answer_key,
        answer_key_sha256=one_time,
    )
