"""The time-stamp authority's decisions: may this be stamped, and what does the time-stamp say? (RFC 3161 2.4) Pure.

request      strict DER; SHA-256, SHA-384 or SHA-512; our policy or none; no extension is known here
TSTInfo      genTime in whole seconds and an accuracy that covers them; the nonce comes back; ordering is false
number       genTime in seconds, then 64 bits: microseconds, then random ones. So numbers grow with time over
             restarts and replicas, no two are alike, and the token's service sees that they belong to genTime
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki.der import any_value, decode, encode, tlv
from pki.errors import DerError
from pki.oids import POLICY_TIMESTAMP
from pki.timestamp_structures import (
    IMPRINT_ALGORITHMS,
    MAX_NONCE_BITS,
    Accuracy,
    Failure,
    MessageImprint,
    TimeStampReq,
    TstInfo,
)

MAX_REQUEST: Final = 16_384
"""Largest TimeStampReq, bytes."""
ACCURACY: Final = 2
"""Seconds: one that whole seconds leave off, one for the clock, which NTP keeps far better."""

_SERIAL_BITS: Final = 64
_RANDOM_BITS: Final = 44  # 20 bits hold the microseconds of a second
_DIRECTORY_NAME: Final = 0xA4


class Rejection(Exception):
    """Why no time-stamp is given; `retry_after` (seconds) where asking again may help."""

    def __init__(self, failure: Failure, text: str, *, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.failure = failure
        self.text = text
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Question:
    """A request that may be stamped; the imprint as it came (RFC 3161 2.4.2: the same value)."""

    imprint: MessageImprint
    nonce: int | None
    wants_certificates: bool


def read_request(der: bytes) -> Question:
    """Judge a TimeStampReq; raises Rejection."""
    try:
        request = decode(TimeStampReq, der, limit=MAX_REQUEST)
    except DerError:
        raise Rejection(Failure.BAD_DATA_FORMAT, "not a TimeStampReq in DER") from None
    if request.version != 1:
        raise Rejection(Failure.BAD_REQUEST, "a TimeStampReq is of version 1")
    algorithm = IMPRINT_ALGORITHMS.get(encode(request.message_imprint.hash_algorithm))
    if algorithm is None:
        raise Rejection(Failure.BAD_ALG, "hash with SHA-256, SHA-384 or SHA-512")
    if len(request.message_imprint.hashed_message) != hashlib.new(algorithm).digest_size:
        raise Rejection(Failure.BAD_DATA_FORMAT, f"the imprint is not a whole {algorithm} digest")
    if request.req_policy not in {None, POLICY_TIMESTAMP}:
        raise Rejection(Failure.UNACCEPTED_POLICY, f"the policy here is {POLICY_TIMESTAMP.dotted_string}")
    if request.extensions is not None:  # critical or not
        raise Rejection(Failure.UNACCEPTED_EXTENSION, "no extension is known here")
    if request.nonce is not None and not 0 <= request.nonce < 1 << MAX_NONCE_BITS:
        raise Rejection(Failure.BAD_REQUEST, f"a nonce is not negative and has at most {MAX_NONCE_BITS} bits")
    return Question(request.message_imprint, request.nonce, request.cert_req)


class Numbers:
    """Serial numbers, each larger than the one before."""

    def __init__(self, rng: Callable[[int], bytes]) -> None:
        self._rng = rng
        self._last = 0

    def next(self, moment: datetime) -> int:
        """The number of a time-stamp of `moment` (aware UTC), whose second is never before the last one's."""
        random = int.from_bytes(self._rng(6), "big") >> 4
        number = int(moment.timestamp()) << _SERIAL_BITS | moment.microsecond << _RANDOM_BITS | random
        self._last = max(number, self._last + 1)
        return self._last


def tst_info(question: Question, *, moment: datetime, serial: int, authority: x509.Name) -> bytes:
    """The TSTInfo (DER) that answers `question` at `moment` (aware UTC), by the holder of the name `authority`."""
    return encode(
        TstInfo(
            version=1,
            policy=POLICY_TIMESTAMP,
            message_imprint=question.imprint,
            serial_number=serial,
            gen_time=asn1.GeneralizedTime(moment.replace(microsecond=0)),
            accuracy=Accuracy(seconds=ACCURACY, millis=None, micros=None),
            ordering=False,
            nonce=question.nonce,
            tsa=any_value(tlv(_DIRECTORY_NAME, authority.public_bytes())),
        )
    )
