"""The card's bank: the request that the registration authority passes on, and the card data that only the bank opens.

Both signatures, the authority's and the cardholder's, are verified before a private key of the bank is used, and the
card data say for which request and which key they are. So an authority can neither ask about a card without its holder
nor put another key beside the holder's card data.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.commitment import commitment_cn, pan_secret
from kwbp.common import Draft, Received, check_live, read_signed, require
from kwbp.errors import CommitmentError, ProtocolError, SealedCardError
from kwbp.registration.card import SIGNING, CheckedCertReq, ReceivedCertReq, read_cert_request
from kwbp.registration.messages import FORM_FIELDS, CardConfirmReqTBS, PANData0
from kwbp.registration.sealing import Unseal, is_for_key
from kwbp.registration.signers import RA, requested_keys, verify_own_key, verify_service
from kwbp.structure import decode
from kwbp.wrapper import KwbpMessage, check_header
from pki.algorithms import SealingSuite
from pki.cms_enveloped import AuthEnveloped
from pki.errors import CmsError
from pki.oids import CT_CARD_CONFIRM_REQ
from pki.path import Trust
from shetab.errors import ValueFormatError
from shetab.types import Cvv2, Expiry, Pan, Pin


def build_card_request(
    checked: CheckedCertReq, *, nonce_cca: bytes, ca_key_id: bytes, now: datetime
) -> Draft[CardConfirmReqTBS]:
    """CardConfirmReq, to be signed by the registration authority.

    :param nonce_cca: 32 fresh random bytes. :param ca_key_id: subjectKeyIdentifier of the cardholder CA.
    """
    body = CardConfirmReqTBS(
        version=fields.VERSION,
        rrpid=checked.body.rrpid,
        cert_req=checked.signed,
        nonce_cca=nonce_cca,
        ca_key_id=ca_key_id,
        date=fields.to_time(now),
    )
    return Draft.of(CT_CARD_CONFIRM_REQ, body, rrpid=checked.body.rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class ReceivedCardRequest:
    """A CardConfirmReq of known structure. Not verified."""

    received: Received[CardConfirmReqTBS]
    cert_req: ReceivedCertReq

    @property
    def bin(self) -> str:
        """Whose card it claims to be about."""
        return self.cert_req.received.body.bin


@dataclass(frozen=True, slots=True)
class VerifiedCardRequest:
    """A CardConfirmReq that the authority and the cardholder signed; its envelope may be opened.

    `digest` is SHA-256 of the cardholder's SignedData: the same attempt has the same.
    """

    body: CardConfirmReqTBS
    bin: str
    digest: bytes
    spki_sha256: bytes
    envelope: AuthEnveloped


def receive_card_request(message: KwbpMessage) -> ReceivedCardRequest:
    """CardConfirmReq: K1, K2, K4, on both signed objects and the envelope.

    :param message: from `unwrap(…, expected=[CT_CARD_CONFIRM_REQ])`.
    """
    received = read_signed(CardConfirmReqTBS, CT_CARD_CONFIRM_REQ, message.body)
    cert_req = read_cert_request(received.body.cert_req)
    check_header(message, CT_CARD_CONFIRM_REQ, rrpid=received.body.rrpid, xid=None)
    return ReceivedCardRequest(received, cert_req)


def check_card_request(
    found: ReceivedCardRequest, *, key: rsa.RSAPublicKey, suite: SealingSuite, trust: Trust, now: datetime
) -> VerifiedCardRequest:
    """CardConfirmReq: K5, K6, F1, K7, then F2 and F3. No private key is used.

    :param key: the bank's sealing key in force. :param suite: how it opens.
    :raises ProtocolError: see `kwbp.checks`.
    """
    body, inner = found.received.body, found.cert_req.received
    verify_service(found.received, RA, trust=trust, now=now, check="F1")
    check_live(found.received, body.date, now=now)
    require(
        inner.body.rrpid == body.rrpid, ErrorCode.WRAPPER_MSG_MISMATCH, "F2", "both requests must have the same RRPID"
    )
    spki = requested_keys({SIGNING: inner.body.request}, check="F2")[SIGNING]
    verify_own_key(inner, {spki}, check="F2")
    envelope = found.cert_req.envelope
    require(
        is_for_key(envelope, key) and envelope.suite is suite,
        ErrorCode.ENVELOPE_MISMATCH,
        "F3",
        "card data must be sealed to the key of the bank's form, by its suite",
    )
    return VerifiedCardRequest(body=body, bin=inner.body.bin, digest=inner.digest, spki_sha256=spki, envelope=envelope)


@dataclass(frozen=True, slots=True, repr=False)
class OpenedCard:
    """Card data as the holder gave them, in form; whether they are right is the bank's to say. Has no repr.

    `pan_secret` and `commitment` are what the certificate will commit to the card with.
    """

    pan: Pan
    expiry: Expiry
    national_code: str | None
    phone_code: str | None
    cvv2: Cvv2 | None
    pin2: Pin | None
    pan_secret: bytes
    commitment: str


def open_card(request: VerifiedCardRequest, *, asks: Collection[str], unseal: Unseal) -> OpenedCard:
    """F4 and F5: open the card data, and see that they are for this request and key and hold what the form asks.

    :param asks: what the bank's form asks for (`messages.FORM_FIELDS`).
    :raises ProtocolError: decodingFailure at F4, outwardly the same for everything that can be wrong here.
    """
    try:
        plaintext = unseal(request.envelope)
    except CmsError:
        raise ProtocolError(ErrorCode.DECODING_FAILURE, "F4", "card data must open") from None
    try:
        data = decode(PANData0, plaintext)
        if any((getattr(data, name) is not None) != (name in asks) for name in FORM_FIELDS):
            raise _refuse("card data must hold what the form asks for")
        if (data.rrpid, data.h_spki) != (request.body.rrpid, request.spki_sha256):
            raise _refuse("card data must be for this request and key")
        pan, expiry = Pan.parse(data.pan), Expiry.parse(data.expiry)
        if pan.bin[:6] != request.bin[:6]:
            raise _refuse("card must be of the BIN that the request names")
        secret = pan_secret(data.card_secret, request.body.nonce_cca, request.body.ca_key_id)
        return OpenedCard(
            pan=pan,
            expiry=expiry,
            national_code=data.national_code,
            phone_code=data.phone_code,
            cvv2=None if data.cvv2 is None else Cvv2.parse(data.cvv2),
            pin2=None if data.pin2 is None else Pin.parse(data.pin2),
            pan_secret=secret,
            commitment=commitment_cn(secret, pan, expiry),
        )
    except SealedCardError:
        raise
    except (ProtocolError, ValueFormatError, CommitmentError):
        raise _refuse("card data must be in form") from None


def _refuse(detail: str) -> SealedCardError:
    return SealedCardError(ErrorCode.HASH_MISMATCH, "F5", detail)
