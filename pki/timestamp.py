"""Time-stamps for those who rely on them: ask for one, judge the answer (RFC 3161 2.4, RFC 5816).

A token is believed about some bytes if it is over their hash, under our policy, carries the nonce of the question, and
is signed by a certificate that does nothing but stamp (RFC 3161 2.3) and had a path to a pinned root at genTime. That
the certificate of ESSCertIDv2 is the signer's is part of every SignedData here (`pki.cms_signed`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki import oids
from pki.cms_signed import SignedData, parse_signed_data, verify_signature
from pki.der import any_value, decode, encode, tlv
from pki.errors import CmsError, DerError, PathError, TimestampError
from pki.extensions import extensions_of
from pki.path import Trust, validate_path
from pki.roles import Role
from pki.timestamp_structures import (
    IMPRINT_ALGORITHMS,
    Accuracy,
    Failure,
    Granted,
    NotGranted,
    PkiStatusInfo,
    Status,
    TimeStampReq,
    TstInfo,
    imprint_of,
)

MAX_RESPONSE: Final = 65_536
"""Largest TimeStampResp that is read, bytes."""
MAX_ACCURACY: Final = timedelta(seconds=60)
"""A token that is less accurate proves nothing here."""
_SIGNING_TIME: Final = timedelta(seconds=60)
"""How far signingTime may be from genTime: they are one moment, by two clocks."""
_DIRECTORY_NAME: Final = 0xA4
_CLAUSE: Final = "RFC 3161 2.4.2"


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A token that was believed: some bytes existed at `gen_time` (aware UTC), give or take `accuracy`.

    `accuracy` is None where the authority does not say. `der` is the token, `path` from the authority to the root.
    """

    gen_time: datetime
    accuracy: timedelta | None
    serial: int
    algorithm: str
    path: tuple[x509.Certificate, ...]
    der: bytes


def build_query(
    data: bytes, *, nonce: int | None, algorithm: str = "sha256", policy: x509.ObjectIdentifier | None = None
) -> bytes:
    """A TimeStampReq (DER) for `data`, which asks for the authority's certificates; `algorithm` as hashlib names it."""
    return encode(
        TimeStampReq(
            version=1,
            message_imprint=imprint_of(data, algorithm),
            req_policy=policy,
            nonce=nonce,
            cert_req=True,
            extensions=None,
        )
    )


def read_response(der: bytes) -> bytes:
    """The TimeStampToken (DER) of a TimeStampResp.

    Raises TimestampError: `malformed`; `rejected`, whose detail names the failure, if no token was granted.
    """
    try:
        granted = decode(Granted, der, limit=MAX_RESPONSE)
    except DerError:
        pass
    else:
        if granted.status.status not in {Status.GRANTED, Status.GRANTED_WITH_MODS}:
            raise TimestampError("malformed", "a token came with a status that grants none", clause=_CLAUSE)
        return encode(granted.time_stamp_token)
    try:
        status = decode(NotGranted, der, limit=MAX_RESPONSE).status
    except DerError:
        raise TimestampError("malformed", "not a TimeStampResp in DER", clause=_CLAUSE) from None
    raise TimestampError("rejected", f"the authority gave no time-stamp: {_failures(status)}", clause=_CLAUSE)


def _failures(status: PkiStatusInfo) -> str:
    """Names of the bits that are set. What the authority says in words may be anything, and is not repeated."""
    bits = b"" if status.fail_info is None else status.fail_info.as_bytes()
    named = [
        failure.name for failure in Failure if failure // 8 < len(bits) and bits[failure // 8] & 0x80 >> failure % 8
    ]
    return ", ".join(named) or f"status {status.status}"


def verify_token(
    token: bytes,
    data: bytes,
    *,
    trust: Trust,
    nonce: int | None = None,
    certificates: Sequence[x509.Certificate] = (),
    check_revocation: bool = True,
) -> Timestamp:
    """Judge the TimeStampToken `token` (DER) over the bytes `data`; what `trust` says is judged at its genTime.

    `nonce` is that of the question, None if none was asked with. `certificates` complete a token that came without
    (RFC 3161 2.4.1, certReq). Without `check_revocation` the caller judges that: where the lists of genTime are gone.

    Raises TimestampError: what `pki.cms_signed` finds wrong, under its reasons; `malformed`, `bad_version`,
    `unknown_policy`, `bad_algorithm`, `wrong_imprint`, `wrong_nonce`, `bad_accuracy`, `wrong_tsa` (the token names
    another than its signer), `bad_time` (signingTime is another moment), `bad_key_usage`; and as `validate_path`.
    """
    try:
        if certificates:
            token = with_certificates(token, certificates)
        signed = parse_signed_data(token, content_type=oids.CT_TST_INFO)
        verify_signature(signed)
        info = decode(TstInfo, signed.content)
        gen_time = info.gen_time.as_datetime().replace(tzinfo=UTC)
    except CmsError as error:
        raise TimestampError(error.reason, error.detail, clause=error.clause) from None
    except DerError:
        raise _refuse("malformed", "not a TSTInfo of the profile") from None
    algorithm = _check_content(info, data, nonce)
    _check_signer(info, signed, gen_time)
    try:
        path = validate_path(
            signed.signer,
            signed.certificates,
            trust=trust,
            now=gen_time,
            roles=[Role.TIMESTAMP_AUTHORITY],
            check_revocation=check_revocation,
        )
    except PathError as error:
        raise TimestampError(error.reason, error.detail, clause=error.clause) from None
    return Timestamp(gen_time, _accuracy(info.accuracy), info.serial_number, algorithm, path.certificates, token)


def _check_content(info: TstInfo, data: bytes, nonce: int | None) -> str:
    """What the token says of the bytes and the question; the name of its hash."""
    if info.version != 1:
        raise _refuse("bad_version", "a TSTInfo is of version 1")
    if info.policy != oids.POLICY_TIMESTAMP:
        raise _refuse("unknown_policy", "the policy is not that of our time-stamps")
    algorithm = IMPRINT_ALGORITHMS.get(encode(info.message_imprint.hash_algorithm))
    if algorithm is None:
        raise _refuse("bad_algorithm", "the imprint is by SHA-256, SHA-384 or SHA-512")
    if info.message_imprint.hashed_message != hashlib.new(algorithm, data).digest():
        raise _refuse("wrong_imprint", "the token is over other bytes")
    if info.nonce != nonce:
        raise _refuse("wrong_nonce", "the token does not answer this question")
    return algorithm


def _accuracy(accuracy: Accuracy | None) -> timedelta | None:
    if accuracy is None:
        return None
    parts = (accuracy.seconds, accuracy.millis, accuracy.micros)
    seconds, millis, micros = (0 if part is None else part for part in parts)
    if not (0 <= seconds <= MAX_ACCURACY.seconds and 0 <= millis <= 999 and 0 <= micros <= 999):
        raise _refuse("bad_accuracy", "accuracy is out of range")
    return timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)


def _check_signer(info: TstInfo, signed: SignedData, gen_time: datetime) -> None:
    if encode(info.tsa) != tlv(_DIRECTORY_NAME, signed.signer.subject.public_bytes()):
        raise _refuse("wrong_tsa", "the token names another authority than its signer")
    if abs(signed.signing_time - gen_time) > _SIGNING_TIME:
        raise _refuse("bad_time", "signingTime and genTime are not one moment")
    # That timeStamping is its only use is part of the role; that it is critical, of time-stamping alone.
    critical = [each.critical for each in extensions_of(signed.signer) if isinstance(each.value, x509.ExtendedKeyUsage)]
    if critical != [True]:
        raise TimestampError("bad_key_usage", "extendedKeyUsage is not critical", clause="RFC 3161 2.3")


def _refuse(reason: str, detail: str) -> TimestampError:
    return TimestampError(reason, detail, clause=_CLAUSE)


# -- certReq: certificates are no part of what is signed, so they can be left out and put back -------------------------


@asn1.sequence
class _SignedData:
    version: int
    digest_algorithms: asn1.TLV
    encap_content_info: asn1.TLV
    certificates: Annotated[asn1.SetOf[x509.Certificate] | None, asn1.Implicit(0)]
    signer_infos: asn1.TLV


@asn1.sequence
class _ContentInfo:
    content_type: x509.ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


def without_certificates(token: bytes) -> bytes:
    """The token (DER) without its certificates; DerError if it is no SignedData."""
    return _replaced(token, None)


def with_certificates(token: bytes, certificates: Sequence[x509.Certificate]) -> bytes:
    """The token (DER) with these certificates instead of its own; DerError if it is no SignedData."""
    return _replaced(token, asn1.SetOf(list(dict.fromkeys(certificates))))


def _replaced(token: bytes, certificates: asn1.SetOf[x509.Certificate] | None) -> bytes:
    info = decode(_ContentInfo, token)
    signed = info.content
    changed = _SignedData(
        version=signed.version,
        digest_algorithms=signed.digest_algorithms,
        encap_content_info=signed.encap_content_info,
        certificates=certificates,
        signer_infos=signed.signer_infos,
    )
    return encode(_ContentInfo(content_type=info.content_type, content=changed))


def grant(token: bytes) -> bytes:
    """The TimeStampResp (DER) that carries a token."""
    status = PkiStatusInfo(status=Status.GRANTED, status_string=None, fail_info=None)
    return encode(Granted(status=status, time_stamp_token=any_value(token)))


def reject(failure: Failure, text: str) -> bytes:
    """The TimeStampResp (DER) that gives no token; `text` is for people."""
    return encode(
        NotGranted(status=PkiStatusInfo(status=Status.REJECTION, status_string=[text], fail_info=failure.bits))
    )
