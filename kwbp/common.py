"""The common prefix K1 to K7 that every message passes, and what builders share.

A signed object is met in two steps that cannot be confused: `read_signed` gives a `Received`, whose structure is known
and whose every word is still hearsay; `verify_path` and `verify_signature` make it believable. Checks that refuse raise
`ProtocolError` with the id of the check that called them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from cryptography import x509
from cryptography.hazmat import asn1

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.structure import SIZE_LIMIT, Structure, decode, encode
from kwbp.wrapper import wrap
from pki import cms_signed
from pki.cms_enveloped import AuthEnveloped, parse_auth_enveloped
from pki.errors import CmsError, PkiError
from pki.path import Path, Trust, validate_path
from pki.roles import Role

WINDOW: Final = timedelta(seconds=120)
"""How far a live message's signing time may be from the receiver's clock, either way (KWBP global rule 6)."""

T = TypeVar("T", bound=Structure)

_STRUCTURE_CODES: Final = {
    "too_big": ErrorCode.MESSAGE_TOO_BIG,
    "wrong_content_type": ErrorCode.MESSAGE_NOT_SUPPORTED,
    "signer_missing": ErrorCode.MISSING_CERTIFICATE,
    "signer_mismatch": ErrorCode.INVALID_CERTIFICATE,
}
_PATH_CODES: Final = {
    "expired": ErrorCode.EXPIRED_CERTIFICATE,
    "revoked": ErrorCode.REVOKED_CERTIFICATE,
    "wrong_role": ErrorCode.ROLE_NOT_ALLOWED,
    "unknown_critical_extension": ErrorCode.UNRECOGNIZED_EXTENSION,
    "crl_missing": ErrorCode.BCI_STALE,
    "crl_expired": ErrorCode.BCI_STALE,
    "crl_not_yet_valid": ErrorCode.BCI_STALE,
}


def require(condition: bool, code: ErrorCode, check: str, detail: str) -> None:
    """Refuse unless `condition` holds.

    :raises ProtocolError: `code` at `check`, with `detail` saying what must hold.
    """
    if not condition:
        raise ProtocolError(code, check, detail)


@dataclass(frozen=True, slots=True)
class Received(Generic[T]):
    """A signed object of known structure (K1, K4). Not verified: nothing it says may be acted upon yet."""

    body: T
    signed: cms_signed.SignedData

    @property
    def signer(self) -> x509.Certificate:
        """The certificate that claims to have signed."""
        return self.signed.signer

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole ContentInfo: invoiceHash, hDualSig, hAuthReq, hAuthRes."""
        return self.signed.digest


@dataclass(frozen=True, slots=True)
class Draft(Generic[T]):
    """A content to be signed: `content_type` and `content` (DER) go to the signer, its SignedData to `message`."""

    content_type: x509.ObjectIdentifier
    body: T
    content: bytes
    rrpid: bytes
    xid: bytes | None

    @classmethod
    def of(cls, content_type: x509.ObjectIdentifier, body: T, *, rrpid: bytes, xid: bytes | None) -> Draft[T]:
        """Encode `body`, after the checks that its reader will make.

        :raises ProtocolError: a field is out of form (K1).
        """
        return cls(content_type, body, encode(body), rrpid, xid)

    def message(self, signed: bytes) -> bytes:
        """DER `KwbpMessage` around the SignedData that the signer made of this content."""
        return wrap(self.content_type, signed, rrpid=self.rrpid, xid=self.xid)


def read_signed(cls: type[T], content_type: x509.ObjectIdentifier, data: bytes) -> Received[T]:
    """K1 and K4: a SignedData of the profile over `content_type`, whose content is a `cls` in form. No cryptography.

    :param data: DER ContentInfo.
    :raises ProtocolError: messageTooBig, decodingFailure, versionTooOld, versionTooNew, amountMismatch (K1);
        decodingFailure, messageNotSupported (another content type), missingCertificate, invalidCertificate (K4).
    """
    _check_size(data)
    try:
        signed = cms_signed.parse_signed_data(data, content_type=content_type)
    except CmsError as error:
        raise _structure_error("SignedData", error) from None
    return Received(body=decode(cls, signed.content), signed=signed)


def read_envelope(data: bytes) -> AuthEnveloped:
    """K4: an AuthEnvelopedData of the profile. Nothing is opened, no key is needed.

    :raises ProtocolError: messageTooBig (K1), decodingFailure or messageNotSupported (K4).
    """
    _check_size(data)
    try:
        return parse_auth_enveloped(data)
    except CmsError as error:
        raise _structure_error("AuthEnvelopedData", error) from None


def _structure_error(what: str, error: CmsError) -> ProtocolError:
    code = _STRUCTURE_CODES.get(error.reason, ErrorCode.DECODING_FAILURE)
    return ProtocolError(code, "K4", f"must be {what} of the profile ({error.reason})")


def _check_size(data: bytes) -> None:
    require(len(data) <= SIZE_LIMIT, ErrorCode.MESSAGE_TOO_BIG, "K1", f"must have at most {SIZE_LIMIT} bytes")


def verify_path(
    leaf: x509.Certificate,
    extra: tuple[x509.Certificate, ...],
    *,
    role: Role,
    trust: Trust,
    now: datetime,
    check: str = "K5",
    check_revocation: bool = True,
) -> Path:
    """K5: `leaf` has `role` and a path to a pinned root that holds now, no certificate of it revoked.

    :param extra: certificates that came with the message; they help to build the path and prove nothing.
    :raises ProtocolError: expiredCertificate, revokedCertificate, roleNotAllowed, unrecognizedExtension, bciStale (a
        CRL is missing or not current), invalidCertificate for every other reason.
    """
    try:
        return validate_path(leaf, extra, trust=trust, now=now, roles=(role,), check_revocation=check_revocation)
    except PkiError as error:
        code = _PATH_CODES.get(error.reason, ErrorCode.INVALID_CERTIFICATE)
        raise ProtocolError(code, check, f"no path for a {role} certificate ({error.reason})") from None


def verify_signature(received: Received[T], *, check: str = "K6") -> None:
    """K6: the signature verifies under the signer's key.

    :raises ProtocolError: signatureFailure.
    """
    try:
        cms_signed.verify_signature(received.signed)
    except CmsError as error:
        raise ProtocolError(ErrorCode.SIGNATURE_FAILURE, check, f"signature does not verify ({error.reason})") from None


def verify_signer(
    received: Received[T],
    *,
    role: Role,
    trust: Trust,
    now: datetime,
    path_check: str = "K5",
    signature_check: str = "K6",
    check_revocation: bool = True,
) -> Path:
    """K5, then K6: who signed, and that it was signed. See `verify_path` and `verify_signature`."""
    path = verify_path(
        received.signer,
        received.signed.certificates,
        role=role,
        trust=trust,
        now=now,
        check=path_check,
        check_revocation=check_revocation,
    )
    verify_signature(received, check=signature_check)
    return path


def check_live(received: Received[T], date: asn1.GeneralizedTime, *, now: datetime) -> None:
    """K7 for a message made just now: |now - signingTime| ≤ 120 s, and the date inside says the same instant.

    :raises ProtocolError: messageTooOld or messageTooNew with a time hint, clockSkew.
    """
    if received.signed.signing_time < now - WINDOW:
        raise ProtocolError(ErrorCode.MESSAGE_TOO_OLD, "K7", "signing time is too old", time_hint=now)
    check_not_future(received, now=now)
    check_date(received, date, now=now)


def check_answer(
    received: Received[T], date: asn1.GeneralizedTime, *, asked: datetime, now: datetime, check: str = "K7"
) -> None:
    """K7 for an answer that may have been stored and is sent again: not older than the question, not from the future.

    :param asked: when the question was made, aware UTC.
    :raises ProtocolError: messageTooOld or messageTooNew with a time hint, clockSkew.
    """
    if received.signed.signing_time < asked - WINDOW:
        raise ProtocolError(ErrorCode.MESSAGE_TOO_OLD, check, "answer is older than the question", time_hint=now)
    check_not_future(received, now=now, check=check)
    check_date(received, date, now=now, check=check)


def check_not_future(received: Received[T], *, now: datetime, check: str = "K7") -> None:
    """The part of K7 that holds for every signed object, however old: nobody signs tomorrow.

    :raises ProtocolError: messageTooNew with a time hint.
    """
    if received.signed.signing_time > now + WINDOW:
        raise ProtocolError(ErrorCode.MESSAGE_TOO_NEW, check, "signing time lies in the future", time_hint=now)


def check_date(received: Received[T], date: asn1.GeneralizedTime, *, now: datetime, check: str = "K7") -> None:
    """The date in the content and the signing time beside it are one statement, made by two clocks of one party.

    :raises ProtocolError: clockSkew with a time hint.
    """
    if abs(instant(date) - received.signed.signing_time) > WINDOW:
        raise ProtocolError(ErrorCode.CLOCK_SKEW, check, "date and signing time disagree", time_hint=now)


def instant(time: asn1.GeneralizedTime) -> datetime:
    """A protocol time as an aware datetime in UTC."""
    return time.as_datetime().replace(tzinfo=UTC)
