"""Row 2: RegFormReq/Res: what the card's bank wants to know, and the key to which it is sealed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import Draft, Received, check_answer, instant, read_signed, require
from kwbp.registration.messages import IssuerFormTBS, RegFormReq, RegFormResTBS
from kwbp.registration.sealing import read_key
from kwbp.registration.signers import RA, issuer_identity, verify_service
from kwbp.structure import decode, encode
from kwbp.wrapper import KwbpMessage, check_header, wrap
from pki.algorithms import SealingSuite
from pki.keys import spki_der
from pki.oids import CT_ISSUER_FORM, CT_REG_FORM_RES, MT_REG_FORM_REQ
from pki.path import Trust


@dataclass(frozen=True, slots=True)
class FormRequest:
    """A RegFormReq as it was sent; `message` is the whole DER."""

    body: RegFormReq
    message: bytes


def build_form_request(*, rrpid: bytes, chall_ee: bytes, bin_: str) -> FormRequest:
    """RegFormReq (row 2); not signed.

    :param bin_: first 6 to 8 digits of the card.
    :raises ProtocolError: a field is out of form (K1).
    """
    body = RegFormReq(version=fields.VERSION, rrpid=rrpid, chall_ee=chall_ee, bin=bin_)
    return FormRequest(body, wrap(MT_REG_FORM_REQ, encode(body), rrpid=rrpid))


def receive_form_request(message: KwbpMessage) -> RegFormReq:
    """RegFormReq: K1, K2. Whether the BIN is served (C2) is the authority's to know."""
    body = decode(RegFormReq, message.body)
    check_header(message, MT_REG_FORM_REQ, rrpid=body.rrpid, xid=None)
    return body


def build_issuer_form(
    *,
    bin_: str,
    issuer: str,
    asks: Collection[str],
    key: rsa.RSAPublicKey,
    suite: SealingSuite,
    not_after: datetime,
    now: datetime,
) -> Draft[IssuerFormTBS]:
    """The form, to be signed by the bank.

    :param asks: names out of `messages.FORM_FIELDS`.
    :param key: what card data are sealed to until `not_after`, at least 3072 bits.
    """
    body = IssuerFormTBS(
        version=fields.VERSION,
        bin=bin_,
        issuer=issuer,
        asks=sorted(asks),
        sealing_key=spki_der(key),
        suite=str(suite),
        date=fields.to_time(now),
        not_after=fields.to_time(not_after),
    )
    return Draft.of(CT_ISSUER_FORM, body, rrpid=bytes(20), xid=None)


@dataclass(frozen=True, slots=True)
class IssuerForm:
    """A form that its bank signed and that is in force. `signed` is the SignedData (DER)."""

    body: IssuerFormTBS
    signed: bytes
    key: rsa.RSAPublicKey

    @property
    def suite(self) -> SealingSuite:
        """How to seal to the key."""
        return SealingSuite(self.body.suite)


def check_issuer_form(signed: bytes, *, bin_: str, trust: Trust, now: datetime) -> IssuerForm:
    """The bank's form (SignedData, DER): K1, K4, then D3.

    :raises ProtocolError: see `kwbp.checks`; roleNotAllowed if another bank signed, messageTooOld if the form is out of
        force.
    """
    received = read_signed(IssuerFormTBS, CT_ISSUER_FORM, signed)
    verify_service(
        received,
        issuer_identity(bin_),
        trust=trust,
        now=now,
        check="D3",
        path_check="D3",
        signature_check="D3",
    )
    return _in_force(received, bin_, now)


def _in_force(received: Received[IssuerFormTBS], bin_: str, now: datetime) -> IssuerForm:
    body = received.body
    require(
        body.bin[:6] == bin_[:6], ErrorCode.HASH_MISMATCH, "D3", "form must be for cards of the BIN that was asked for"
    )
    check_answer(received, body.date, asked=instant(body.date), now=now, check="D3")
    require(now <= instant(body.not_after), ErrorCode.MESSAGE_TOO_OLD, "D3", "form must be in force")
    return IssuerForm(body, received.signed.der, read_key(body.sealing_key, check="D3"))


def build_form_response(
    request: RegFormReq, *, issuer_form: bytes, chall_ca: bytes, now: datetime
) -> Draft[RegFormResTBS]:
    """RegFormRes (row 2), to be signed by the registration authority.

    :param issuer_form: the bank's SignedData (DER).
    """
    body = RegFormResTBS(
        version=fields.VERSION,
        rrpid=request.rrpid,
        chall_ee=request.chall_ee,
        chall_ca=chall_ca,
        bin=request.bin,
        issuer_form=issuer_form,
        date=fields.to_time(now),
    )
    return Draft.of(CT_REG_FORM_RES, body, rrpid=request.rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class CheckedForm:
    """A RegFormRes that holds: the bank's form and the authority's challenge."""

    body: RegFormResTBS
    form: IssuerForm


def check_form_response(
    message: KwbpMessage, *, request: RegFormReq, asked: datetime, trust: Trust, now: datetime
) -> CheckedForm:
    """RegFormRes: K1, K2, K4 to K7, then D1 to D3.

    :param message: from `unwrap(…, expected=[CT_REG_FORM_RES])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(RegFormResTBS, CT_REG_FORM_RES, message.body)
    body = received.body
    check_header(message, CT_REG_FORM_RES, rrpid=body.rrpid, xid=None)
    verify_service(received, RA, trust=trust, now=now, check="D2")
    check_answer(received, body.date, asked=asked, now=now)
    require(
        (body.rrpid, body.chall_ee, body.bin) == (request.rrpid, request.chall_ee, request.bin),
        ErrorCode.CHALLENGE_MISMATCH,
        "D1",
        "RRPID, challenge and BIN must be those of the request",
    )
    return CheckedForm(body, check_issuer_form(body.issuer_form, bin_=request.bin, trust=trust, now=now))
