"""Typed signing of time-stamps: is this TSTInfo true now, and ours to sign? (RFC 3161 2.4.2, RFC 5816)

The service builds the SignedData around it, with signingCertificateV2, as for every message. A serial number begins
with its genTime, so that what was signed must be remembered only as long as a genTime may be in the past.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hsm_service.judging import SigningKey, parse, reading, refuse
from hsm_service.ledger import SERIAL_BITS
from pki import oids
from pki.der import encode, tlv
from pki.timestamp_structures import IMPRINT_ALGORITHMS, MAX_NONCE_BITS, Accuracy, MessageImprint, TstInfo
from runtime.problems import Problem

MAX_TST_INFO: Final = 4096
"""Largest TSTInfo, bytes."""
MAX_DRIFT: Final = timedelta(seconds=5)
"""How far genTime may be from our clock: further, and one of the two clocks is wrong."""
MAX_ACCURACY: Final = 60
"""Seconds: a time-stamp that is less accurate proves nothing to anybody here."""

_DIRECTORY_NAME: Final = 0xA4


@dataclass(frozen=True, slots=True)
class TimestampOrder:
    """A TSTInfo that the key may sign, with the signed attributes made for it (DER SET OF: what is signed)."""

    content: bytes
    serial: int
    signed_attributes: bytes


def check_timestamp(tst_info: bytes, key: SigningKey, *, now: datetime) -> TimestampOrder:
    """An order to sign the DER TSTInfo `tst_info` at `now` (aware UTC).

    Refused (Problem 422): what is not one TSTInfo in DER, another version or policy, another imprint than SHA-256, -384
    or -512, a genTime that is not now, a serial number that does not begin with it, a bad accuracy or nonce, another
    tsa than this key's certificate, extensions. 409: the key's certificate is not valid now. That no other time-stamp
    has the serial number is known to whoever signed the others: `hsm_service.ledger`.
    """
    signer = key.certificate
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise Problem(
            409, "certificate-not-valid", f"the certificate of key {key.name} is not valid now", clause="CPS 6.3.2"
        )
    with reading("TSTInfo", "RFC 3161 2.4.2"):
        info = parse(TstInfo, tst_info, "TSTInfo", limit=MAX_TST_INFO)
        gen_time = info.gen_time.as_datetime().replace(tzinfo=UTC)
    if info.version != 1:
        raise _refuse("bad-version", "a TSTInfo is of version 1")
    if info.policy != oids.POLICY_TIMESTAMP:
        raise _refuse("unknown-policy", f"time-stamps are given under {oids.POLICY_TIMESTAMP.dotted_string}")
    _check_imprint(info.message_imprint)
    if abs(gen_time - now) > MAX_DRIFT:
        raise _refuse("bad-gen-time", "genTime is now")
    if info.serial_number >> SERIAL_BITS != int(gen_time.timestamp()):
        raise _refuse("bad-serial", f"a serial number is genTime in seconds, and {SERIAL_BITS} bits of its own")
    if info.accuracy is not None:
        _check_accuracy(info.accuracy)
    if info.nonce is not None and not 0 <= info.nonce < 1 << MAX_NONCE_BITS:
        raise _refuse("bad-nonce", f"a nonce is not negative and has at most {MAX_NONCE_BITS} bits")
    if encode(info.tsa) != tlv(_DIRECTORY_NAME, signer.subject.public_bytes()):
        raise _refuse("foreign-tsa", f"tsa is not the subject of key {key.name}")
    attributes = key.writer.signed_attributes(oids.CT_TST_INFO, tst_info, now)
    return TimestampOrder(tst_info, info.serial_number, attributes)


def _check_imprint(imprint: MessageImprint) -> None:
    algorithm = IMPRINT_ALGORITHMS.get(encode(imprint.hash_algorithm))
    if algorithm is None or len(imprint.hashed_message) != hashlib.new(algorithm).digest_size:
        raise _refuse("bad-imprint", "the message imprint is a whole digest of SHA-256, SHA-384 or SHA-512")


def _check_accuracy(accuracy: Accuracy) -> None:
    seconds, below = accuracy.seconds, (accuracy.millis, accuracy.micros)
    if seconds is not None and not 0 <= seconds <= MAX_ACCURACY:
        raise _refuse("bad-accuracy", f"an accuracy is of 0 to {MAX_ACCURACY} seconds")
    if any(part is not None and not 1 <= part <= 999 for part in below):
        raise _refuse("bad-accuracy", "millis and micros are 1 to 999")


def _refuse(slug: str, detail: str) -> Problem:
    return refuse(slug, detail, "RFC 3161 2.4.2")
