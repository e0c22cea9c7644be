"""Typed signing of certificate status: may this responder say this, now? (RFC 6960 4.2.1, RFC 9654)

A responder speaks for the one authority that certified it (RFC 6960 4.2.2.2), and for a short time. Which certificates
are revoked is the CA's knowledge; that it says so about its own certificates only, and not for ever, is judged here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from hsm_service.judging import CLOCK_SKEW, SigningKey, parse, reading, refuse
from pki.algorithms import certificate_signature_identifier
from pki.der import encode
from pki.errors import DerError
from pki.ocsp_structures import (
    GOOD,
    ID_PKIX_OCSP_ARCHIVE_CUTOFF,
    ID_PKIX_OCSP_EXTENDED_REVOKE,
    ID_PKIX_OCSP_NONCE,
    MAX_NONCE,
    REASONS,
    REVOKED_TAG,
    UNKNOWN,
    BasicOcspResponse,
    Extension,
    ResponseData,
    SingleResponse,
    issuer_hashes,
    responder_ids,
    revoked_info,
)
from runtime.problems import Problem

MAX_RESPONSE: Final = 65_536
"""Largest ResponseData, bytes."""
MAX_RESPONSES: Final = 100
MAX_STATUS_AGE: Final = timedelta(hours=24)
"""How far back thisUpdate may lie when it is signed."""
MAX_STATUS_LIFE: Final = timedelta(days=7)
"""How long after thisUpdate a status may serve."""
_CLAUSE: Final = "RFC 6960 4.2.1"


@dataclass(frozen=True, slots=True)
class OcspOrder:
    """A ResponseData that the key may sign, and of how many certificates it speaks."""

    tbs: bytes
    responses: int


def check_ocsp(tbs: bytes, key: SigningKey, *, now: datetime) -> OcspOrder:
    """An order to sign the DER ResponseData `tbs` at `now` (aware UTC).

    Refused (Problem 422): what is not one ResponseData in DER, another responder than this key, a certificate of
    another authority than its own, an unknown status, a revocation in the future, times that are not now or serve for
    more than a week, no nextUpdate, an extension that is unknown, critical or repeated, a nonce of another length than
    1 to 128 bytes. 409: the responder's certificate is not valid now, or its authority is not known here.
    """
    signer = key.certificate
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise Problem(
            409, "certificate-not-valid", f"the certificate of key {key.name} is not valid now", clause="CPS 6.3.2"
        )
    if len(key.chain) < 2:  # its own, and its issuer's
        raise Problem(
            409, "authority-unknown", f"key {key.name} has no certificate of its authority", clause="RFC 6960 4.2.2.2"
        )
    with reading("ResponseData", _CLAUSE):
        data = parse(ResponseData, tbs, "ResponseData", limit=MAX_RESPONSE)
        _check_responder(data, key)
        if abs(_utc(data.produced_at) - now) > CLOCK_SKEW:
            raise refuse("bad-produced-at", "producedAt is now", _CLAUSE)
        if not 1 <= len(data.responses) <= MAX_RESPONSES:
            raise refuse("bad-count", f"a response speaks of 1 to {MAX_RESPONSES} certificates", _CLAUSE)
        for response in data.responses:
            _check_single(response, key.chain[1], now)
        _check_extensions(data.response_extensions, {ID_PKIX_OCSP_NONCE, ID_PKIX_OCSP_EXTENDED_REVOKE})
    return OcspOrder(tbs, len(data.responses))


def assemble_ocsp(order: OcspOrder, signature: bytes, key: SigningKey) -> bytes:
    """The DER BasicOCSPResponse with the responder's certificate (RFC 6960 4.2.1)."""
    return encode(
        BasicOcspResponse(
            tbs_response_data=parse(asn1.TLV, order.tbs, "ResponseData"),
            signature_algorithm=parse(
                asn1.TLV, certificate_signature_identifier(key.public_key), "AlgorithmIdentifier"
            ),
            signature=asn1.BitString(signature, 0),
            certificates=[key.certificate],
        )
    )


def _utc(time: asn1.GeneralizedTime) -> datetime:
    return time.as_datetime().replace(tzinfo=UTC)


def _check_responder(data: ResponseData, key: SigningKey) -> None:
    if encode(data.responder_id) not in responder_ids(key.certificate):
        raise refuse("foreign-responder", f"responderID is not key {key.name}", "RFC 6960 4.2.2.3")


def _check_single(response: SingleResponse, issuer: x509.Certificate, now: datetime) -> None:
    named = response.cert_id
    hashes_of_issuer = issuer_hashes(encode(named.hash_algorithm), issuer)
    if hashes_of_issuer is None:
        raise refuse("weak-algorithm", "a CertID is hashed with SHA-1 or SHA-256", "RFC 6960 4.1.1")
    if (named.issuer_name_hash, named.issuer_key_hash) != hashes_of_issuer:
        raise refuse("foreign-authority", "the certificate is of another authority", "RFC 6960 4.2.2.2")
    if named.serial_number <= 0:
        raise refuse("bad-serial", "a serial number is positive", "RFC 5280 4.1.2.2")
    _check_status(response.cert_status, now)
    this_update = _utc(response.this_update)
    if not now - MAX_STATUS_AGE <= this_update <= now + CLOCK_SKEW:
        raise refuse("bad-this-update", "thisUpdate is now, at most a day ago", "RFC 6960 4.2.2.1")
    next_update = None if response.next_update is None else _utc(response.next_update)
    if next_update is None or not max(now, this_update) < next_update <= this_update + MAX_STATUS_LIFE:
        raise refuse("bad-next-update", "nextUpdate is in the future, within a week", "RFC 6960 4.2.2.1")
    _check_extensions(response.single_extensions, {ID_PKIX_OCSP_ARCHIVE_CUTOFF})


def _check_status(status: asn1.TLV, now: datetime) -> None:
    der = encode(status)
    if der in {GOOD, UNKNOWN}:
        return
    if der[0] != REVOKED_TAG:
        raise refuse("unknown-status", "a certificate is good, revoked or unknown", _CLAUSE)
    try:
        revoked = revoked_info(status)
    except DerError as error:
        raise refuse(error.reason.replace("_", "-"), "not one RevokedInfo in DER", _CLAUSE) from None
    except ValueError:
        raise refuse("unknown-reason", "the reason is one of RFC 5280", "RFC 5280 5.3.1") from None
    if revoked.reason is not None and revoked.reason not in REASONS:
        raise refuse("unknown-reason", "the reason is one of RFC 5280", "RFC 5280 5.3.1")
    if _utc(revoked.time) > now + CLOCK_SKEW:
        raise refuse("bad-revocation-date", "a certificate is revoked in the future", _CLAUSE)


def _check_extensions(extensions: list[Extension] | None, known: Collection[x509.ObjectIdentifier]) -> None:
    found = [extension.id for extension in extensions or ()]
    if len(set(found)) != len(found) or not set(found) <= set(known):
        raise refuse("unknown-extension", "an extension is unknown here, or repeated", "RFC 6960 4.4")
    for extension in extensions or ():
        if extension.critical:
            raise refuse("unknown-critical-extension", "no extension of a response is critical", "RFC 6960 4.4")
        if extension.id == ID_PKIX_OCSP_NONCE and not 1 <= len(parse(bytes, extension.value, "nonce")) <= MAX_NONCE:
            raise refuse("bad-nonce", f"a nonce has 1 to {MAX_NONCE} bytes", "RFC 9654 2.1")
